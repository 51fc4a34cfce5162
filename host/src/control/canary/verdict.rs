//! Whether a candidate is worse than the incumbent.
//!
//! A pure function of what both did so far, sound however often it is asked: see [`super::bounds`]. The chance that
//! a candidate which is as good as the incumbent is ever withdrawn for its error rate or latency, over the whole life
//! of the canary, is at most [`Thresholds::alpha`] for each service. Faults are not a matter of chance: a sound
//! plugin has none.
//!
//! What both bounds assume is that requests are split without regard to their fate. They are split by hash: where a
//! route hashes on few distinct keys, one failing customer may count against the version that serves it.

use std::fmt;

use super::{
    Comparison,
    bounds::{lower_bound, upper_bound},
};
use crate::telemetry::HistogramSnapshot;

/// How much worse is too much.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// Chance of withdrawing a candidate that is no worse.
    pub alpha: f64,
    /// Share of failed attempts above the incumbent's that is borne.
    pub error_rate_margin: f64,
    /// How many times slower than the incumbent is borne.
    pub latency_factor: f64,
    /// Latencies up to here are all the same: what the machine itself adds at random.
    pub latency_floor_us: u64,
    pub traps_max: u64,
    pub memory_overruns_max: u64,
    pub deadline_overruns_max: u64,
    pub invalid_answers_max: u64,
}

/// In tests of this module a candidate with 3 % errors beside none, at a tenth of the traffic, is withdrawn within
/// 2,000 of its requests, one of doubled latency within 1,000.
pub const THRESHOLDS: Thresholds = Thresholds {
    // A wrong withdrawal costs one more attempt, so one in ten thousand canaries may be; the evidence that is needed
    // grows with its logarithm.
    alpha: 1e-4,
    error_rate_margin: 0.005,
    // A factor of 2 must be found, and histogram buckets are up to 25 % wide.
    latency_factor: 1.5,
    latency_floor_us: 1_000,
    // A trap or an overrun of memory is a bug whatever its rate.
    traps_max: 0,
    memory_overruns_max: 0,
    // Deadlines are CPU time, yet a page fault or a cold cache on a machine that swaps can cost a millisecond.
    deadline_overruns_max: 2,
    // A pick may race with nothing, but an answer that is refused harms no request.
    invalid_answers_max: 9,
};

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing speaks against it so far.
    Keep,
    Withdraw(Reason),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    Traps(u64),
    MemoryOverruns(u64),
    DeadlineOverruns(u64),
    InvalidAnswers(u64),
    /// Shares of failed attempts.
    Errors {
        candidate: f64,
        incumbent: f64,
    },
    /// Shares of attempts that took longer than the bound beside each.
    Latency {
        candidate: f64,
        above_us: u64,
        incumbent: f64,
        incumbent_above_us: u64,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let ms = |us: u64| format!("{:.1} ms", us as f64 / 1e3);
        match *self {
            Self::Traps(n) => write!(f, "it trapped ({n})"),
            Self::MemoryOverruns(n) => write!(f, "it overran its memory ({n})"),
            Self::DeadlineOverruns(n) => write!(f, "it overran its deadline {n} times"),
            Self::InvalidAnswers(n) => write!(f, "it gave {n} invalid answers"),
            Self::Errors { candidate, incumbent } => write!(
                f,
                "{} of its attempts failed, where the incumbent had {}",
                percent(candidate),
                percent(incumbent)
            ),
            Self::Latency { candidate, above_us, incumbent, incumbent_above_us } => write!(
                f,
                "{} of its attempts took over {}, where only {} of the incumbent's took over {}",
                percent(candidate),
                ms(above_us),
                percent(incumbent),
                ms(incumbent_above_us)
            ),
        }
    }
}

pub fn verdict(comparison: &Comparison, thresholds: &Thresholds) -> Verdict {
    let reason = faults(comparison, thresholds)
        .or_else(|| errors(comparison, thresholds))
        .or_else(|| latency(comparison, thresholds));
    reason.map_or(Verdict::Keep, Verdict::Withdraw)
}

fn faults(Comparison { candidate, .. }: &Comparison, thresholds: &Thresholds) -> Option<Reason> {
    if candidate.traps > thresholds.traps_max {
        Some(Reason::Traps(candidate.traps))
    } else if candidate.memory_overruns > thresholds.memory_overruns_max {
        Some(Reason::MemoryOverruns(candidate.memory_overruns))
    } else if candidate.deadline_overruns > thresholds.deadline_overruns_max {
        Some(Reason::DeadlineOverruns(candidate.deadline_overruns))
    } else if candidate.invalid_answers > thresholds.invalid_answers_max {
        Some(Reason::InvalidAnswers(candidate.invalid_answers))
    } else {
        None
    }
}

/// Each of the four bounds (two arms, errors and latency) has a quarter of the chance to be wrong.
fn errors(Comparison { incumbent, candidate }: &Comparison, thresholds: &Thresholds) -> Option<Reason> {
    let alpha = thresholds.alpha / 4.0;
    let at_least = lower_bound(candidate.failures.min(candidate.attempts), candidate.attempts, alpha);
    let at_most = upper_bound(incumbent.failures.min(incumbent.attempts), incumbent.attempts, alpha);
    (at_least > at_most + thresholds.error_rate_margin).then(|| Reason::Errors {
        candidate: share(candidate.failures, candidate.attempts),
        incumbent: share(incumbent.failures, incumbent.attempts),
    })
}

fn share(hits: u64, trials: u64) -> f64 {
    if trials == 0 { 0.0 } else { hits as f64 / trials as f64 }
}

/// If the candidate is at most `factor` times slower, then for every t the share of its attempts above factor · t is
/// at most the incumbent's share above t. So each bucket's bound t is a pair of proportions to compare, and one pair
/// that is the wrong way round is enough. No quantile has to be chosen, so what is slow may be the middle or the tail.
fn latency(Comparison { incumbent, candidate }: &Comparison, thresholds: &Thresholds) -> Option<Reason> {
    let (incumbent, candidate) = (Tail::of(&incumbent.latency), Tail::of(&candidate.latency));
    let alpha = thresholds.alpha / 4.0 / incumbent.bounds.len().max(1) as f64;
    let mut slower = 0;
    incumbent.bounds.iter().enumerate().find_map(|(index, &bound)| {
        let wanted = bound as f64 * thresholds.latency_factor;
        while slower + 1 < candidate.bounds.len() && (candidate.bounds[slower] as f64) < wanted {
            slower += 1;
        }
        let above = candidate.bounds[slower];
        if above < thresholds.latency_floor_us || (above as f64) < wanted {
            return None;
        }
        // A bound lies on its side of the share that was seen: without a difference there is nothing to compute.
        if share(candidate.above[slower], candidate.count) <= share(incumbent.above[index], incumbent.count) {
            return None;
        }
        let at_least = lower_bound(candidate.above[slower], candidate.count, alpha);
        if at_least <= upper_bound(incumbent.above[index], incumbent.count, alpha) {
            return None;
        }
        Some(Reason::Latency {
            candidate: share(candidate.above[slower], candidate.count),
            above_us: above,
            incumbent: share(incumbent.above[index], incumbent.count),
            incumbent_above_us: bound,
        })
    })
}

/// How many values lie above each bucket's bound.
struct Tail {
    bounds: Vec<u64>,
    above: Vec<u64>,
    count: u64,
}

impl Tail {
    fn of(histogram: &HistogramSnapshot) -> Self {
        let count = histogram.count();
        let mut left = count;
        let (mut bounds, mut above) = (Vec::new(), Vec::new());
        for (bound, values) in histogram.buckets() {
            left -= values;
            if let Some(bound) = bound {
                bounds.push(bound);
                above.push(left);
            }
        }
        Self { bounds, above, count }
    }
}

#[cfg(test)]
mod tests;
