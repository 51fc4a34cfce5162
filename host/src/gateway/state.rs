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
        PreparedBalancer, PreparedInstance, PreparedService, PreparedState, ServiceIndex, ServiceSnapshot, Snapshot,
    },
    upstream::EndpointLane,
};
use crate::{
    model::{Completion, Endpoint, Percent, ServiceConfig, ServiceName, Slot, VersionId},
    plugin::{BalancerInstance, Fault, FaultKind, Version},
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
    pub policy: Rc<Policy>,
    pub completions: Rc<CompletionQueue>,
}

/// The plugin instances that decide for one service.
pub struct Policy {
    pub incumbent: Arm,
    pub candidate: Option<(Percent, Arm)>,
}

/// One version's instance on this worker.
pub struct Arm {
    pub id: VersionId,
    /// Kept so that the version is known to be in use.
    _version: Arc<Version>,
    /// None after a fault, until the control plane brings another.
    pub instance: RefCell<Option<BalancerInstance>>,
    pub cells: Arc<PluginCells>,
    /// Counts picks, to time every 64th.
    pub picks: Cell<u32>,
    retired: Retired,
}

/// Where instances go that are no longer in use: dropping one unmaps its memory, which is not a worker's work.
pub type Retired = mpsc::UnboundedSender<BalancerInstance>;

impl Arm {
    fn new(prepared: PreparedInstance, retired: &Retired) -> Self {
        Self {
            id: prepared.version.id(),
            _version: prepared.version,
            instance: RefCell::new(prepared.instance),
            cells: prepared.cells,
            picks: Cell::new(0),
            retired: retired.clone(),
        }
    }

    /// Counts a fault of this version.
    pub fn count(&self, fault: &Fault) {
        match fault.kind {
            FaultKind::Trap => self.cells.traps.add(1),
            FaultKind::Deadline => self.cells.deadline_overruns.add(1),
            FaultKind::Memory => self.cells.memory_overruns.add(1),
        }
    }

    /// Gives up an instance that is of no more use.
    pub fn discard(&self, instance: BalancerInstance) {
        // Where nobody takes it any more the process is ending, and dropping it here is right.
        let _ = self.retired.send(instance);
    }
}

impl Drop for Arm {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take() {
            self.discard(instance);
        }
    }
}

/// Completions on their way to a service's instances. Outlives changes of the state.
#[derive(Default)]
pub struct CompletionQueue {
    waiting: RefCell<Waiting>,
}

#[derive(Default)]
struct Waiting {
    completions: Vec<Completion>,
    /// Keeps each completion's slot from being given to another endpoint before it was delivered.
    leases: Vec<Arc<Endpoint>>,
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

    /// Hands the batch to `deliver` and empties it; the buffer is kept.
    pub fn drain(&self, deliver: impl FnOnce(&[Completion])) {
        let mut batch = std::mem::take(&mut *self.waiting.borrow_mut());
        if batch.completions.is_empty() {
            return;
        }
        deliver(&batch.completions);
        batch.completions.clear();
        batch.leases.clear();
        let mut waiting = self.waiting.borrow_mut();
        if waiting.completions.is_empty() {
            *waiting = batch;
        }
    }
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
                    (PreparedService::Next { balancer, endpoints }, before) => {
                        Rc::new(ServiceState::next(before.map(Rc::as_ref), snapshot, balancer, endpoints, retired))
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
        balancer: PreparedBalancer,
        endpoints: Vec<Option<Arc<EndpointCells>>>,
        retired: &Retired,
    ) -> Self {
        let policy = match (balancer, before) {
            (PreparedBalancer::Replace { incumbent, candidate }, _) => Rc::new(Policy {
                incumbent: Arm::new(incumbent, retired),
                candidate: candidate.map(|candidate| (candidate.percent, Arm::new(candidate.arm, retired))),
            }),
            (PreparedBalancer::Keep, Some(before)) => Rc::clone(&before.policy),
            (PreparedBalancer::Keep, None) => unreachable!("{KEPT}"),
        };
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
        Self { snapshot: Arc::clone(snapshot), lanes, policy, completions }
    }

    pub fn lane(&self, slot: Slot) -> Option<&Rc<EndpointLane>> {
        self.lanes.get(slot as usize).and_then(Option::as_ref)
    }
}

const KEPT: &str = "the control plane keeps only what it handed over before";

/// Whether connections made for one are as they would be made for the other.
fn same_way(one: &ServiceConfig, other: &ServiceConfig) -> bool {
    one.protocol == other.protocol && one.connect_timeout == other.connect_timeout
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
