//! A ring of points (Karger et al., "Consistent Hashing and Random Trees", 1997; ketama's 160 points).
//!
//! Points are sorted, and an index of their upper bits says where to begin: finding the next one takes two or
//! three loads, however many there are. Both are packed, 4 bytes a point and half a byte for the index, because at 1,000
//! endpoints what a pick costs is how far from the processor they lie.

use sluice_sdk::{
    members::{Choice, Member},
    random::mix,
};

/// For each unit of weight (ketama, Pingora): an endpoint's share is then within a few percent of its weight.
pub const POINTS: u32 = 160;

/// On a whole ring: 1 MiB. Where weights ask for more, all endpoints have proportionally fewer.
pub const POINTS_MAX: u32 = 1 << 18;

/// Points a bucket of the index at most on average, and half of it at least, as a power of two.
const BUCKET_POINTS_LOG2: u32 = 3;

/// Bits of a position that a ring tells apart, whatever its size: so endpoints that come and go do not change how the
/// points of others are read. 2^29 are 2,000 for each of the most points.
const POSITION_BITS: u32 = u32::BITS - BUCKET_POINTS_LOG2;

#[derive(Clone, Debug)]
pub struct Ring {
    points_per_weight: u32,
    /// Sorted by position. Of that, the bits that tell the bucket are left out, and the member's index stands in the
    /// lower bits instead: there are no more members than points, so it takes [`Ring::member_bits`].
    points: Vec<u32>,
    /// For each value of a position's upper bits, its bucket: the first of its points. One more at the end.
    index: Vec<u32>,
    /// How many bits tell the bucket.
    bucket_bits: u32,
}

impl Ring {
    pub fn new(points_per_weight: u32) -> Self {
        Self { points_per_weight, points: Vec::new(), index: Vec::new(), bucket_bits: 0 }
    }

    /// Where a hash is on the ring.
    #[inline]
    pub fn find(&self, hash: u64) -> usize {
        // A finaliser, for a hash that is not uniform: a small number, say.
        let (bucket, within) = self.split(mix(hash, 0));
        let (mut at, end) = (self.index[bucket] as usize, self.index[bucket + 1] as usize);
        while at < end && self.points[at] >> self.member_bits() < within {
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
        (self.points[at] & ((1 << self.member_bits()) - 1)) as usize
    }

    #[inline]
    fn member_bits(&self) -> u32 {
        self.bucket_bits + BUCKET_POINTS_LOG2
    }

    /// A position's bucket, and the bits that follow.
    #[inline]
    fn split(&self, position: u64) -> (usize, u32) {
        let position = (position >> (64 - POSITION_BITS)) as u32;
        let within_bits = POSITION_BITS - self.bucket_bits;
        ((position >> within_bits) as usize, position & ((1 << within_bits) - 1))
    }
}

impl Choice for Ring {
    fn rebuild(&mut self, members: &[Member]) {
        let wanted = |member: &Member| u64::from(member.weight) * u64::from(self.points_per_weight);
        let total: u64 = members.iter().map(wanted).sum();
        let scale = (f64::from(POINTS_MAX) / total as f64).min(1.0);
        let mut points = Vec::new();
        for (index, member) in members.iter().enumerate() {
            let count = ((wanted(member) as f64 * scale).round() as u64).max(1);
            // The points of an endpoint depend on nothing but itself: others that come and go leave them.
            points.extend((0..count).map(|n| (mix(member.key, n), index as u32)));
        }
        points.sort_unstable();
        self.bucket_bits = points.len().div_ceil(1 << BUCKET_POINTS_LOG2).next_power_of_two().trailing_zeros();
        self.index.clear();
        self.points.clear();
        for (position, member) in points {
            let (bucket, within) = self.split(position);
            while self.index.len() <= bucket {
                self.index.push(self.points.len() as u32);
            }
            self.points.push(within << self.member_bits() | member);
        }
        self.index.resize((1 << self.bucket_bits) + 1, self.points.len() as u32);
    }

    /// Slow start is a matter of hashes, not of points: see `sluice_sdk::hashing`.
    fn reweigh(&mut self, _: &[Member]) {}
}

#[cfg(test)]
mod tests;
