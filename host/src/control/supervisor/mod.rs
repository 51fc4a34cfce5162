//! Brings back plugin instances that failed, and takes back versions that keep failing.
//!
//! While an instance is gone the gateway's native fallback decides, so nothing here is urgent: what matters is that a
//! failing version neither takes up the machine by being restarted all the time, nor stays away for longer than it
//! must.

mod policy;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

pub use self::policy::{InstanceId, Restarts, Step};
use super::{
    change::{Change, Refusal},
    history::{About, History, HistoryKind},
    publisher::{Handle, Published, place},
};
use crate::{
    gateway::WorkerEvent,
    model::{PluginName, ServiceName, VersionId},
    plugin::{Fault, FaultKind},
    telemetry::{Metrics, PluginTotals},
};

/// How often invalid answers are looked at.
const INVALID_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Answers that break a rule of the WIT, between two looks, from which on a version is given up...
const INVALID_ANSWERS_MIN: u64 = 100;
/// ...if they are more than this share of its picks. Less is a bug that does little harm, and shown in the metrics.
const INVALID_SHARE_MAX: f64 = 0.01;

/// An instance that is gone, as the API shows it.
#[derive(Clone, Debug)]
pub struct Gone {
    pub fault: String,
    /// In a row, this one included.
    pub faults: u32,
    pub restart_at: Instant,
}

/// Which instances are gone now. Shared with the API.
#[derive(Clone, Debug, Default)]
pub struct GoneInstances(Arc<Mutex<BTreeMap<InstanceId, Gone>>>);

impl GoneInstances {
    pub fn of(&self, service: &ServiceName) -> Vec<(InstanceId, Gone)> {
        let gone = self.0.lock().expect("no holder of the lock panics");
        gone.iter().filter(|(id, _)| id.service == *service).map(|(id, gone)| (id.clone(), gone.clone())).collect()
    }

    fn insert(&self, id: InstanceId, gone: Gone) {
        self.0.lock().expect("no holder of the lock panics").insert(id, gone);
    }

    /// Whether it was gone until now.
    fn remove(&self, id: &InstanceId) -> bool {
        self.0.lock().expect("no holder of the lock panics").remove(id).is_some()
    }

    /// Another change has brought new instances: nothing is gone there any more.
    pub fn replaced(&self, service: &ServiceName, worker: usize, of_policy: impl Fn(VersionId) -> bool) {
        let mut gone = self.0.lock().expect("no holder of the lock panics");
        gone.retain(|id, _| id.service != *service || id.worker != worker || !of_policy(id.version));
    }

    /// Places that do not exist any more.
    pub fn retain_services(&self, exists: impl Fn(&ServiceName) -> bool) {
        self.0.lock().expect("no holder of the lock panics").retain(|id, _| exists(&id.service));
    }
}

pub struct Supervisor {
    publisher: Handle,
    metrics: Arc<Metrics>,
    history: History,
    gone: GoneInstances,
    restarts: Restarts,
    /// Where the counters of versions in use stood at the last look.
    looked: HashMap<(ServiceName, PluginName, VersionId), PluginTotals>,
}

impl Supervisor {
    pub fn new(publisher: Handle, metrics: Arc<Metrics>, history: History, gone: GoneInstances, seed: u64) -> Self {
        let restarts = Restarts::new(fastrand::Rng::with_seed(seed));
        Self { publisher, metrics, history, gone, restarts, looked: HashMap::new() }
    }

    /// Ends when the gateway has.
    pub async fn run(mut self, mut events: mpsc::UnboundedReceiver<WorkerEvent>) {
        let mut look = tokio::time::interval(INVALID_CHECK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let due = self.restarts.next_due().map(tokio::time::Instant::from_std);
            let restart = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.recv() => match event {
                    Some(WorkerEvent::Fault { worker, service, version, fault }) => {
                        self.fault(InstanceId { service, worker, version }, &fault).await;
                    }
                    None => return,
                },
                () = restart => self.restart_due().await,
                _ = look.tick() => self.look_at_invalid_answers().await,
            }
        }
    }

    async fn fault(&mut self, id: InstanceId, fault: &Fault) {
        let Some(current) = self.publisher.current() else { return };
        // Of a version that has been replaced meanwhile: nothing to do.
        let Some(plugin) = current.plugin_of(&id.service, id.version).cloned() else { return };
        let about =
            About { plugin: Some(plugin.clone()), version: Some(id.version), service: Some(id.service.clone()) };
        let message =
            format!("service {}, {}: plugin {plugin} {} failed in {fault}", id.service, place(id.worker), id.version);
        self.history.note(HistoryKind::Fault, about, message);
        let candidate = current.desired.canaries.get(&plugin).filter(|canary| canary.version == id.version);
        if let Some(canary) = candidate.filter(|_| fault.kind != FaultKind::Deadline) {
            // The watch over canaries would say the same a moment later; a trap leaves nothing to weigh.
            let reason = format!("for service {}, it failed in {fault}", id.service);
            self.ask(Change::Withdraw { plugin, number: canary.number, reason }).await;
            return;
        }
        match self.restarts.fault(id.clone(), Instant::now()) {
            Step::RestartAt { at, faults } => {
                self.gone.insert(id, Gone { fault: fault.to_string(), faults, restart_at: at });
            }
            Step::GiveUp { at, faults, of_version, within } => {
                self.gone.insert(id.clone(), Gone { fault: fault.to_string(), faults, restart_at: at });
                let reason = format!("failed {of_version} times within {} s", within.as_secs());
                self.give_up(&current, plugin, id.version, reason).await;
            }
        }
    }

    /// Goes back to the version before, if there is one; else the version comes back with backoff, as ever.
    async fn give_up(&mut self, current: &Published, plugin: PluginName, version: VersionId, reason: String) {
        let overlay = current.desired.overlay.plugins.get(&plugin);
        let in_use = current.desired.active(&plugin) == Some(version);
        if !in_use || overlay.is_none_or(|overlay| overlay.previous.is_empty()) {
            return;
        }
        self.ask(Change::GiveUp { plugin, version, reason }).await;
    }

    async fn restart_due(&mut self) {
        for id in self.restarts.take_due(Instant::now()) {
            if self.gone.remove(&id) {
                let InstanceId { service, worker, version } = id;
                self.ask(Change::Restart { service, worker, version }).await;
            }
        }
    }

    async fn look_at_invalid_answers(&mut self) {
        let Some(current) = self.publisher.current() else { return };
        let mut looked = HashMap::new();
        let mut failing = Vec::new();
        for (snapshot, service) in current.snapshot.services.iter().zip(&current.services) {
            let (plugin, version) = (&service.balancer.policy.plugin, service.balancer.version);
            let key = (snapshot.config.name.clone(), plugin.clone(), version);
            let now = self.metrics.plugin_totals(&key.0, plugin, version);
            if let Some(before) = self.looked.get(&key) {
                let since = now.since(before);
                let share = since.invalid_answers as f64 / since.picks.max(1) as f64;
                if since.invalid_answers >= INVALID_ANSWERS_MIN && share > INVALID_SHARE_MAX {
                    let reason = format!(
                        "gave {} invalid answers in {} picks for service {}",
                        since.invalid_answers, since.picks, key.0
                    );
                    failing.push((plugin.clone(), version, reason));
                }
            }
            looked.insert(key, now);
        }
        self.looked = looked;
        for (plugin, version, reason) in failing {
            self.give_up(&current, plugin, version, reason).await;
        }
    }

    async fn ask(&self, change: Change) {
        match self.publisher.apply(change).await {
            // A conflict means that the world has moved on meanwhile; other refusals are in the history.
            Ok(_) | Err(Refusal::Conflict(_) | Refusal::NotFound(_) | Refusal::ShuttingDown) => {}
            Err(refusal) => tracing::warn!(%refusal, "a failed plugin instance was not replaced"),
        }
    }
}
