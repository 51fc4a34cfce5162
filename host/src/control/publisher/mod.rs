//! The one task that owns how things should be, and makes each change one transaction.
//!
//! Changes come one after another ([`apply`]). Each is understood ([`intent`]: what should hold then), planned
//! ([`plan`]: what has to be made for it), and carried out as one [`transaction`]: made away from the data path
//! ([`instances`]), given what its predecessors learned ([`inherit`]), adopted by every worker and kept on disk
//! ([`durable`]). What is in force is [`Published`]: anybody may look at it, nobody but this task changes it.

mod apply;
mod blocking;
pub mod desired;
mod durable;
mod handlers;
mod inherit;
mod instances;
mod intent;
mod places;
mod plan;
mod protocols;
mod reload;
mod sources;
mod transaction;
mod versions;

pub use handlers::{PublishedHandler, PublishedHandlers};
pub use places::FAILOVER_SETTINGS;
pub use plan::{HEALTH_PLACE, place, route_label};
pub use protocols::{PublishedProtocol, PublishedProtocols};
pub use reload::bases;
pub use sources::{DISCOVERY_SETTINGS, Opened};

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};

use self::{
    desired::{Binding, Desired, SourceBinding},
    plan::is_outdated,
    transaction::{Draft, Versions},
};
use super::{
    canary::CanaryBook,
    change::{Applied, Change, Refusal},
    discovery::Sources,
    handlers::HandlerSide,
    history::{About, History, HistoryKind},
    membership::{SlotTable, names::Names},
    overlay::OverlayFile,
    supervisor::GoneInstances,
    transactions::TransactionSide,
};
use crate::{
    config::ConfigErrors,
    failover::{ActiveChecks, Monitor},
    gateway::{Gateway, ServiceSnapshot, Snapshot, WorkerEvent},
    model::{Clock, Config, PluginName, ServiceName, VersionId},
    plugin::{ComponentStore, Runtime, Version},
    telemetry::Metrics,
};

/// Changes that wait for their turn. Beyond, whoever asks waits.
const CHANGES_WAITING_MAX: usize = 64;
/// How often an endpoint that waits for a slot tries again.
const SLOT_RETRY: Duration = Duration::from_millis(200);

/// How many of these looks between two after a change of endpoints' health that was refused.
const HEALTH_RETRY_TICKS: u32 = 5;

/// Reads the configuration file, for a reload.
pub type ReadConfig = Arc<dyn Fn() -> Result<Config, ConfigErrors> + Send + Sync>;

/// What is in force.
pub struct Published {
    pub desired: Desired,
    pub snapshot: Arc<Snapshot>,
    /// In the order of `snapshot.services`.
    pub services: Vec<PublishedService>,
    /// Of transactions.
    pub protocols: PublishedProtocols,
    pub handlers: PublishedHandlers,
    /// Loaded because some service needs them.
    pub versions: Versions,
    /// Not needed any more, with instances that still live.
    pub retired: Vec<Weak<Version>>,
}

#[derive(Clone)]
pub struct PublishedService {
    pub balancer: Binding,
    pub failover: Binding,
    pub source: Option<SourceBinding>,
    pub shadow: Option<VersionId>,
    pub slots: SlotTable,
    /// Endpoints that wait for a slot.
    pub waiting: usize,
}

/// One service as it is in force.
#[derive(Clone, Copy)]
pub struct ServiceInForce<'a> {
    pub snapshot: &'a Arc<ServiceSnapshot>,
    pub balancer: &'a Binding,
    pub failover: &'a Binding,
    pub source: Option<&'a SourceBinding>,
    pub slots: &'a SlotTable,
    pub waiting: usize,
}

impl Published {
    pub fn service(&self, name: &ServiceName) -> Option<ServiceInForce<'_>> {
        let index = *self.snapshot.by_name.get(name)?;
        let (snapshot, service) = (self.snapshot.services.get(index)?, self.services.get(index)?);
        let PublishedService { balancer, failover, source, slots, waiting, .. } = service;
        Some(ServiceInForce { snapshot, balancer, failover, source: source.as_ref(), slots, waiting: *waiting })
    }

    pub(super) fn published(&self, name: &ServiceName) -> Option<&PublishedService> {
        self.services.get(*self.snapshot.by_name.get(name)?)
    }

    /// Versions with live instances, and those that are needed though they have none.
    pub fn live_versions(&self) -> Vec<Arc<Version>> {
        let of_protocols = self.protocols.values().flat_map(|protocol| protocol.versions.iter().cloned());
        let of_handlers = self.handlers.values().map(|handler| Arc::clone(&handler.version));
        let mut live: Vec<_> = self.versions.values().cloned().chain(of_protocols).chain(of_handlers).collect();
        live.extend(self.retired.iter().filter_map(Weak::upgrade));
        live.sort_by(|a, b| (a.plugin(), a.id()).cmp(&(b.plugin(), b.id())));
        live.dedup_by(|a, b| Arc::ptr_eq(a, b));
        live
    }

    /// The plugin that a service's version belongs to, if the service has that version.
    pub fn plugin_of(&self, service: &ServiceName, version: VersionId) -> Option<&PluginName> {
        let service = self.service(service)?;
        [service.balancer, service.failover]
            .into_iter()
            .find(|binding| binding.has(version))
            .map(|binding| &binding.policy.plugin)
    }
}

/// Asks the publisher for changes, and sees what is in force.
#[derive(Clone)]
pub struct Handle {
    changes: mpsc::Sender<(Change, oneshot::Sender<Result<Applied, Refusal>>)>,
    current: watch::Receiver<Option<Arc<Published>>>,
}

impl Handle {
    /// Waits until every worker has adopted the change and it would survive a restart, or nothing has changed.
    pub async fn apply(&self, change: Change) -> Result<Applied, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.changes.send((change, answer)).await.map_err(|_| Refusal::ShuttingDown)?;
        answered.await.map_err(|_| Refusal::ShuttingDown)?
    }

    /// None before the first state is in force.
    pub fn current(&self) -> Option<Arc<Published>> {
        self.current.borrow().clone()
    }
}

/// What the publisher works with.
pub struct Parts {
    pub gateway: Arc<Gateway>,
    pub runtime: Arc<Runtime>,
    pub store: Arc<ComponentStore>,
    pub overlay_file: OverlayFile,
    pub names: Arc<Names>,
    pub metrics: Arc<Metrics>,
    pub canaries: CanaryBook,
    pub gone: GoneInstances,
    pub history: History,
    pub clock: Clock,
    pub events: mpsc::UnboundedSender<WorkerEvent>,
    pub read_config: ReadConfig,
    pub sources: Arc<Sources>,
    pub monitor: Arc<Monitor>,
    pub checks: Arc<ActiveChecks>,
    pub transactions: TransactionSide,
    pub handlers: HandlerSide,
    /// Of the plugins' seeds.
    pub seed: u64,
}

pub struct Publisher {
    gateway: Arc<Gateway>,
    runtime: Arc<Runtime>,
    store: Arc<ComponentStore>,
    overlay_file: OverlayFile,
    names: Arc<Names>,
    metrics: Arc<Metrics>,
    canaries: CanaryBook,
    gone: GoneInstances,
    history: History,
    clock: Clock,
    events: mpsc::UnboundedSender<WorkerEvent>,
    read_config: ReadConfig,
    sources: Arc<Sources>,
    monitor: Arc<Monitor>,
    checks: Arc<ActiveChecks>,
    transactions: TransactionSide,
    handlers: HandlerSide,
    random: fastrand::Rng,
    current: watch::Sender<Option<Arc<Published>>>,
    canaries_started: u64,
}

impl Publisher {
    /// Brings the first state into force. Where a change that was made over the API stands in the way (a plugin
    /// version that is damaged, say), the service starts without it, and that is reported.
    pub async fn start(parts: Parts, desired: Desired) -> Result<Self, Refusal> {
        let Parts { gateway, runtime, store, overlay_file, names, metrics, canaries, history, .. } = parts;
        let Parts { gone, clock, events, read_config, sources, monitor, checks, transactions, handlers, seed, .. } =
            parts;
        let (current, _) = watch::channel(None);
        let mut publisher = Self {
            gateway,
            runtime,
            store,
            overlay_file,
            names,
            metrics,
            canaries,
            gone,
            history,
            clock,
            events,
            read_config,
            sources,
            monitor,
            checks,
            transactions,
            handlers,
            random: fastrand::Rng::with_seed(seed),
            current,
            canaries_started: 0,
        };
        publisher.first(desired).await?;
        Ok(publisher)
    }

    /// The handle to a task that runs until every handle is gone.
    pub fn spawn(self) -> (Handle, tokio::task::JoinHandle<()>) {
        let (changes, waiting) = mpsc::channel(CHANGES_WAITING_MAX);
        let handle = Handle { changes, current: self.current.subscribe() };
        (handle, tokio::spawn(self.run(waiting)))
    }

    async fn first(&mut self, desired: Desired) -> Result<(), Refusal> {
        let mut desired = desired;
        let mut refusals = Vec::new();
        // What stands against it is not found all at once. The overlay gets smaller each time.
        loop {
            let refusal = match self.transact(Draft::of(desired.clone())).await {
                Ok(_) => break,
                Err(refusal) => refusal,
            };
            let reduced = match &refusal {
                Refusal::Invalid { problems, .. } => desired.without_overlay_of(problems),
                _ => return Err(refusal),
            };
            if reduced.overlay == desired.overlay {
                // The first says what is the matter, the others what is left without it.
                return Err(refusals.into_iter().next().unwrap_or(refusal));
            }
            desired = reduced;
            refusals.push(refusal);
        }
        for refusal in refusals {
            let told = refusal.in_full();
            let message = format!("changes made over the API could not be taken over and are not in force: {told}");
            self.history.note(HistoryKind::Warning, About::default(), message);
        }
        Ok(())
    }

    async fn run(mut self, mut changes: mpsc::Receiver<(Change, oneshot::Sender<Result<Applied, Refusal>>)>) {
        let (names, sources) = (Arc::clone(&self.names), Arc::clone(&self.sources));
        let monitor = Arc::clone(&self.monitor);
        let mut retry = tokio::time::interval(SLOT_RETRY);
        let mut ticks = 0;
        retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                change = changes.recv() => {
                    let Some((change, answer)) = change else { return };
                    // Whoever asked may have gone; the change holds all the same.
                    let _ = answer.send(self.apply(change).await);
                }
                () = sources.found() => self.take_found().await,
                () = monitor.changed() => drop(self.apply(Change::Health).await),
                () = names.changed() => drop(self.apply(Change::Refresh).await),
                _ = retry.tick() => {
                    if self.someone_waits() {
                        drop(self.apply(Change::Refresh).await);
                    }
                    self.take_found().await;
                    ticks = (ticks + 1) % HEALTH_RETRY_TICKS;
                    if ticks == 0 && self.is_outdated() {
                        drop(self.apply(Change::Health).await);
                    }
                }
            }
        }
    }

    /// All memberships that were found since the last time, as one change. What was refused is tried again.
    async fn take_found(&mut self) {
        let found = self.sources.take_found();
        if !found.is_empty() && self.apply(Change::Discovered { memberships: found.clone() }).await.is_err() {
            self.sources.put_back(found);
        }
    }

    /// Whether an endpoint is fit that the snapshot says is not, or the other way round: a change that would have said so was
    /// refused.
    fn is_outdated(&self) -> bool {
        let current = self.current.borrow();
        current.as_ref().is_some_and(|current| is_outdated(&current.snapshot))
    }

    fn someone_waits(&self) -> bool {
        let current = self.current.borrow();
        current.as_ref().is_some_and(|current| current.services.iter().any(|service| service.waiting > 0))
    }
}
