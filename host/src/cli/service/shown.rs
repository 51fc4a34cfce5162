//! One service as people see it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::cli::output::table;

/// `GET /services/{name}`, as far as it is shown.
#[derive(Deserialize)]
pub(super) struct Service {
    name: String,
    balancer: Balancer,
    failover: Failover,
    discovery: Option<Discovery>,
    endpoints: Vec<Endpoint>,
    waiting: usize,
    unresolved: Vec<String>,
    limits: BTreeMap<String, Sourced>,
    plugin: Arm,
    instances: Vec<Instance>,
    canary: Option<Canary>,
}

#[derive(Deserialize)]
struct Balancer {
    plugin: String,
    version: String,
    settings: Value,
    source: String,
    overlaid: Option<Overlaid>,
}

/// What happens when an endpoint fails.
#[derive(Deserialize)]
struct Failover {
    #[serde(flatten)]
    policy: Balancer,
    done: BTreeMap<String, u64>,
    history: Vec<Became>,
    #[serde(default)]
    differences: Vec<Became>,
}

/// What became of an endpoint, or would have.
#[derive(Deserialize)]
struct Became {
    at: String,
    endpoint: String,
    what: String,
    reason: String,
}

/// What finds the endpoints.
#[derive(Deserialize)]
struct Discovery {
    plugin: String,
    version: String,
    settings: Value,
    source: String,
    state: String,
    answered_at: Option<String>,
    last_error: Option<ErrorReport>,
    not_granted: u64,
    held_back: Option<HeldBack>,
    shadow: Option<Shadow>,
}

/// A candidate beside the source, and how its answer differs.
#[derive(Deserialize)]
struct Shadow {
    version: String,
    instances: Option<usize>,
    missing: Vec<String>,
    added: Vec<String>,
    changed: usize,
}

#[derive(Deserialize)]
struct ErrorReport {
    at: String,
    message: String,
}

#[derive(Deserialize)]
struct HeldBack {
    instances: usize,
    lost: usize,
    since: String,
}

#[derive(Deserialize)]
struct Overlaid {
    plugin: String,
    settings: Value,
}

#[derive(Deserialize)]
struct Endpoint {
    address: String,
    configured: String,
    weight: u32,
    priority: u32,
    zone: String,
    available: bool,
    standing: Option<String>,
    #[serde(default)]
    fails_checks: bool,
    in_flight: u32,
    attempts: u64,
    failures: u64,
    first_byte: Latency,
}

#[derive(Deserialize)]
struct Latency {
    p50_us: f64,
    p99_us: f64,
}

#[derive(Deserialize)]
struct Sourced {
    value: String,
    source: String,
}

/// What one plugin version did.
#[derive(Deserialize)]
struct Arm {
    version: String,
    picks: u64,
    attempts: u64,
    error_rate: f64,
    traps: u64,
    deadline_overruns: u64,
    memory_overruns: u64,
    invalid_answers: u64,
    fallbacks: u64,
    latency: Latency,
}

#[derive(Deserialize)]
struct Instance {
    decides: String,
    worker: Option<usize>,
    version: String,
    state: String,
    fault: Option<String>,
    restart_in_ms: Option<u64>,
}

#[derive(Deserialize)]
struct Canary {
    percent: u8,
    services: Vec<CanaryOfService>,
}

#[derive(Deserialize)]
struct CanaryOfService {
    service: String,
    candidate: Arm,
}

impl Service {
    pub fn in_words(&self) -> String {
        let mut lines = vec![format!("service {}", self.name)];
        lines.extend(policy("balancer", &self.balancer));
        lines.extend(failover(&self.failover));
        lines.extend(self.discovery.iter().flat_map(discovery));
        let limit = |(name, Sourced { value, source }): (&String, &Sourced)| format!("{name} {value} ({source})");
        lines.push(format!("  limits: {}", self.limits.iter().map(limit).collect::<Vec<_>>().join(", ")));
        if self.waiting > 0 {
            lines.push(format!("  endpoints that wait until others have drained: {}", self.waiting));
        }
        lines.extend(self.unresolved.iter().map(|name| format!("  not resolved: {name}")));
        lines.extend(self.instances.iter().filter(|instance| instance.state != "live").map(gone));
        lines.extend([String::new(), self.endpoints(), String::new(), self.versions()]);
        lines.join("\n")
    }

    fn endpoints(&self) -> String {
        let heading = [
            "ENDPOINT",
            "CONFIGURED",
            "WEIGHT",
            "PRIORITY",
            "ZONE",
            "STATE",
            "IN FLIGHT",
            "ATTEMPTS",
            "FAILURES",
            "P50",
            "P99",
        ];
        let rows: Vec<_> = self.endpoints.iter().map(endpoint).collect();
        table(heading, &rows)
    }

    /// The version in use, and the one on trial beside it.
    fn versions(&self) -> String {
        let heading =
            ["VERSION", "SHARE", "PICKS", "ATTEMPTS", "ERRORS", "P50", "P99", "FAULTS", "INVALID", "FALLBACKS"];
        let canary = self.canary.as_ref();
        let candidate = canary.and_then(|canary| canary.services.iter().find(|of| of.service == self.name));
        let on_trial = candidate.and(canary).map_or(0, |canary| canary.percent);
        let mut rows = vec![arm(&self.plugin, 100_u8.saturating_sub(on_trial))];
        rows.extend(candidate.map(|of| arm(&of.candidate, on_trial)));
        table(heading, &rows)
    }
}

fn policy(name: &str, policy: &Balancer) -> Vec<String> {
    let Balancer { plugin, version, settings, source, overlaid } = policy;
    let overlaid = overlaid.iter().map(|Overlaid { plugin, settings }| {
        format!("  without what was changed over the API: {plugin}, settings {settings}")
    });
    let own = format!("  {name}: {plugin}, version {version}, settings {settings}, from the {source}");
    std::iter::once(own).chain(overlaid).collect()
}

/// Of the history as much as fits on a screen beside the rest.
const HISTORY_SHOWN: usize = 8;

fn failover(failover: &Failover) -> Vec<String> {
    let Failover { policy: own, done, history, differences } = failover;
    let mut lines = policy("failover", own);
    let happened: Vec<_> =
        done.iter().filter(|(_, count)| **count > 0).map(|(what, n)| format!("{what} {n}")).collect();
    if !happened.is_empty() {
        lines.push(format!("    {}", happened.join(", ").replace('_', " ")));
    }
    let became = |Became { at, endpoint, what, reason }: &Became| format!("    {at} {endpoint} {what}: {reason}");
    lines.extend(history.iter().take(HISTORY_SHOWN).map(became));
    if !differences.is_empty() {
        lines.push("    in the shadow of the version in use:".to_owned());
        lines.extend(differences.iter().take(HISTORY_SHOWN).map(became));
    }
    lines
}

fn discovery(discovery: &Discovery) -> Vec<String> {
    let Discovery { plugin, version, settings, source, state, answered_at, last_error, not_granted, held_back, shadow } =
        discovery;
    let answered = answered_at.as_deref().map_or("not yet".to_owned(), |at| format!("at {at}"));
    let mut lines = vec![
        format!("  discovery: {plugin}, version {version}, settings {settings}, from the {source}"),
        format!("    {state}, answered {answered}"),
    ];
    lines.extend(last_error.iter().map(|ErrorReport { at, message }| format!("    last error, at {at}: {message}")));
    if *not_granted > 0 {
        lines.push(format!("    asked {not_granted} times for what it is not granted"));
    }
    lines.extend(held_back.iter().map(|HeldBack { instances, lost, since }| {
        format!("    held back since {since}: {instances} instances, {lost} endpoints would be lost")
    }));
    lines.extend(shadow.iter().map(|Shadow { version, instances, missing, added, changed }| match instances {
        Some(instances) => format!(
            "    in its shadow version {version}: {instances} instances, {} missing, {} added, {changed} changed",
            missing.len(),
            added.len()
        ),
        None => format!("    in its shadow version {version}: no answer yet"),
    }));
    lines
}

fn gone(instance: &Instance) -> String {
    let Instance { decides, worker, version, state, fault, restart_in_ms } = instance;
    let place = worker.map(|worker| format!(", worker {worker}")).unwrap_or_default();
    let fault = fault.as_deref().unwrap_or("no instance yet");
    let restart = restart_in_ms.map(|ms| format!(", tried again in {ms} ms")).unwrap_or_default();
    format!("  {decides}{place}: {state} instead of version {version}: {fault}{restart}")
}

fn endpoint(endpoint: &Endpoint) -> [String; 11] {
    [
        endpoint.address.clone(),
        endpoint.configured.clone(),
        endpoint.weight.to_string(),
        endpoint.priority.to_string(),
        endpoint.zone.clone(),
        state(endpoint).to_owned(),
        endpoint.in_flight.to_string(),
        endpoint.attempts.to_string(),
        endpoint.failures.to_string(),
        ms(endpoint.first_byte.p50_us),
        ms(endpoint.first_byte.p99_us),
    ]
}

fn state(endpoint: &Endpoint) -> &str {
    match endpoint {
        Endpoint { standing: Some(standing), .. } if standing != "admitted" => standing,
        Endpoint { fails_checks: true, .. } => "fails checks",
        Endpoint { available: true, .. } => "available",
        _ => "unavailable",
    }
}

fn arm(arm: &Arm, share: u8) -> [String; 10] {
    [
        arm.version.clone(),
        format!("{share} %"),
        arm.picks.to_string(),
        arm.attempts.to_string(),
        format!("{:.2} %", arm.error_rate * 100.0),
        ms(arm.latency.p50_us),
        ms(arm.latency.p99_us),
        (arm.traps + arm.deadline_overruns + arm.memory_overruns).to_string(),
        arm.invalid_answers.to_string(),
        arm.fallbacks.to_string(),
    ]
}

fn ms(us: f64) -> String {
    format!("{:.2} ms", us / 1000.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Value {
        let latency = json!({"count": 1, "mean_us": 1.0, "p50_us": 1500.0, "p90_us": 1.0, "p99_us": 20_000.0});
        let arm = |version: &str, traps: u32| {
            json!({
                "version": version, "picks": 10, "attempts": 9, "failures": 1, "error_rate": 0.1111, "traps": traps,
                "deadline_overruns": 1, "memory_overruns": 0, "invalid_answers": 3, "fallbacks": 4, "latency": latency,
            })
        };
        json!({
            "name": "orders",
            "balancer": {"plugin": "maglev", "version": "aaaaaaaaaaaa", "settings": {"table": 7}, "source": "overlay",
                "overlaid": {"plugin": "random", "settings": {}}},
            "failover": {"plugin": "standard", "version": "cccccccccccc", "settings": {}, "source": "default",
                "done": {"retries": 7, "hedges": 0, "over_budget": 1},
                "history": [{"at": "2026-11-23T10:00:00Z", "endpoint": "10.0.0.1:80", "what": "ejected", "for_ms": 30_000,
                    "reason": "5 failures in a row"}]},
            "endpoints": [{"slot": 0, "address": "10.0.0.1:80", "configured": "orders.internal:80", "weight": 2,
                "priority": 1, "zone": "b", "available": false, "in_flight": 5, "attempts": 9, "failures": 1,
                "outcomes": {}, "connects": 1, "first_byte": latency}],
            "waiting": 1, "unresolved": ["x.internal: no such name"], "in_flight": 5, "attempts": 9, "failures": 1,
            "first_byte": latency,
            "limits": {"timeout": {"value": "15s", "source": "default"}},
            "plugin": arm("aaaaaaaaaaaa", 0),
            "instances": [
                {"decides": "balancer", "worker": 0, "version": "aaaaaaaaaaaa", "state": "live"},
                {"decides": "balancer", "worker": 1, "version": "aaaaaaaaaaaa", "state": "fallback", "fault": "pick: unreachable", "faults": 2,
                    "restart_in_ms": 200},
            ],
            "canary": {"version": "bbbbbbbbbbbb", "percent": 5, "started_at": "", "services": [
                {"service": "orders", "incumbent": arm("aaaaaaaaaaaa", 0), "candidate": arm("bbbbbbbbbbbb", 2)},
            ]},
        })
    }

    #[test]
    fn a_service_shows_its_policy_its_troubles_and_a_canary_beside_the_version_in_use() {
        let text = Service::deserialize(report()).expect("a report").in_words();
        let wanted = "\
service orders
  balancer: maglev, version aaaaaaaaaaaa, settings {\"table\":7}, from the overlay
  without what was changed over the API: random, settings {}
  failover: standard, version cccccccccccc, settings {}, from the default
    over budget 1, retries 7
    2026-11-23T10:00:00Z 10.0.0.1:80 ejected: 5 failures in a row
  limits: timeout 15s (default)
  endpoints that wait until others have drained: 1
  not resolved: x.internal: no such name
  balancer, worker 1: fallback instead of version aaaaaaaaaaaa: pick: unreachable, tried again in 200 ms

ENDPOINT     CONFIGURED          WEIGHT  PRIORITY  ZONE  STATE        IN FLIGHT  ATTEMPTS  FAILURES  P50      P99
10.0.0.1:80  orders.internal:80  2       1         b     unavailable  5          9         1         1.50 ms  20.00 ms

VERSION       SHARE  PICKS  ATTEMPTS  ERRORS   P50      P99       FAULTS  INVALID  FALLBACKS
aaaaaaaaaaaa  95 %   10     9         11.11 %  1.50 ms  20.00 ms  1       3        4
bbbbbbbbbbbb  5 %    10     9         11.11 %  1.50 ms  20.00 ms  3       3        4";
        assert_eq!(text, wanted);
    }
}
