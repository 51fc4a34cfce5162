//! What all groups share.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, mpsc, watch};

use super::{group::Group, journal::Journal, remove::Leaving, token::Token};
use crate::{
    events::{EventStore, handlers::OutgoingCall},
    model::{GroupName, OwnAnswer, Position, Wall, backoff},
    plugin::BoxFuture,
};

/// Makes the calls of webhooks.
pub trait WebhookCaller: Send + Sync + 'static {
    /// The answer, or why there is none.
    fn call(&self, call: OutgoingCall) -> BoxFuture<'static, Result<OwnAnswer, String>>;

    /// Whether it may be called at all; why not otherwise.
    fn check(&self, target: &str) -> Result<(), String>;
}

pub(super) struct Core {
    pub journal: Journal,
    pub events: EventStore,
    pub caller: Arc<dyn WebhookCaller>,
    pub wall: Wall,
    pub shutdown: watch::Sender<bool>,
    /// Somebody has set, changed or removed a group.
    pub defined: Notify,
    /// Of the events that all groups have in memory.
    pub held_bytes: Arc<AtomicUsize>,
    pub taken_over: AtomicBool,
    /// There is room for every group.
    pub leaving: mpsc::Sender<Leaving>,
    random: Mutex<fastrand::Rng>,
    groups: Mutex<BTreeMap<GroupName, Arc<Group>>>,
    tokens: AtomicU64,
    /// Groups that have something to be made durable, each once; None: nothing is any more.
    queue: Mutex<Option<Vec<Arc<Group>>>>,
    queued: Notify,
}

impl Core {
    pub fn new(
        journal: Journal,
        events: EventStore,
        caller: Arc<dyn WebhookCaller>,
        wall: Wall,
        seed: u64,
        leaving: mpsc::Sender<Leaving>,
    ) -> Self {
        Self {
            journal,
            events,
            caller,
            wall,
            shutdown: watch::channel(false).0,
            defined: Notify::new(),
            held_bytes: Arc::default(),
            taken_over: AtomicBool::new(false),
            leaving,
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            groups: Mutex::default(),
            tokens: AtomicU64::new(0),
            queue: Mutex::new(Some(Vec::new())),
            queued: Notify::new(),
        }
    }

    pub fn pause(&self, failed: u32, base: Duration) -> Duration {
        backoff::pause(failed, base, &mut lock(&self.random))
    }

    pub fn token(&self, position: Position) -> Token {
        Token { position, epoch: self.journal.claim.epoch, number: self.tokens.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    pub fn groups(&self) -> MutexGuard<'_, BTreeMap<GroupName, Arc<Group>>> {
        lock(&self.groups)
    }

    /// Has the scribe come by. False: it comes by no more.
    pub fn queue(&self, group: Arc<Group>) -> bool {
        match &mut *lock(&self.queue) {
            Some(queue) => queue.push(group),
            None => return false,
        }
        self.queued.notify_one();
        true
    }

    /// What waits, as soon as something does.
    pub async fn next_queued(&self) -> Vec<Arc<Group>> {
        loop {
            let waiting = lock(&self.queue).as_mut().map(std::mem::take).unwrap_or_default();
            if !waiting.is_empty() {
                return waiting;
            }
            self.queued.notified().await;
        }
    }

    /// The last of what waits; nothing is taken any more.
    pub fn close_queue(&self) -> Vec<Arc<Group>> {
        lock(&self.queue).take().unwrap_or_default()
    }
}

/// Resolves once it is time to stop.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Whoever could say so is gone: that is as good.
    let _ = stop.wait_for(|stop| *stop).await;
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
