//! Plain values that every other module speaks in: names, endpoints, services, routes, outcomes.
//!
//! Nothing here does I/O, waits, or knows WebAssembly. A value of a checked type (`ServiceName`,
//! `Weight`, `Percent`) is right by construction, so later code does not ask again.

pub mod call;
pub mod clock;
pub mod config;
pub mod endpoint;
pub mod grants;
pub mod names;
pub mod outcome;
pub mod reach;
pub mod route;
pub mod service;
pub mod transaction;

pub use call::{OwnAnswer, OwnCall, OwnCallError, SERVICE_SCHEME, ServiceUrl, ServiceUrlError, is_idempotent};
pub use clock::Clock;
pub use config::{
    AccessLog, Config, ControlOptions, DnsOptions, GatewayOptions, Limits, ListenerOptions, MassExpiry, PluginOptions,
    ProtocolConfig, RegistryConfig, TransactionsConfig,
};
pub use endpoint::{AddressError, Connected, Endpoint, EndpointSpec, EndpointState, Fitness, HostPort, InFlight, Slot};
pub use grants::{FileGrant, GrantError, Grants, HostGrant, NameGrant};
pub use names::{NameError, Percent, PluginKind, PluginName, ServiceName, VersionId, Weight};
pub use outcome::{Completion, Outcome};
pub use route::{HashOn, HeaderEdits, RouteConfig, RouteTarget};
pub use service::{
    CircuitLimits, EjectionLimits, HealthCheck, PolicyConfig, Probe, Protocol, RetryLimits, ServiceConfig,
};

/// Microseconds on the gateway's own monotonic clock; only differences mean anything (WIT `instant-us`).
pub type InstantUs = u64;
