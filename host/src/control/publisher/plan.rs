//! From how things should be to what has to be made: a snapshot, and for each service whether its instances stay.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    Published,
    desired::{Binding, Desired, SourceBinding},
};
use crate::{
    control::{
        change::ChangeProblem,
        membership::{Membership, SlotTable, Wants, membership, names::Names, same_members},
    },
    failover::Shared,
    gateway::{ServiceSnapshot, Snapshot, router::Router},
    model::{EndpointState, InstantUs, PluginName, RouteConfig, ServiceConfig, ServiceName, VersionId},
};

/// Everything decided, nothing made yet.
pub struct Plan {
    pub desired: Desired,
    pub snapshot: Arc<Snapshot>,
    /// In the order of `snapshot.services`.
    pub services: Vec<ServicePlan>,
    /// Host names without an address.
    pub unresolved: Vec<(ServiceName, String)>,
}

pub struct ServicePlan {
    pub balancer: PolicyPlan,
    pub failover: PolicyPlan,
    /// Of the failover policy's one instance beside the workers.
    pub health: Instances,
    /// None where the file gives the endpoints.
    pub source: Option<SourceBinding>,
    /// The candidate beside it.
    pub shadow: Option<VersionId>,
    pub slots: SlotTable,
    /// Endpoints that wait for a slot.
    pub waiting: usize,
}

/// One policy of a service.
pub struct PolicyPlan {
    pub binding: Binding,
    pub instances: Instances,
}

/// An instance to be made anew though nothing else changed for it.
#[derive(Clone, Debug)]
pub struct Restarted {
    pub service: ServiceName,
    /// Or [`HEALTH_PLACE`].
    pub worker: usize,
    pub version: VersionId,
}

/// In a worker's stead where an instance is meant that judges over health, of which each service has one.
pub const HEALTH_PLACE: usize = usize::MAX;

/// What a place is called.
pub fn place(worker: usize) -> String {
    if worker == HEALTH_PLACE { "the watch over health".to_owned() } else { format!("worker {worker}") }
}

/// Which workers get new instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instances {
    Keep,
    ReplaceOn(BTreeSet<usize>),
    ReplaceAll,
}

impl Instances {
    pub fn replaced_on(&self, worker: usize) -> bool {
        match self {
            Self::Keep => false,
            Self::ReplaceOn(workers) => workers.contains(&worker),
            Self::ReplaceAll => true,
        }
    }
}

impl Plan {
    /// Versions that some service needs, with the services that do.
    pub fn needed_versions(&self) -> BTreeMap<(PluginName, VersionId), Vec<ServiceName>> {
        let mut needed: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (service, plan) in self.snapshot.services.iter().zip(&self.services) {
            for Binding { policy, version, candidate, .. } in [&plan.balancer.binding, &plan.failover.binding] {
                let versions = std::iter::once(*version).chain(candidate.map(|(version, _)| version));
                for version in versions {
                    needed.entry((policy.plugin.clone(), version)).or_default().push(service.config.name.clone());
                }
            }
            if let Some(SourceBinding { policy, version, .. }) = &plan.source {
                for version in std::iter::once(*version).chain(plan.shadow) {
                    needed.entry((policy.plugin.clone(), version)).or_default().push(service.config.name.clone());
                }
            }
        }
        needed
    }

    pub fn keeps_all_instances(&self) -> bool {
        let kept = |service: &ServicePlan| {
            [&service.balancer.instances, &service.failover.instances, &service.health]
                .iter()
                .all(|instances| **instances == Instances::Keep)
        };
        self.services.iter().all(kept)
    }
}

/// What a plan depends on beside how things are and should be.
pub struct Given<'a> {
    pub names: &'a Names,
    /// Instances that must be made anew.
    pub restarts: &'a [Restarted],
    pub workers: usize,
    pub now_us: InstantUs,
}

/// Plans the way from `before` to `desired`.
pub fn plan(before: Option<&Published>, desired: Desired, given: &Given<'_>) -> Result<Plan, Vec<ChangeProblem>> {
    let mut problems = Vec::new();
    let (mut snapshots, mut services, mut unresolved) = (Vec::new(), Vec::new(), Vec::new());
    for config in desired.file.services.values() {
        let bindings = match Bindings::of(&desired, config) {
            Ok(bindings) => bindings,
            Err(message) => {
                problems.push(ChangeProblem::of(&config.name, message));
                continue;
            }
        };
        let (snapshot, service, names) = plan_service(before, &desired, config, bindings, given);
        unresolved.extend(names.into_iter().map(|name| (config.name.clone(), name)));
        snapshots.push(snapshot);
        services.push(service);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let by_name: HashMap<_, _> =
        snapshots.iter().enumerate().map(|(index, service)| (service.config.name.clone(), index)).collect();
    let file = &desired.file;
    let snapshot = Arc::new(Snapshot {
        generation: before.map_or(1, |before| before.snapshot.generation + 1),
        router: Router::new(file.routes.clone(), &by_name),
        services: snapshots,
        by_name,
        trusted_proxies: file.gateway.trusted_proxies.clone(),
        access_log: file.gateway.access_log.clone(),
        limits: file.gateway.limits.clone(),
    });
    Ok(Plan { snapshot, services, unresolved, desired })
}

/// What decides for one service.
struct Bindings {
    balancer: Binding,
    failover: Binding,
    source: Option<SourceBinding>,
}

impl Bindings {
    fn of(desired: &Desired, config: &ServiceConfig) -> Result<Self, String> {
        Ok(Self {
            balancer: desired.binding(config, desired.balancer(config))?,
            failover: desired.binding(config, desired.failover(config))?,
            source: desired.source(config)?,
        })
    }
}

fn plan_service(
    before: Option<&Published>,
    desired: &Desired,
    config: &ServiceConfig,
    Bindings { balancer, failover, source }: Bindings,
    given: &Given<'_>,
) -> (Arc<ServiceSnapshot>, ServicePlan, Vec<String>) {
    let same_specs = before.is_some_and(|before| same_specs(before, desired, config));
    let before = before.and_then(|before| before.service(&config.name));
    let slots = before.map_or_else(|| SlotTable::new(config.name.clone()), |before| before.slots.clone());
    let old_endpoints = before.map_or(&[][..], |before| &before.snapshot.endpoints);
    let wants = Wants { specs: desired.endpoints(config), prefer_zone: config.prefer_zone.as_deref() };
    let members = match before.filter(|before| same_specs && before.waiting == 0) {
        Some(_) => judged_anew(old_endpoints, &slots, given.now_us),
        None => Some(membership(wants, given.names, slots.clone(), old_endpoints, given.now_us)),
    };
    let shadow = desired.shadow(config);
    let discovery = source.as_ref().map(|source| source.policy.clone());
    let config = ServiceConfig {
        balancer: balancer.policy.clone(),
        failover: failover.policy.clone(),
        discovery,
        ..config.clone()
    };
    let same_members = match &members {
        Some(members) => before.is_some_and(|before| same_members(&before.snapshot.endpoints, &members.endpoints)),
        None => true,
    };
    let (endpoints, slots, waiting, unresolved) = match members {
        Some(members) => (Some(members.endpoints), members.slots, members.waiting, members.unresolved),
        None => (None, slots, 0, Vec::new()),
    };
    let snapshot = match before {
        // The same `Arc`, so that nobody takes it for a change.
        Some(before) if same_members && before.snapshot.config == config => Arc::clone(before.snapshot),
        _ => Arc::new(ServiceSnapshot {
            config,
            updated_us: before.filter(|_| same_members).map_or(given.now_us, |before| before.snapshot.updated_us),
            endpoints: endpoints.unwrap_or_else(|| old_endpoints.to_vec()),
            shared: before
                .map_or_else(|| Shared::new(given.workers, given.now_us), |before| Arc::clone(&before.snapshot.shared)),
        }),
    };
    let restarted = |binding: &Binding, place: &dyn Fn(usize) -> bool| -> BTreeSet<usize> {
        let ours =
            given.restarts.iter().filter(|restart| restart.service == snapshot.config.name && place(restart.worker));
        ours.filter(|restart| binding.has(restart.version)).map(|restart| restart.worker).collect()
    };
    let on_worker = |worker: usize| worker != HEALTH_PLACE;
    let instances = |anew: bool, restarted: BTreeSet<usize>| match restarted {
        _ if anew => Instances::ReplaceAll,
        restarted if restarted.is_empty() => Instances::Keep,
        restarted => Instances::ReplaceOn(restarted),
    };
    let other_failover = before.is_none_or(|before| *before.failover != failover);
    let plan = ServicePlan {
        health: instances(other_failover, restarted(&failover, &|worker| worker == HEALTH_PLACE)),
        failover: PolicyPlan {
            instances: instances(other_failover, restarted(&failover, &on_worker)),
            binding: failover,
        },
        balancer: PolicyPlan {
            instances: instances(
                !same_members || before.is_none_or(|before| *before.balancer != balancer),
                restarted(&balancer, &on_worker),
            ),
            binding: balancer,
        },
        source,
        shadow,
        slots,
        waiting,
    };
    (snapshot, plan, unresolved)
}

/// The same endpoints with what is known of their fitness now; none where that is what it was.
fn judged_anew(old: &[Option<EndpointState>], slots: &SlotTable, now_us: InstantUs) -> Option<Membership> {
    if old.iter().flatten().all(|member| member.available == is_available(member)) {
        return None;
    }
    let judge = |member: &EndpointState| {
        let available = is_available(member);
        let since_us = if member.available == available { member.since_us } else { now_us };
        EndpointState { available, since_us, ..member.clone() }
    };
    let endpoints = old.iter().map(|member| member.as_ref().map(judge)).collect();
    Some(Membership { endpoints, slots: slots.clone(), waiting: 0, unresolved: Vec::new() })
}

fn is_available(member: &EndpointState) -> bool {
    member.healthy && member.endpoint.fitness.is_fit()
}

/// Whether an endpoint's fitness is another than a snapshot says.
pub fn is_outdated(snapshot: &Snapshot) -> bool {
    let mut members = snapshot.services.iter().flat_map(|service| service.members());
    members.any(|member| member.available != is_available(member))
}

/// Whether a service's endpoints are the very list that they were, and none of them a name that may mean others by now:
/// one service's change then costs nothing for the ten thousand endpoints of others.
fn same_specs(before: &Published, desired: &Desired, config: &ServiceConfig) -> bool {
    let Some(old) = before.desired.file.services.get(&config.name) else { return false };
    if old.prefer_zone != config.prefer_zone {
        return false;
    }
    let (old, new) = (before.desired.endpoints(old), desired.endpoints(config));
    std::ptr::eq(old, new) && new.iter().all(|endpoint| endpoint.address.socket_addr().is_some())
}

/// A route's name in metrics and in the API: host, path, and methods where it has some.
pub fn route_label(route: &RouteConfig) -> String {
    let mut label = format!("{}{}", route.host.as_deref().unwrap_or_default(), route.path);
    for (index, method) in route.methods.iter().enumerate() {
        label.push(if index == 0 { ' ' } else { ',' });
        label.push_str(method.as_str());
    }
    label
}
