//! What the data path reads: one immutable snapshot, the same for all workers, and beside it what each
//! worker owns alone (plugin instances), prepared away from the data path and handed over finished.

use std::{collections::HashMap, sync::Arc};

use super::router::Router;
use crate::{
    failover::Shared,
    model::{AccessLog, EndpointState, InstantUs, Limits, Percent, ServiceConfig, ServiceName, Slot},
    plugin::{BalancerInstance, FailoverInstance, Version},
    telemetry::{EndpointCells, PluginCells, RouteCells},
};

/// Below this share of available endpoints all are used (Envoy's `healthy_panic_threshold`).
const PANIC_PERCENT: usize = 50;

/// Index into [`Snapshot::services`].
pub type ServiceIndex = usize;

/// Everything a request's way depends on that all workers share. Never changed: a change is another snapshot.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows with each change.
    pub generation: u64,
    pub router: Router,
    pub services: Vec<Arc<ServiceSnapshot>>,
    pub by_name: HashMap<ServiceName, ServiceIndex>,
    pub trusted_proxies: Vec<ipnet::IpNet>,
    pub access_log: AccessLog,
    pub limits: Limits,
}

/// One service as one snapshot has it.
#[derive(Debug)]
pub struct ServiceSnapshot {
    pub config: ServiceConfig,
    /// By slot; a hole is a slot that is free or still draining.
    pub endpoints: Vec<Option<EndpointState>>,
    /// When this membership was made.
    pub updated_us: InstantUs,
    /// The same in all snapshots.
    pub shared: Arc<Shared>,
}

impl ServiceSnapshot {
    pub fn endpoint(&self, slot: Slot) -> Option<&EndpointState> {
        self.endpoints.get(slot as usize).and_then(Option::as_ref)
    }

    pub fn members(&self) -> impl Iterator<Item = &EndpointState> {
        self.endpoints.iter().flatten()
    }

    /// The rules of WIT `balancer.pick`: an endpoint that exists, is available (unless the service is in panic),
    /// and was not tried (unless all were); none only where there is nothing to choose.
    pub fn accepts(&self, answer: Option<Slot>, tried: &[Slot]) -> bool {
        match answer {
            Some(slot) => {
                self.endpoint(slot).is_some_and(|chosen| chosen.available || self.is_in_panic())
                    && (!tried.contains(&slot) || self.eligible(tried).next().is_none())
            }
            // A policy may refuse to panic, so none is right wherever panic would be.
            None => self.is_in_panic(),
        }
    }

    /// Those that are available and were not tried.
    pub fn eligible<'s>(&'s self, tried: &'s [Slot]) -> impl Iterator<Item = &'s EndpointState> {
        self.members().filter(|member| member.available && !tried.contains(&member.endpoint.slot))
    }

    /// Of these, those that have not become unfit since the snapshot was made.
    pub fn fit<'s>(&'s self, tried: &'s [Slot]) -> impl Iterator<Item = &'s EndpointState> {
        self.eligible(tried).filter(|member| member.endpoint.fitness.is_fit())
    }

    fn is_in_panic(&self) -> bool {
        let (members, available) =
            self.members().fold((0_usize, 0_usize), |(all, up), member| (all + 1, up + usize::from(member.available)));
        available * 100 < members * PANIC_PERCENT || available == 0
    }
}

/// A worker's next state, made on a control thread. `Send`: the worker turns it into its own `Rc`s.
pub struct PreparedState {
    pub snapshot: Arc<Snapshot>,
    /// One for each of `snapshot.services`, in that order.
    pub services: Vec<PreparedService>,
    /// One for each of the router's routes, in that order.
    pub routes: Vec<Arc<RouteCells>>,
}

pub enum PreparedService {
    /// Nothing of the service of this name has changed: its snapshot and its instances are those that the worker has.
    /// Adopting it costs the same however many endpoints it has.
    Same,
    Next(Box<NextService>),
}

/// One service as it comes to one worker.
pub struct NextService {
    pub balancer: PreparedPolicy<BalancerInstance>,
    pub failover: PreparedPolicy<FailoverInstance>,
    /// By slot, like `ServiceSnapshot::endpoints`.
    pub endpoints: Vec<Option<Arc<EndpointCells>>>,
}

pub enum PreparedPolicy<I> {
    /// The worker goes on with the instances that it has for the service of this name.
    Keep,
    Replace {
        incumbent: PreparedInstance<I>,
        candidate: Option<PreparedCandidate<I>>,
    },
}

/// A plugin version in use by one service on one worker.
pub struct PreparedInstance<I> {
    pub version: Arc<Version>,
    /// None: the native fallback decides until the control plane brings an instance back.
    pub instance: Option<I>,
    pub cells: Arc<PluginCells>,
}

/// A version on trial beside the incumbent.
pub struct PreparedCandidate<I> {
    pub arm: PreparedInstance<I>,
    /// Of requests, by hash, so that one key stays with one version.
    pub percent: Percent,
}
