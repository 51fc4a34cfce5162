//! A worker's state: one `Rc`, replaced in one assignment.
//!
//! A request clones the `Rc` when it begins and keeps it over its attempts, so it never sees half of a change.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
};

use tokio::sync::mpsc;

use super::{
    snapshot::{
        NextService, PreparedInstance, PreparedPolicy, PreparedService, PreparedState, ServiceIndex, ServiceSnapshot,
        Snapshot,
    },
    upstream::EndpointLane,
};
use crate::{
    failover::Batch,
    model::{Completion, Endpoint, Percent, ServiceConfig, ServiceName, Slot, VersionId},
    plugin::{BalancerInstance, FailoverInstance, Fault, FaultKind, Version},
    telemetry::{EndpointCells, PluginCells, RouteCells},
};

/// Everything that a request of this worker depends on.
pub struct WorkerState {
    pub snapshot: Arc<Snapshot>,
    pub services: Vec<Rc<ServiceState>>,
    pub routes: Vec<Arc<RouteCells>>,
}

/// One service on one worker.
pub struct ServiceState {
    pub snapshot: Arc<ServiceSnapshot>,
    /// By slot.
    pub lanes: Vec<Option<Rc<EndpointLane>>>,
    pub balancer: Rc<Policy<BalancerInstance>>,
    pub failover: Rc<Policy<FailoverInstance>>,
    pub completions: Rc<CompletionQueue>,
}

/// The plugin instances of one kind that decide for one service.
pub struct Policy<I: Send + 'static> {
    pub incumbent: Arm<I>,
    pub candidate: Option<(Percent, Arm<I>)>,
}

/// One version's instance on this worker.
pub struct Arm<I: Send + 'static> {
    pub id: VersionId,
    /// Kept so that the version is known to be in use.
    _version: Arc<Version>,
    /// None after a fault, until the control plane brings another.
    pub instance: RefCell<Option<I>>,
    pub cells: Arc<PluginCells>,
    /// Counts picks, to time every 64th.
    pub picks: Cell<u32>,
    /// What a failover policy answered last: when a second copy is sent.
    pub hedge_after_us: Cell<Option<u32>>,
    retired: Retired,
}

/// Where instances go that are no longer in use: dropping one unmaps its memory, which is not a worker's work.
pub type Retired = mpsc::UnboundedSender<Box<dyn Send>>;

impl<I: Send + 'static> Arm<I> {
    fn new(prepared: PreparedInstance<I>, retired: &Retired) -> Self {
        Self {
            id: prepared.version.id(),
            _version: prepared.version,
            instance: RefCell::new(prepared.instance),
            cells: prepared.cells,
            picks: Cell::new(0),
            hedge_after_us: Cell::new(None),
            retired: retired.clone(),
        }
    }

    /// Counts a fault of this version.
    pub fn count(&self, fault: &Fault) {
        match fault.kind {
            FaultKind::Trap | FaultKind::Answer | FaultKind::Storage => self.cells.traps.add(1),
            FaultKind::Deadline => self.cells.deadline_overruns.add(1),
            FaultKind::Memory => self.cells.memory_overruns.add(1),
        }
    }

    /// Gives up an instance that is of no more use.
    pub fn discard(&self, instance: I) {
        // Where nobody takes it any more the process is ending, and dropping it here is right.
        let _ = self.retired.send(Box::new(instance));
    }
}

impl<I: Send + 'static> Drop for Arm<I> {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take() {
            self.discard(instance);
        }
    }
}

/// Completions on their way to a service's instances. Outlives changes of the state.
#[derive(Default)]
pub struct CompletionQueue {
    waiting: RefCell<Batch>,
}

/// WIT `balancer.complete`: after at most 64 completions or 10 ms.
pub const COMPLETIONS_MAX: usize = 64;

impl CompletionQueue {
    /// Whether a batch is full now.
    pub fn push(&self, completion: Completion, lease: Arc<Endpoint>) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        waiting.completions.push(completion);
        waiting.leases.push(lease);
        waiting.completions.len() >= COMPLETIONS_MAX
    }

    /// Empties it; none where nothing waits.
    pub fn take(&self) -> Option<Batch> {
        let mut waiting = self.waiting.borrow_mut();
        let count = waiting.completions.len();
        // The next will be about as long.
        (count > 0).then(|| std::mem::replace(&mut *waiting, Batch::with_capacity(count)))
    }
}

impl<I: Send + 'static> Policy<I> {
    fn next(before: Option<&Rc<Self>>, prepared: PreparedPolicy<I>, retired: &Retired) -> Rc<Self> {
        match (prepared, before) {
            (PreparedPolicy::Replace { incumbent, candidate }, _) => Rc::new(Self {
                incumbent: Arm::new(incumbent, retired),
                candidate: candidate.map(|candidate| (candidate.percent, Arm::new(candidate.arm, retired))),
            }),
            (PreparedPolicy::Keep, Some(before)) => Rc::clone(before),
            (PreparedPolicy::Keep, None) => unreachable!("{KEPT}"),
        }
    }

    pub fn arm(&self, candidate: bool) -> &Arm<I> {
        match &self.candidate {
            Some((_, arm)) if candidate => arm,
            _ => &self.incumbent,
        }
    }

    /// Whether the version on trial decides for a request with this hash.
    pub fn tries(&self, hash: u64) -> bool {
        self.candidate.as_ref().is_some_and(|&(percent, _)| on_trial(hash, percent.get()))
    }

    pub fn arms(&self) -> impl Iterator<Item = &Arm<I>> {
        std::iter::once(&self.incumbent).chain(self.candidate.iter().map(|(_, arm)| arm))
    }
}

/// Whether a request with this hash goes to the version on trial. The hash is mixed anew, so that the share is
/// not one contiguous arc of what a hashing balancer uses.
fn on_trial(hash: u64, percent: u8) -> bool {
    // SplitMix64's finaliser (Steele, Lea, Flood 2014).
    let mut mixed = hash ^ 0x9e37_79b9_7f4a_7c15;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    mixed % 100 < u64::from(percent)
}

impl WorkerState {
    /// The state before the first change: nothing is served.
    pub fn empty(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, services: Vec::new(), routes: Vec::new() }
    }

    pub fn service(&self, name: &ServiceName) -> Option<&Rc<ServiceState>> {
        self.snapshot.by_name.get(name).and_then(|&index| self.services.get(index))
    }

    /// Takes over from `self` what goes on: pools of endpoints that stay, undelivered completions, kept instances.
    pub fn succeed(&self, prepared: PreparedState, retired: &Retired) -> Self {
        let services = prepared
            .snapshot
            .services
            .iter()
            .zip(prepared.services)
            .map(|(snapshot, service)| {
                let before = self.service(&snapshot.config.name);
                match (service, before) {
                    (PreparedService::Same, Some(before)) => Rc::clone(before),
                    (PreparedService::Next(next), before) => {
                        let NextService { balancer, failover, endpoints } = *next;
                        let before = before.map(Rc::as_ref);
                        let balancer = Policy::next(before.map(|before| &before.balancer), balancer, retired);
                        let failover = Policy::next(before.map(|before| &before.failover), failover, retired);
                        Rc::new(ServiceState::next(before, snapshot, balancer, failover, endpoints))
                    }
                    (PreparedService::Same, None) => unreachable!("{KEPT}"),
                }
            })
            .collect();
        Self { snapshot: prepared.snapshot, services, routes: prepared.routes }
    }
}

impl ServiceState {
    fn next(
        before: Option<&Self>,
        snapshot: &Arc<ServiceSnapshot>,
        balancer: Rc<Policy<BalancerInstance>>,
        failover: Rc<Policy<FailoverInstance>>,
        endpoints: Vec<Option<Arc<EndpointCells>>>,
    ) -> Self {
        let before_lanes = before.filter(|before| same_way(&before.snapshot.config, &snapshot.config));
        let lanes = snapshot
            .endpoints
            .iter()
            .zip(endpoints)
            .map(|(member, cells)| {
                let (endpoint, cells) = (&member.as_ref()?.endpoint, cells?);
                let kept = before_lanes
                    .and_then(|before| before.lane(endpoint.slot))
                    .filter(|lane| Arc::ptr_eq(&lane.endpoint, endpoint));
                Some(kept.map_or_else(|| EndpointLane::new(Arc::clone(endpoint), cells, &snapshot.config), Rc::clone))
            })
            .collect();
        let completions = before.map(|before| Rc::clone(&before.completions)).unwrap_or_default();
        Self { snapshot: Arc::clone(snapshot), lanes, balancer, failover, completions }
    }

    pub fn lane(&self, slot: Slot) -> Option<&Rc<EndpointLane>> {
        self.lanes.get(slot as usize).and_then(Option::as_ref)
    }
}

const KEPT: &str = "the control plane keeps only what it handed over before";

/// Whether connections made for one are as they would be made for the other.
fn same_way(one: &ServiceConfig, other: &ServiceConfig) -> bool {
    one.protocol == other.protocol
        && one.connect_timeout == other.connect_timeout
        && one.circuit.endpoint_connections_max == other.circuit.endpoint_connections_max
}

/// A snapshot of nothing, for a worker that has not been given one.
pub fn nothing(limits: crate::model::Limits) -> Arc<Snapshot> {
    Arc::new(Snapshot {
        generation: 0,
        router: super::router::Router::new(Vec::new(), &HashMap::<ServiceName, ServiceIndex>::new()),
        services: Vec::new(),
        by_name: HashMap::new(),
        trusted_proxies: Vec::new(),
        access_log: crate::model::AccessLog::Off,
        limits,
    })
}
