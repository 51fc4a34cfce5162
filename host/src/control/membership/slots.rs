//! Slots: the same number for the same endpoint over all changes, never one number for two at a time.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Weak},
};

use crate::model::{Endpoint, HostPort, ServiceName, Slot};

/// A service that never had more than eight endpoints may use as many slots as one that had eight: otherwise a
/// service of one endpoint, replaced twice while old exchanges last, would have none.
const SLOTS_MIN: usize = 16;

/// An endpoint that a service should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Empty where the configuration gives the endpoint: then the label is its registration.
    pub id: Box<str>,
    pub label: HostPort,
    pub address: SocketAddr,
}

/// The slots of one service. A clone can be changed and thrown away: it holds nothing alive.
#[derive(Clone, Debug)]
pub struct SlotTable {
    service: ServiceName,
    /// By slot; a dead reference is a free slot.
    slots: Vec<Weak<Endpoint>>,
    members_max: usize,
}

impl SlotTable {
    pub fn new(service: ServiceName) -> Self {
        Self { service, slots: Vec::new(), members_max: 0 }
    }

    /// An endpoint for each that is wanted, in that order: the one it was, where it is still known (a
    /// draining one that comes back included), else a new one in the lowest free slot. None has to
    /// wait until an endpoint that left has drained, or is wanted twice.
    pub fn assign(&mut self, wanted: &[Wanted]) -> Vec<Option<Arc<Endpoint>>> {
        self.members_max = self.members_max.max(wanted.len());
        let alive: HashMap<u64, Arc<Endpoint>> =
            self.slots.iter().filter_map(Weak::upgrade).map(|endpoint| (endpoint.key, endpoint)).collect();
        let mut given = HashSet::new();
        let keys: Vec<u64> = wanted.iter().map(|wanted| key_of(&self.service, wanted)).collect();
        let known: Vec<Option<Arc<Endpoint>>> = wanted
            .iter()
            .zip(&keys)
            .map(|(wanted, key)| {
                let endpoint = alive.get(key)?;
                let same = endpoint.address == wanted.address && endpoint.label == wanted.label;
                (same && given.insert(endpoint.slot)).then(|| Arc::clone(endpoint))
            })
            .collect();
        let mut seen = HashSet::new();
        // Ten thousand newcomers would each look through all slots otherwise.
        let free = self.slots.iter().enumerate().filter(|(_, endpoint)| endpoint.strong_count() == 0);
        let mut free: Vec<usize> = free.map(|(slot, _)| slot).rev().collect();
        wanted
            .iter()
            .zip(keys)
            .zip(known)
            .map(|((wanted, key), known)| {
                if !seen.insert(key) {
                    return None;
                }
                known.or_else(|| self.join(key, wanted, free.pop()))
            })
            .collect()
    }

    /// `free` is the lowest slot that nobody holds.
    fn join(&mut self, key: u64, wanted: &Wanted, free: Option<usize>) -> Option<Arc<Endpoint>> {
        let slot = match free {
            Some(slot) => slot,
            None if self.slots.len() < self.slots_max() => {
                self.slots.push(Weak::new());
                self.slots.len() - 1
            }
            None => return None,
        };
        let number = Slot::try_from(slot).expect("fewer than 2^32 endpoints fit into memory");
        let endpoint = Endpoint::new(self.service.clone(), number, key, wanted.address, wanted.label.clone());
        self.slots[slot] = Arc::downgrade(&endpoint);
        Some(endpoint)
    }

    /// WIT `types.slot`.
    fn slots_max(&self) -> usize {
        (2 * self.members_max).max(SLOTS_MIN)
    }

    /// How long an array by slot must be.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

/// WIT `endpoint.key`: the same on every gateway and after a restart. What the configuration calls the
/// endpoint is its registration.
fn key_of(service: &ServiceName, wanted: &Wanted) -> u64 {
    let address = wanted.address;
    let text = match &*wanted.id {
        "" => format!("{service}\0{}\0{address}", wanted.label),
        id => format!("{service}\0{id}\0{address}"),
    };
    xxhash_rust::xxh3::xxh3_64(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> SlotTable {
        SlotTable::new("orders".parse().expect("a service name"))
    }

    fn wanted(port: u16) -> Wanted {
        let label = format!("10.0.0.1:{}", 1 + port);
        Wanted {
            id: Box::default(),
            address: label.parse().expect("an address"),
            label: label.parse().expect("an address"),
        }
    }

    fn slots(endpoints: &[Option<Arc<Endpoint>>]) -> Vec<Option<Slot>> {
        endpoints.iter().map(|endpoint| endpoint.as_ref().map(|endpoint| endpoint.slot)).collect()
    }

    #[test]
    fn an_endpoint_keeps_its_slot_whoever_joins_or_leaves() {
        let mut table = table();
        let first = table.assign(&[wanted(1), wanted(2), wanted(3)]);
        assert_eq!(slots(&first), [Some(0), Some(1), Some(2)]);
        let second = table.assign(&[wanted(9), wanted(3), wanted(1)]);
        assert_eq!(slots(&second), [Some(3), Some(2), Some(0)]);
        assert!(Arc::ptr_eq(first[2].as_ref().expect("a member"), second[1].as_ref().expect("a member")));
    }

    #[test]
    fn a_slot_is_free_only_when_the_last_reference_to_its_endpoint_is_gone() {
        let mut table = table();
        let first = table.assign(&[wanted(1)]);
        let attempt = first[0].clone();
        drop(first);
        assert_eq!(slots(&table.assign(&[wanted(2)])), [Some(1)]);
        drop(attempt);
        assert_eq!(slots(&table.assign(&[wanted(3)])), [Some(0)]);
    }

    #[test]
    fn an_endpoint_that_comes_back_while_it_drains_is_the_same_endpoint() {
        let mut table = table();
        let first = table.assign(&[wanted(1), wanted(2)]);
        let attempt = first[1].clone().expect("a member");
        drop(first);
        drop(table.assign(&[wanted(1)]));
        let back = table.assign(&[wanted(1), wanted(2)]);
        assert!(Arc::ptr_eq(back[1].as_ref().expect("a member"), &attempt));
    }

    #[test]
    fn slots_stay_dense_and_a_newcomer_waits_for_one() {
        let mut table = table();
        let ports: Vec<_> = (0..20).map(wanted).collect();
        let mut held = table.assign(&ports);
        held.extend(table.assign(&(100..120).map(wanted).collect::<Vec<_>>()));
        assert_eq!(table.len(), 40);
        let late = table.assign(&[wanted(200)]);
        assert!(late[0].is_none());
        held.truncate(39);
        assert_eq!(slots(&table.assign(&[wanted(200)])), [Some(39)]);
        assert_eq!(table.len(), 40);
    }

    #[test]
    fn a_service_of_one_endpoint_survives_replacements_while_old_exchanges_last() {
        let mut table = table();
        let mut held = Vec::new();
        for port in 0..SLOTS_MIN as u16 {
            held.push(table.assign(&[wanted(port)]).remove(0).expect("a slot for each"));
        }
        assert_eq!(slots(&table.assign(&[wanted(999)])), [None]);
    }

    #[test]
    fn a_discarded_change_leaves_the_table_as_it_was() {
        let mut table = table();
        let first = table.assign(&[wanted(1)]);
        let mut draft = table.clone();
        drop(draft.assign(&[wanted(1), wanted(2), wanted(3)]));
        assert_eq!(slots(&table.assign(&[wanted(4), wanted(1)])), [Some(1), Some(0)]);
        drop(first);
    }

    #[test]
    fn an_address_given_twice_is_one_endpoint() {
        let endpoints = table().assign(&[wanted(1), wanted(1)]);
        assert_eq!(slots(&endpoints), [Some(0), None]);
    }

    #[test]
    fn keys_depend_on_service_name_and_address_alone() {
        let key = |service: &str, port| key_of(&service.parse().expect("a service name"), &wanted(port));
        assert_eq!(key("orders", 1), key("orders", 1));
        assert_ne!(key("orders", 1), key("orders", 2));
        assert_ne!(key("orders", 1), key("payments", 1));
        // Written down, because a consistent hash must survive an upgrade of the gateway.
        assert_eq!(key("orders", 9000), KEY_OF_ORDERS_9001);
    }

    const KEY_OF_ORDERS_9001: u64 = 7_719_428_521_772_749_918;
}
