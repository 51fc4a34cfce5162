//! Who the endpoints of a service are now: the configuration's or a source's addresses, names resolved, slots given.

pub mod names;
mod slots;

pub use slots::{SlotTable, Wanted};

use std::{net::SocketAddr, sync::Arc};

use crate::model::{EndpointSpec, EndpointState, InstantUs, Slot};
use names::Names;

/// The membership of one service, by slot.
#[derive(Debug)]
pub struct Membership {
    pub endpoints: Vec<Option<EndpointState>>,
    pub slots: SlotTable,
    /// Endpoints that have no slot yet, because all are held by endpoints that drain.
    pub waiting: usize,
    /// Host names that have never been resolved.
    pub unresolved: Vec<String>,
}

/// Which endpoints there may be, and what makes a difference between them.
#[derive(Clone, Copy)]
pub struct Wants<'a> {
    pub specs: &'a [EndpointSpec],
    pub prefer_zone: Option<&'a str>,
}

/// `before` is the service's last membership, from which an endpoint that stays takes the instant it became available.
pub fn membership(
    Wants { specs, prefer_zone }: Wants<'_>,
    names: &Names,
    mut slots: SlotTable,
    before: &[Option<EndpointState>],
    now_us: InstantUs,
) -> Membership {
    let mut unresolved = Vec::new();
    let mut found = Vec::new();
    for spec in specs {
        match addresses(spec, names) {
            Some(addresses) => found.extend(addresses.into_iter().map(|address| (spec, address))),
            None => unresolved.push(spec.address.host().to_owned()),
        }
    }
    // A name and an address may mean the same endpoint: the first wins.
    let mut seen = std::collections::HashSet::new();
    found.retain(|(_, address): &(&EndpointSpec, SocketAddr)| seen.insert(*address));
    let wanted: Vec<_> = found
        .iter()
        .map(|&(spec, address)| Wanted { id: spec.id.clone(), label: spec.address.clone(), address })
        .collect();
    let assigned = slots.assign(&wanted);
    let waiting = assigned.iter().filter(|endpoint| endpoint.is_none()).count();
    let mut endpoints: Vec<Option<EndpointState>> = (0..slots.len()).map(|_| None).collect();
    for ((spec, _), endpoint) in found.into_iter().zip(assigned) {
        let Some(endpoint) = endpoint else { continue };
        let available = spec.healthy && endpoint.fitness.is_fit();
        let stays = before
            .get(endpoint.slot as usize)
            .and_then(Option::as_ref)
            .filter(|before| before.available == available && Arc::ptr_eq(&before.endpoint, &endpoint));
        let slot: Slot = endpoint.slot;
        endpoints[slot as usize] = Some(EndpointState {
            weight: spec.weight,
            priority: priority(spec, prefer_zone),
            zone: spec.zone.clone(),
            metadata: spec.metadata.clone(),
            healthy: spec.healthy,
            available,
            since_us: stays.map_or(now_us, |before| before.since_us),
            endpoint,
        });
    }
    Membership { endpoints, slots, waiting, unresolved }
}

/// Each priority has two levels where a zone is preferred: that zone's endpoints, then all others. Balancers spill from
/// one to the next as they do between priorities.
fn priority(spec: &EndpointSpec, prefer_zone: Option<&str>) -> u32 {
    match prefer_zone {
        Some(zone) => spec.priority.saturating_mul(2).saturating_add(u32::from(spec.zone != zone)),
        None => spec.priority,
    }
}

/// Whether two memberships are the same to a balancer.
pub fn same_members(one: &[Option<EndpointState>], other: &[Option<EndpointState>]) -> bool {
    let same = |one: &EndpointState, other: &EndpointState| {
        Arc::ptr_eq(&one.endpoint, &other.endpoint)
            && one.weight == other.weight
            && one.priority == other.priority
            && one.zone == other.zone
            && one.metadata == other.metadata
            && one.healthy == other.healthy
            && one.available == other.available
            && one.since_us == other.since_us
    };
    let longest = one.len().max(other.len());
    (0..longest).all(|slot| match (one.get(slot).and_then(Option::as_ref), other.get(slot).and_then(Option::as_ref)) {
        (Some(one), Some(other)) => same(one, other),
        (None, None) => true,
        _ => false,
    })
}

/// None where the name has never been resolved.
fn addresses(spec: &EndpointSpec, names: &Names) -> Option<Vec<SocketAddr>> {
    if let Some(address) = spec.address.socket_addr() {
        return Some(vec![address]);
    }
    let addresses = names.addresses(spec.address.host())?;
    Some(addresses.into_iter().map(|ip| SocketAddr::new(ip, spec.address.port())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        control::membership::slots::Wanted,
        model::{ServiceName, Weight},
    };

    #[test]
    fn a_sources_verdict_is_a_difference_though_the_endpoint_is_out_of_traffic_anyway() {
        let label: crate::model::HostPort = "10.0.0.1:80".parse().expect("an address");
        let service: ServiceName = "orders".parse().expect("a name");
        let address = label.socket_addr().expect("an address");
        let wanted = [Wanted { id: Box::default(), label, address }];
        let endpoint = SlotTable::new(service).assign(&wanted).remove(0).expect("a slot");
        endpoint.fitness.eject();
        let member = |healthy| {
            let endpoint = Arc::clone(&endpoint);
            let (zone, metadata) = (String::new(), Vec::new());
            let state = EndpointState {
                endpoint,
                weight: Weight::ONE,
                priority: 0,
                zone,
                metadata,
                healthy,
                available: false,
                since_us: 0,
            };
            [Some(state)]
        };
        assert!(same_members(&member(true), &member(true)));
        assert!(!same_members(&member(true), &member(false)));
    }
}
