//! Where a service's endpoints come from, and what their source did.

use std::{
    collections::{HashMap, HashSet},
    time::SystemTime,
};

use serde::Serialize;
use utoipa::ToSchema;

use super::services::{PolicyText, source};
use crate::{
    control::{
        discovery::{Seen, SourceState, Status},
        handle::Control,
        publisher::{Published, ServiceInForce, desired::Source},
    },
    model::{EndpointSpec, HostPort, PluginName, PolicyConfig, VersionId},
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
    /// A candidate version that is asked beside it; nothing that it says is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowReport>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ShadowReport {
    #[schema(value_type = String)]
    pub version: VersionId,
    /// Absent before its first answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<usize>,
    /// Addresses in force that it does not know; the first hundred.
    pub missing: Vec<String>,
    /// Addresses that only it knows; the first hundred.
    pub added: Vec<String>,
    /// Instances of the same id and address that differ in weight, priority, zone, metadata or health.
    pub changed: usize,
    pub errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<ErrorReport>,
}

/// Addresses that a comparison shows.
const ADDRESSES_SHOWN_MAX: usize = 100;

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
    let in_force = current.desired.discovered.get(&config.name).map_or(&[][..], |endpoints| endpoints);
    let shadow = control.sources.shadow(&config.name).map(|(version, seen)| compared(version, seen, in_force));
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
        shadow,
    })
}

fn compared(version: VersionId, seen: Seen, in_force: &[EndpointSpec]) -> ShadowReport {
    let Seen { endpoints, errors, last_error } = seen;
    let said = endpoints.as_deref().unwrap_or_default();
    let known = |endpoints: &[EndpointSpec]| endpoints.iter().map(|one| one.address.clone()).collect::<HashSet<_>>();
    let without = |some: &[EndpointSpec], others: &HashSet<HostPort>| {
        let alone = some.iter().filter(|one| !others.contains(&one.address));
        alone.take(ADDRESSES_SHOWN_MAX).map(|one| one.address.to_string()).collect::<Vec<_>>()
    };
    let by_id: HashMap<_, _> = in_force.iter().map(|one| (&one.id, one)).collect();
    let differs =
        |one: &&EndpointSpec| by_id.get(&one.id).is_some_and(|other| other.address == one.address && **other != **one);
    ShadowReport {
        version,
        instances: endpoints.as_ref().map(|endpoints| endpoints.len()),
        missing: endpoints.as_ref().map(|_| without(in_force, &known(said))).unwrap_or_default(),
        added: without(said, &known(in_force)),
        changed: said.iter().filter(differs).count(),
        errors,
        last_error: last_error.map(|(at, message)| ErrorReport { at: shown(at), message }),
    }
}

fn shown(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
