//! What a load run saw.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

/// How a request failed, as its client sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failure {
    /// No connection.
    Connect(String),
    /// An answer of 500 or above.
    Status(u16),
    /// The connection broke before the answer was whole.
    Broken(String),
    /// No whole answer in time.
    TimedOut,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was sent.
    pub sent: Instant,
    /// When its answer was whole.
    pub ended: Instant,
    /// From when it was due by the schedule, so that a stalled gateway cannot hide its own delay.
    pub latency: Duration,
    /// The status and who answered (`x-instance`; empty where nobody said).
    pub result: Result<(u16, String), Failure>,
}

/// All requests of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub samples: Vec<Sample>,
    /// Connections that the other side had ended between two requests, which is its right.
    pub reconnects: u64,
}

impl Report {
    pub fn total(&self) -> usize {
        self.samples.len()
    }

    pub fn failures(&self) -> BTreeMap<Failure, usize> {
        let mut failures = BTreeMap::new();
        for failure in self.samples.iter().filter_map(|sample| sample.result.as_ref().err()) {
            *failures.entry(failure.clone()).or_default() += 1;
        }
        failures
    }

    /// How many requests each instance answered.
    pub fn by_instance(&self) -> BTreeMap<String, usize> {
        let mut answered = BTreeMap::new();
        for (_, instance) in self.samples.iter().filter_map(|sample| sample.result.as_ref().ok()) {
            *answered.entry(instance.clone()).or_default() += 1;
        }
        answered
    }

    /// The share of answers that came from `instance`.
    pub fn share(&self, instance: &str) -> f64 {
        let answered = self.by_instance();
        let all: usize = answered.values().sum();
        answered.get(instance).copied().unwrap_or(0) as f64 / all.max(1) as f64
    }

    /// The requests that were sent in `from..to`.
    pub fn between(&self, from: Instant, to: Instant) -> Self {
        let inside = self.samples.iter().filter(|sample| (from..to).contains(&sample.sent));
        Self { samples: inside.cloned().collect(), reconnects: 0 }
    }

    /// The requests that were sent and answered in `from..to`: nothing before or after had to do with them.
    pub fn within(&self, from: Instant, to: Instant) -> Self {
        let inside = self.samples.iter().filter(|sample| from <= sample.sent && sample.ended < to);
        Self { samples: inside.cloned().collect(), reconnects: 0 }
    }

    /// The latency that `share` of the requests (0.99, say) do not exceed.
    pub fn latency(&self, share: f64) -> Duration {
        let mut latencies: Vec<Duration> = self.samples.iter().map(|sample| sample.latency).collect();
        latencies.sort_unstable();
        let rank = (share * latencies.len() as f64).ceil() as usize;
        latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Panics with every kind of failure where there was one, or where nothing was asked.
    #[track_caller]
    pub fn expect_no_failures(&self) -> &Self {
        assert!(self.total() > 0, "no request was sent");
        assert!(self.failures().is_empty(), "{self}");
        self
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed: usize = self.failures().values().sum();
        write!(f, "{} requests, {failed} failed {:?}, ", self.total(), self.failures())?;
        write!(f, "answered by {:?}, p50 {:?}, ", self.by_instance(), self.latency(0.5))?;
        write!(f, "p99 {:?}, p99.9 {:?}", self.latency(0.99), self.latency(0.999))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(latency_ms: u64, result: Result<(u16, String), Failure>) -> Sample {
        let now = Instant::now();
        Sample { sent: now, ended: now, latency: Duration::from_millis(latency_ms), result }
    }

    #[test]
    fn a_percentile_is_the_smallest_latency_that_covers_the_share() {
        let samples = (1..=100).map(|ms| sample(ms, Ok((200, "a".into())))).collect();
        let report = Report { samples, reconnects: 0 };
        assert_eq!(report.latency(0.5), Duration::from_millis(50));
        assert_eq!(report.latency(0.99), Duration::from_millis(99));
        assert_eq!(report.latency(0.999), Duration::from_millis(100));
        assert_eq!(Report::default().latency(0.5), Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "Status(503): 1")]
    fn one_failure_in_many_is_seen() {
        let mut samples: Vec<_> = (0..99).map(|_| sample(1, Ok((200, "a".into())))).collect();
        samples.push(sample(1, Err(Failure::Status(503))));
        Report { samples, reconnects: 0 }.expect_no_failures();
    }
}
