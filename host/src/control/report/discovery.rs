//! Where a service's endpoints come from, and what their source did.

use std::time::SystemTime;

use serde::Serialize;
use utoipa::ToSchema;

use super::services::{PolicyText, source};
use crate::{
    control::{
        discovery::{SourceState, Status},
        handle::Control,
        publisher::{Published, ServiceInForce, desired::Source},
    },
    model::{PluginName, PolicyConfig, VersionId},
};

#[derive(Debug, Serialize, ToSchema)]
pub struct DiscoveryReport {
    #[schema(value_type = String)]
    pub plugin: PluginName,
    #[schema(value_type = String)]
    pub version: VersionId,
    pub settings: serde_json::Value,
    pub source: Source,
    /// What would hold without the overlay; absent where there is none, or the file gives the endpoints itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlaid: Option<PolicyText>,
    pub state: SourceState,
    /// RFC 3339, UTC; absent before the first answer of this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<String>,
    pub answers: u64,
    /// In the last answer.
    pub instances: usize,
    pub errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<ErrorReport>,
    /// Traps and overruns of its instance.
    pub faults: u64,
    /// Things outside that it asked for and may not reach.
    pub not_granted: u64,
    /// A membership that loses too much at once, and is not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_back: Option<HeldBackReport>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorReport {
    /// RFC 3339, UTC.
    pub at: String,
    pub message: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct HeldBackReport {
    /// That it would have.
    pub instances: usize,
    /// Endpoints in force that it would lose.
    pub lost: usize,
    /// RFC 3339, UTC.
    pub since: String,
}

/// None where the configuration file gives the endpoints.
pub fn report(control: &Control, current: &Published, service: ServiceInForce<'_>) -> Option<DiscoveryReport> {
    let (config, bound) = (&service.snapshot.config, service.source?);
    let status = control.sources.status(&config.name)?;
    let text = |policy: &PolicyConfig| PolicyText { plugin: policy.plugin.clone(), settings: policy.settings.clone() };
    let file = current.desired.file.services.get(&config.name);
    let is_overlay = current.desired.overlay_discovery(&config.name).is_some();
    let Status { state, answered_at, answers, instances, errors, last_error, faults, refusals, held_back } = status;
    Some(DiscoveryReport {
        plugin: bound.policy.plugin.clone(),
        version: bound.version,
        settings: bound.policy.settings.clone(),
        source: if is_overlay { Source::Overlay } else { source(config, "discovery") },
        overlaid: file.filter(|_| is_overlay).and_then(|file| file.discovery.as_ref()).map(text),
        state,
        answered_at: answered_at.map(shown),
        answers,
        instances,
        errors,
        last_error: last_error.map(|(at, message)| ErrorReport { at: shown(at), message }),
        faults,
        not_granted: refusals,
        held_back: held_back.map(|held| HeldBackReport {
            instances: held.instances,
            lost: held.lost,
            since: shown(held.since),
        }),
    })
}

fn shown(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
