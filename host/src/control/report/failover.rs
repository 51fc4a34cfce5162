//! What failover does for a service: its bounds, what became of endpoints, and what was sent again.

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    plugins::{ArmReport, CanaryReport, arm, canary},
    services::{PolicyReport, duration_text, policy_report, source},
};
use crate::{
    control::{
        handle::Control,
        publisher::{Published, ServiceInForce, desired::Source},
    },
    failover::{HealthEntry, Said},
    model::{CircuitLimits, EjectionLimits, HealthCheck, Probe, RetryLimits, ServiceConfig},
};

#[derive(Debug, Serialize, ToSchema)]
pub struct FailoverReport {
    #[serde(flatten)]
    pub policy: PolicyReport,
    /// What the version in use did since the gateway started.
    pub counters: ArmReport,
    pub retry: RetryReport,
    pub ejection: EjectionReport,
    pub circuit: CircuitReport,
    /// Absent where endpoints are judged by their traffic alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheckReport>,
    pub done: DoneReport,
    /// What became of endpoints, the latest first; at most 64 entries.
    pub history: Vec<HealthEntryReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryReport>,
    /// Where a candidate in the shadow thinks otherwise, the latest first; at most 64 entries.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<HealthEntryReport>,
}

/// `retry`, as it holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct RetryReport {
    pub attempts: u32,
    /// `off`: only the request's own deadline.
    pub per_try_timeout: String,
    pub budget: u8,
    pub budget_min: u32,
    /// In bytes.
    pub body: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_header: Option<String>,
    pub source: Source,
}

/// `ejection`, as it holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct EjectionReport {
    pub max_percent: u8,
    pub max_duration: String,
    pub source: Source,
}

/// `circuit`, as it holds; absent where there is no limit.
#[derive(Debug, Serialize, ToSchema)]
pub struct CircuitReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_requests: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_connections: Option<u32>,
    pub pending: u32,
    pub pending_timeout: String,
    pub adaptive: bool,
    pub retry_after: String,
    /// Requests that wait now.
    pub waiting: u32,
    pub source: Source,
}

/// `health_check`, as it holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthCheckReport {
    /// `http`, `tcp` or `grpc`.
    pub kind: &'static str,
    /// The path, or the gRPC service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    pub interval: String,
    pub timeout: String,
    pub fall: u32,
    pub rise: u32,
}

/// Since the service was first configured.
#[derive(Debug, Serialize, ToSchema)]
pub struct DoneReport {
    pub retries: u64,
    pub hedges: u64,
    pub hedges_won: u64,
    pub fall_backs: u64,
    /// Repetitions that the policy wanted and the budget did not allow.
    pub over_budget: u64,
    pub shed: u64,
    /// Picks of an endpoint that had become unfit or full a moment before.
    pub diverted: u64,
    pub probes: u64,
    /// Verdicts on failed attempts that break a rule.
    pub invalid_verdicts: u64,
    pub ejections: u64,
    pub readmissions: u64,
    /// Verdicts on endpoints that the bounds stood against.
    pub overruled: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct HealthEntryReport {
    /// RFC 3339, UTC.
    pub at: String,
    pub endpoint: String,
    /// `ejected`, `probed`, `readmitted`, `fails-checks`, `passes-checks`, `would-eject`, `would-admit`.
    pub what: &'static str,
    /// Of an ejection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u32>,
    pub reason: String,
}

pub fn report(
    control: &Control,
    current: &Published,
    service: ServiceInForce<'_>,
    file: Option<&ServiceConfig>,
) -> FailoverReport {
    let (config, binding) = (&service.snapshot.config, service.failover);
    let plugin = &binding.policy.plugin;
    let overlaid = current.desired.overlay_failover(&config.name).and(file).map(|file| &file.failover);
    let running = file.and_then(|file| current.desired.canary(file, plugin));
    let book = control.monitor.book().of(&config.name);
    let one = || std::iter::once(config.name.clone());
    FailoverReport {
        policy: policy_report(config, "failover", binding, overlaid),
        counters: arm(binding.version, &control.metrics.plugin_totals(&config.name, plugin, binding.version)),
        retry: retry(&config.retry, source(config, "retry")),
        ejection: ejection(&config.ejection, source(config, "ejection")),
        circuit: circuit(&config.circuit, service.snapshot.shared.waiting(), source(config, "circuit")),
        health_check: config.health_check.as_ref().map(health_check),
        done: done(control, service),
        history: book.history().iter().map(entry).collect(),
        canary: running.map(|running| canary(control, plugin, binding.version, running, one())),
        differences: book.differences().iter().map(entry).collect(),
    }
}

fn retry(limits: &RetryLimits, source: Source) -> RetryReport {
    RetryReport {
        attempts: limits.attempts_max,
        per_try_timeout: limits.per_try_timeout.map_or_else(|| "off".to_owned(), duration_text),
        budget: limits.budget.get(),
        budget_min: limits.budget_min_per_second,
        body: limits.body_bytes_max,
        deadline_header: limits.deadline_header.as_ref().map(ToString::to_string),
        source,
    }
}

fn ejection(limits: &EjectionLimits, source: Source) -> EjectionReport {
    EjectionReport { max_percent: limits.percent_max.get(), max_duration: duration_text(limits.duration_max), source }
}

fn circuit(limits: &CircuitLimits, waiting: u32, source: Source) -> CircuitReport {
    CircuitReport {
        requests: limits.requests_max,
        endpoint_requests: limits.endpoint_requests_max,
        endpoint_connections: limits.endpoint_connections_max,
        pending: limits.pending_max,
        pending_timeout: duration_text(limits.pending_timeout),
        adaptive: limits.adaptive,
        retry_after: duration_text(limits.retry_after),
        waiting,
        source,
    }
}

fn health_check(check: &HealthCheck) -> HealthCheckReport {
    let (kind, target) = match &check.probe {
        Probe::Http { path, .. } => ("http", Some(path.clone())),
        Probe::Tcp => ("tcp", None),
        Probe::Grpc { service } => ("grpc", Some(service.clone())),
    };
    HealthCheckReport {
        kind,
        target,
        interval: duration_text(check.interval),
        timeout: duration_text(check.timeout),
        fall: check.fall,
        rise: check.rise,
    }
}

fn done(control: &Control, service: ServiceInForce<'_>) -> DoneReport {
    let counts = &service.snapshot.shared.counts;
    let book = control.monitor.book().of(&service.snapshot.config.name);
    DoneReport {
        retries: counts.retries.get(),
        hedges: counts.hedges.get(),
        hedges_won: counts.hedges_won.get(),
        fall_backs: counts.fall_backs.get(),
        over_budget: counts.over_budget.get(),
        shed: counts.shed.get(),
        diverted: counts.diverted.get(),
        probes: counts.probes.get(),
        invalid_verdicts: counts.invalid_verdicts.get(),
        ejections: book.ejections.get(),
        readmissions: book.readmissions.get(),
        overruled: book.overruled.get(),
    }
}

fn entry(entry: &HealthEntry) -> HealthEntryReport {
    let for_ms = match entry.what {
        Said::Ejected { for_ms } => Some(for_ms),
        _ => None,
    };
    HealthEntryReport {
        at: humantime::format_rfc3339_millis(entry.at).to_string(),
        endpoint: entry.endpoint.clone(),
        what: entry.what.as_str(),
        for_ms,
        reason: entry.reason.clone(),
    }
}
