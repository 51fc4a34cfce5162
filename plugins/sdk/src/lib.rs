//! What a Sluice plugin is written with: a struct, one trait implementation, one macro call.
//!
//! [`Balancer`] shows the smallest one; [`Failover`](failover::Failover) is the trait of failover policies,
//! [`Discovery`](discovery::Discovery) that of sources of endpoints, [`Protocol`](transaction::Protocol) that of
//! transaction protocols, and [`EventHandler`](event_handler::EventHandler) that of event handlers. The crate is compiled for
//! `wasm32-unknown-unknown` and made into a component by `sluice plugin build`. Tests run natively, with [`testing`]
//! in the gateway's place.
//!
//! - [`settings`]: reading a policy's settings; everything wrong is reported at once
//! - [`members`]: priorities, panic and slow start, so that a policy only chooses among equals
//! - [`alias`], [`random`]: weighted and uniform choice without state
//! - [`choices`]: the best of a few drawn at random
//! - [`hashing`]: slow start and bounded load for policies that follow a hash
//! - [`failover`]: the usual rules for retries, outlier detection, and what is known of each endpoint
//! - [`transaction`]: reading what clients send, what is owed after a decision, and a search for faults in a protocol
//! - [`event_handler`]: what a handler has stored, what it causes, how it is asked, and events as CloudEvents have them
//! - [`sort`], [`power`]: sorting and powers in little code
//! - [`state`]: what survives a swap
//! - [`instances`]: endpoints as people write them in JSON
//! - [`json`]: reading and writing JSON in little code
//! - [`load`], [`incoming`], [`log`]: what the gateway answers a balancer
//! - [`clock`], [`http`], [`dns`], [`files`], [`registry`]: what it answers a source of endpoints; an event handler, `http`

pub mod alias;
pub mod balancer;
pub mod bindings;
pub mod choices;
pub mod discovery;
pub mod event_handler;
pub mod failover;
pub mod hashing;
mod imports;
pub mod instances;
pub mod json;
pub mod members;
pub mod power;
pub mod random;
pub mod settings;
pub mod sort;
pub mod state;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod transaction;

pub use balancer::Balancer;
pub use bindings::{
    balancer::exports::sluice::plugin::balancer::Request,
    exports::sluice::plugin::policy::Context,
    sluice::plugin::types::{Completion, Endpoint, InstantUs, Outcome, Problem, Slot},
};
pub use imports::{clock, dns, files, http, incoming, load, log, registry};
pub use settings::Settings;

impl From<&Endpoint> for members::Candidate {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            slot: endpoint.slot,
            key: endpoint.key,
            weight: endpoint.weight,
            priority: endpoint.priority,
            available: endpoint.available,
            since: endpoint.since,
        }
    }
}
