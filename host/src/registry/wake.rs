//! Those who wait for a service to change.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

/// One bell a service that somebody waits for.
#[derive(Debug, Default)]
pub struct Wakers {
    bells: Mutex<HashMap<String, Arc<Notify>>>,
}

/// Rings while it is held; the last one to drop takes the bell down.
#[derive(Debug)]
pub struct Bell<'a> {
    wakers: &'a Wakers,
    service: String,
    pub rings: Arc<Notify>,
}

impl Wakers {
    pub fn bell(&self, service: &str) -> Bell<'_> {
        let rings = Arc::clone(self.bells().entry(service.to_owned()).or_default());
        Bell { wakers: self, service: service.to_owned(), rings }
    }

    pub fn wake<'a>(&self, services: impl IntoIterator<Item = &'a String>) {
        let bells = self.bells();
        for bell in services.into_iter().filter_map(|service| bells.get(service)) {
            bell.notify_waiters();
        }
    }

    pub fn wake_all(&self) {
        for bell in self.bells().values() {
            bell.notify_waiters();
        }
    }

    fn bells(&self) -> MutexGuard<'_, HashMap<String, Arc<Notify>>> {
        self.bells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Bell<'_> {
    fn drop(&mut self) {
        /// The map's own and this one's.
        const LAST: usize = 2;
        let mut bells = self.wakers.bells();
        if Arc::strong_count(&self.rings) <= LAST {
            bells.remove(&self.service);
        }
    }
}
