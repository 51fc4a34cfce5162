//! What is counted: one struct of cells for each thing that has a label, one instance of it a worker.
//!
//! A worker writes only its own cells. They stand on cache lines of their own, so that two workers never wait
//! for each other's stores.

use super::{counter::Counter, histogram::Histogram};
use crate::model::Outcome;

/// One endpoint as one worker sees it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct EndpointCells {
    /// Attempts ended, by [`Outcome`] as index.
    pub outcomes: [Counter; Outcome::COUNT],
    /// To the response head.
    pub first_byte: Histogram,
    /// Connections opened.
    pub connects: Counter,
}

/// One route as one worker sees it.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct RouteCells {
    /// Requests answered, by status class: index 0 is 1xx.
    pub responses: [Counter; 5],
    /// From the request head to the response head, retries included.
    pub latency: Histogram,
    /// Second and later attempts.
    pub retries: Counter,
    /// Answered by the gateway itself, not by an endpoint.
    pub gateway_errors: Counter,
}

/// One plugin version bound to one service, on one worker.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct PluginCells {
    pub picks: Counter,
    /// Failed attempts that a failover policy was asked about.
    pub decisions: Counter,
    /// Elapsed time of every 64th pick, in nanoseconds.
    pub pick_ns: Histogram,
    pub traps: Counter,
    pub deadline_overruns: Counter,
    pub memory_overruns: Counter,
    /// Answers that break a rule of the WIT.
    pub invalid_answers: Counter,
    /// Picks and decisions that the native fallback took instead.
    pub fallbacks: Counter,
    /// Of the attempts that this version picked: for the comparison of a canary with the incumbent.
    pub attempts: Counter,
    pub failures: Counter,
    pub latency: Histogram,
}

/// What belongs to a worker and to nothing with a name.
#[derive(Debug)]
#[repr(align(64))]
pub struct WorkerCells {
    /// Client connections accepted.
    pub accepted: Counter,
    refusal_reasons: &'static [&'static str],
    refusals: Box<[Counter]>,
}

impl WorkerCells {
    /// Shown only where they are `Metrics::worker`'s.
    pub fn new(refusal_reasons: &'static [&'static str]) -> Self {
        let refusals = refusal_reasons.iter().map(|_| Counter::default()).collect();
        Self { accepted: Counter::default(), refusal_reasons, refusals }
    }

    /// Counts a request that was refused before it was routed. `reason` is an index into the reasons that the
    /// cells were made with.
    pub fn refused(&self, reason: usize) {
        self.refusals[reason].add(1);
    }

    /// Each reason and how often it was the one.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.refusal_reasons.iter().copied().zip(self.refusals.iter().map(Counter::get))
    }
}
