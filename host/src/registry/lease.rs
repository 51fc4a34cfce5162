//! What changes of a check with each heartbeat, and so is neither durable nor counted by the index.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use crate::model::InstantUs;

/// Shared by all versions of a check's record. A heartbeat is one store here: no lock of the registry, no commit.
#[derive(Debug)]
pub struct CheckLive {
    /// Until when the lease of a TTL check runs, or [`ENDED`].
    deadline_us: AtomicU64,
    output: Mutex<Arc<str>>,
}

/// The lease ran out and that was noticed: a heartbeat must bring the check back, not only prolong it. No instant is 0.
const ENDED: InstantUs = 0;

impl CheckLive {
    pub(super) fn new(output: &str) -> Arc<Self> {
        Arc::new(Self { deadline_us: AtomicU64::new(ENDED), output: Mutex::new(output.into()) })
    }

    pub fn output(&self) -> Arc<str> {
        Arc::clone(&self.output.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_output(&self, output: &str) {
        let mut kept = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        if **kept != *output {
            *kept = output.into();
        }
    }

    /// Prolongs a lease that runs; false where it has ended.
    pub(super) fn renew(&self, until_us: InstantUs) -> bool {
        let renew = |deadline: InstantUs| (deadline != ENDED).then_some(deadline.max(until_us));
        self.deadline_us.fetch_update(Ordering::AcqRel, Ordering::Acquire, renew).is_ok()
    }

    /// Begins a lease, whatever was before.
    pub(super) fn begin(&self, until_us: InstantUs) {
        self.deadline_us.store(until_us, Ordering::Release);
    }

    /// Ends a lease that ran out at this very instant; false where a heartbeat came in between.
    pub(super) fn end(&self, deadline_us: InstantUs) -> bool {
        self.deadline_us.compare_exchange(deadline_us, ENDED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// None where it has ended.
    pub(super) fn deadline_us(&self) -> Option<InstantUs> {
        Some(self.deadline_us.load(Ordering::Acquire)).filter(|&deadline| deadline != ENDED)
    }
}
