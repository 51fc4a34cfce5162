//! Which endpoint an attempt goes to: the service's balancer decides, the host checks its answer, and a native
//! fallback decides where the balancer cannot.

use std::{rc::Rc, sync::Arc, time::Instant};

use http::request;

use super::{
    choice::{self, Chosen, NotPicked},
    state::{Arm, CompletionQueue, Policy, ServiceState},
    upstream::EndpointLane,
    worker::Worker,
};
use crate::{
    failover::Shared,
    model::{InFlight, RouteConfig, Slot, VersionId},
    plugin::{BalancerInstance, Incoming, PickRequest},
};

/// One in so many picks is timed: two clock readings cost a third of a pick.
const TIMED_PICKS: u32 = 64;

/// What was chosen, and by whom.
pub struct Picked {
    pub lane: Rc<EndpointLane>,
    pub balancer: Rc<Policy<BalancerInstance>>,
    pub completions: Rc<CompletionQueue>,
    pub in_flight: InFlight,
    /// None where nothing is limited.
    pub place: Option<Place>,
    /// Whether the version on trial served this request (also where its answer was replaced).
    pub by_candidate: bool,
    by_host: bool,
}

impl Picked {
    pub fn arm(&self) -> &Arm<BalancerInstance> {
        self.balancer.arm(self.by_candidate)
    }

    /// None where the gateway itself chose.
    pub fn version(&self) -> Option<VersionId> {
        (!self.by_host).then(|| self.arm().id)
    }
}

/// An attempt's place among those that the service may have at once.
#[derive(Debug)]
pub struct Place {
    shared: Arc<Shared>,
    counted: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.counted { self.shared.leave() } else { self.shared.free() }
    }
}

/// What the balancer may ask about the request. Nothing is copied but what the route exposes.
pub fn incoming(head: &request::Parts, route: &RouteConfig) -> Incoming {
    let headers = route
        .expose
        .iter()
        .filter_map(|name| head.headers.get(name).map(|value| (name.clone(), value.clone())))
        .collect();
    Incoming { tried: Default::default(), path: head.uri.path_and_query().cloned(), headers }
}

/// The endpoint for this attempt. `probes`: whether the request may be one that finds out whether an endpoint is fit
/// again.
pub fn pick(
    worker: &Worker,
    service: &ServiceState,
    request: PickRequest,
    incoming: &Incoming,
    probes: bool,
) -> Result<Picked, NotPicked> {
    let place = place(service)?;
    let by_candidate = service.balancer.tries(request.hash);
    if probes
        && service.snapshot.shared.is_probing()
        && let Some(probe) = choice::take_probe(&service.snapshot, &incoming.tried)
    {
        return picked(service, probe, place, by_candidate, true);
    }
    let arm = service.balancer.arm(by_candidate);
    let answer = ask(worker, service, arm, request, incoming);
    let by_fallback = answer.is_none();
    if by_fallback {
        arm.cells.fallbacks.add(1);
    }
    let fallback = || choice::power_of_two_choices(&service.snapshot, request.random, &incoming.tried);
    let slot = answer.unwrap_or_else(fallback).ok_or(NotPicked::NoEndpoint)?;
    let chosen = choice::admit(&service.snapshot, slot, request.random, &incoming.tried)?;
    let by_host = by_fallback || chosen.slot != slot;
    picked(service, chosen, place, by_candidate, by_host)
}

fn picked(
    service: &ServiceState,
    chosen: Chosen,
    place: Option<Place>,
    by_candidate: bool,
    by_host: bool,
) -> Result<Picked, NotPicked> {
    let lane = service.lane(chosen.slot).map(Rc::clone).ok_or(NotPicked::NoEndpoint)?;
    let (balancer, completions) = (Rc::clone(&service.balancer), Rc::clone(&service.completions));
    Ok(Picked { lane, balancer, completions, in_flight: chosen.in_flight, place, by_candidate, by_host })
}

/// None where nothing is limited.
fn place(service: &ServiceState) -> Result<Option<Place>, NotPicked> {
    let circuit = &service.snapshot.config.circuit;
    if !circuit.is_limited() {
        return Ok(None);
    }
    let shared = &service.snapshot.shared;
    let counted = circuit.requests_max.is_some();
    if counted && !shared.enter(circuit.requests_max) {
        return Err(NotPicked::Full);
    }
    Ok(Some(Place { shared: Arc::clone(shared), counted }))
}

/// The plugin's answer once it has been found valid; the outer none: the fallback must decide.
fn ask(
    worker: &Worker,
    service: &ServiceState,
    arm: &Arm<BalancerInstance>,
    request: PickRequest,
    incoming: &Incoming,
) -> Option<Option<Slot>> {
    let slot = worker.call(service, arm, |instance| {
        let nth = arm.picks.get().wrapping_add(1);
        arm.picks.set(nth);
        let begun = nth.is_multiple_of(TIMED_PICKS).then(Instant::now);
        let answer = instance.pick(request, incoming);
        if let Some(begun) = begun {
            arm.cells.pick_ns.record_ns(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        arm.cells.picks.add(1);
        answer
    })?;
    if !service.snapshot.accepts(slot, &incoming.tried) {
        arm.cells.invalid_answers.add(1);
        return None;
    }
    Some(slot)
}
