//! What policies that follow a hash have in common: each hash has a row of candidates, the first of which gets its
//! requests unless it is new (slow start) or has too much to do (bounded load).

use crate::{
    InstantUs, Settings, Slot,
    members::{Levels, Member},
    random::mix,
};

/// How many candidates of a row are looked at. With a bound of 1.25 a fit one comes after 5 on average, and
/// within 16 for nearly every hash (Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads",
/// 2018, §1: O(1/(c-1)²)).
const CANDIDATES_MAX: u32 = 64;

/// How old the sum of all load may be. It costs an import call for each endpoint, so not every pick makes it.
const SUM_AGE_MAX_US: u64 = 10_000;

/// Bounded load: no endpoint has more than `factor` times its fair share of the requests in flight.
#[derive(Clone, Debug)]
pub struct Bound {
    factor: Option<f64>,
    /// Requests in flight to all endpoints when they were counted last, and all picks since.
    total: u64,
    counted_at: Option<InstantUs>,
    weight: f64,
}

impl Bound {
    /// `bounded_load`: off, or the factor (1.25 by convention).
    pub fn from_settings(settings: &mut Settings) -> Self {
        let factor = settings.optional_number("bounded_load", 1.01..=10.0);
        Self { factor, total: 0, counted_at: None, weight: 0.0 }
    }

    /// Counts anew where that was too long ago. Before each pick.
    #[inline]
    pub fn refresh<C>(&mut self, levels: &Levels<C>, now: InstantUs, in_flight: impl Fn(Slot) -> u32)
    where
        C: crate::members::Choice,
    {
        if self.factor.is_none() {
            return;
        }
        self.total += 1;
        if self.counted_at.is_none_or(|at| now.saturating_sub(at) >= SUM_AGE_MAX_US) {
            self.counted_at = Some(now);
            self.total = 1 + levels.members().map(|member| u64::from(in_flight(member.slot))).sum::<u64>();
            self.weight = levels.members().map(|member| f64::from(member.share)).sum();
        }
    }

    /// Membership has changed: the next pick counts.
    pub fn forget(&mut self) {
        self.counted_at = None;
    }

    /// How full an endpoint would be with one more request: above 1 it has no room. 0 without a bound.
    fn fullness(&self, member: &Member, in_flight: impl Fn(Slot) -> u32) -> f64 {
        let Some(factor) = self.factor else { return 0.0 };
        let room = (factor * self.total as f64 * f64::from(member.share) / self.weight).ceil();
        (f64::from(in_flight(member.slot)) + 1.0) / room
    }
}

/// The index of the first candidate of `hash` that is fit, or of the `turn`-th after it. `candidate` gives the n-th
/// of the row. Where none is fit: of those looked at, the one with the most room.
#[inline]
pub fn choose(
    members: &[Member],
    hash: u64,
    turn: u32,
    bound: &Bound,
    in_flight: impl Fn(Slot) -> u32,
    candidate: impl Fn(u32) -> usize,
) -> usize {
    let first = candidate(turn);
    if members[first].ramp >= 1.0 && bound.factor.is_none() {
        return first;
    }
    let (mut best, mut least) = (first, f64::INFINITY);
    for n in turn..turn + CANDIDATES_MAX {
        let index = candidate(n);
        let member = &members[index];
        if !takes(member, hash) {
            continue;
        }
        let fullness = bound.fullness(member, &in_flight);
        if fullness <= 1.0 {
            return index;
        }
        if fullness < least {
            (best, least) = (index, fullness);
        }
    }
    best
}

/// Whether a new endpoint takes this hash already: as many hashes as slow start gives it weight, and each hash that
/// it takes it keeps.
fn takes(member: &Member, hash: u64) -> bool {
    member.ramp >= 1.0 || (mix(hash, member.key) >> 32) as f64 / 4_294_967_296.0 < member.ramp
}

#[cfg(test)]
mod tests;
