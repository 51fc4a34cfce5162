//! Consul's HTTP API, as much of it as lets its clients register and look up unchanged: the agent, catalog, health and
//! status parts. Names, casing, status codes and headers are Consul's.
//!
//! What is different, because a gateway is one node without a cluster:
//!
//! - one datacenter (`dc1`) and one node; `?dc=` of another is refused as Consul refuses an unknown one, and `near`,
//!   `stale`, `consistent`, `cached`, `ns` and `partition` have nothing to choose from and are ignored;
//! - checks are of the TTL, HTTP and TCP kinds, others are refused; so are unknown fields of a registration;
//! - `Kind`, `Connect`, `Proxy`, `Namespace` and what else belongs to the service mesh is accepted and ignored;
//! - tokens are the gateway's own two (`operator_token_file`, `service_token_file`), in `X-Consul-Token` or as bearer.

mod agent;
mod agent_checks;
mod catalog;
mod duration;
mod error;
mod fields;
mod filter;
mod health;
mod input;
mod output;
mod query;
mod reply;
mod status;

pub use error::Error;

/// Where what others send comes in, for the fuzzer.
#[doc(hidden)]
pub mod entrance {
    pub use super::{
        filter::Filter,
        input::{check, registration},
    };
}
pub use query::WAITS_MAX;

use std::sync::Arc;

use axum::{
    Router,
    http::StatusCode,
    routing::{any, get, put},
};

use crate::control::handle::Control;

/// In front of every path of Consul's.
pub const PREFIX: &str = "/v1/";

/// All of it. An id may have slashes in it, so it is what is left of the path.
pub fn routes(control: Arc<Control>) -> Router {
    Router::new()
        .route("/v1/agent/self", get(agent::own))
        .route("/v1/agent/members", get(agent::members))
        .route("/v1/agent/maintenance", put(agent::node_maintenance))
        .route("/v1/agent/services", get(agent::services))
        .route("/v1/agent/service/{*id}", get(agent::service))
        .route("/v1/agent/service/register", put(agent::register))
        .route("/v1/agent/service/deregister/{*id}", put(agent::deregister))
        .route("/v1/agent/service/maintenance/{*id}", put(agent::maintenance))
        .route("/v1/agent/checks", get(agent_checks::list))
        .route("/v1/agent/check/register", put(agent_checks::register))
        .route("/v1/agent/check/deregister/{*id}", put(agent_checks::deregister))
        .route("/v1/agent/check/pass/{*id}", put(agent_checks::pass))
        .route("/v1/agent/check/warn/{*id}", put(agent_checks::warn))
        .route("/v1/agent/check/fail/{*id}", put(agent_checks::fail))
        .route("/v1/agent/check/update/{*id}", put(agent_checks::update))
        .route("/v1/catalog/datacenters", get(catalog::datacenters))
        .route("/v1/catalog/nodes", get(catalog::nodes))
        .route("/v1/catalog/services", get(catalog::services))
        .route("/v1/catalog/service/{name}", get(catalog::service))
        .route("/v1/health/service/{name}", get(health::service))
        .route("/v1/health/checks/{name}", get(health::checks))
        .route("/v1/health/node/{node}", get(health::node))
        .route("/v1/health/state/{state}", get(health::state))
        .route("/v1/status/leader", get(status::leader))
        .route("/v1/status/peers", get(status::peers))
        .route("/v1/{*rest}", any(async || Error::new(StatusCode::NOT_FOUND, "Invalid URL path: not found")))
        .method_not_allowed_fallback(async |method: axum::http::Method| {
            Error::new(StatusCode::METHOD_NOT_ALLOWED, format!("method {method} not allowed"))
        })
        .with_state(control)
}
