//! All metrics of the process: hands out cells, and adds them up when somebody looks.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::{Duration, Instant, SystemTime},
};

use super::{
    access_log::AccessLogCells,
    cells::{EndpointCells, PluginCells, RouteCells, WorkerCells},
    counter::SharedCounter,
    histogram::{Histogram, HistogramSnapshot},
    series::SeriesTable,
    totals::{EndpointTotals, PluginTotals, RouteTotals},
};
use crate::model::{GroupName, HandlerName, PluginName, ServiceName, VersionId};

/// Series of each kind at most. About 1 KiB a series and worker for endpoints and routes, 2 KiB for plugin
/// versions; far above what a gateway of a few thousand services has, far below what would hurt a Prometheus.
const ENDPOINT_SERIES_MAX: usize = 16_384;
const ROUTE_SERIES_MAX: usize = 4_096;
const PLUGIN_SERIES_MAX: usize = 4_096;

/// The route label of requests that no route matched. No route's own label looks like it.
pub const UNROUTED: &str = "(unrouted)";

/// The route of calls that the gateway itself makes: they go to a service without one.
pub const OWN_CALLS: &str = "(own)";

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    tables: Mutex<Tables>,
    workers: Mutex<Vec<(usize, Arc<WorkerCells>)>>,
    adoption_gap: Mutex<Histogram>,
    changes: [SharedCounter; Change::ALL.len()],
    access_log: Arc<AccessLogCells>,
    gauges: OnceLock<GaugeSource>,
    pub(super) started_at: SystemTime,
}

/// What the control plane has done to the running gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Adopted by every worker.
    Applied,
    /// Something failed, so nothing changed.
    Refused,
    /// A version that kept failing was replaced by the one before it.
    RolledBack,
    /// A canary did worse than the incumbent.
    Withdrawn,
}

impl Change {
    pub const ALL: [Self; 4] = [Self::Applied, Self::Refused, Self::RolledBack, Self::Withdrawn];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Refused => "refused",
            Self::RolledBack => "rolled-back",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// What others know at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub struct Gauges {
    /// Client connections open, by worker.
    pub connections: Vec<usize>,
    /// Of the snapshot in use.
    pub generation: u64,
    pub endpoints: Vec<EndpointGauges>,
    pub plugins: Vec<PluginGauges>,
    pub sources: Vec<SourceGauges>,
    pub failover: Vec<FailoverGauges>,
    /// Completions that health policies never saw, in batches.
    pub health_batches_dropped: u64,
    pub registry: RegistryGauges,
    pub transactions: TransactionGauges,
    pub events: EventGauges,
    pub handlers: Vec<HandlerGauges>,
    pub groups: Vec<GroupGauges>,
}

/// Of the registry of services.
#[derive(Clone, Debug, Default)]
pub struct RegistryGauges {
    pub services: usize,
    /// By status.
    pub instances: [(&'static str, usize); 3],
    /// Leases that ran out and are held all the same, by service.
    pub held: Vec<(String, usize)>,
    pub heartbeats: u64,
    /// Requests that wait for a change.
    pub waiting: usize,
    /// By what became of them.
    pub commits: [(&'static str, u64); 2],
}

/// Of distributed transactions.
#[derive(Clone, Debug, Default)]
pub struct TransactionGauges {
    /// That have not ended.
    pub live: usize,
    pub begun: u64,
    /// By how they ended.
    pub ended: [(&'static str, u64); 3],
    pub hazards: u64,
    /// Calls to participants, by what was answered.
    pub calls: [(&'static str, u64); 3],
    /// Changes made durable, or tried to be.
    pub commits: u64,
}

/// Of an event handler.
#[derive(Clone, Debug)]
pub struct HandlerGauges {
    pub handler: HandlerName,
    /// Events that it has not looked at.
    pub lag: u64,
    /// By the generation in use.
    pub handled: u64,
    /// Events that stand aside.
    pub parked: u64,
    pub calls_waiting: u64,
    pub calls_parked: u64,
    /// Since the gateway started, as the faults.
    pub calls_made: u64,
    pub faults: u64,
    /// How far the generation has come that is to take over, if there is one.
    pub replayed: Option<u64>,
}

/// Of a consumer group.
#[derive(Clone, Debug)]
pub struct GroupGauges {
    pub group: GroupName,
    /// Events that are not settled, or not looked at.
    pub lag: u64,
    pub in_flight: usize,
    /// Events that stand aside.
    pub parked: u64,
    /// Since the gateway started, as the rest.
    pub delivered: u64,
    /// By what became of deliveries.
    pub settled: [(&'static str, u64); 4],
}

/// Of the store of events.
#[derive(Clone, Debug, Default)]
pub struct EventGauges {
    /// The last position that is visible.
    pub head: u64,
    /// Events made durable since the start.
    pub appended: u64,
    /// Who follows over HTTP.
    pub subscribers: usize,
}

#[derive(Clone, Debug)]
pub struct EndpointGauges {
    pub service: ServiceName,
    pub endpoint: String,
    pub in_flight: u32,
    pub available: bool,
    /// Since it joined.
    pub ejections: u32,
    /// Why it is out of traffic, while it is ejected or probed.
    pub ejected: Option<String>,
}

/// Of what failover does for a service, since it was first configured.
#[derive(Clone, Debug)]
pub struct FailoverGauges {
    pub service: ServiceName,
    /// By what was done.
    pub events: Vec<(&'static str, u64)>,
    /// Requests that wait for room.
    pub waiting: u32,
}

/// What finds a service's endpoints. Counts begin anew with another source.
#[derive(Clone, Debug)]
pub struct SourceGauges {
    pub service: ServiceName,
    pub plugin: PluginName,
    pub answers: u64,
    pub errors: u64,
    /// Things that it asked for and that are not granted.
    pub refusals: u64,
    pub held_back: bool,
}

#[derive(Clone, Debug)]
pub struct PluginGauges {
    pub plugin: PluginName,
    pub version: VersionId,
    pub live_instances: usize,
    /// Linear memory of all live instances.
    pub memory_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EndpointKey {
    pub service: ServiceName,
    pub endpoint: Box<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PluginKey {
    pub service: ServiceName,
    pub plugin: PluginName,
    pub version: VersionId,
}

impl Metrics {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            tables: Mutex::new(Tables::new()),
            workers: Mutex::default(),
            adoption_gap: Mutex::default(),
            changes: Default::default(),
            access_log: Arc::default(),
            gauges: OnceLock::new(),
            started_at: SystemTime::now(),
        })
    }

    /// The same cells for the same labels, so that counts go on over swaps and reloads. Only the worker of that
    /// number may write to them.
    pub fn endpoint(&self, worker: usize, service: &ServiceName, endpoint: &str) -> Arc<EndpointCells> {
        let key = EndpointKey { service: service.clone(), endpoint: endpoint.into() };
        self.tables().endpoint(worker, key, Instant::now())
    }

    /// As [`Self::endpoint`]; requests that matched no route belong to [`UNROUTED`].
    pub fn route(&self, worker: usize, route: &str) -> Arc<RouteCells> {
        self.tables().routes.cells(worker, route.into(), Instant::now()).0
    }

    /// As [`Self::endpoint`].
    pub fn plugin(
        &self,
        worker: usize,
        service: &ServiceName,
        plugin: &PluginName,
        version: VersionId,
    ) -> Arc<PluginCells> {
        let key = PluginKey { service: service.clone(), plugin: plugin.clone(), version };
        self.tables().plugins.cells(worker, key, Instant::now()).0
    }

    /// The worker's own cells, made at its first call. `refusal_reasons` are the label values that
    /// [`WorkerCells::refused`] counts by index.
    pub fn worker(&self, worker: usize, refusal_reasons: &'static [&'static str]) -> Arc<WorkerCells> {
        let mut workers = self.workers.lock().expect(UNPOISONED);
        if let Some((_, cells)) = workers.iter().find(|(owner, _)| *owner == worker) {
            return Arc::clone(cells);
        }
        let cells = Arc::new(WorkerCells::new(refusal_reasons));
        workers.push((worker, Arc::clone(&cells)));
        cells
    }

    /// One worker has adopted a state, which took so much of its CPU time.
    pub fn adopted(&self, gap: Duration) {
        let us = u64::try_from(gap.as_micros()).unwrap_or(u64::MAX);
        self.adoption_gap.lock().expect(UNPOISONED).record_us(us);
    }

    pub fn changed(&self, change: Change) {
        self.changes[change as usize].add(1);
    }

    /// What the gauges read from, once for the process. Called at each scrape, so it must not block. It should
    /// hold a `Weak` to whatever holds these metrics.
    pub fn set_gauges(&self, source: impl Fn() -> Gauges + Send + Sync + 'static) {
        if self.gauges.set(GaugeSource(Box::new(source))).is_err() {
            tracing::warn!("the gauges have a source already, the second one is ignored");
        }
    }

    pub fn access_log(&self) -> &Arc<AccessLogCells> {
        &self.access_log
    }

    /// All endpoints that the service has or had, added up.
    pub fn service_totals(&self, service: &ServiceName) -> EndpointTotals {
        self.tables().service_totals(service)
    }

    /// The same for every service at once, in one pass over all endpoints.
    pub fn all_service_totals(&self) -> HashMap<ServiceName, EndpointTotals> {
        let tables = self.tables();
        let mut totals = tables.departed.clone();
        for key in tables.endpoints.keys() {
            if let Some(endpoint) = tables.endpoints.total(key) {
                totals.entry(key.service.clone()).or_default().merge(&endpoint);
            }
        }
        totals
    }

    /// All workers added up; zeros for one that was never counted.
    pub fn endpoint_totals(&self, service: &ServiceName, endpoint: &str) -> EndpointTotals {
        let key = EndpointKey { service: service.clone(), endpoint: endpoint.into() };
        self.tables().endpoints.total(&key).unwrap_or_default()
    }

    /// All workers added up; zeros for one that was never counted.
    pub fn route_totals(&self, route: &str) -> RouteTotals {
        self.tables().routes.total(&route.into()).unwrap_or_default()
    }

    /// All workers added up; zeros for one that was never counted.
    pub fn plugin_totals(&self, service: &ServiceName, plugin: &PluginName, version: VersionId) -> PluginTotals {
        let key = PluginKey { service: service.clone(), plugin: plugin.clone(), version };
        self.tables().plugins.total(&key).unwrap_or_default()
    }

    /// CPU time that workers spent adopting states, in microseconds.
    pub fn adoption_gap(&self) -> HistogramSnapshot {
        self.adoption_gap.lock().expect(UNPOISONED).snapshot()
    }

    pub(super) fn changes(&self) -> impl Iterator<Item = (Change, u64)> {
        Change::ALL.into_iter().zip(self.changes.iter().map(SharedCounter::get))
    }

    pub(super) fn gauges(&self) -> Gauges {
        self.gauges.get().map(|source| source.0()).unwrap_or_default()
    }

    pub(super) fn workers(&self) -> Vec<(usize, Arc<WorkerCells>)> {
        self.workers.lock().expect(UNPOISONED).clone()
    }

    /// Series that have long been out of use are given up first.
    pub(super) fn tables(&self) -> MutexGuard<'_, Tables> {
        let mut tables = self.tables.lock().expect(UNPOISONED);
        tables.sweep(Instant::now());
        tables
    }
}

const UNPOISONED: &str = "nothing panics while it holds a lock of the metrics";

/// How often series are looked through for those out of use.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Tables {
    pub endpoints: SeriesTable<EndpointKey, EndpointCells>,
    pub routes: SeriesTable<Box<str>, RouteCells>,
    pub plugins: SeriesTable<PluginKey, PluginCells>,
    /// What endpoints counted whose series were given up, so that a service's totals never go backwards. Goes
    /// with the last endpoint of the service.
    departed: HashMap<ServiceName, EndpointTotals>,
    swept_at: Instant,
}

impl Tables {
    fn new() -> Self {
        Self {
            endpoints: SeriesTable::new(ENDPOINT_SERIES_MAX),
            routes: SeriesTable::new(ROUTE_SERIES_MAX),
            plugins: SeriesTable::new(PLUGIN_SERIES_MAX),
            departed: HashMap::new(),
            swept_at: Instant::now(),
        }
    }

    fn endpoint(&mut self, worker: usize, key: EndpointKey, now: Instant) -> Arc<EndpointCells> {
        let (cells, retired) = self.endpoints.cells(worker, key, now);
        if let Some((key, total)) = retired {
            self.departed.entry(key.service).or_default().merge(&total);
        }
        cells
    }

    fn service_totals(&self, service: &ServiceName) -> EndpointTotals {
        let mut total = self.departed.get(service).cloned().unwrap_or_default();
        let endpoints = self.endpoints.keys().filter(|key| key.service == *service);
        for endpoint in endpoints.filter_map(|key| self.endpoints.total(key)) {
            total.merge(&endpoint);
        }
        total
    }

    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept_at) < SWEEP_INTERVAL {
            return;
        }
        self.swept_at = now;
        self.routes.sweep(now);
        self.plugins.sweep(now);
        for (key, total) in self.endpoints.sweep(now) {
            self.departed.entry(key.service).or_default().merge(&total);
        }
        let present: HashSet<_> = self.endpoints.keys().map(|key| &key.service).collect();
        self.departed.retain(|service, _| present.contains(service));
    }
}

struct GaugeSource(Box<dyn Fn() -> Gauges + Send + Sync>);

impl fmt::Debug for GaugeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GaugeSource")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::series::KEPT_UNUSED;

    fn service(name: &str) -> ServiceName {
        name.parse().expect("a right name")
    }

    #[test]
    fn counts_go_on_over_swaps_and_add_up_over_workers() {
        let metrics = Metrics::new();
        let (orders, plugin) = (service("orders"), "random".parse().expect("a right name"));
        let version = VersionId::of(b"one");
        metrics.plugin(0, &orders, &plugin, version).picks.add(2);
        metrics.plugin(1, &orders, &plugin, version).picks.add(3);
        metrics.plugin(1, &orders, &plugin, VersionId::of(b"two")).picks.add(7);
        metrics.plugin(0, &orders, &plugin, version).traps.add(1);
        let before = metrics.plugin_totals(&orders, &plugin, version);
        assert_eq!((before.picks, before.faults()), (5, 1));

        metrics.plugin(0, &orders, &plugin, version).picks.add(4);
        assert_eq!(metrics.plugin_totals(&orders, &plugin, version).since(&before).picks, 4);
    }

    #[test]
    fn a_services_totals_outlive_its_endpoints() {
        let metrics = Metrics::new();
        let (orders, payments) = (service("orders"), service("payments"));
        metrics.endpoint(0, &orders, "10.0.0.1:80").connects.add(1);
        metrics.endpoint(0, &payments, "10.0.0.1:80").connects.add(9);
        let kept = metrics.endpoint(0, &orders, "10.0.0.2:80");
        kept.outcomes[2].add(5);

        let mut tables = metrics.tables();
        let later = Instant::now() + KEPT_UNUSED;
        tables.sweep(later);
        assert_eq!(tables.endpoints.keys().count(), 1);
        let totals = tables.service_totals(&orders);
        assert_eq!((totals.connects, totals.attempts(), totals.failures()), (1, 5, 5));
        drop(tables);
        assert_eq!(metrics.all_service_totals().remove(&orders), Some(totals));
        let tables = metrics.tables();
        assert_eq!(tables.service_totals(&payments), EndpointTotals::default(), "no endpoint left");
    }

    #[test]
    fn a_worker_counts_refusals_by_reason() {
        static REASONS: [&str; 2] = ["bare-lf", "two-lengths"];
        let metrics = Metrics::new();
        metrics.worker(0, &REASONS).refused(1);
        metrics.worker(0, &REASONS).refused(1);
        let refusals: Vec<_> = metrics.worker(0, &REASONS).refusals().collect();
        assert_eq!(refusals, [("bare-lf", 0), ("two-lengths", 2)]);
    }
}
