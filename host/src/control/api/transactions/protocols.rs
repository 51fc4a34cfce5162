//! `GET /protocols`: which plugin coordinates which kind of transaction.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Surface;
use crate::transactions::{Coordinator, Figures, Pinned, ProtocolInForce};

#[derive(Serialize, ToSchema)]
pub struct ProtocolsReport {
    protocols: Vec<ProtocolReport>,
    figures: FiguresReport,
}

#[derive(Serialize, ToSchema)]
pub struct ProtocolReport {
    /// DTM's `trans_type`.
    #[schema(example = "saga")]
    name: String,
    plugin: String,
    /// That new transactions get.
    version: String,
    #[schema(value_type = Object)]
    settings: Map<String, Value>,
    /// After which a transaction expires that names no time and whose client asks for nothing.
    #[schema(example = "35s")]
    timeout: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate: Option<CandidateReport>,
    /// Those that have not ended, by the version of the plugin that they keep to; under whatever name they began.
    transactions: BTreeMap<String, usize>,
}

/// A version on trial.
#[derive(Serialize, ToSchema)]
pub struct CandidateReport {
    version: String,
    /// Of the new transactions.
    percent: u8,
    #[schema(value_type = Object)]
    settings: Map<String, Value>,
}

/// Since the gateway started, but for `live`.
#[derive(Serialize, ToSchema)]
pub struct FiguresReport {
    /// That have not ended.
    live: usize,
    begun: u64,
    succeeded: u64,
    failed: u64,
    stopped: u64,
    hazards: u64,
}

/// The protocols, and what has become of their transactions.
#[utoipa::path(get, path = "/protocols", tag = "transactions", responses((status = 200, body = ProtocolsReport)))]
pub async fn list(State(surface): State<Arc<Surface>>) -> Json<ProtocolsReport> {
    let coordinator = &surface.coordinator;
    let protocols = coordinator.protocols();
    let Figures { live, begun, succeeded, failed, stopped, hazards, .. } = coordinator.figures();
    Json(ProtocolsReport {
        protocols: protocols.iter().map(|(name, in_force)| report(coordinator, name, in_force)).collect(),
        figures: FiguresReport { live, begun, succeeded, failed, stopped, hazards },
    })
}

fn report(coordinator: &Coordinator, name: &str, in_force: &ProtocolInForce) -> ProtocolReport {
    let ProtocolInForce { incumbent: Pinned { pin, .. }, candidate, timeout } = in_force;
    let transactions = coordinator.pins_of(&pin.plugin);
    let candidate = candidate.as_ref().map(|(percent, candidate)| CandidateReport {
        version: candidate.pin.version.to_string(),
        percent: percent.get(),
        settings: candidate.pin.settings.clone(),
    });
    ProtocolReport {
        name: name.to_owned(),
        plugin: pin.plugin.to_string(),
        version: pin.version.to_string(),
        settings: pin.settings.clone(),
        timeout: humantime::format_duration(*timeout).to_string(),
        candidate,
        transactions: transactions.into_iter().map(|(version, count)| (version.to_string(), count)).collect(),
    }
}
