//! The gateway's part in a native test: what its imports answer on this thread.
//!
//! ```
//! use sluice_sdk::{incoming, testing};
//!
//! testing::set_header("x-tenant", "acme");
//! assert_eq!(incoming::header("x-tenant").as_deref(), Some("acme"));
//! testing::reset();
//! assert_eq!(incoming::header("x-tenant"), None);
//! ```

pub mod event_handler;
pub mod transaction;

use std::{cell::RefCell, collections::BTreeMap};

use crate::{
    Completion, Context, Endpoint, InstantUs, Outcome, Request, Slot,
    failover::{Failure, Observation, Source},
};

/// What stands in for the gateway.
#[derive(Default)]
struct Gateway {
    in_flight: BTreeMap<Slot, u32>,
    tried: Vec<Slot>,
    headers: BTreeMap<String, String>,
    path: String,
    lines: Vec<String>,
    state: BTreeMap<String, Vec<u8>>,
}

thread_local! {
    static GATEWAY: RefCell<Gateway> = RefCell::default();
}

/// An available endpoint of weight 1 and priority 0, its key made from the slot.
pub fn endpoint(slot: Slot) -> Endpoint {
    Endpoint {
        slot,
        key: crate::random::mix(0, u64::from(slot)),
        address: format!("127.0.0.1:{}", 9_000 + slot),
        weight: 1,
        priority: 0,
        zone: String::new(),
        metadata: Vec::new(),
        available: true,
        since: 0,
    }
}

/// Of a service called `test`.
pub fn context() -> Context {
    Context { name: "test".to_owned(), settings: "{}".to_owned(), seed: 1 }
}

/// A first attempt, at time 0, with all random bits 0.
pub fn request() -> Request {
    Request { now: 0, random: 0, hash: 0, attempt: 0 }
}

/// Of a first attempt at endpoint 0, which may be repeated twice and has a second left; at time 0, with all random bits 0.
pub fn failure(outcome: Outcome) -> Failure {
    Failure {
        now: 0,
        random: 0,
        slot: Some(0),
        outcome,
        status: None,
        grpc_status: None,
        retry_after_ms: None,
        attempts: 1,
        remaining_us: 1_000_000,
        repeatable: true,
        retries_left: 2,
    }
}

/// Of a request that began and ended at `at`.
pub fn traffic(slot: Slot, outcome: Outcome, at: InstantUs) -> Observation {
    let completion = Completion { slot, outcome, at, first_byte_us: 0, total_us: 0, load_permille: None };
    Observation { source: Source::Traffic, completion }
}

/// Forgets everything that was set.
pub fn reset() {
    GATEWAY.take();
}

pub fn set_in_flight(slot: Slot, requests: u32) {
    GATEWAY.with_borrow_mut(|gateway| gateway.in_flight.insert(slot, requests));
}

/// The endpoints to which earlier attempts went.
pub fn set_tried(slots: &[Slot]) {
    GATEWAY.with_borrow_mut(|gateway| gateway.tried = slots.to_vec());
}

/// A header of the request, exposed by its route.
pub fn set_header(name: &str, value: &str) {
    GATEWAY.with_borrow_mut(|gateway| gateway.headers.insert(name.to_owned(), value.to_owned()));
}

pub fn set_path(path: &str) {
    GATEWAY.with_borrow_mut(|gateway| gateway.path = path.to_owned());
}

/// The lines that were logged, each with its level.
pub fn log_lines() -> Vec<String> {
    GATEWAY.with_borrow(|gateway| gateway.lines.clone())
}

pub(crate) mod load {
    pub(crate) fn in_flight(slot: super::Slot) -> u32 {
        super::GATEWAY.with_borrow(|gateway| gateway.in_flight.get(&slot).copied().unwrap_or(0))
    }
}

pub(crate) mod incoming {
    use super::GATEWAY;

    pub(crate) fn tried(slot: super::Slot) -> bool {
        GATEWAY.with_borrow(|gateway| gateway.tried.contains(&slot))
    }

    pub(crate) fn header(name: &str) -> Option<String> {
        GATEWAY.with_borrow(|gateway| gateway.headers.get(name).cloned())
    }

    pub(crate) fn path() -> String {
        GATEWAY.with_borrow(|gateway| gateway.path.clone())
    }
}

pub(crate) mod state {
    use super::GATEWAY;

    pub(crate) fn get(key: &str) -> Option<Vec<u8>> {
        GATEWAY.with_borrow(|gateway| gateway.state.get(key).cloned())
    }

    pub(crate) fn scan(prefix: &str, start: Option<&str>, limit: u32) -> Vec<(String, Vec<u8>)> {
        let from = start.filter(|start| *start > prefix).unwrap_or(prefix);
        GATEWAY.with_borrow(|gateway| {
            let found = gateway.state.range(from.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
            found.take(limit.clamp(1, 1_000) as usize).map(|(key, value)| (key.clone(), value.clone())).collect()
        })
    }
}

pub(crate) mod state_write {
    use super::GATEWAY;

    pub(crate) fn put(key: &str, value: &[u8]) {
        assert!(key.len() <= 1 << 10, "a key of {} bytes traps", key.len());
        assert!(value.len() <= 1 << 20, "a value of {} bytes traps", value.len());
        GATEWAY.with_borrow_mut(|gateway| gateway.state.insert(key.to_owned(), value.to_vec()));
    }

    pub(crate) fn delete(key: &str) {
        GATEWAY.with_borrow_mut(|gateway| gateway.state.remove(key));
    }
}

pub(crate) mod log {
    pub(crate) use crate::bindings::sluice::plugin::log::Level;

    pub(crate) fn write(level: Level, message: &str) {
        super::GATEWAY.with_borrow_mut(|gateway| gateway.lines.push(format!("{level:?}: {message}")));
    }
}
