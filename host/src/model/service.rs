//! What the configuration says of a service.

use std::time::Duration;

use super::{EndpointSpec, PluginName, ServiceName};

/// A plugin bound to a service, with settings.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyConfig {
    pub plugin: PluginName,
    /// Always an object; `{}` where the configuration has none.
    pub settings: serde_json::Value,
}

/// What the gateway speaks to a service's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    /// Cleartext HTTP/2 with prior knowledge.
    H2,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ServiceConfig {
    pub name: ServiceName,
    /// Empty where discovery finds them.
    pub endpoints: Vec<EndpointSpec>,
    /// Where endpoints come from; none where the configuration gives them.
    pub discovery: Option<PolicyConfig>,
    pub balancer: PolicyConfig,
    /// From the last byte of the request to the response head, retries included. Default 15 s.
    pub timeout: Duration,
    /// Without a byte in either direction after the response head. Default 60 s.
    pub idle_timeout: Duration,
    /// The whole exchange; none: streams live.
    pub max_duration: Option<Duration>,
    /// To an established connection. Default 2 s.
    pub connect_timeout: Duration,
    pub protocol: Protocol,
    /// The keys that the file itself has; the values of all others are defaults.
    pub stated: Vec<&'static str>,
}
