//! What all transactions of a coordinator share.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::spawn_blocking,
};

use super::{
    CALLS_MAX, Gid,
    call::BranchCaller,
    driver::Command,
    journal::Journal,
    protocol::{Pin, Pinned, Protocol, Protocols, Versions},
    shown::Summary,
};
use crate::model::{PluginName, VersionId, Wall};

/// Told of every transaction that an operator has to look at.
pub type Alert = Arc<dyn Fn(&Gid, &PluginName, VersionId, &str) + Send + Sync>;

pub struct Core {
    pub journal: Journal,
    pub caller: Arc<dyn BranchCaller>,
    pub wall: Wall,
    /// Of ended transactions.
    pub retention: Duration,
    pub alert: Alert,
    /// Bounds the calls at once.
    pub calls: Semaphore,
    pub counts: Counts,
    versions: Arc<dyn Versions>,
    protocols: Mutex<Arc<Protocols>>,
    live: Mutex<HashMap<Gid, Live>>,
    /// Protocols that some transaction keeps to.
    pinned: tokio::sync::Mutex<Vec<(Pin, Weak<dyn Protocol>)>>,
    random: Mutex<fastrand::Rng>,
    pub shutdown: watch::Sender<bool>,
}

/// A transaction whose end is not in the store.
struct Live {
    commands: mpsc::Sender<Command>,
    plugin: PluginName,
    version: VersionId,
    /// How it has ended, while the record of that is on its way to the disk.
    ended: Option<Summary>,
}

/// Since the gateway started.
#[derive(Debug, Default)]
pub struct Counts {
    pub begun: AtomicU64,
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
    pub stopped: AtomicU64,
    pub hazards: AtomicU64,
    pub calls_succeeded: AtomicU64,
    pub calls_refused: AtomicU64,
    pub calls_unclear: AtomicU64,
}

impl Counts {
    pub fn add(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Core {
    pub fn new(
        journal: Journal,
        caller: Arc<dyn BranchCaller>,
        versions: Arc<dyn Versions>,
        alert: Alert,
        wall: Wall,
        retention: Duration,
        seed: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            journal,
            caller,
            wall,
            retention,
            alert,
            calls: Semaphore::new(CALLS_MAX),
            counts: Counts::default(),
            versions,
            protocols: Mutex::default(),
            live: Mutex::default(),
            pinned: tokio::sync::Mutex::default(),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            shutdown: watch::Sender::new(false),
        })
    }

    pub fn protocols(&self) -> Arc<Protocols> {
        Arc::clone(&lock(&self.protocols))
    }

    pub fn set_protocols(&self, protocols: Protocols) {
        *lock(&self.protocols) = Arc::new(protocols);
    }

    pub fn random(&self) -> fastrand::Rng {
        lock(&self.random).fork()
    }

    /// A place among those that have not ended, if there is none of this id and room for one more.
    pub fn enter(&self, gid: &Gid, plugin: &PluginName, version: VersionId, max: usize) -> Entered {
        let mut live = lock(&self.live);
        if live.contains_key(gid) {
            return Entered::There;
        }
        if live.len() >= max {
            return Entered::Full;
        }
        let (commands, inbox) = mpsc::channel(super::COMMANDS_MAX);
        live.insert(gid.clone(), Live { commands, plugin: plugin.clone(), version, ended: None });
        Entered::New(inbox)
    }

    /// It has ended, and whoever looks sees that from here on, though it is not in the store yet.
    pub fn end(&self, ended: Summary) {
        if let Some(live) = lock(&self.live).get_mut(&ended.gid) {
            live.ended = Some(ended);
        }
    }

    /// How one has ended that the store does not know to have.
    pub fn ended(&self, gid: &Gid) -> Option<Summary> {
        lock(&self.live).get(gid)?.ended.clone()
    }

    pub fn leave(&self, gid: &Gid) {
        lock(&self.live).remove(gid);
    }

    pub fn commands_of(&self, gid: &Gid) -> Option<mpsc::Sender<Command>> {
        lock(&self.live).get(gid).map(|live| live.commands.clone())
    }

    /// Resolves when the gateway ends.
    pub async fn closed(&self) {
        // The sender is this one's own.
        drop(self.shutdown.subscribe().wait_for(|&closed| closed).await);
    }

    /// How many have not ended.
    pub fn live_count(&self) -> usize {
        lock(&self.live).values().filter(|live| live.ended.is_none()).count()
    }

    /// How many whose end is not in the store keep to this plugin, by version.
    pub fn pins_of(&self, plugin: &PluginName) -> HashMap<VersionId, usize> {
        let mut pins = HashMap::new();
        for live in lock(&self.live).values().filter(|live| live.plugin == *plugin) {
            *pins.entry(live.version).or_default() += 1;
        }
        pins
    }

    /// All versions that some transaction keeps to.
    pub fn pins(&self) -> Vec<(PluginName, VersionId)> {
        let mut pins: Vec<_> = lock(&self.live).values().map(|live| (live.plugin.clone(), live.version)).collect();
        pins.sort_unstable();
        pins.dedup();
        pins
    }

    /// The protocol that a transaction began with: one in force, one that another transaction keeps to, or loaded.
    pub async fn protocol(&self, pin: &Pin) -> Result<Arc<dyn Protocol>, String> {
        let in_force = self.protocols();
        let all = in_force
            .values()
            .flat_map(|of| std::iter::once(&of.incumbent).chain(of.candidate.as_ref().map(|(_, c)| c)));
        for Pinned { pin: other, protocol } in all {
            if other == pin {
                return Ok(Arc::clone(protocol));
            }
        }
        // Held while it is loaded, so that a thousand transactions load one version once.
        let mut pinned = self.pinned.lock().await;
        pinned.retain(|(_, protocol)| protocol.strong_count() > 0);
        let known = pinned.iter().find(|(known, _)| known == pin).and_then(|(_, protocol)| protocol.upgrade());
        if let Some(protocol) = known {
            return Ok(protocol);
        }
        let (versions, wanted) = (Arc::clone(&self.versions), pin.clone());
        let loaded = spawn_blocking(move || versions.load(&wanted)).await;
        let protocol = loaded.unwrap_or_else(|error| Err(format!("loading it failed: {error}")))?;
        pinned.push((pin.clone(), Arc::downgrade(&protocol)));
        Ok(protocol)
    }
}

/// What became of asking for a place.
pub enum Entered {
    New(mpsc::Receiver<Command>),
    There,
    Full,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
