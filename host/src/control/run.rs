//! The gateway's life: everything bound and checked, then serving, then ended in order.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
    task::{JoinHandle, JoinSet},
};

use super::{
    api::{self, Access, Tokens},
    canary::{self, CanaryBook},
    change::{Change, Refusal},
    discovery::{MembershipCache, OwnRegistry, SourceParts, Sources},
    dns::BoundDns,
    events::EventSide,
    ground::{DataDir, Ground},
    groups,
    handle::Control,
    handlers::{HandlerSide, HandlerSideError, HandlerSideParts},
    history::{About, History, HistoryKind},
    membership::names::NamesError,
    overlay::OverlayError,
    publisher::{HEALTH_PLACE, Parts, Publisher, desired::Desired},
    stock,
    supervisor::{GoneInstances, Supervisor},
    transactions::{SideError, SideParts, TransactionSide},
};
use crate::{
    config::{self, Known},
    events::{EventStoreError, groups::GroupsError},
    failover::{ActiveChecks, HealthFault, Monitor},
    gateway::{Gateway, StartError, StartOptions, WorkerEvent},
    model::{Clock, Config},
    plugin::{ComponentStore, Outside, Runtime, RuntimeError, ServiceCalls, StoreError},
    registry::{Registry, RegistryError, RegistryOptions},
    storage::{Storage, StorageError},
    telemetry::{AccessLogSink, AccessLogWriter, Metrics},
};

/// What happens outside and concerns the whole gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// SIGHUP.
    ReloadAsked,
    /// The configuration file has other content.
    FileChanged,
    Shutdown,
}

/// Why the gateway does not start. One line each.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("data_dir cannot be used: {path}: {source}")]
    DataDir { path: PathBuf, source: io::Error },
    #[error("data_dir {path} is in use by another gateway")]
    DataDirInUse { path: PathBuf },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    Names(#[from] NamesError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Transactions(#[from] SideError),
    #[error(transparent)]
    Events(#[from] EventStoreError),
    #[error(transparent)]
    Handlers(#[from] HandlerSideError),
    #[error(transparent)]
    Groups(#[from] GroupsError),
    #[error("cannot listen on {address} for the control API: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot listen on {address} for DNS: {source}")]
    ListenDns { address: SocketAddr, source: io::Error },
    #[error("control.{key} {path}: {problem}")]
    Token { key: &'static str, path: PathBuf, problem: String },
    #[error("control.address {0} can be reached from elsewhere: operator_token_file is needed")]
    TokenMissing(SocketAddr),
    #[error("the access log does not start: {0}")]
    AccessLog(io::Error),
    #[error("the watch over health does not start: {0}")]
    Monitor(io::Error),
    #[error(transparent)]
    Gateway(#[from] StartError),
    /// Something in the configuration that only shows when it is tried.
    #[error("{}", .0.in_full())]
    Configuration(Refusal),
}

/// Runs the gateway until it is told to shut down. Nothing is left half-started by an error.
///
/// `runtime` is the process's one; what it has compiled already is not compiled again.
pub async fn run(
    path: PathBuf,
    config: Config,
    runtime: Arc<Runtime>,
    triggers: mpsc::Receiver<Trigger>,
) -> Result<(), RunError> {
    start(&path, config, runtime).await?.serve(triggers).await;
    Ok(())
}

/// A gateway that serves.
pub(super) struct Running {
    pub control: Arc<Control>,
    /// Ends the API.
    shutdown: watch::Sender<bool>,
    api: JoinHandle<()>,
    publisher: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
    access_log: Option<AccessLogWriter>,
    _data_dir: DataDir,
}

/// Serves when it returns.
pub(super) async fn start(path: &Path, config: Config, runtime: Arc<Runtime>) -> Result<Running, RunError> {
    let Ground { data_dir, store, overlay_file, overlay, tokens, storage, bases, runtime, names } =
        Ground::check(&config, runtime)?;
    let (listeners, address) = Listeners::bind(&config).await?;
    let metrics = Metrics::new();
    let (access_log, access_log_writer) =
        AccessLogSink::start(io::stdout(), metrics.access_log()).map_err(RunError::AccessLog)?;
    let clock = Clock::start();
    let registry = open_registry(&config, address, clock, Arc::clone(&storage)).await?;
    let (events, worker_events) = mpsc::unbounded_channel();
    let monitor = start_monitor(clock, events.clone())?;
    let checks = start_checks(clock, &monitor);
    let gateway = Arc::new(Gateway::start(StartOptions {
        workers: config.gateway.workers.get(),
        listeners: config.listeners.clone(),
        clock,
        limits: config.gateway.limits.clone(),
        metrics: Arc::clone(&metrics),
        events: events.clone(),
        feed: monitor.feed(),
        access_log,
        seed: fastrand::u64(..),
    })?);
    let (canaries, gone, history) = (CanaryBook::default(), GoneInstances::default(), History::default());
    let services: Arc<dyn ServiceCalls> = gateway.clone();
    let own_registry = Arc::new(OwnRegistry(registry.clone()));
    let outside = Outside::new(names.resolver(), address, Some(own_registry), Some(services));
    let event_side = EventSide::open(Arc::clone(&storage)).await?;
    let transactions = TransactionSide::open(SideParts {
        config: &config,
        data_dir: &data_dir.path,
        storage: Arc::clone(&storage),
        events: event_side.store.clone(),
        gateway: Arc::clone(&gateway),
        outside: Arc::clone(&outside),
        runtime: Arc::clone(&runtime),
        history: history.clone(),
        clock,
    })
    .await?;
    let handlers = HandlerSide::open(HandlerSideParts {
        data_dir: &data_dir.path,
        storage: Arc::clone(&storage),
        events: event_side.store.clone(),
        gateway: Arc::clone(&gateway),
        outside: Arc::clone(&outside),
        runtime: Arc::clone(&runtime),
        history: history.clone(),
        clock,
    })
    .await?;
    let groups = groups::open(
        Arc::clone(&storage),
        event_side.store.clone(),
        Arc::clone(&gateway),
        Arc::clone(&outside),
        Arc::clone(&handlers.directory),
    )
    .await?;
    let sources = Sources::new(SourceParts {
        outside,
        names: Arc::clone(&names),
        cache: MembershipCache::in_dir(&data_dir.path),
        history: history.clone(),
        clock,
    });
    let desired = Desired {
        file: Arc::new(config),
        bases: Arc::new(bases),
        overlay,
        canaries: Default::default(),
        discovered: Default::default(),
    };
    let publisher = Publisher::start(
        Parts {
            gateway: Arc::clone(&gateway),
            runtime,
            store: Arc::clone(&store),
            overlay_file,
            names: Arc::clone(&names),
            metrics: Arc::clone(&metrics),
            canaries: canaries.clone(),
            gone: gone.clone(),
            history: history.clone(),
            clock,
            events,
            read_config: read_config(path, &data_dir.path),
            sources: Arc::clone(&sources),
            monitor: Arc::clone(&monitor),
            checks: Arc::clone(&checks),
            transactions: transactions.clone(),
            handlers: handlers.clone(),
            seed: fastrand::u64(..),
        },
        desired,
    );
    let publisher = match publisher.await {
        Ok(publisher) => publisher,
        Err(refusal) => {
            gateway.shutdown(Duration::ZERO).await;
            checks.end().await;
            tokio::task::block_in_place(|| monitor.end());
            registry.close().await;
            handlers.handlers.close().await;
            groups.close().await;
            event_side.close().await;
            return Err(RunError::Configuration(refusal));
        }
    };
    recover(&transactions).await?;
    handlers.tidy(publisher.handler_pins()).await;
    groups.begin();
    let (publisher, publishing) = publisher.spawn();
    let control = Arc::new(Control {
        address,
        dns: listeners.dns.as_ref().map(BoundDns::address),
        gateway,
        publisher,
        metrics,
        store,
        names,
        sources,
        monitor,
        checks,
        canaries,
        history,
        gone,
        registry,
        transactions: transactions.coordinator,
        handlers: handlers.handlers,
        groups,
        events: event_side,
        storage,
        uploads: Semaphore::new(api::UPLOADS_MAX),
        waits: Semaphore::new(api::WAITS_MAX),
        shutting_down: AtomicBool::new(false),
    });
    Ok(Running::begin(control, listeners, &tokens, worker_events, publishing, access_log_writer, data_dir))
}

/// Takes up the transactions that have not ended, and drops the versions that none of them needs.
async fn recover(transactions: &TransactionSide) -> Result<(), SideError> {
    let count = transactions.coordinator.recover().await?;
    if count > 0 {
        tracing::info!(count, "transactions that had not ended go on");
    }
    tokio::task::block_in_place(|| transactions.tidy());
    Ok(())
}

/// What fails there is the supervisor's, as on a worker.
fn start_monitor(clock: Clock, events: mpsc::UnboundedSender<WorkerEvent>) -> Result<Arc<Monitor>, RunError> {
    let faults = move |HealthFault { service, version, fault }| {
        // Without a supervisor the gateway is shutting down.
        let _ = events.send(WorkerEvent::Fault { worker: HEALTH_PLACE, service, version, fault });
    };
    Monitor::start(clock, Box::new(faults)).map_err(RunError::Monitor)
}

/// What they find is the health policies' to know too.
fn start_checks(clock: Clock, monitor: &Arc<Monitor>) -> Arc<ActiveChecks> {
    let monitor = Arc::clone(monitor);
    Arc::new(ActiveChecks::new(clock, fastrand::u64(..), Arc::new(move |checked| monitor.checked(checked.into()))))
}

/// Beside the data path's.
struct Listeners {
    control: TcpListener,
    dns: Option<BoundDns>,
}

impl Listeners {
    /// And the address of the control listener.
    async fn bind(config: &Config) -> Result<(Self, SocketAddr), RunError> {
        let address = config.control.address;
        let failed = |source| RunError::Listen { address, source };
        let control = TcpListener::bind(address).await.map_err(failed)?;
        let bound = control.local_addr().map_err(failed)?;
        let dns = match &config.dns {
            Some(options) => Some(BoundDns::bind(options).await?),
            None => None,
        };
        Ok((Self { control, dns }, bound))
    }
}

/// What the one node of the registry is called.
const NODE_NAME: &str = "sluice";

/// As it was left. Instances that register without an address are where this gateway can be reached, or if it listens
/// on all addresses, on this machine.
async fn open_registry(
    config: &Config,
    control: SocketAddr,
    clock: Clock,
    storage: Arc<dyn Storage>,
) -> Result<Registry, RegistryError> {
    let ip = if control.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { control.ip() };
    let options = RegistryOptions {
        node_name: NODE_NAME.to_owned(),
        node_address: ip.to_string(),
        mass_expiry: config.registry.mass_expiry.clone(),
    };
    Registry::open(storage, clock, options, fastrand::u64(..)).await
}

impl Running {
    /// Starts everything that runs beside the data path and the publisher.
    fn begin(
        control: Arc<Control>,
        listeners: Listeners,
        tokens: &Tokens,
        worker_events: mpsc::UnboundedReceiver<WorkerEvent>,
        publisher: JoinHandle<()>,
        access_log: AccessLogWriter,
        data_dir: DataDir,
    ) -> Self {
        let (metrics, handle) = (&control.metrics, &control.publisher);
        let gauges = Arc::downgrade(&control);
        metrics.set_gauges(move || gauges.upgrade().map(|control| control.gauges()).unwrap_or_default());
        let (shutdown, shutting_down) = watch::channel(false);
        let router = api::router(Arc::clone(&control), Access::new(control.address, tokens), shutting_down.clone());
        let api = tokio::spawn(api::serve(listeners.control, router, shutting_down.clone()));
        let (history, gone) = (control.history.clone(), control.gone.clone());
        let supervisor = Supervisor::new(handle.clone(), Arc::clone(metrics), history, gone, fastrand::u64(..));
        let mut others = vec![
            tokio::spawn(supervisor.run(worker_events)),
            tokio::spawn(canary::watch(handle.clone(), control.canaries.clone(), Arc::clone(metrics))),
            tokio::spawn(Arc::clone(&control.names).keep_fresh()),
        ];
        others.extend(listeners.dns.map(|dns| dns.spawn(control.registry.clone(), shutting_down)));
        for address in control.bound() {
            tracing::info!(%address, "listening");
        }
        tracing::info!(address = %control.address, "control listening");
        let message = format!("the gateway serves, process {}", std::process::id());
        control.history.note(HistoryKind::Started, About::default(), message);
        Self { control, shutdown, api, publisher, others, access_log: Some(access_log), _data_dir: data_dir }
    }

    async fn serve(mut self, mut triggers: mpsc::Receiver<Trigger>) {
        let mut reloads = JoinSet::new();
        while let Some(Trigger::ReloadAsked | Trigger::FileChanged) = triggers.recv().await {
            // One that waits for its turn reads the file when its turn has come.
            while reloads.try_join_next().is_some() {}
            if reloads.len() < RELOADS_MAX {
                let control = Arc::clone(&self.control);
                // What comes of it is in the history and in the log.
                reloads.spawn(async move { drop(control.apply(Change::Reload).await) });
            }
        }
        self.end().await;
    }

    /// New requests first, then those under way, then everything else.
    pub async fn end(&mut self) {
        self.control.shutting_down.store(true, std::sync::atomic::Ordering::Relaxed);
        // What it calls is a participant's, and asked for again after the next start.
        self.control.transactions.close().await;
        self.control.handlers.close().await;
        self.control.groups.close().await;
        let grace = self.control.publisher.current().map(|current| current.desired.file.gateway.grace_period);
        let cut_off = self.control.gateway.shutdown(grace.unwrap_or_default()).await;
        if cut_off > 0 {
            tracing::warn!(connections = cut_off, "the grace period is over: connections were cut off");
        }
        self.shutdown.send_replace(true);
        // Answers those who wait for it to change, so that the API can end.
        self.control.registry.close().await;
        // Each ends by itself, or was told to; one that panicked is no reason to stay.
        let _ = (&mut self.api).await;
        for task in self.others.drain(..) {
            task.abort();
            let _ = task.await;
        }
        self.control.sources.end().await;
        self.control.checks.end().await;
        tokio::task::block_in_place(|| self.control.monitor.end());
        self.publisher.abort();
        let _ = (&mut self.publisher).await;
        self.control.events.close().await;
        self.control.storage.close().await;
        if let Some(access_log) = self.access_log.take()
            && !tokio::task::spawn_blocking(move || access_log.finish()).await.unwrap_or(false)
        {
            tracing::warn!("the access log was not written to its end");
        }
        tracing::info!("ended");
    }
}

/// Reloads at once: one under way and one that waits, which will see the file's latest content.
const RELOADS_MAX: usize = 2;

/// Plugins that a configuration may name: the stock ones, and those that were uploaded into `data_dir`.
pub fn known_plugins(data_dir: &Path) -> Known {
    let uploaded = ComponentStore::kept_in(data_dir);
    stock::components().map(|(plugin, _)| plugin).chain(uploaded).collect()
}

fn read_config(path: &Path, data_dir: &Path) -> super::publisher::ReadConfig {
    let (path, data_dir) = (path.to_owned(), data_dir.to_owned());
    Arc::new(move || config::load(&path, &known_plugins(&data_dir)))
}
