//! Plain values that every other module speaks in: names, endpoints, services, routes, outcomes.
//!
//! Nothing here does I/O, waits, or knows WebAssembly. A value of a checked type (`ServiceName`,
//! `Weight`, `Percent`) is right by construction, so later code does not ask again.

pub mod backoff;
pub mod call;
pub mod causation;
pub mod clock;
pub mod config;
pub mod endpoint;
pub mod event;
pub mod grants;
pub mod names;
pub mod outcome;
pub mod reach;
pub mod route;
pub mod service;
pub mod transaction;
pub mod wall;

pub use call::{OwnAnswer, OwnCall, OwnCallError, SERVICE_SCHEME, ServiceUrl, ServiceUrlError, is_idempotent};
pub use causation::{CAUSATION_DEPTH_MAX, Causation, CausationProblem, DESCENDANTS_MAX};
pub use clock::Clock;
pub use config::{
    AccessLog, Config, ControlOptions, DnsOptions, EventsConfig, GatewayOptions, HandlerConfig, HandlerStart, Limits,
    ListenerOptions, MassExpiry, OnFailure, PluginOptions, ProtocolConfig, RegistryConfig, TransactionsConfig,
};
pub use endpoint::{AddressError, Connected, Endpoint, EndpointSpec, EndpointState, Fitness, HostPort, InFlight, Slot};
pub use event::{
    DATA_BYTES_MAX, Draft, Event, EventId, EventProblem, EventSource, EventTime, EventType, Expected, Extension,
    Filter, MEMBERS_MAX, OWN_EXTENSIONS, PATTERNS_MAX, Pattern, Position, Retention, StreamName, check_extension_name,
    check_extension_text, check_text, is_media_type,
};
pub use grants::{FileGrant, GrantError, Grants, HostGrant, NameGrant};
pub use names::{GroupName, HandlerName, NameError, Percent, PluginKind, PluginName, ServiceName, VersionId, Weight};
pub use outcome::{Completion, Outcome};
pub use route::{HashOn, HeaderEdits, RouteConfig, RouteTarget};
pub use service::{
    CircuitLimits, EjectionLimits, HealthCheck, PolicyConfig, Probe, Protocol, RetryLimits, ServiceConfig,
};
pub use wall::Wall;

/// Microseconds on the gateway's own monotonic clock; only differences mean anything (WIT `instant-us`).
pub type InstantUs = u64;
