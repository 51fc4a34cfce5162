//! Which endpoint an attempt goes to: the service's balancer decides, the host checks its answer, and a native
//! fallback decides where the balancer cannot.

use std::{rc::Rc, time::Instant};

use http::request;

use super::{
    snapshot::ServiceSnapshot,
    state::{Arm, CompletionQueue, Policy, ServiceState},
    upstream::EndpointLane,
    worker::Worker,
};
use crate::{
    model::{EndpointState, RouteConfig, Slot, VersionId},
    plugin::{Incoming, PickRequest},
};

/// One in so many picks is timed: two clock readings cost a third of a pick.
const TIMED_PICKS: u32 = 64;

/// What was chosen, and by whom.
pub struct Picked {
    pub lane: Rc<EndpointLane>,
    pub policy: Rc<Policy>,
    pub completions: Rc<CompletionQueue>,
    /// Whether the version on trial served this request (also where its answer was replaced).
    pub by_candidate: bool,
    by_fallback: bool,
}

impl Picked {
    pub fn arm(&self) -> &Arm {
        arm_of(&self.policy, self.by_candidate)
    }

    /// None where the native fallback chose.
    pub fn version(&self) -> Option<VersionId> {
        (!self.by_fallback).then(|| self.arm().id)
    }
}

fn arm_of(policy: &Policy, candidate: bool) -> &Arm {
    match &policy.candidate {
        Some((_, arm)) if candidate => arm,
        _ => &policy.incumbent,
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

/// The endpoint for this attempt; none where the service has none to give.
pub fn pick(worker: &Worker, service: &ServiceState, request: PickRequest, incoming: &Incoming) -> Option<Picked> {
    let policy = &service.policy;
    let by_candidate = policy.candidate.as_ref().is_some_and(|(percent, _)| on_trial(request.hash, percent.get()));
    let arm = arm_of(policy, by_candidate);
    let answer = ask(worker, service, arm, request, incoming);
    let by_fallback = answer.is_none();
    if by_fallback {
        arm.cells.fallbacks.add(1);
    }
    let slot = answer.unwrap_or_else(|| power_of_two_choices(&service.snapshot, request.random, &incoming.tried))?;
    let lane = Rc::clone(service.lane(slot)?);
    let completions = Rc::clone(&service.completions);
    Some(Picked { lane, policy: Rc::clone(policy), completions, by_candidate, by_fallback })
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

/// The plugin's answer once it has been found valid; the outer none: the fallback must decide.
fn ask(
    worker: &Worker,
    service: &ServiceState,
    arm: &Arm,
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
pub fn power_of_two_choices(service: &ServiceSnapshot, random: u64, tried: &[Slot]) -> Option<Slot> {
    let untried: Vec<_> = service.eligible(tried).collect();
    let pool = if untried.is_empty() { service.eligible(&[]).collect() } else { untried };
    let pool: Vec<_> = if pool.is_empty() { service.members().collect() } else { pool };
    let count = u64::try_from(pool.len()).ok().filter(|&count| count > 0)?;
    let draw = |bits: u64| pool[usize::try_from(bits % count).expect("less than a length")];
    let (one, other) = (draw(random >> 32), draw(random & 0xffff_ffff));
    let cost = |member: &EndpointState| f64::from(member.endpoint.in_flight() + 1) / f64::from(member.weight.get());
    let best = if cost(other) < cost(one) { other } else { one };
    Some(best.endpoint.slot)
}
