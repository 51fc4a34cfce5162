//! What `GET` shows: plain values made from what is in force and what has been counted.

mod discovery;
mod failover;
mod plugins;
mod services;

pub use discovery::{DiscoveryReport, ErrorReport, HeldBackReport, ShadowReport};
pub use plugins::{
    ArmReport, CanaryReport, LatencyReport, PluginReport, VersionReport, VersionUse, names as plugin_names, plugin,
    plugins,
};
pub use services::{
    EndpointReport, InstanceReport, InstanceState, LimitsReport, PolicyReport, PolicyText, ServiceReport, Sourced,
    service, services,
};
