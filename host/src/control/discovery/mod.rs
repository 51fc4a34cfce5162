//! Sources of endpoints: for each service that has one, a task that asks its plugin for the membership, for ever.
//!
//! ```text
//! plugin's watch ─▶ [`driver`]: cursor, backoff ─▶ [`accept`]: possible? ─▶ [`hold`]: too many lost? ─▶ publisher
//!                                                                                └▶ [`cache`]: for the next start
//! ```
//!
//! An error never empties a membership: what was said last stays until something else is said. Memberships that come
//! while a change is under way are published together in the next one. A source that comes into use in the place of
//! another has answered before ([`publisher`](super::publisher)).

mod accept;
mod cache;
mod driver;
mod hold;
mod own_registry;
mod shadow;
mod status;

pub use accept::{Accepted, accept};
pub use cache::MembershipCache;
pub use driver::{First, Recipe};
pub use hold::{loses_most, lost};
pub use own_registry::OwnRegistry;
pub use shadow::Seen;
pub use status::{SourceState, Status};

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    sync::Notify,
    task::{JoinHandle, block_in_place},
};

use self::{driver::Driver, shadow::Shadow};
use super::{
    history::History,
    membership::names::Names,
    publisher::{Opened, Published},
};
use crate::{
    model::{Clock, EndpointSpec, ServiceName, VersionId},
    plugin::Outside,
};

type Found = Vec<(ServiceName, Arc<[EndpointSpec]>)>;

/// What the tasks work with.
pub struct SourceParts {
    pub outside: Arc<Outside>,
    pub names: Arc<Names>,
    pub cache: MembershipCache,
    pub history: History,
    pub clock: Clock,
}

/// The sources in use, and what they have found that is not in force yet.
pub struct Sources {
    pub parts: SourceParts,
    running: Mutex<BTreeMap<ServiceName, Running>>,
    /// Candidates beside them.
    shadows: Mutex<BTreeMap<ServiceName, Shadow>>,
    /// The latest of each service.
    found: Mutex<BTreeMap<ServiceName, Arc<[EndpointSpec]>>>,
    something_found: Notify,
    /// Of the next source.
    next_number: AtomicU64,
}

struct Running {
    /// Tells sources of one service apart: one that has ended may still be about to say something.
    number: u64,
    task: JoinHandle<()>,
    status: Arc<Mutex<Status>>,
}

impl Sources {
    pub fn new(parts: SourceParts) -> Arc<Self> {
        let (running, shadows, found) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self {
            parts,
            running,
            shadows,
            found,
            something_found: Notify::new(),
            next_number: AtomicU64::new(0),
        })
    }

    /// Only the publisher calls this, when a change is in force: sources that are not needed any more end, and
    /// `opened` begin.
    pub fn replace(self: &Arc<Self>, opened: Vec<Opened>, now: &Published) {
        let mut running = lock(&self.running);
        let needed = |name: &ServiceName| now.service(name).is_some_and(|service| service.source.is_some());
        running.retain(|name, source| {
            let stays = needed(name);
            if !stays {
                source.task.abort();
                self.parts.cache.forget(name);
                lock(&self.found).remove(name);
            }
            stays
        });
        for opened in opened {
            let Opened { service, recipe, instance, first } = opened;
            let endpoints = now.desired.discovered.get(&service).map(Arc::clone).unwrap_or_else(|| Arc::from([]));
            let status = Arc::new(Mutex::new(Status::begin(&first, endpoints.len())));
            if first.answered {
                let cursor = first.cursor.as_deref();
                block_in_place(|| self.parts.cache.keep(&service, &recipe.policy, cursor, &endpoints));
            }
            let number = self.next_number.fetch_add(1, Ordering::Relaxed);
            let driver = Driver {
                sources: Arc::clone(self),
                number,
                service: service.clone(),
                recipe,
                status: Arc::clone(&status),
                endpoints,
                cursor: first.cursor,
            };
            let task = tokio::spawn(driver.run(instance));
            lock(&self.found).remove(&service);
            if let Some(before) = running.insert(service, Running { number, task, status }) {
                before.task.abort();
            }
        }
    }

    /// Candidates that run beside sources from here on: those of `recipes`, and no others.
    pub fn set_shadows(&self, recipes: Vec<Recipe>) {
        let mut shadows = lock(&self.shadows);
        let mut before = std::mem::take(&mut *shadows);
        for recipe in recipes {
            let kept = before.remove(&recipe.service).filter(|shadow| shadow.is_of(&recipe));
            shadows.insert(recipe.service.clone(), kept.unwrap_or_else(|| Shadow::begin(recipe)));
        }
    }

    /// The candidate beside a service's source, and what it has said.
    pub fn shadow(&self, service: &ServiceName) -> Option<(VersionId, Seen)> {
        lock(&self.shadows).get(service).map(|shadow| (shadow.version(), shadow.seen()))
    }

    /// Returns when something was found that nobody has taken.
    pub async fn found(&self) {
        self.something_found.notified().await;
    }

    /// All memberships found since the last time.
    pub fn take_found(&self) -> Found {
        std::mem::take(&mut *lock(&self.found)).into_iter().collect()
    }

    /// Takes back what could not be brought into force, except where something newer was found.
    pub fn put_back(&self, memberships: Found) {
        let mut found = lock(&self.found);
        for (service, endpoints) in memberships {
            found.entry(service).or_insert(endpoints);
        }
    }

    fn offer(&self, service: &ServiceName, number: u64, endpoints: Arc<[EndpointSpec]>) {
        let running = lock(&self.running);
        if running.get(service).is_none_or(|source| source.number != number) {
            return;
        }
        lock(&self.found).insert(service.clone(), endpoints);
        self.something_found.notify_one();
    }

    /// What a service's source did; none where it has none.
    pub fn status(&self, service: &ServiceName) -> Option<Status> {
        let status = Arc::clone(&lock(&self.running).get(service)?.status);
        let status = lock(&status).clone();
        Some(status)
    }

    /// All sources end.
    pub async fn end(&self) {
        lock(&self.shadows).clear();
        let running = std::mem::take(&mut *lock(&self.running));
        for source in running.into_values() {
            source.task.abort();
            let _ = source.task.await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of the lock panics")
}
