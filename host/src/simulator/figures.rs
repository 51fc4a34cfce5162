//! What a run has shown.

use super::{events::BEGIN_US, scenario::Scenario};
use crate::model::InstantUs;

/// Parts that the time is divided into, for the plot.
const PARTS: usize = 60;

/// What is counted of one pairing. Requests and their attempts are those that arrived after the warm-up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub requests: u64,
    /// Answered well, and in time.
    pub successes: u64,
    /// Not answered well, however late.
    pub failed: u64,
    /// Until the client knew, answered well or not; sorted, in microseconds.
    pub latencies_us: Vec<u32>,
    /// By endpoint.
    pub attempts: Vec<u64>,
    pub retries: u64,
    pub hedges: u64,
    /// Second copies whose answer was taken.
    pub hedges_won: u64,
    /// Repetitions that the budget did not allow.
    pub over_budget: u64,
    pub ejections: u64,
    /// Ejections that a bound of the host stood against.
    pub overruled: u64,
    /// Traps, deadlines and memory limits, of any instance.
    pub faults: u64,
    /// Picks that broke a rule: the native fallback chose instead.
    pub invalid_picks: u64,
    /// The same of verdicts on failed attempts and endpoints: passed on, or left out.
    pub invalid_verdicts: u64,
    pub timeline: Vec<Part>,
}

/// One part of the time, by when requests arrived; the warm-up too.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// In the middle, since the beginning.
    pub at_s: f64,
    pub requests: u64,
    pub successes: u64,
    /// None without requests.
    pub p99_us: Option<u32>,
}

impl Figures {
    /// In microseconds; of no requests, 0. The smallest latency that at least this share of requests does not exceed.
    pub fn percentile_us(&self, percent: f64) -> u32 {
        percentile(&self.latencies_us, percent).unwrap_or(0)
    }

    pub fn mean_us(&self) -> f64 {
        let sum: u64 = self.latencies_us.iter().copied().map(u64::from).sum();
        ratio(sum, self.latencies_us.len() as u64)
    }

    pub fn success_share(&self) -> f64 {
        ratio(self.successes, self.requests)
    }

    pub fn failed_share(&self) -> f64 {
        ratio(self.failed, self.requests)
    }

    pub fn attempts_per_request(&self) -> f64 {
        ratio(self.attempts.iter().sum(), self.requests)
    }

    /// Of the attempts, what the endpoints with fewest and with most got.
    pub fn load_shares(&self) -> (f64, f64) {
        let all = self.attempts.iter().sum();
        let share = |attempts: Option<&u64>| ratio(attempts.copied().unwrap_or(0), all);
        (share(self.attempts.iter().min()), share(self.attempts.iter().max()))
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of one run are far below 2^52")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// To a tenth of a percent.
fn percentile(sorted: &[u32], percent: f64) -> Option<u32> {
    // Whole numbers, as 99.9 % of 1,000 would be a little more than 999 otherwise.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let permille = (percent * 10.0).round() as usize;
    let rank = (sorted.len() * permille).div_ceil(1_000);
    sorted.get(rank.max(1) - 1).copied()
}

/// Takes down what happens.
#[derive(Debug)]
pub struct Recorder {
    pub figures: Figures,
    counted_from_us: InstantUs,
    success_within_us: u64,
    part_us: u64,
    /// Latencies by part.
    parts: Vec<Vec<u32>>,
}

impl Recorder {
    pub fn new(scenario: &Scenario) -> Self {
        let us = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 2);
        let part_us = us(scenario.duration).div_ceil(PARTS as u64).max(1);
        let middle_s =
            |part: usize| std::time::Duration::from_micros(part as u64 * part_us + part_us / 2).as_secs_f64();
        let timeline = (0..PARTS).map(|part| Part { at_s: middle_s(part), ..Part::default() }).collect();
        let attempts = vec![0; scenario.endpoints.len()];
        Self {
            figures: Figures { attempts, timeline, ..Figures::default() },
            counted_from_us: BEGIN_US + us(scenario.warm_up),
            success_within_us: us(scenario.success_within),
            part_us,
            parts: vec![Vec::new(); PARTS],
        }
    }

    /// Whether a request that arrives then is one of the figures.
    pub fn counts(&self, arrived_us: InstantUs) -> bool {
        arrived_us >= self.counted_from_us
    }

    /// The client knows: it was answered well or not.
    pub fn answered(&mut self, arrived_us: InstantUs, now_us: InstantUs, well: bool) {
        let latency_us = now_us - arrived_us;
        let success = well && latency_us <= self.success_within_us;
        let latency_us = u32::try_from(latency_us).unwrap_or(u32::MAX);
        let part = usize::try_from((arrived_us - BEGIN_US) / self.part_us).unwrap_or(PARTS).min(PARTS - 1);
        self.parts[part].push(latency_us);
        let part = &mut self.figures.timeline[part];
        part.requests += 1;
        part.successes += u64::from(success);
        if self.counts(arrived_us) {
            self.figures.requests += 1;
            self.figures.successes += u64::from(success);
            self.figures.failed += u64::from(!well);
            self.figures.latencies_us.push(latency_us);
        }
    }

    pub fn attempted(&mut self, arrived_us: InstantUs, endpoint: usize) {
        if self.counts(arrived_us) {
            self.figures.attempts[endpoint] += 1;
        }
    }

    pub fn finish(self) -> Figures {
        let Self { mut figures, parts, .. } = self;
        figures.latencies_us.sort_unstable();
        for (part, mut latencies) in figures.timeline.iter_mut().zip(parts) {
            latencies.sort_unstable();
            part.p99_us = percentile(&latencies, 99.0);
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_latency_that_was_seen() {
        let figures = Figures { latencies_us: (1..=1_000).collect(), ..Figures::default() };
        let percentiles = [0.0, 50.0, 90.0, 99.0, 99.9, 100.0].map(|percent| figures.percentile_us(percent));
        assert_eq!(percentiles, [1, 500, 900, 990, 999, 1_000]);
        assert_eq!(Figures::default().percentile_us(50.0), 0);
    }
}
