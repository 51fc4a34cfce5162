//! Where a service has plugin instances: a balancer and a failover policy on each worker, and one that judges over
//! health beside them.

use std::sync::Arc;

use super::{
    PublishedService,
    desired::Binding,
    plan::{HEALTH_PLACE, Instances, ServicePlan},
};
use crate::{
    control::change::Refusal,
    failover::{Monitor, SavedHealth},
    gateway::{Gateway, SavedStates, ServiceSnapshot, WorkerPolicy},
    model::{EndpointState, ServiceName},
    plugin::{BalancerInstance, FailoverInstance, HealthInstance, PolicyInstance},
};

/// Who keeps the instances in use, and can be asked what they have learned.
#[derive(Clone)]
pub struct Keepers {
    pub gateway: Arc<Gateway>,
    pub monitor: Arc<Monitor>,
}

/// A kind of instance, and what the publisher must know of where its instances stand.
pub trait Placed: PolicyInstance {
    /// What its settings' problems are told to be in; empty: the settings themselves.
    const SETTINGS: &'static str;

    /// The workers that have one, or [`HEALTH_PLACE`].
    fn places(workers: usize) -> Vec<usize>;

    fn binding(plan: &ServicePlan) -> &Binding;

    fn instances(plan: &ServicePlan) -> &Instances;

    fn published(service: &PublishedService) -> &Binding;

    /// What the instances at a place have learned.
    fn saved(
        keepers: &Keepers,
        place: usize,
        service: &ServiceName,
    ) -> impl Future<Output = Result<SavedStates, Refusal>> + Send;

    /// Whether it is told the membership, so that there is any use in collecting it.
    fn members(service: &ServiceSnapshot) -> Vec<EndpointState>;
}

impl Placed for BalancerInstance {
    const SETTINGS: &'static str = "";

    fn places(workers: usize) -> Vec<usize> {
        (0..workers).collect()
    }

    fn binding(plan: &ServicePlan) -> &Binding {
        &plan.balancer.binding
    }

    fn instances(plan: &ServicePlan) -> &Instances {
        &plan.balancer.instances
    }

    fn published(service: &PublishedService) -> &Binding {
        &service.balancer
    }

    async fn saved(keepers: &Keepers, place: usize, service: &ServiceName) -> Result<SavedStates, Refusal> {
        let saved = keepers.gateway.save(place, service, WorkerPolicy::Balancer).await;
        saved.map_err(|_| Refusal::ShuttingDown)
    }

    fn members(service: &ServiceSnapshot) -> Vec<EndpointState> {
        service.members().cloned().collect()
    }
}

/// What stands before the pointer into a failover policy's settings.
pub const FAILOVER_SETTINGS: &str = "/failover/settings";

impl Placed for FailoverInstance {
    const SETTINGS: &'static str = FAILOVER_SETTINGS;

    fn places(workers: usize) -> Vec<usize> {
        (0..workers).collect()
    }

    fn binding(plan: &ServicePlan) -> &Binding {
        &plan.failover.binding
    }

    fn instances(plan: &ServicePlan) -> &Instances {
        &plan.failover.instances
    }

    fn published(service: &PublishedService) -> &Binding {
        &service.failover
    }

    async fn saved(keepers: &Keepers, place: usize, service: &ServiceName) -> Result<SavedStates, Refusal> {
        let saved = keepers.gateway.save(place, service, WorkerPolicy::Failover).await;
        saved.map_err(|_| Refusal::ShuttingDown)
    }

    fn members(_: &ServiceSnapshot) -> Vec<EndpointState> {
        Vec::new()
    }
}

impl Placed for HealthInstance {
    const SETTINGS: &'static str = FAILOVER_SETTINGS;

    fn places(_: usize) -> Vec<usize> {
        vec![HEALTH_PLACE]
    }

    fn binding(plan: &ServicePlan) -> &Binding {
        &plan.failover.binding
    }

    fn instances(plan: &ServicePlan) -> &Instances {
        &plan.health
    }

    fn published(service: &PublishedService) -> &Binding {
        &service.failover
    }

    async fn saved(keepers: &Keepers, _: usize, service: &ServiceName) -> Result<SavedStates, Refusal> {
        let SavedHealth { incumbent, candidate } = keepers.monitor.save(service).await;
        Ok(SavedStates { incumbent, candidate })
    }

    fn members(service: &ServiceSnapshot) -> Vec<EndpointState> {
        service.members().cloned().collect()
    }
}
