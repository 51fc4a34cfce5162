//! What is simulated: a TOML file, checked as the gateway's own configuration is. Every key:
//!
//! | key | default | what |
//! | --- | --- | --- |
//! | `seed` | 1 | of all randomness; `--seed` wins |
//! | `duration` | needed | how long requests arrive; those on their way are seen to their end |
//! | `warm_up` | `"0 s"` | requests that arrive so early are served, and left out of the figures |
//! | `workers` | 2 | each with its own instances of the plugins; requests come to them at random |
//! | `timeout` | `"15 s"` | of a request, over all its attempts, as a service's |
//! | `success_within` | `timeout` | an answer that comes later is no success in the figures |
//! | `idempotent` | 1.0 | share of requests that may be sent again although they may have arrived |
//! | `cancelled` | `"finishes"` | what an endpoint does with a request that nobody waits for: `"finishes"` or `"stops"` |
//! | `retry`, `ejection` | as a service's | the bounds of the gateway, with its keys |
//! | `settings.NAME` | none | settings of the plugin of this name |
//! | `[arrivals]` | needed | `rate` a second; `process` = `"poisson"` (default) or `"constant"`; `phases` = `[{ from, until, rate }]` with other rates |
//! | `[[endpoints]]` | needed | `count` (1) endpoints alike: `slots` (1), how many requests one works on at once; `queue_max` (10,000), how many wait there before it answers 503; `weight` (1); `service`, how long it works on one |
//! | `[[failures]]` | none | `endpoints` = numbers from 0 in the order of the file, or `"all"`; `from`, `until`; `kind` and what it needs |
//!
//! A `service` is a table:
//!
//! | `distribution` | keys |
//! | --- | --- |
//! | `"constant"`, `"exponential"` | `mean` |
//! | `"normal"` | `mean`, `sd` |
//! | `"lognormal"` | `median`, `p99` |
//! | `"bimodal"` | `fast`, `slow`, `slow_share` (0 to 1) |
//!
//! A failure is of a kind:
//!
//! | `kind` | what happens |
//! | --- | --- |
//! | `"slow"` | requests that are begun meanwhile take `factor` times as long, or what another `service` says |
//! | `"dead"` | what it has is reset, and connections are refused: a crash |
//! | `"black-hole"` | it takes requests and does nothing until the end: SIGSTOP |
//! | `"errors"` | of the requests that are begun meanwhile a `share` (1.0) is answered with `status` (503), after what a `service` of its own says, if there is one |

mod read;

use std::{collections::BTreeMap, num::NonZeroUsize, path::Path, time::Duration};

use super::service_time::ServiceTime;
use crate::{
    config::{self, ConfigErrors},
    model::{EjectionLimits, RetryLimits, Weight},
};

#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    pub seed: u64,
    pub duration: Duration,
    pub warm_up: Duration,
    pub workers: NonZeroUsize,
    pub timeout: Duration,
    pub success_within: Duration,
    /// 0 to 1.
    pub idempotent: f64,
    /// Whether an endpoint stops its work on a request that nobody waits for any more.
    pub cancelled_stops: bool,
    pub retry: RetryLimits,
    pub ejection: EjectionLimits,
    /// By the plugin's name; each an object.
    pub settings: BTreeMap<String, serde_json::Value>,
    pub arrivals: Arrivals,
    /// At least one, at most [`ENDPOINTS_MAX`].
    pub endpoints: Vec<EndpointModel>,
    pub failures: Vec<Failure>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Arrivals {
    /// A second, outside of the phases.
    pub rate: f64,
    pub process: Process,
    /// Where they overlap, the first holds.
    pub phases: Vec<Phase>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    Poisson,
    Constant,
}

/// A time with another rate.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    pub from_s: f64,
    pub until_s: f64,
    pub rate: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct EndpointModel {
    /// Requests that it works on at once; at least one.
    pub slots: usize,
    /// Requests that wait for a slot; one more is answered 503.
    pub queue_max: usize,
    pub weight: Weight,
    pub service: ServiceTime,
}

/// One endpoint's failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    pub endpoint: usize,
    /// Since the beginning.
    pub from: Duration,
    pub until: Duration,
    pub kind: FailureKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FailureKind {
    Slow(Slowness),
    Dead,
    BlackHole,
    Errors {
        /// 0 to 1.
        share: f64,
        status: u16,
        service: Option<ServiceTime>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Slowness {
    Times(f64),
    Service(ServiceTime),
}

/// Endpoints of a scenario: plugins are tried with as many elsewhere, and each has a row of the plot's memory.
pub const ENDPOINTS_MAX: usize = 1_000;

/// Requests of one run: each takes some 200 bytes until the end.
pub const REQUESTS_MAX: f64 = 20e6;

impl Scenario {
    /// Reads and checks a scenario's file.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        config::load_document(path, read::scenario)
    }

    /// The same for a text; `file_name` is what problems are reported under.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, ConfigErrors> {
        config::parse_document(text, file_name, read::scenario)
    }
}

#[cfg(test)]
mod tests;
