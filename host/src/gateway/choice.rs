//! What the host chooses by itself, whatever the balancer says: the endpoint that a request finds out about, another
//! one where the chosen one is not to be had, and the native fallback.

use super::snapshot::ServiceSnapshot;
use crate::{
    failover::LIMIT_INITIAL,
    model::{EndpointState, InFlight, Slot},
};

/// An endpoint, and the request's place at it.
#[derive(Debug)]
pub struct Chosen {
    pub slot: Slot,
    pub in_flight: InFlight,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPicked {
    NoEndpoint,
    /// The service, or each of its endpoints, has as many requests as it may have.
    Full,
}

/// An endpoint that waits for one request which finds out whether it is fit, if there is one that this request has not
/// tried.
pub fn take_probe(service: &ServiceSnapshot, tried: &[Slot]) -> Option<Chosen> {
    let waiting = service.members().filter(|member| member.endpoint.fitness.is_probed());
    let taken = waiting
        .filter(|member| member.healthy && !tried.contains(&member.endpoint.slot))
        .find(|member| member.endpoint.fitness.take_probe())?;
    service.shared.counts.probes.add(1);
    service.shared.probe_taken();
    Some(Chosen { slot: taken.endpoint.slot, in_flight: taken.endpoint.begin() })
}

/// The endpoint that was chosen, unless it has become unfit since the balancer was told of it, or is full: then
/// another, if there is one.
pub fn admit(service: &ServiceSnapshot, slot: Slot, random: u64, tried: &[Slot]) -> Result<Chosen, NotPicked> {
    if let Some(begun) = last_resort(service, slot, tried) {
        service.shared.counts.diverted.add(1);
        return Ok(begun);
    }
    let chosen = service.endpoint(slot).ok_or(NotPicked::NoEndpoint)?;
    let became_unfit = chosen.available && !chosen.endpoint.fitness.is_fit();
    if !became_unfit && let Some(begun) = begin(service, chosen) {
        return Ok(begun);
    }
    let mut others: Vec<_> = service.fit(tried).filter(|other| other.endpoint.slot != slot).collect();
    let turn = usize::try_from(random % others.len().max(1) as u64).expect("less than a length");
    others.rotate_left(turn);
    others.sort_by(|one, other| cost(one).total_cmp(&cost(other)));
    if let Some(begun) = others.into_iter().find_map(|other| begin(service, other)) {
        service.shared.counts.diverted.add(1);
        return Ok(begun);
    }
    // Where no other is fit the verdict is not believed; where it is full that holds.
    begin(service, chosen).ok_or(NotPicked::Full)
}

/// Where all that take part in the traffic have failed this request, the policy's verdict on the others is not believed:
/// one that it alone has taken out may answer. Without this a policy that ejects the well one of two endpoints would
/// fail every request while the other is down.
fn last_resort(service: &ServiceSnapshot, slot: Slot, tried: &[Slot]) -> Option<Chosen> {
    if !tried.contains(&slot) {
        return None;
    }
    // Also one that is fit again, and the balancer has not heard of it yet.
    let may_answer = |member: &&EndpointState| {
        member.healthy && !member.endpoint.fitness.fails_checks() && !tried.contains(&member.endpoint.slot)
    };
    let mut others: Vec<_> = service.members().filter(may_answer).collect();
    others.sort_by(|one, other| cost(one).total_cmp(&cost(other)));
    others.into_iter().find_map(|member| begin(service, member))
}

/// The native fallback: of two endpoints drawn at random, the one with fewer requests in flight for its weight
/// (Mitzenmacher 2001). Prefers endpoints that are available and untried, then available, then any.
pub fn power_of_two_choices(service: &ServiceSnapshot, random: u64, tried: &[Slot]) -> Option<Slot> {
    let fit: Vec<_> = service.fit(tried).collect();
    let untried = if fit.is_empty() { service.eligible(tried).collect() } else { fit };
    let pool = if untried.is_empty() { service.eligible(&[]).collect() } else { untried };
    let pool: Vec<_> = if pool.is_empty() { service.members().collect() } else { pool };
    let count = u64::try_from(pool.len()).ok().filter(|&count| count > 0)?;
    let draw = |bits: u64| pool[usize::try_from(bits % count).expect("less than a length")];
    let (one, other) = (draw(random >> 32), draw(random & 0xffff_ffff));
    let best = if cost(other) < cost(one) { other } else { one };
    Some(best.endpoint.slot)
}

/// Counts a request to it, unless it has as many as it may have.
fn begin(service: &ServiceSnapshot, member: &EndpointState) -> Option<Chosen> {
    let circuit = &service.config.circuit;
    let slot = member.endpoint.slot;
    if circuit.endpoint_requests_max.is_none() && !circuit.adaptive {
        return Some(Chosen { slot, in_flight: member.endpoint.begin() });
    }
    let configured = circuit.endpoint_requests_max.unwrap_or(u32::MAX);
    let measured = match circuit.adaptive {
        true => member.endpoint.adaptive_max().unwrap_or(LIMIT_INITIAL),
        false => u32::MAX,
    };
    member.endpoint.begin_within(configured.min(measured)).map(|in_flight| Chosen { slot, in_flight })
}

fn cost(member: &EndpointState) -> f64 {
    f64::from(member.endpoint.in_flight() + 1) / f64::from(member.weight.get())
}
