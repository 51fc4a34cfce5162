//! What all workers share of one service, from the moment it is first configured until it is taken out.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use tokio::sync::Notify;

use super::RetryBudget;
use crate::{model::InstantUs, telemetry::SharedCounter};

/// One service, the whole gateway over. Reading it costs a worker no lock; what is written for every request stands
/// on cache lines of one writer.
#[derive(Debug)]
pub struct Shared {
    pub budget: RetryBudget,
    pub counts: FailoverCounts,
    /// Endpoints that are let through one request at a time, and have none under way.
    probed: AtomicU32,
    /// Whether they have waited so long that any request may be the one.
    any_may_probe: AtomicBool,
    in_flight: AtomicU32,
    waiting: AtomicU32,
    freed: Notify,
}

/// What became of attempts that failed. Written by all workers, and rarely.
#[derive(Debug, Default)]
pub struct FailoverCounts {
    /// Attempts after the first.
    pub retries: SharedCounter,
    /// Second copies, sent before the first had failed.
    pub hedges: SharedCounter,
    /// Second copies whose answer was taken.
    pub hedges_won: SharedCounter,
    /// Requests that another service was asked to answer.
    pub fall_backs: SharedCounter,
    /// Repetitions that the policy wanted and the budget did not allow.
    pub over_budget: SharedCounter,
    /// Requests refused because of a circuit limit.
    pub shed: SharedCounter,
    /// Picks of an endpoint that had become unfit or full a moment before.
    pub diverted: SharedCounter,
    /// Requests that found out whether an endpoint is fit again.
    pub probes: SharedCounter,
    /// Verdicts that break a rule of the WIT, or a bound.
    pub invalid_verdicts: SharedCounter,
}

impl FailoverCounts {
    /// Each by its name in `/metrics`.
    pub fn events(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("retries", self.retries.get()),
            ("hedges", self.hedges.get()),
            ("hedges-won", self.hedges_won.get()),
            ("fall-backs", self.fall_backs.get()),
            ("over-budget", self.over_budget.get()),
            ("shed", self.shed.get()),
            ("diverted", self.diverted.get()),
            ("probes", self.probes.get()),
            ("invalid-verdicts", self.invalid_verdicts.get()),
        ]
    }
}

impl Shared {
    pub fn new(workers: usize, now_us: InstantUs) -> Arc<Self> {
        Arc::new(Self {
            budget: RetryBudget::new(workers, now_us),
            counts: FailoverCounts::default(),
            probed: AtomicU32::new(0),
            any_may_probe: AtomicBool::new(false),
            in_flight: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            freed: Notify::new(),
        })
    }

    /// Whether some endpoint waits for a request that finds out whether it is fit again, and has none yet.
    #[inline]
    pub fn is_probing(&self) -> bool {
        self.probed.load(Ordering::Relaxed) > 0
    }

    /// Whether even a request that may not be sent twice may find that out, as no other has come.
    pub fn any_may_probe(&self) -> bool {
        self.any_may_probe.load(Ordering::Relaxed)
    }

    pub(super) fn set_any_may_probe(&self, any: bool) {
        self.any_may_probe.store(any, Ordering::Relaxed);
    }

    /// One of them has its request.
    pub fn probe_taken(&self) {
        // The judge may have counted them anew meanwhile.
        let one_less = |probed: u32| probed.checked_sub(1);
        let _ = self.probed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
    }

    pub(super) fn set_probed(&self, endpoints: usize) {
        self.probed.store(u32::try_from(endpoints).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Requests in flight, as far as they were counted by [`Self::enter`].
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Counts an attempt, unless there are as many as may be. Ends with [`Self::leave`].
    pub fn enter(&self, requests_max: Option<u32>) -> bool {
        let max = requests_max.unwrap_or(u32::MAX);
        let one_more = |in_flight: u32| (in_flight < max).then_some(in_flight + 1);
        self.in_flight.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).is_ok()
    }

    /// Takes back what was counted; who waits is told by [`Self::free`].
    pub fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
    }

    /// A place has become free, here or at an endpoint: one that waits may look.
    pub fn free(&self) {
        if self.waiting() > 0 {
            self.freed.notify_one();
        }
    }

    /// None where as many wait as may.
    pub fn wait(self: &Arc<Self>, pending_max: u32) -> Option<Waiting> {
        let before = self.waiting.fetch_add(1, Ordering::SeqCst);
        // Made first, so that its end takes back what was counted.
        let waiting = Waiting(Arc::clone(self));
        (before < pending_max).then_some(waiting)
    }
}

/// A request that waits for its place, until it is dropped.
#[derive(Debug)]
pub struct Waiting(Arc<Shared>);

impl Waiting {
    /// Resolves when a place may have become free.
    pub async fn freed(&self) {
        self.0.freed.notified().await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_enter_and_wait_as_may() {
        let shared = Shared::new(1, 0);
        assert!(shared.enter(Some(2)) && shared.enter(Some(2)) && !shared.enter(Some(2)));
        assert_eq!(shared.in_flight(), 2, "who was refused is not counted");
        let waiting = shared.wait(1);
        assert!(waiting.is_some() && shared.wait(1).is_none());
        assert_eq!(shared.waiting(), 1);
        drop(waiting);
        shared.leave();
        assert!(shared.wait(1).is_some() && shared.enter(Some(2)));
    }
}
