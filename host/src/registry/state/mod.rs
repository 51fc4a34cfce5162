//! The registry as plain state: every change is a function of the state, the call and the instant, so that tests run on
//! a clock of their own.
//!
//! Changes gather in a *pass*. The keeper makes what a pass changed durable and then either settles it, or undoes it
//! because the store did not take it; nobody has seen it before.
//!
//! Durable are instances, checks and their status, maintenance and the index. Not durable, so that a heartbeat costs no
//! commit: until when a lease runs, what a check said without changing its status, results counted towards a threshold.
//! After a restart a check has its last status again, every lease runs in full (plus a spread, so that they do not all
//! end at once), and the time to an automatic deregistration begins anew.

mod checks;
mod instances;
mod pass;
mod record;
mod sweep;
#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
    sync::Arc,
    time::Duration,
};

pub(super) use pass::Changes;
pub use sweep::HeldLeases;

use self::{pass::Pass, sweep::Lapse};
use super::{
    error::RegistryError,
    instance::{CheckStatus, Listing, NodeListing, RegisteredCheck, RegisteredInstance},
    options::RegistryOptions,
};
use crate::model::InstantUs;

/// Instances at once; registering more is refused.
pub const INSTANCES_MAX: usize = 50_000;

pub(super) struct State {
    options: RegistryOptions,
    /// Of the call under way.
    now_us: InstantUs,
    random: fastrand::Rng,
    instances: HashMap<Arc<str>, Arc<RegisteredInstance>>,
    services: BTreeMap<String, Service>,
    node: Node,
    checks: HashMap<String, Tracked>,
    /// When to look at a lease next; it may have been prolonged since.
    leases: Agenda,
    /// When a check will have been critical for so long that its instance goes.
    departures: Agenda,
    /// Leases that ran out lately.
    lapses: BTreeMap<String, Lapse>,
    marks: Marks,
    pass: Pass,
}

#[derive(Clone, Debug, Default)]
struct Service {
    ids: BTreeSet<Arc<str>>,
    /// Of its last change.
    index: u64,
}

/// What holds for all instances.
#[derive(Clone, Debug, Default)]
struct Node {
    maintenance: Option<String>,
    checks: Vec<RegisteredCheck>,
}

impl Node {
    fn status(&self) -> CheckStatus {
        if self.maintenance.is_some() {
            return CheckStatus::Critical;
        }
        self.checks.iter().map(|check| check.status).max().unwrap_or(CheckStatus::Passing)
    }
}

/// Whose a check is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Node,
    Instance(Arc<str>),
}

/// What is known of a check beside its record.
struct Tracked {
    owner: Owner,
    /// Results in a row.
    successes: u32,
    failures: u32,
    critical_since_us: Option<InstantUs>,
    /// When its lease is looked at next.
    look_us: Option<InstantUs>,
    /// When it is asked next whether its instance must go.
    depart_us: Option<InstantUs>,
}

/// What is to be done when about which check. Entries that no check knows of any more mean nothing.
type Agenda = BinaryHeap<Reverse<(InstantUs, String)>>;

/// Entries of an agenda beyond two for each check; with more, those that mean nothing are thrown out.
const AGENDA_SLACK: usize = 64;

/// Indexes of the latest changes of each sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Marks {
    /// Any change.
    index: u64,
    /// A registration or deregistration.
    catalog: u64,
    /// A service's last instance went: the index of all services that are not there.
    extinction: u64,
    /// The node's checks or maintenance.
    node: u64,
}

/// No index is 0: to clients that would mean not to wait.
const FIRST: Marks = Marks { index: 1, catalog: 1, extinction: 1, node: 1 };

impl State {
    pub fn new(options: RegistryOptions, now_us: InstantUs, seed: u64) -> Self {
        Self {
            options,
            now_us,
            random: fastrand::Rng::with_seed(seed),
            instances: HashMap::new(),
            services: BTreeMap::new(),
            node: Node::default(),
            checks: HashMap::new(),
            leases: BinaryHeap::new(),
            departures: BinaryHeap::new(),
            lapses: BTreeMap::new(),
            marks: FIRST,
            pass: Pass::default(),
        }
    }

    /// Of the last change.
    pub fn index(&self) -> u64 {
        self.marks.index
    }

    /// The index of services that are not registered.
    pub fn absent_index(&self) -> u64 {
        self.marks.extinction.max(self.marks.node)
    }

    /// None where no instance is registered.
    pub fn listing(&self, service: &str) -> Option<Listing> {
        let service = self.services.get(service)?;
        let instances = service.ids.iter().filter_map(|id| self.instances.get(id)).cloned();
        Some(Listing { index: service.index.max(self.marks.node), instances: instances.collect() })
    }

    pub fn service_names(&self) -> impl Iterator<Item = &String> {
        self.services.keys()
    }

    /// Of the last registration or deregistration.
    pub fn catalog_index(&self) -> u64 {
        self.marks.catalog
    }

    pub fn node_listing(&self) -> NodeListing {
        let Node { maintenance, checks } = self.node.clone();
        NodeListing { index: self.marks.node, maintenance, checks }
    }

    pub fn instance(&self, id: &str) -> Option<&Arc<RegisteredInstance>> {
        self.instances.get(id)
    }

    pub fn instances(&self) -> impl Iterator<Item = &Arc<RegisteredInstance>> {
        self.instances.values()
    }

    pub fn node_checks(&self) -> &[RegisteredCheck] {
        &self.node.checks
    }

    fn next_index(&mut self) -> u64 {
        self.pass.keep_marks(self.marks);
        self.marks.index += 1;
        self.marks.index
    }

    fn check(&self, id: &str) -> Result<&RegisteredCheck, RegistryError> {
        let unknown = || RegistryError::UnknownCheck { id: id.to_owned() };
        let owner = &self.checks.get(id).ok_or_else(unknown)?.owner;
        let checks = match owner {
            Owner::Node => &self.node.checks,
            Owner::Instance(instance) => &self.instances.get(instance).ok_or_else(unknown)?.checks,
        };
        checks.iter().find(|check| check.id() == id).ok_or_else(unknown)
    }

    /// Begins to look after a check that is new, or back.
    fn track(&mut self, owner: &Owner, check: &RegisteredCheck) {
        let critical = check.status == CheckStatus::Critical;
        let tracked = Tracked {
            owner: owner.clone(),
            successes: 0,
            failures: 0,
            critical_since_us: critical.then_some(self.now_us),
            look_us: None,
            depart_us: None,
        };
        self.checks.insert(check.id().to_owned(), tracked);
        if let Some(deadline_us) = check.live.deadline_us() {
            self.look_at_lease(check.id(), deadline_us);
        }
        self.await_departure(check);
    }

    fn untrack(&mut self, check: &RegisteredCheck) {
        self.checks.remove(check.id());
        self.lapses.remove(check.id());
    }

    /// One entry a check: where it will be looked at earlier, that look finds the later deadline.
    fn look_at_lease(&mut self, check: &str, at_us: InstantUs) {
        if let Some(tracked) = self.checks.get_mut(check)
            && tracked.look_us.is_none_or(|look_us| look_us > at_us)
        {
            tracked.look_us = Some(at_us);
            self.leases.push(Reverse((at_us, check.to_owned())));
            thin_out(&mut self.leases, &self.checks, |tracked| tracked.look_us);
        }
    }

    /// Of a check that has become critical.
    fn await_departure(&mut self, check: &RegisteredCheck) {
        if let Some(after) = check.definition.deregister_after
            && check.status == CheckStatus::Critical
        {
            self.ask_for_departure(check.id(), self.now_us + us(after));
        }
    }

    /// One entry a check, as with leases.
    fn ask_for_departure(&mut self, check: &str, at_us: InstantUs) {
        if let Some(tracked) = self.checks.get_mut(check)
            && tracked.depart_us.is_none_or(|depart_us| depart_us > at_us)
        {
            tracked.depart_us = Some(at_us);
            self.departures.push(Reverse((at_us, check.to_owned())));
            thin_out(&mut self.departures, &self.checks, |tracked| tracked.depart_us);
        }
    }
}

/// Throws out what means nothing, once that is more than half.
fn thin_out(agenda: &mut Agenda, checks: &HashMap<String, Tracked>, at_us: impl Fn(&Tracked) -> Option<InstantUs>) {
    if agenda.len() > 2 * checks.len() + AGENDA_SLACK {
        agenda.retain(|Reverse((at, id))| checks.get(id).and_then(&at_us) == Some(*at));
    }
}

/// A duration in the clock's unit.
pub(super) fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}
