//! The power of d choices, with weights.
//!
//! Candidates are drawn in proportion to their weight, and the one with the least load goes first, the first drawn
//! among equals. So an idle service is shared out exactly by weight, and a busy one by who has room.
//!
//! An endpoint's load follows Envoy's effective weight `w / (active + 1)^bias`: its inverse, less the part that an
//! idle endpoint has too, for that part is in the drawing already and would count twice. With `bias` 1 it is
//! requests in flight a unit of weight; with `bias` 0 there is none and only weights count.

use sluice_sdk::{
    Slot,
    alias::Alias,
    members::{Choice, Member},
    random::mix,
};

/// How often a candidate that was drawn already is drawn again. Beyond it, fewer are compared: where one endpoint
/// has nearly all the weight, that is what its weight asks for.
const REDRAWS: u64 = 3;

#[derive(Clone, Debug)]
pub struct Fewest {
    choices: u32,
    bias: f64,
    alias: Alias,
}

impl Fewest {
    pub fn new(choices: u32, bias: f64) -> Self {
        Self { choices, bias, alias: Alias::default() }
    }

    /// The index of the candidate with the least load. `turn` makes another draw of the same `random`.
    #[inline]
    pub fn choose(&self, members: &[Member], random: u64, turn: u32, in_flight: impl Fn(Slot) -> u32) -> usize {
        let mut draws = u64::from(turn) << 32;
        let mut draw = || {
            draws += 1;
            self.alias.draw(mix(random, draws))
        };
        let mut best = draw();
        if members.len() == 1 || self.choices == 1 {
            return best;
        }
        let mut least = self.load(&members[best], &in_flight);
        for _ in 1..self.choices {
            let mut other = draw();
            for _ in 0..REDRAWS {
                if other != best {
                    break;
                }
                other = draw();
            }
            if other == best {
                continue;
            }
            let load = self.load(&members[other], &in_flight);
            if load < least {
                (best, least) = (other, load);
            }
        }
        best
    }

    #[inline]
    fn load(&self, member: &Member, in_flight: &impl Fn(Slot) -> u32) -> f64 {
        let active = f64::from(in_flight(member.slot));
        let load = if self.bias == 1.0 { active } else { (active + 1.0).powf(self.bias) - 1.0 };
        load / f64::from(member.share)
    }
}

impl Choice for Fewest {
    fn rebuild(&mut self, members: &[Member]) {
        self.alias.rebuild(members.iter().map(|member| member.share));
    }
}

#[cfg(test)]
mod tests;
