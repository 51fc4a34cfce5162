//! Services: their endpoints, what decides for them, and where each value comes from.

use std::time::{Duration, Instant};

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    discovery::{self, DiscoveryReport},
    failover::{self, FailoverReport},
    plugins::{ArmReport, CanaryReport, LatencyReport, arm, canary},
};
use crate::{
    control::{
        change::Refusal,
        handle::Control,
        publisher::{
            HEALTH_PLACE, Published, ServiceInForce,
            desired::{Binding, Source},
        },
    },
    model::{
        EndpointSpec, EndpointState, Outcome, PluginName, PolicyConfig, Protocol, ServiceConfig, ServiceName, VersionId,
    },
    telemetry::EndpointTotals,
};

#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceReport {
    #[schema(value_type = String)]
    pub name: ServiceName,
    pub balancer: PolicyReport,
    /// What happens when an endpoint fails.
    pub failover: FailoverReport,
    /// What finds the endpoints; absent where the configuration file gives them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery: Option<DiscoveryReport>,
    pub endpoints: Vec<EndpointReport>,
    /// Endpoints that get no requests yet, because others that left must drain first.
    pub waiting: usize,
    /// Host names that could not be resolved the last time, and why.
    pub unresolved: Vec<String>,
    /// Requests that have not ended.
    pub in_flight: u64,
    /// Attempts that have ended, since the gateway started.
    pub attempts: u64,
    pub failures: u64,
    /// To the response head, of all attempts.
    pub first_byte: LatencyReport,
    pub limits: LimitsReport,
    /// What the balancer's version in use did since the gateway started.
    pub plugin: ArmReport,
    pub instances: Vec<InstanceReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryReport>,
}

/// The policy in force.
#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyReport {
    #[schema(value_type = String)]
    pub plugin: PluginName,
    #[schema(value_type = String)]
    pub version: VersionId,
    pub settings: serde_json::Value,
    pub source: Source,
    /// What would hold without the overlay; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlaid: Option<PolicyText>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct PolicyText {
    #[schema(value_type = String)]
    pub plugin: PluginName,
    pub settings: serde_json::Value,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct EndpointReport {
    pub slot: u32,
    /// Where connections go.
    pub address: String,
    /// As configured: may be a host name.
    pub configured: String,
    pub weight: u32,
    /// As its source gives it; twice that where a zone is preferred, and one more in another zone.
    pub priority: u32,
    pub zone: String,
    /// Whether it takes part in ordinary traffic.
    pub available: bool,
    /// What its source says.
    pub healthy: bool,
    pub standing: StandingReport,
    /// Whether it fails its active checks.
    pub fails_checks: bool,
    /// What the last one found; absent where none was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_check: Option<LastCheck>,
    /// Requests that have not ended.
    pub in_flight: u32,
    /// What it can take at once, where that is measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive_max: Option<u32>,
    /// Open now.
    pub connections: u32,
    pub attempts: u64,
    pub failures: u64,
    /// Attempts that have ended, by outcome; those that never happened are left out.
    pub outcomes: std::collections::BTreeMap<&'static str, u64>,
    pub connects: u64,
    pub first_byte: LatencyReport,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct LimitsReport {
    pub timeout: Sourced,
    pub idle_timeout: Sourced,
    /// `off` where streams may live for ever.
    pub max_duration: Sourced,
    pub connect_timeout: Sourced,
    pub protocol: Sourced,
    /// `none` where zones make no difference.
    pub prefer_zone: Sourced,
}

/// A value and where it comes from.
#[derive(Debug, Serialize, ToSchema)]
pub struct Sourced {
    pub value: String,
    pub source: Source,
}

/// What an active check found.
#[derive(Debug, Serialize, ToSchema)]
pub struct LastCheck {
    /// As of attempts: `success`, `connect-failed`, `timed-out`, `server-error`.
    pub outcome: &'static str,
    /// Checks in a row that ended like this one, well or not.
    pub consecutive: u32,
    /// From before connecting.
    pub total_us: u32,
    pub detail: String,
}

/// What the service's failover policy has decided of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StandingReport {
    Admitted,
    Ejected,
    /// One request at a time finds out whether it is fit.
    Probed,
}

/// A plugin instance's place.
#[derive(Debug, Serialize, ToSchema)]
pub struct InstanceReport {
    /// `balancer`, `failover`, or `health`.
    pub decides: &'static str,
    /// The last is the inner worker, which makes the gateway's own calls. Absent for the one that judges over health.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<usize>,
    #[schema(value_type = String)]
    pub version: VersionId,
    pub state: InstanceState,
    /// Why it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// In a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub faults: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_in_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// The plugin decides.
    Live,
    /// The instance is gone, and the gateway's own fallback decides until another is there.
    Fallback,
}

/// All services, by name.
pub fn services(control: &Control) -> Result<Vec<ServiceReport>, Refusal> {
    let current = control.current()?;
    let mut totals = control.metrics.all_service_totals();
    let names = current.snapshot.services.iter().map(|service| &service.config.name);
    let services = names.filter_map(|name| {
        let totals = totals.remove(name).unwrap_or_default();
        Some(report(control, &current, current.service(name)?, &totals))
    });
    Ok(services.collect())
}

pub fn service(control: &Control, name: &ServiceName) -> Result<ServiceReport, Refusal> {
    let current = control.current()?;
    let service = current.service(name);
    let service = service.ok_or_else(|| Refusal::NotFound(format!("there is no service named {name}")))?;
    Ok(report(control, &current, service, &control.metrics.service_totals(name)))
}

fn report(
    control: &Control,
    current: &Published,
    service: ServiceInForce<'_>,
    totals: &EndpointTotals,
) -> ServiceReport {
    let config = &service.snapshot.config;
    let binding = service.balancer;
    let plugin = &binding.policy.plugin;
    let endpoints: Vec<_> = service.snapshot.members().map(|member| endpoint(control, member)).collect();
    let file = current.desired.file.services.get(&config.name);
    let running = file.and_then(|file| current.desired.canary(file, plugin));
    let one = || std::iter::once(config.name.clone());
    ServiceReport {
        balancer: policy_report(
            config,
            "balancer",
            binding,
            current.desired.overlay_balancer(&config.name).and(file).map(|file| &file.balancer),
        ),
        failover: failover::report(control, current, service, file),
        discovery: discovery::report(control, current, service),
        waiting: service.waiting,
        unresolved: unresolved(control, file.map_or(&[], |file| current.desired.endpoints(file))),
        in_flight: endpoints.iter().map(|endpoint| u64::from(endpoint.in_flight)).sum(),
        attempts: totals.attempts(),
        failures: totals.failures(),
        first_byte: totals.first_byte.summary().into(),
        limits: limits(config),
        plugin: arm(binding.version, &control.metrics.plugin_totals(&config.name, plugin, binding.version)),
        instances: instances(control, service),
        canary: running.map(|running| canary(control, plugin, binding.version, running, one())),
        endpoints,
        name: config.name.clone(),
    }
}

/// `overlaid`: what would hold without the overlay, where there is one.
pub(super) fn policy_report(
    config: &ServiceConfig,
    key: &str,
    binding: &Binding,
    overlaid: Option<&PolicyConfig>,
) -> PolicyReport {
    let text = |policy: &PolicyConfig| PolicyText { plugin: policy.plugin.clone(), settings: policy.settings.clone() };
    let PolicyText { plugin, settings } = text(&binding.policy);
    let source = if overlaid.is_some() { Source::Overlay } else { source(config, key) };
    PolicyReport { plugin, version: binding.version, settings, source, overlaid: overlaid.map(text) }
}

pub(super) fn duration_text(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn endpoint(control: &Control, member: &EndpointState) -> EndpointReport {
    let endpoint = &member.endpoint;
    let address = endpoint.address.to_string();
    let totals = control.metrics.endpoint_totals(&endpoint.service, &address);
    let outcomes = Outcome::ALL.iter().zip(totals.outcomes).filter(|&(_, count)| count > 0);
    EndpointReport {
        slot: endpoint.slot,
        configured: endpoint.label.to_string(),
        weight: member.weight.get(),
        priority: member.priority,
        zone: member.zone.clone(),
        available: member.available,
        healthy: member.healthy,
        standing: match &endpoint.fitness {
            fitness if fitness.is_ejected() => StandingReport::Ejected,
            fitness if fitness.is_probed() => StandingReport::Probed,
            _ => StandingReport::Admitted,
        },
        fails_checks: endpoint.fitness.fails_checks(),
        last_check: control.checks.report(&endpoint.service, endpoint.slot).map(|report| LastCheck {
            outcome: report.outcome.as_str(),
            consecutive: report.consecutive,
            total_us: report.total_us,
            detail: report.detail,
        }),
        in_flight: endpoint.in_flight(),
        adaptive_max: endpoint.adaptive_max(),
        connections: endpoint.connections(),
        attempts: totals.attempts(),
        failures: totals.failures(),
        outcomes: outcomes.map(|(outcome, count)| (outcome.as_str(), count)).collect(),
        connects: totals.connects,
        first_byte: totals.first_byte.summary().into(),
        address,
    }
}

fn unresolved(control: &Control, endpoints: &[EndpointSpec]) -> Vec<String> {
    let names = endpoints.iter().filter(|spec| spec.address.socket_addr().is_none());
    let problem = |host: &str| control.names.problem(host).map(|problem| format!("{host}: {problem}"));
    names.filter_map(|spec| problem(spec.address.host())).collect()
}

fn limits(config: &ServiceConfig) -> LimitsReport {
    let sourced = |key: &str, value: String| Sourced { value, source: source(config, key) };
    let duration = |key, value: Duration| sourced(key, duration_text(value));
    let protocol = match config.protocol {
        Protocol::Http1 => "http/1.1",
        Protocol::H2 => "h2",
    };
    let max_duration = config.max_duration.map(duration_text);
    LimitsReport {
        timeout: duration("timeout", config.timeout),
        idle_timeout: duration("idle_timeout", config.idle_timeout),
        max_duration: sourced("max_duration", max_duration.unwrap_or_else(|| "off".to_owned())),
        connect_timeout: duration("connect_timeout", config.connect_timeout),
        protocol: sourced("protocol", protocol.to_owned()),
        prefer_zone: sourced("prefer_zone", config.prefer_zone.clone().unwrap_or_else(|| "none".to_owned())),
    }
}

pub(super) fn source(config: &ServiceConfig, key: &str) -> Source {
    if config.stated.contains(&key) { Source::File } else { Source::Default }
}

fn instances(control: &Control, service: ServiceInForce<'_>) -> Vec<InstanceReport> {
    let gone = control.gone.of(&service.snapshot.config.name);
    let now = Instant::now();
    let instance = |decides, binding: &Binding, place: usize| {
        let candidate = binding.candidate.map(|(version, _)| version);
        let versions: Vec<_> = std::iter::once(binding.version).chain(candidate).collect();
        let report = |version| {
            let gone = gone.iter().find(|(id, _)| id.worker == place && id.version == version).map(|(_, gone)| gone);
            InstanceReport {
                decides,
                worker: Some(place).filter(|&place| place != HEALTH_PLACE),
                version,
                state: if gone.is_some() { InstanceState::Fallback } else { InstanceState::Live },
                fault: gone.map(|gone| gone.fault.clone()),
                faults: gone.map(|gone| gone.faults),
                restart_in_ms: gone.map(|gone| gone.restart_at.saturating_duration_since(now).as_millis() as u64),
            }
        };
        versions.into_iter().map(report).collect::<Vec<_>>()
    };
    let workers = 0..control.gateway.worker_count();
    let balancers = workers.clone().flat_map(|worker| instance("balancer", service.balancer, worker));
    let failovers = workers.flat_map(|worker| instance("failover", service.failover, worker));
    balancers.chain(failovers).chain(instance("health", service.failover, HEALTH_PLACE)).collect()
}
