//! What the configuration wants of a handler, and the code that reads its state.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    handler::{Handler, Making},
    record::Pin,
};
use crate::model::{HandlerStart, OnFailure};

/// One handler as it shall be.
#[derive(Clone)]
pub struct Wanted {
    pub pin: Pin,
    /// Made of `pin`.
    pub handler: Arc<dyn Handler>,
    pub making: Making,
    pub on_failure: OnFailure,
    pub from: HandlerStart,
}

impl Wanted {
    /// Whether nothing is to be done where the one is wanted instead of the other.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.handler, &other.handler) && self.on_failure == other.on_failure && self.pin == other.pin
    }
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wanted").field("pin", &self.pin).finish_non_exhaustive()
    }
}

/// The code of a handler's generations, by their numbers.
#[derive(Default)]
pub(super) struct Readers(Mutex<BTreeMap<u64, Arc<dyn Handler>>>);

impl Readers {
    pub fn get(&self, generation: u64) -> Option<Arc<dyn Handler>> {
        self.lock().get(&generation).cloned()
    }

    pub fn put(&self, generation: u64, handler: Arc<dyn Handler>) {
        self.lock().insert(generation, handler);
    }

    pub fn drop_one(&self, generation: u64) {
        self.lock().remove(&generation);
    }

    pub fn keep_only(&self, generations: &[u64]) {
        self.lock().retain(|generation, _| generations.contains(generation));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<dyn Handler>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
