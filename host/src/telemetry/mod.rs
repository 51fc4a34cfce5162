//! Metrics, access log, traces.
//!
//! Cells are counted by one worker thread each (so an addition is a relaxed load and store, no locked
//! instruction) and summed when `/metrics` is read.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::model::{Outcome, PluginName, ServiceName, VersionId};

/// Counted by one thread, read by any.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Durations in microseconds, in buckets.
#[derive(Debug, Default)]
pub struct Histogram {}

impl Histogram {
    pub fn record_us(&self, _us: u64) {
        unimplemented!()
    }
}

/// One endpoint as one worker sees it.
#[derive(Debug, Default)]
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
pub struct PluginCells {
    pub picks: Counter,
    /// CPU time of every 64th pick, in nanoseconds.
    pub pick_ns: Histogram,
    pub traps: Counter,
    pub deadline_overruns: Counter,
    pub memory_overruns: Counter,
    /// Answers that break a rule of the WIT.
    pub invalid_answers: Counter,
    /// Picks that the native fallback took instead.
    pub fallbacks: Counter,
    /// Of the attempts that this version picked: for the comparison of a canary with the incumbent.
    pub attempts: Counter,
    pub failures: Counter,
    pub latency: Histogram,
}

/// All metrics of the process.
#[derive(Debug, Default)]
pub struct Metrics {}

impl Metrics {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {})
    }

    /// The same cells for the same labels, so that counts go on over swaps and reloads.
    pub fn endpoint(&self, _worker: usize, _service: &ServiceName, _endpoint: &str) -> Arc<EndpointCells> {
        unimplemented!()
    }

    pub fn route(&self, _worker: usize, _route: &str) -> Arc<RouteCells> {
        unimplemented!()
    }

    pub fn plugin(
        &self,
        _worker: usize,
        _service: &ServiceName,
        _plugin: &PluginName,
        _version: VersionId,
    ) -> Arc<PluginCells> {
        unimplemented!()
    }
}

/// Where access-log lines go: a bounded queue to one writing thread. A worker never waits for it; a full queue
/// drops the line and counts it.
#[derive(Clone, Debug)]
pub struct AccessLogSink {}
