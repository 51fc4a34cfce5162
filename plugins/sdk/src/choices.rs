//! The power of d choices, with weights (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing",
//! 2001): draw a few, take the best.
//!
//! Candidates are drawn in proportion to their weight, and among equals the first drawn wins. So where costs are
//! equal, an idle service's say, traffic is shared out exactly by weight.

use crate::{
    alias::Alias,
    members::{Choice, FULL_SHARE, Member},
    random::mix,
};

/// How often a candidate that was drawn already is drawn again. Beyond it, fewer are compared: where one endpoint
/// has nearly all the weight, that is what its weight asks for.
const REDRAWS: u32 = 3;

/// How many may be drawn at most: each costs an import call or two.
pub const CHOICES_MAX: u32 = 16;

#[derive(Clone, Debug)]
pub struct Choices {
    count: u32,
    alias: Alias,
    mean_share: f64,
}

impl Choices {
    /// `count` are compared, 1 to [`CHOICES_MAX`].
    pub fn new(count: u32) -> Self {
        Self { count, alias: Alias::default(), mean_share: f64::from(FULL_SHARE) }
    }

    /// The index of the candidate whose `cost` is least. `turn` makes another draw of the same `random`.
    #[inline]
    pub fn choose(&self, members: &[Member], random: u64, turn: u32, cost: impl Fn(&Member) -> f64) -> usize {
        let mut draws = u64::from(turn) << 32;
        let mut draw = || {
            draws += 1;
            self.alias.draw(mix(random, draws))
        };
        let mut best = draw();
        if members.len() == 1 || self.count == 1 {
            return best;
        }
        let mut least = cost(&members[best]);
        for _ in 1..self.count {
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
            let cost = cost(&members[other]);
            if cost < least {
                (best, least) = (other, cost);
            }
        }
        best
    }

    /// How many times the average member's weight a member has.
    #[inline]
    pub fn relative_weight(&self, member: &Member) -> f64 {
        f64::from(member.share) / self.mean_share
    }
}

impl Choice for Choices {
    fn rebuild(&mut self, members: &[Member]) {
        self.alias.rebuild(members.iter().map(|member| member.share));
        self.mean_share = members.iter().map(|member| f64::from(member.share)).sum::<f64>() / members.len() as f64;
    }
}
