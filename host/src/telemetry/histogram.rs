//! Durations in fixed log-linear buckets.
//!
//! Four buckets to each power of two, as in HDR histograms: a bucket is at most 25 % wide, so a quantile read
//! from the middle of its bucket is at most 12.5 % off. Buckets are fixed, so histograms of all workers add up.

use std::array;

use serde::Serialize;

use super::counter::Counter;

/// Buckets to each power of two. Four keep a histogram below 1 KiB, of which a request touches two cache lines.
const STEPS: u64 = 4;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// Values above 2^26 (67 s in microseconds, beyond any default timeout; 67 ms in nanoseconds, beyond any
/// deadline of a pick) fall into the last bucket.
const TOP_BITS: u32 = 26;

/// The values 1 to 4 have a bucket each, then four buckets a power of two, then one for all above.
const BUCKETS: usize = (STEPS + STEPS * (TOP_BITS - STEP_BITS) as u64 + 1) as usize;

/// Durations, in the unit that the field's name or the method's name says. Written by one thread.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum: Counter,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: array::from_fn(|_| Counter::default()), sum: Counter::default() }
    }
}

impl Histogram {
    pub fn record_us(&self, us: u64) {
        self.record(us);
    }

    /// For histograms whose name ends in `_ns`.
    pub fn record_ns(&self, ns: u64) {
        self.record(ns);
    }

    pub fn snapshot(&self) -> HistogramSnapshot {
        HistogramSnapshot { buckets: array::from_fn(|index| self.buckets[index].get()), sum: self.sum.get() }
    }

    fn record(&self, value: u64) {
        self.buckets[bucket_of(value)].add(1);
        self.sum.add(value);
    }
}

/// Bucket `i` holds the values above `upper_bound(i - 1)` and up to and including `upper_bound(i)`: inclusive
/// at the top, as Prometheus' `le` is.
fn bucket_of(value: u64) -> usize {
    let below = value.saturating_sub(1);
    if below < STEPS {
        return below as usize;
    }
    let exponent = below.ilog2();
    if exponent >= TOP_BITS {
        return BUCKETS - 1;
    }
    let step = (below >> (exponent - STEP_BITS)) & (STEPS - 1);
    (u64::from(exponent - STEP_BITS + 1) * STEPS + step) as usize
}

/// None for the last bucket, which has no bound.
fn upper_bound(bucket: usize) -> Option<u64> {
    let bucket = bucket as u64;
    match bucket / STEPS {
        0 => Some(bucket + 1),
        _ if bucket as usize == BUCKETS - 1 => None,
        power => Some((STEPS + bucket % STEPS + 1) << (power - 1)),
    }
}

/// What a histogram, or several added up, held at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramSnapshot {
    buckets: [u64; BUCKETS],
    sum: u64,
}

impl Default for HistogramSnapshot {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], sum: 0 }
    }
}

impl HistogramSnapshot {
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Each bucket's inclusive upper bound (none for the last) and how many values it holds.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        self.buckets.iter().enumerate().map(|(index, &values)| (upper_bound(index), values))
    }

    /// Of all values, exactly.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// None where nothing was recorded.
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.sum as f64 / count as f64)
    }

    /// The value that a share `q` (0 to 1) of all values does not exceed, at most 12.5 % off; none where nothing
    /// was recorded. Above 2^26 the answer is 2^26.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|&n| {
            seen += n;
            seen >= rank
        });
        Some(middle(bucket.expect("the rank is at most the sum of all buckets")))
    }

    /// How many values are at most `bound`, where `bound` is a power of two.
    fn cumulative_to_power_of_two(&self, power: u32) -> u64 {
        self.buckets[..=bucket_of(1 << power)].iter().sum()
    }

    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// What was recorded between `earlier` and this snapshot of the same histogram.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            buckets: array::from_fn(|index| self.buckets[index].saturating_sub(earlier.buckets[index])),
            sum: self.sum.saturating_sub(earlier.sum),
        }
    }

    /// The figures that people look at, of a histogram in microseconds.
    pub fn summary(&self) -> LatencySummary {
        LatencySummary {
            count: self.count(),
            mean_us: self.mean().unwrap_or_default(),
            p50_us: self.quantile(0.5).unwrap_or_default(),
            p90_us: self.quantile(0.9).unwrap_or_default(),
            p99_us: self.quantile(0.99).unwrap_or_default(),
        }
    }

    /// For an exposition: pairs of an upper bound 2^`powers` (ascending) and how many values lie above the bound before it,
    /// ending with what lies above them all. Powers of two are bounds of buckets, so the counts are exact.
    pub fn by_power_of_two(&self, powers: &[u32]) -> Vec<(Option<u64>, u64)> {
        let mut below = 0;
        let mut pairs: Vec<_> = powers
            .iter()
            .map(|&power| {
                let up_to = self.cumulative_to_power_of_two(power);
                let pair = (Some(1 << power), up_to - below);
                below = up_to;
                pair
            })
            .collect();
        pairs.push((None, self.count() - below));
        pairs
    }
}

fn middle(bucket: usize) -> f64 {
    let Some(upper) = upper_bound(bucket) else { return (1_u64 << TOP_BITS) as f64 };
    let lower = bucket.checked_sub(1).and_then(upper_bound).unwrap_or(0);
    if upper - lower == 1 { upper as f64 } else { (lower + upper) as f64 / 2.0 }
}

/// Zeros where nothing was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencySummary {
    pub count: u64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_seamless_and_each_value_is_within_its_own() {
        let mut lower = 0;
        for bucket in 0..BUCKETS - 1 {
            let upper = upper_bound(bucket).expect("only the last has none");
            assert!(upper > lower, "bucket {bucket}");
            assert_eq!(bucket_of(lower + 1), bucket);
            assert_eq!(bucket_of(upper), bucket);
            assert!((upper - lower) as f64 <= 0.25 * lower.max(4) as f64, "bucket {bucket}: {lower}..={upper}");
            lower = upper;
        }
        assert_eq!(lower, 1 << TOP_BITS);
        assert_eq!(bucket_of(lower + 1), BUCKETS - 1);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket_of(0), 0);
    }

    #[test]
    fn quantiles_are_at_most_one_eighth_off() {
        let seed = fastrand::u64(..);
        eprintln!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let histogram = Histogram::default();
        let mut values: Vec<u64> = (0..10_000).map(|_| (2.0_f64.powf(rng.f64() * 24.0)) as u64).collect();
        values.iter().for_each(|&value| histogram.record_us(value));
        values.sort_unstable();
        let snapshot = histogram.snapshot();
        for q in [0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let exact = values[((q * 10_000.0_f64).ceil() as usize).max(1) - 1] as f64;
            let read = snapshot.quantile(q).expect("values were recorded");
            assert!((read - exact).abs() <= 0.125 * exact, "q {q}: exact {exact}, read {read}");
        }
        assert_eq!(snapshot.sum(), values.iter().sum::<u64>());
        assert_eq!(snapshot.count(), 10_000);
    }

    #[test]
    fn histograms_of_several_workers_add_up_and_subtract() {
        let (one, two) = (Histogram::default(), Histogram::default());
        [1, 900, 70_000_000].iter().for_each(|&us| one.record_us(us));
        let before = one.snapshot();
        one.record_us(40);
        two.record_us(40);
        let mut both = one.snapshot();
        assert_eq!(both.since(&before), two.snapshot());
        both.merge(&two.snapshot());
        assert_eq!((both.count(), both.sum()), (5, 70_000_981));
        assert_eq!(HistogramSnapshot::default().quantile(0.5), None);
        assert_eq!(HistogramSnapshot::default().mean(), None);
    }

    #[test]
    fn coarse_buckets_hold_exactly_what_lies_below_their_bounds() {
        let histogram = Histogram::default();
        [1, 64, 65, 128, 129, 100_000_000].iter().for_each(|&us| histogram.record_us(us));
        let coarse = histogram.snapshot().by_power_of_two(&[6, 7, 8]);
        assert_eq!(coarse, [(Some(64), 2), (Some(128), 2), (Some(256), 1), (None, 1)]);
    }
}
