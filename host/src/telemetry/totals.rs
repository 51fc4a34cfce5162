//! Cells of all workers added up: what the API shows, and what a canary's verdict compares.

use std::array;

use super::{
    cells::{EndpointCells, PluginCells, RouteCells},
    histogram::HistogramSnapshot,
};
use crate::model::Outcome;

/// Cells that add up.
pub(super) trait Sum {
    type Total: Default;
    fn add_to(&self, total: &mut Self::Total);
}

/// Of one endpoint, or of all endpoints of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointTotals {
    /// Attempts ended, by [`Outcome`] as index.
    pub outcomes: [u64; Outcome::COUNT],
    /// In microseconds, to the response head.
    pub first_byte: HistogramSnapshot,
    pub connects: u64,
}

impl EndpointTotals {
    pub fn attempts(&self) -> u64 {
        self.outcomes.iter().sum()
    }

    /// Attempts whose outcome counts against the endpoint.
    pub fn failures(&self) -> u64 {
        Outcome::ALL.iter().zip(self.outcomes).filter(|(outcome, _)| outcome.is_failure()).map(|(_, n)| n).sum()
    }

    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.outcomes.iter_mut().zip(other.outcomes) {
            *mine += theirs;
        }
        self.first_byte.merge(&other.first_byte);
        self.connects += other.connects;
    }
}

impl Sum for EndpointCells {
    type Total = EndpointTotals;

    fn add_to(&self, total: &mut EndpointTotals) {
        total.merge(&EndpointTotals {
            outcomes: array::from_fn(|index| self.outcomes[index].get()),
            first_byte: self.first_byte.snapshot(),
            connects: self.connects.get(),
        });
    }
}

/// Of one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteTotals {
    /// Requests answered, by status class: index 0 is 1xx.
    pub responses: [u64; 5],
    /// In microseconds, to the response head, retries included.
    pub latency: HistogramSnapshot,
    pub retries: u64,
    pub gateway_errors: u64,
}

impl Sum for RouteCells {
    type Total = RouteTotals;

    fn add_to(&self, total: &mut RouteTotals) {
        for (sum, cell) in total.responses.iter_mut().zip(&self.responses) {
            *sum += cell.get();
        }
        total.latency.merge(&self.latency.snapshot());
        total.retries += self.retries.get();
        total.gateway_errors += self.gateway_errors.get();
    }
}

/// Of one plugin version bound to one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginTotals {
    pub picks: u64,
    pub decisions: u64,
    /// In nanoseconds of CPU, of every 64th pick.
    pub pick_ns: HistogramSnapshot,
    pub traps: u64,
    pub deadline_overruns: u64,
    pub memory_overruns: u64,
    pub invalid_answers: u64,
    pub fallbacks: u64,
    pub attempts: u64,
    pub failures: u64,
    /// In microseconds, of the attempts that it picked.
    pub latency: HistogramSnapshot,
}

impl PluginTotals {
    /// What happened between `earlier` and these totals of the same plugin version.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            picks: self.picks.saturating_sub(earlier.picks),
            decisions: self.decisions.saturating_sub(earlier.decisions),
            pick_ns: self.pick_ns.since(&earlier.pick_ns),
            traps: self.traps.saturating_sub(earlier.traps),
            deadline_overruns: self.deadline_overruns.saturating_sub(earlier.deadline_overruns),
            memory_overruns: self.memory_overruns.saturating_sub(earlier.memory_overruns),
            invalid_answers: self.invalid_answers.saturating_sub(earlier.invalid_answers),
            fallbacks: self.fallbacks.saturating_sub(earlier.fallbacks),
            attempts: self.attempts.saturating_sub(earlier.attempts),
            failures: self.failures.saturating_sub(earlier.failures),
            latency: self.latency.since(&earlier.latency),
        }
    }

    /// Calls that did not come back, whatever the reason.
    pub fn faults(&self) -> u64 {
        self.traps + self.deadline_overruns + self.memory_overruns
    }
}

impl Sum for PluginCells {
    type Total = PluginTotals;

    fn add_to(&self, total: &mut PluginTotals) {
        total.picks += self.picks.get();
        total.decisions += self.decisions.get();
        total.pick_ns.merge(&self.pick_ns.snapshot());
        total.traps += self.traps.get();
        total.deadline_overruns += self.deadline_overruns.get();
        total.memory_overruns += self.memory_overruns.get();
        total.invalid_answers += self.invalid_answers.get();
        total.fallbacks += self.fallbacks.get();
        total.attempts += self.attempts.get();
        total.failures += self.failures.get();
        total.latency.merge(&self.latency.snapshot());
    }
}
