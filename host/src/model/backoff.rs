//! When a call is tried again: each time twice as late, at a random moment before (full jitter, as in "Exponential
//! Backoff And Jitter", AWS Architecture Blog, 2015), so that thousands that failed together do not come back together.

use std::time::Duration;

/// Longest pause before the first repetition.
pub const BASE: Duration = Duration::from_secs(1);

/// Longest pause of all.
pub const CAP: Duration = Duration::from_secs(60);

/// The shortest: an endpoint that refuses connections is not asked in a circle.
const LEAST: Duration = Duration::from_millis(10);

/// Before the next attempt, when so many have failed.
pub fn pause(failed: u32, base: Duration, random: &mut fastrand::Rng) -> Duration {
    let doublings = failed.saturating_sub(1).min(16);
    let longest = base.saturating_mul(1 << doublings).min(CAP).max(LEAST);
    longest.mul_f64(random.f64()).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_spread_below_a_bound_that_doubles_up_to_the_cap() {
        let mut random = fastrand::Rng::with_seed(1);
        for (failed, bound) in [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (1_000_000, 60.0)] {
            let pauses: Vec<_> = (0..1_000).map(|_| pause(failed, BASE, &mut random).as_secs_f64()).collect();
            let mean = pauses.iter().sum::<f64>() / 1_000.0;
            assert!(pauses.iter().all(|&pause| (0.01..=bound).contains(&pause)), "{failed}");
            assert!((0.45 * bound..0.55 * bound).contains(&mean), "{failed}: {mean}");
        }
    }
}
