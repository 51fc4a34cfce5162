//! What the configuration says of a service.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use super::{EndpointSpec, Percent, PluginName, ServiceName};

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
    /// What becomes of failed attempts, and which endpoints are fit.
    pub failover: PolicyConfig,
    /// None: endpoints are judged by their traffic alone.
    pub health_check: Option<HealthCheck>,
    pub retry: RetryLimits,
    pub ejection: EjectionLimits,
    pub circuit: CircuitLimits,
    /// Endpoints elsewhere get traffic only as far as those of this zone, of the same priority, cannot take it. None: zones
    /// make no difference to the gateway.
    pub prefer_zone: Option<String>,
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

/// What the gateway itself asks each endpoint, whatever its traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    pub probe: Probe,
    /// Between two checks of one endpoint. Default 2 s.
    pub interval: Duration,
    /// Of one check, connecting included. Default: the interval, at most 1 s.
    pub timeout: Duration,
    /// Failures in a row until an endpoint is unfit. Default 3.
    pub fall: u32,
    /// Successes in a row until it is fit again. Default 2.
    pub rise: u32,
    /// By this share of the interval a check is early or late, so that they spread. Default 10 %.
    pub jitter: Percent,
    /// Where the checks go, if not to the endpoint's own port.
    pub port: Option<u16>,
}

/// What a check asks, and what it expects.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// `GET`, over the service's protocol.
    Http {
        /// With its query.
        path: String,
        headers: Vec<(HeaderName, HeaderValue)>,
        /// Empty: any of 200 to 399.
        statuses: Vec<StatusCode>,
        /// What the first 64 KiB of the body must contain; empty: anything.
        body: String,
    },
    /// A connection is accepted.
    Tcp,
    /// `grpc.health.v1.Health/Check` answers SERVING; the service asked for may be empty: the whole server.
    Grpc { service: String },
}

/// Bounds of what a failover policy may have repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryLimits {
    /// For one request, the first one and hedges included. Default 3.
    pub attempts_max: u32,
    /// Of one attempt, to the response head. None: only the request's own deadline.
    pub per_try_timeout: Option<Duration>,
    /// Repetitions and hedges within 10 s, as a share of the requests within them. Default 20 %.
    pub budget: Percent,
    /// So many a second are allowed however few requests there are. Default 10.
    pub budget_min_per_second: u32,
    /// Of a request's body that is kept to be sent again, in bytes. Default 64 KiB.
    pub body_bytes_max: usize,
    /// The header in which endpoints, and a gateway behind this one, are told how many milliseconds are left.
    pub deadline_header: Option<HeaderName>,
}

/// Bounds of what a failover policy may take out of traffic.
#[derive(Clone, Debug, PartialEq)]
pub struct EjectionLimits {
    /// Of the endpoints at once; one is always allowed where there are two, and never the last. Default 50 %.
    pub percent_max: Percent,
    /// Of one ejection, after which the endpoint is readmitted whatever the policy says. Default 5 min.
    pub duration_max: Duration,
}

/// How much is let through; beyond it is answered 503 with `Retry-After`.
#[derive(Clone, Debug, PartialEq)]
pub struct CircuitLimits {
    /// In flight to the service. None: no limit.
    pub requests_max: Option<u32>,
    /// In flight to one endpoint. None: no limit.
    pub endpoint_requests_max: Option<u32>,
    /// Connections to one endpoint, over all workers, each of which may have one in any case. None: no limit.
    pub endpoint_connections_max: Option<u32>,
    /// Requests that wait for one of these limits. Default 0: none waits.
    pub pending_max: u32,
    /// How long one waits. Default 1 s.
    pub pending_timeout: Duration,
    /// Whether each endpoint's limit follows what it can take, measured by its latency. Default false.
    pub adaptive: bool,
    /// What `Retry-After` says. Whole seconds; default 1 s.
    pub retry_after: Duration,
}

impl CircuitLimits {
    /// Whether a request may have to be refused or to wait.
    pub fn is_limited(&self) -> bool {
        self.adaptive || self.requests_max.is_some() || self.endpoint_requests_max.is_some()
    }
}
