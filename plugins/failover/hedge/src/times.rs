//! A quantile of the times to the first byte, over a sliding window, in fixed memory and without randomness.
//!
//! The times are counted in buckets, sixteen to each power of two, as in an HDR histogram: every time is known within
//! 1/16 of itself, and a quantile, which is the upper end of its bucket, is at most 1/16 too high and never too low
//! (Masson, Rim, Lee, "DDSketch", VLDB 2019, on why an error relative to the value is what latencies need). The
//! window is a ring of parts, of which the oldest is forgotten as a whole.

/// Sixteen buckets to a power of two.
const SUB_BITS: u32 = 4;
const SUB_BUCKETS: usize = 1 << SUB_BITS;

/// Of 32 bits of microseconds.
const BUCKETS: usize = SUB_BUCKETS * (32 - SUB_BITS as usize + 1);

/// How many parts the window has: it is between four and five parts long.
const PARTS: usize = 5;

/// Most that one bucket of a saved state may count: more requests than a worker answers in a window.
const SAVED_COUNT_MAX: u64 = 1 << 24;

#[derive(Debug)]
pub struct Times {
    part_us: u64,
    /// Number of the present part, since time 0; none before the time is known.
    present: Option<u64>,
    totals: [u64; PARTS],
    /// Of one bucket after the other, all parts. On the heap: a guest's stack is small.
    counts: Vec<[u32; PARTS]>,
}

impl Times {
    /// `window_us` at least 5.
    pub fn new(window_us: u64) -> Self {
        Self { part_us: window_us / PARTS as u64, present: None, totals: [0; PARTS], counts: vec![[0; PARTS]; BUCKETS] }
    }

    /// Forgets what is older than the window. What was restored before the first call counts from then on.
    pub fn pass(&mut self, now_us: u64) {
        let now = now_us / self.part_us;
        let Some(before) = self.present else {
            self.present = Some(now);
            let part = self.part();
            self.totals.swap(0, part);
            self.counts.iter_mut().for_each(|counts| counts.swap(0, part));
            return;
        };
        let present = now.max(before);
        for n in 0..(present - before).min(PARTS as u64) {
            let part = part_of(present - n);
            self.totals[part] = 0;
            self.counts.iter_mut().for_each(|counts| counts[part] = 0);
        }
        self.present = Some(present);
    }

    pub fn add(&mut self, time_us: u32) {
        self.add_times(bucket(time_us), 1);
    }

    /// How many times the window has.
    pub fn total(&self) -> u64 {
        self.totals.iter().sum()
    }

    /// What the share `quantile` of the times does not exceed; 0 where there are none.
    pub fn quantile_us(&self, quantile: f64) -> u32 {
        let mut missing = ((self.total() as f64 * quantile).ceil() as u64).max(1);
        for (bucket, count) in self.counts() {
            if count >= missing {
                return upper_us(bucket);
            }
            missing -= count;
        }
        0
    }

    /// The window as pairs of a time and how often it occurred.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u64)> {
        self.counts().filter(|(_, count)| *count > 0).map(|(bucket, count)| (upper_us(bucket), count))
    }

    /// Adds what a predecessor counted.
    pub fn restore(&mut self, time_us: u32, count: u64) {
        self.add_times(bucket(time_us), count.min(SAVED_COUNT_MAX) as u32);
    }

    fn add_times(&mut self, bucket: usize, times: u32) {
        let part = self.part();
        let count = &mut self.counts[bucket][part];
        let before = *count;
        *count = before.saturating_add(times);
        self.totals[part] += u64::from(*count - before);
    }

    fn part(&self) -> usize {
        self.present.map_or(0, part_of)
    }

    fn counts(&self) -> impl Iterator<Item = (usize, u64)> {
        let sum = |counts: &[u32; PARTS]| counts.iter().map(|count| u64::from(*count)).sum();
        self.counts.iter().map(sum).enumerate()
    }
}

/// Where in the ring the part of this number is.
fn part_of(number: u64) -> usize {
    (number % PARTS as u64) as usize
}

/// The first sixteen buckets hold one value each; then each holds 1/16 to 1/32 of its values' size.
fn bucket(time_us: u32) -> usize {
    let Some(shift) = time_us.checked_ilog2().and_then(|log| log.checked_sub(SUB_BITS)) else {
        return time_us as usize;
    };
    shift as usize * SUB_BUCKETS + (time_us >> shift) as usize
}

/// The greatest time of a bucket.
fn upper_us(bucket: usize) -> u32 {
    let Some(shift) = (bucket / SUB_BUCKETS).checked_sub(1) else { return bucket as u32 };
    let next = (bucket - shift * SUB_BUCKETS + 1) as u64;
    ((next << shift) - 1) as u32
}

#[cfg(test)]
mod tests;
