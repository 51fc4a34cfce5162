//! Which endpoint an attempt goes to: the service's balancer decides, the host checks its answer, and a native
//! fallback decides where the balancer cannot.

use std::{rc::Rc, sync::Arc, time::Instant};

use http::request;

use super::{
    state::{Arm, CompletionQueue, Policy, ServiceState},
    upstream::EndpointLane,
    worker::Worker,
};
use crate::{
    failover::Shared,
    model::{EndpointState, InFlight, RouteConfig, Slot, VersionId},
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

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPicked {
    NoEndpoint,
    /// The service, or each of its endpoints, has as many requests as it may have.
    Full,
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
        && let Some((lane, in_flight)) = take_probe(service, &incoming.tried)
    {
        service.snapshot.shared.counts.probes.add(1);
        return Ok(picked(service, lane, in_flight, place, by_candidate, true));
    }
    let arm = service.balancer.arm(by_candidate);
    let answer = ask(worker, service, arm, request, incoming);
    let by_fallback = answer.is_none();
    if by_fallback {
        arm.cells.fallbacks.add(1);
    }
    let slot = answer.unwrap_or_else(|| power_of_two_choices(service, request.random, &incoming.tried));
    let slot = slot.ok_or(NotPicked::NoEndpoint)?;
    let (lane, in_flight, diverted) = admit(service, slot, request.random, &incoming.tried)?;
    Ok(picked(service, lane, in_flight, place, by_candidate, by_fallback || diverted))
}

fn picked(
    service: &ServiceState,
    lane: Rc<EndpointLane>,
    in_flight: InFlight,
    place: Option<Place>,
    by_candidate: bool,
    by_host: bool,
) -> Picked {
    let (balancer, completions) = (Rc::clone(&service.balancer), Rc::clone(&service.completions));
    Picked { lane, balancer, completions, in_flight, place, by_candidate, by_host }
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

/// An endpoint that waits for one request, if there is one that this request has not tried.
fn take_probe(service: &ServiceState, tried: &[Slot]) -> Option<(Rc<EndpointLane>, InFlight)> {
    let waiting = service.snapshot.members().filter(|member| member.endpoint.fitness.is_probed());
    let taken = waiting
        .filter(|member| member.healthy && !tried.contains(&member.endpoint.slot))
        .find(|member| member.endpoint.fitness.take_probe())?;
    let lane = service.lane(taken.endpoint.slot)?;
    Some((Rc::clone(lane), taken.endpoint.begin()))
}

/// The endpoint that was chosen, unless it has become unfit since the balancer was told of it, or is full: then
/// another, if there is one. Also whether it is another.
fn admit(
    service: &ServiceState,
    slot: Slot,
    random: u64,
    tried: &[Slot],
) -> Result<(Rc<EndpointLane>, InFlight, bool), NotPicked> {
    let lane = |slot| service.lane(slot).map(Rc::clone).ok_or(NotPicked::NoEndpoint);
    let chosen = service.snapshot.endpoint(slot).ok_or(NotPicked::NoEndpoint)?;
    let became_unfit = chosen.available && !chosen.endpoint.fitness.is_fit();
    if !became_unfit && let Some(in_flight) = begin(service, chosen) {
        return Ok((lane(slot)?, in_flight, false));
    }
    let mut others: Vec<_> = service.snapshot.fit(tried).filter(|other| other.endpoint.slot != slot).collect();
    let turn = usize::try_from(random % others.len().max(1) as u64).expect("less than a length");
    others.rotate_left(turn);
    others.sort_by(|one, other| cost(one).total_cmp(&cost(other)));
    for other in others {
        if let Some(in_flight) = begin(service, other) {
            service.snapshot.shared.counts.diverted.add(1);
            return Ok((lane(other.endpoint.slot)?, in_flight, true));
        }
    }
    // Where no other is fit the verdict is not believed; where it is full that holds.
    begin(service, chosen).map_or(Err(NotPicked::Full), |in_flight| Ok((lane(slot)?, in_flight, false)))
}

/// Counts a request to it, unless it has as many as it may have.
fn begin(service: &ServiceState, member: &EndpointState) -> Option<InFlight> {
    let circuit = &service.snapshot.config.circuit;
    if circuit.endpoint_requests_max.is_none() && !circuit.adaptive {
        return Some(member.endpoint.begin());
    }
    let configured = circuit.endpoint_requests_max.unwrap_or(u32::MAX);
    let measured = member.endpoint.adaptive_max().filter(|_| circuit.adaptive).unwrap_or(u32::MAX);
    member.endpoint.begin_within(configured.min(measured))
}

fn cost(member: &EndpointState) -> f64 {
    f64::from(member.endpoint.in_flight() + 1) / f64::from(member.weight.get())
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

/// The native fallback: of two endpoints drawn at random, the one with fewer requests in flight for its weight
/// (Mitzenmacher 2001). Prefers endpoints that are available and untried, then available, then any.
fn power_of_two_choices(service: &ServiceState, random: u64, tried: &[Slot]) -> Option<Slot> {
    let fit: Vec<_> = service.snapshot.fit(tried).collect();
    let untried = if fit.is_empty() { service.snapshot.eligible(tried).collect() } else { fit };
    let pool = if untried.is_empty() { service.snapshot.eligible(&[]).collect() } else { untried };
    let pool: Vec<_> = if pool.is_empty() { service.snapshot.members().collect() } else { pool };
    let count = u64::try_from(pool.len()).ok().filter(|&count| count > 0)?;
    let draw = |bits: u64| pool[usize::try_from(bits % count).expect("less than a length")];
    let (one, other) = (draw(random >> 32), draw(random & 0xffff_ffff));
    let best = if cost(other) < cost(one) { other } else { one };
    Some(best.endpoint.slot)
}
