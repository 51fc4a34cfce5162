//! What may wait of a handler's calls, and stand aside: beyond it, it handles nothing more until some are gone.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Calls that wait or stand aside.
const CALLS_MAX: u64 = 100_000;

/// The same in bytes: a service that is away for a day must not fill the disk.
const BYTES_MAX: u64 = 1 << 30;

/// How much of a handler's calls may be there before it handles nothing more.
#[derive(Clone, Copy, Debug)]
pub struct OutboxBounds {
    pub calls_max: u64,
    pub bytes_max: u64,
}

impl Default for OutboxBounds {
    fn default() -> Self {
        Self { calls_max: CALLS_MAX, bytes_max: BYTES_MAX }
    }
}

/// What there is of a handler's calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxCounts {
    pub waiting: u64,
    /// That stand aside.
    pub parked: u64,
    /// Of both.
    pub bytes: u64,
}

/// Counted along with what is stored.
#[derive(Debug, Default)]
pub(super) struct Outbox(Mutex<OutboxCounts>);

impl Outbox {
    pub fn counts(&self) -> OutboxCounts {
        *self.lock()
    }

    pub fn set(&self, counts: OutboxCounts) {
        *self.lock() = counts;
    }

    pub fn has_room(&self, bounds: OutboxBounds) -> bool {
        let counts = self.counts();
        counts.waiting + counts.parked < bounds.calls_max && counts.bytes < bounds.bytes_max
    }

    pub fn add(&self, count: u64, bytes: u64) {
        let mut counts = self.lock();
        counts.waiting += count;
        counts.bytes += bytes;
    }

    /// One that was made, or so many that were not stored.
    pub fn remove(&self, count: u64, bytes: u64) {
        let mut counts = self.lock();
        counts.waiting = counts.waiting.saturating_sub(count);
        counts.bytes = counts.bytes.saturating_sub(bytes);
    }

    /// One that waited stands aside; answers how many do.
    pub fn park(&self) -> u64 {
        let mut counts = self.lock();
        counts.waiting = counts.waiting.saturating_sub(1);
        counts.parked += 1;
        counts.parked
    }

    /// So many that stood aside wait again.
    pub fn unpark(&self, count: u64) {
        let mut counts = self.lock();
        counts.parked = counts.parked.saturating_sub(count);
        counts.waiting += count;
    }

    /// So many that stood aside are no more.
    pub fn discard(&self, count: u64, bytes: u64) {
        let mut counts = self.lock();
        counts.parked = counts.parked.saturating_sub(count);
        counts.bytes = counts.bytes.saturating_sub(bytes);
    }

    fn lock(&self) -> MutexGuard<'_, OutboxCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
