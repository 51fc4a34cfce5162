//! A ring of points (Karger et al., "Consistent Hashing and Random Trees", 1997; ketama's 160 points).
//!
//! Points are sorted, and an index of their upper bits says where to begin: finding the next one takes two or
//! three loads, however many there are.

use sluice_sdk::{
    members::{Choice, Member},
    random::mix,
};

/// For each unit of weight (ketama, Pingora): an endpoint's share is then within a few percent of its weight.
pub const POINTS: u32 = 160;

/// On a whole ring: 2 MiB. Where weights ask for more, all endpoints have proportionally fewer.
pub const POINTS_MAX: u32 = 1 << 18;

/// The lower bits of a point are its member's index.
const MEMBER_BITS: u32 = 20;
const MEMBER_MASK: u64 = (1 << MEMBER_BITS) - 1;

#[derive(Clone, Debug)]
pub struct Ring {
    points_per_weight: u32,
    points: Vec<u64>,
    /// For each value of the upper bits: the first point that is not below it.
    index: Vec<u32>,
    /// How far right the upper bits are.
    shift: u32,
}

impl Ring {
    pub fn new(points_per_weight: u32) -> Self {
        Self { points_per_weight, points: Vec::new(), index: Vec::new(), shift: 0 }
    }

    /// Where a hash is on the ring.
    #[inline]
    pub fn find(&self, hash: u64) -> usize {
        // A finaliser, for a hash that is not uniform: a small number, say.
        let position = mix(hash, 0) & !MEMBER_MASK;
        let mut at = self.index[(position >> self.shift) as usize] as usize;
        while self.points.get(at).is_some_and(|point| *point < position) {
            at += 1;
        }
        at
    }

    /// The member whose point is the `n`-th from there.
    #[inline]
    pub fn member(&self, at: usize, n: u32) -> usize {
        let mut at = at + n as usize;
        while at >= self.points.len() {
            at -= self.points.len();
        }
        (self.points[at] & MEMBER_MASK) as usize
    }
}

impl Choice for Ring {
    fn rebuild(&mut self, members: &[Member]) {
        let wanted = |member: &Member| u64::from(member.weight) * u64::from(self.points_per_weight);
        let total: u64 = members.iter().map(wanted).sum();
        let scale = (f64::from(POINTS_MAX) / total as f64).min(1.0);
        self.points.clear();
        for (index, member) in members.iter().enumerate() {
            let count = ((wanted(member) as f64 * scale).round() as u64).max(1);
            // The points of an endpoint depend on nothing but itself: others that come and go leave them.
            let points = (0..count).map(|n| mix(member.key, n) & !MEMBER_MASK | (index as u64 & MEMBER_MASK));
            self.points.extend(points);
        }
        self.points.sort_unstable();
        let bits = self.points.len().next_power_of_two().trailing_zeros().max(1);
        self.shift = 64 - bits;
        self.index.clear();
        let mut at = 0;
        for upper in 0..1_u64 << bits {
            while self.points.get(at).is_some_and(|point| point >> self.shift < upper) {
                at += 1;
            }
            self.index.push(at as u32);
        }
    }

    /// Slow start is a matter of hashes, not of points: see `sluice_sdk::hashing`.
    fn reweigh(&mut self, _: &[Member]) {}
}

#[cfg(test)]
mod tests;
