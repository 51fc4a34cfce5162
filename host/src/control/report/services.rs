//! Services: their endpoints, what decides for them, and where each value comes from.

use std::time::{Duration, Instant};

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    discovery::{self, DiscoveryReport},
    plugins::{ArmReport, CanaryReport, LatencyReport, arm, canary},
};
use crate::{
    control::{
        change::Refusal,
        handle::Control,
        publisher::{Published, ServiceInForce, desired::Source},
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
    /// What the version in use did since the gateway started.
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
    pub priority: u32,
    pub zone: String,
    pub available: bool,
    /// Requests that have not ended.
    pub in_flight: u32,
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
}

/// A value and where it comes from.
#[derive(Debug, Serialize, ToSchema)]
pub struct Sourced {
    pub value: String,
    pub source: Source,
}

/// A plugin instance's place on one worker.
#[derive(Debug, Serialize, ToSchema)]
pub struct InstanceReport {
    pub worker: usize,
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
    let binding = service.binding;
    let plugin = &binding.policy.plugin;
    let endpoints: Vec<_> = service.snapshot.members().map(|member| endpoint(control, member)).collect();
    let file = current.desired.file.services.get(&config.name);
    let running = file.and_then(|file| current.desired.canary(file));
    let one = || std::iter::once(config.name.clone());
    ServiceReport {
        balancer: policy(current, binding.version, config, file),
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

fn policy(
    current: &Published,
    version: VersionId,
    config: &ServiceConfig,
    file: Option<&ServiceConfig>,
) -> PolicyReport {
    let text = |policy: &PolicyConfig| PolicyText { plugin: policy.plugin.clone(), settings: policy.settings.clone() };
    let overlaid = current.desired.overlay_policy(&config.name).and(file);
    let PolicyText { plugin, settings } = text(&config.balancer);
    let source = if overlaid.is_some() { Source::Overlay } else { source(config, "balancer") };
    PolicyReport { plugin, version, settings, source, overlaid: overlaid.map(|file| text(&file.balancer)) }
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
        in_flight: endpoint.in_flight(),
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
    let duration = |key, value: Duration| sourced(key, humantime::format_duration(value).to_string());
    let protocol = match config.protocol {
        Protocol::Http1 => "http/1.1",
        Protocol::H2 => "h2",
    };
    let max_duration = config.max_duration.map(|max| humantime::format_duration(max).to_string());
    LimitsReport {
        timeout: duration("timeout", config.timeout),
        idle_timeout: duration("idle_timeout", config.idle_timeout),
        max_duration: sourced("max_duration", max_duration.unwrap_or_else(|| "off".to_owned())),
        connect_timeout: duration("connect_timeout", config.connect_timeout),
        protocol: sourced("protocol", protocol.to_owned()),
    }
}

pub(super) fn source(config: &ServiceConfig, key: &str) -> Source {
    if config.stated.contains(&key) { Source::File } else { Source::Default }
}

fn instances(control: &Control, service: ServiceInForce<'_>) -> Vec<InstanceReport> {
    let gone = control.gone.of(&service.snapshot.config.name);
    let candidate = service.binding.candidate.map(|(version, _)| version);
    let versions: Vec<_> = std::iter::once(service.binding.version).chain(candidate).collect();
    let places = (0..control.gateway.worker_count()).flat_map(|worker| versions.iter().map(move |&id| (worker, id)));
    let now = Instant::now();
    places
        .map(|(worker, version)| {
            let gone = gone.iter().find(|(id, _)| id.worker == worker && id.version == version).map(|(_, gone)| gone);
            InstanceReport {
                worker,
                version,
                state: if gone.is_some() { InstanceState::Fallback } else { InstanceState::Live },
                fault: gone.map(|gone| gone.fault.clone()),
                faults: gone.map(|gone| gone.faults),
                restart_in_ms: gone.map(|gone| gone.restart_at.saturating_duration_since(now).as_millis() as u64),
            }
        })
        .collect()
}
