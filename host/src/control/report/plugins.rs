//! Plugins: their versions, what uses them, and how a canary does beside its incumbent.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    control::{
        canary::Canary,
        change::Refusal,
        handle::Control,
        publisher::{Published, desired::Source},
    },
    model::{PluginKind, PluginName, ServiceName, VersionId},
    plugin::{self, StoredVersion},
    telemetry::{LatencySummary, PluginTotals},
};

#[derive(Debug, Serialize, ToSchema)]
pub struct PluginReport {
    #[schema(value_type = String)]
    pub name: PluginName,
    #[schema(value_type = String)]
    pub kind: PluginKind,
    /// The version in use.
    #[schema(value_type = Option<String>)]
    pub active: Option<VersionId>,
    /// Where the version in use comes from: the gateway itself, the configuration file, or an upload.
    pub source: Source,
    /// What `rollback` goes back to, the next one last.
    #[schema(value_type = Vec<String>)]
    pub previous: Vec<VersionId>,
    pub versions: Vec<VersionReport>,
    /// Services that it decides for.
    #[schema(value_type = Vec<String>)]
    pub services: Vec<ServiceName>,
    /// Protocols of transactions that it steps, by DTM's `trans_type`.
    pub protocols: Vec<String>,
    /// Event handlers that are of it.
    pub handlers: Vec<String>,
    /// Linear memory that one instance may have.
    pub memory_bytes_max: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryReport>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct VersionReport {
    #[schema(value_type = String)]
    pub version: VersionId,
    pub r#use: VersionUse,
    /// Of the component.
    pub bytes: u64,
    /// RFC 3339; absent for one that was not uploaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uploaded_at: Option<String>,
    pub live_instances: usize,
    /// Linear memory of all live instances.
    pub memory_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VersionUse {
    Active,
    Candidate,
    /// `rollback` may go back to it.
    Previous,
    /// Kept on disk.
    Stored,
    /// Replaced; its last instances are about to go.
    Retired,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct CanaryReport {
    #[schema(value_type = String)]
    pub version: VersionId,
    pub percent: u8,
    /// RFC 3339.
    pub started_at: String,
    /// For each service, both versions since the canary began.
    pub services: Vec<CanaryOfService>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct CanaryOfService {
    #[schema(value_type = String)]
    pub service: ServiceName,
    pub incumbent: ArmReport,
    pub candidate: ArmReport,
}

/// What one version did.
#[derive(Debug, Serialize, ToSchema)]
pub struct ArmReport {
    #[schema(value_type = String)]
    pub version: VersionId,
    pub picks: u64,
    /// Attempts that it picked and that have ended.
    pub attempts: u64,
    pub failures: u64,
    /// Failures among attempts, 0 to 1.
    pub error_rate: f64,
    pub traps: u64,
    pub deadline_overruns: u64,
    pub memory_overruns: u64,
    pub invalid_answers: u64,
    /// Picks that the native fallback took instead.
    pub fallbacks: u64,
    pub latency: LatencyReport,
}

/// In microseconds; zeros where nothing was measured.
#[derive(Debug, Serialize, ToSchema)]
pub struct LatencyReport {
    pub count: u64,
    pub mean_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
}

/// All plugins there are, by name.
pub fn plugins(control: &Control) -> Result<Vec<PluginReport>, Refusal> {
    let current = control.current()?;
    names(control, &current)?.iter().map(|name| report(control, &current, name)).collect()
}

pub fn plugin(control: &Control, name: &PluginName) -> Result<PluginReport, Refusal> {
    let current = control.current()?;
    if !names(control, &current)?.contains(name) {
        return Err(Refusal::NotFound(format!("there is no plugin named {name}")));
    }
    report(control, &current, name)
}

/// Built in, named by the file, or uploaded.
pub fn names(control: &Control, current: &Published) -> Result<std::collections::BTreeSet<PluginName>, Refusal> {
    let desired = &current.desired;
    let mut names: std::collections::BTreeSet<_> = desired.bases.keys().cloned().collect();
    names.extend(desired.overlay.plugins.keys().cloned());
    for plugin in control.store.plugins().map_err(|error| Refusal::Failed(error.to_string()))? {
        let versions = control.store.versions(&plugin).map_err(|error| Refusal::Failed(error.to_string()))?;
        if !versions.is_empty() {
            names.insert(plugin);
        }
    }
    Ok(names)
}

pub(super) fn arm(version: VersionId, totals: &PluginTotals) -> ArmReport {
    ArmReport {
        version,
        picks: totals.picks,
        attempts: totals.attempts,
        failures: totals.failures,
        error_rate: if totals.attempts == 0 { 0.0 } else { totals.failures as f64 / totals.attempts as f64 },
        traps: totals.traps,
        deadline_overruns: totals.deadline_overruns,
        memory_overruns: totals.memory_overruns,
        invalid_answers: totals.invalid_answers,
        fallbacks: totals.fallbacks,
        latency: totals.latency.summary().into(),
    }
}

/// How a canary does for some services.
pub(super) fn canary(
    control: &Control,
    plugin: &PluginName,
    active: VersionId,
    canary: &Canary,
    services: impl Iterator<Item = ServiceName>,
) -> CanaryReport {
    let services = services.map(|service| {
        let comparison = control.canaries.comparison(&control.metrics, canary, &service, plugin, active);
        CanaryOfService {
            incumbent: arm(active, &comparison.incumbent),
            candidate: arm(canary.version, &comparison.candidate),
            service,
        }
    });
    CanaryReport {
        version: canary.version,
        percent: canary.percent.get(),
        started_at: humantime::format_rfc3339_millis(canary.started_at).to_string(),
        services: services.collect(),
    }
}

impl From<LatencySummary> for LatencyReport {
    fn from(summary: LatencySummary) -> Self {
        let LatencySummary { count, mean_us, p50_us, p90_us, p99_us } = summary;
        Self { count, mean_us, p50_us, p90_us, p99_us }
    }
}

fn report(control: &Control, current: &Published, name: &PluginName) -> Result<PluginReport, Refusal> {
    let desired = &current.desired;
    let active = desired.active(name);
    let services = desired.bound(name);
    let canary = desired.canaries.get(name).zip(active).map(|(running, active)| {
        let covered = services.iter().filter(|service| running.service.as_ref().is_none_or(|only| only == *service));
        canary(control, name, active, running, covered.cloned())
    });
    Ok(PluginReport {
        kind: kind(current, name),
        active,
        source: desired.active_source(name),
        previous: desired.overlay.plugins.get(name).map(|overlay| overlay.previous.clone()).unwrap_or_default(),
        versions: versions(control, current, name)?,
        services,
        protocols: desired.protocols_of(name).into_iter().map(str::to_owned).collect(),
        handlers: desired.handlers_of(name).into_iter().map(str::to_owned).collect(),
        memory_bytes_max: desired.memory_bytes_max(name),
        canary,
        name: name.clone(),
    })
}

/// By what it is loaded for, or by what the binary brings; a balancer where nothing is known.
fn kind(current: &Published, name: &PluginName) -> PluginKind {
    let loaded = current.live_versions().into_iter().find(|version| version.plugin() == name);
    let stock = || plugin::stock().iter().find(|stock| stock.name == name.as_str()).map(|stock| stock.kind);
    loaded.map(|version| version.kind()).or_else(stock).unwrap_or(PluginKind::Balancer)
}

fn versions(control: &Control, current: &Published, name: &PluginName) -> Result<Vec<VersionReport>, Refusal> {
    let desired = &current.desired;
    let stored = control.store.versions(name).map_err(|error| Refusal::Failed(error.to_string()))?;
    let mut bytes: BTreeMap<VersionId, (u64, Option<String>)> = BTreeMap::new();
    for StoredVersion { id, bytes: len, uploaded } in stored {
        bytes.insert(id, (len, Some(humantime::format_rfc3339_millis(uploaded).to_string())));
    }
    if let Some(base) = desired.bases.get(name) {
        bytes.insert(base.version, (base.component.len() as u64, None));
    }
    let live: BTreeMap<_, _> = current
        .live_versions()
        .into_iter()
        .filter(|version| version.plugin() == name)
        .map(|version| (version.id(), (version.live_instances(), version.memory_bytes())))
        .collect();
    for id in live.keys() {
        bytes.entry(*id).or_insert((0, None));
    }
    let previous = desired.overlay.plugins.get(name).map_or(&[][..], |overlay| &overlay.previous);
    let candidate = desired.canaries.get(name).map(|canary| canary.version);
    let mut reports: Vec<_> = bytes
        .into_iter()
        .map(|(version, (bytes, uploaded_at))| {
            let r#use = if desired.active(name) == Some(version) {
                VersionUse::Active
            } else if candidate == Some(version) {
                VersionUse::Candidate
            } else if previous.contains(&version) {
                VersionUse::Previous
            } else if bytes > 0 {
                VersionUse::Stored
            } else {
                VersionUse::Retired
            };
            let (live_instances, memory_bytes) = live.get(&version).copied().unwrap_or_default();
            VersionReport { version, r#use, bytes, uploaded_at, live_instances, memory_bytes }
        })
        .collect();
    reports.sort_by_key(|report| report.r#use as u8);
    Ok(reports)
}
