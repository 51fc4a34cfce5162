use super::*;
use sluice_sdk::random::mix;

const SECOND: u64 = 1_000_000;

#[test]
fn buckets_are_without_gaps_and_within_a_sixteenth() {
    for bucket_at in 1..BUCKETS {
        let (below, upper) = (upper_us(bucket_at - 1), upper_us(bucket_at));
        assert_eq!((bucket(below + 1), bucket(upper)), (bucket_at, bucket_at));
        assert!(u64::from(upper - below - 1) * 16 <= u64::from(below + 1), "{bucket_at}");
    }
    assert_eq!(upper_us(BUCKETS - 1), u32::MAX);
}

#[test]
fn a_quantile_is_at_most_a_sixteenth_too_high_and_never_too_low() {
    for seed in 0..20 {
        let mut times = Times::new(10 * SECOND);
        // Times between a microsecond and a second, as many of each magnitude.
        let mut all: Vec<u32> = (0..5_000).map(|n| 1 << (mix(seed, n) % 20)).collect();
        for (n, time) in all.iter_mut().enumerate() {
            *time += (mix(seed + 100, n as u64) % u64::from(*time)) as u32;
            times.add(*time);
        }
        all.sort_unstable();
        for quantile in [0.5, 0.9, 0.95, 0.99, 0.999] {
            let exact = all[(5_000.0 * quantile) as usize - 1];
            let is = times.quantile_us(quantile);
            assert!((exact..=exact + exact / 16).contains(&is), "seed {seed}: p{quantile} is {exact}, not {is}");
        }
    }
}

#[test]
fn a_quantile_of_few_is_the_next_that_was_measured() {
    let mut times = Times::new(10 * SECOND);
    (1..=10).for_each(|time_us| times.add(time_us));
    assert_eq!([0.5, 0.51, 0.95, 1.0].map(|quantile| times.quantile_us(quantile)), [5, 6, 10, 10]);
}

#[test]
fn what_is_older_than_the_window_is_forgotten() {
    let mut times = Times::new(10 * SECOND);
    times.pass(100 * SECOND);
    for _ in 0..100 {
        times.add(500_000);
    }
    times.pass(107 * SECOND);
    for _ in 0..100 {
        times.add(1_000);
    }
    assert_eq!(times.total(), 200);
    assert!(times.quantile_us(0.95) >= 500_000);
    times.pass(110 * SECOND);
    assert_eq!(times.total(), 100);
    assert!(times.quantile_us(0.95) < 1_100);
    times.pass(90 * SECOND);
    assert_eq!(times.total(), 100, "time does not go back");
    times.pass(1_000 * SECOND);
    assert_eq!((times.total(), times.quantile_us(0.95)), (0, 0));
}

#[test]
fn what_was_saved_is_restored() {
    let mut times = Times::new(10 * SECOND);
    for n in 0..1_000 {
        times.add((mix(3, n) % 100_000) as u32);
    }
    let mut next = Times::new(20 * SECOND);
    for (time_us, count) in times.iter() {
        next.restore(time_us, count);
    }
    assert_eq!(next.total(), 1_000);
    assert_eq!(next.quantile_us(0.9), times.quantile_us(0.9));
    for _ in 0..1_000 {
        next.restore(7, u64::MAX);
    }
    assert_eq!(next.quantile_us(0.5), 7, "nonsense does not overflow");
}
