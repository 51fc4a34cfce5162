//! Looking after the gateway: reload, listeners, history, health, metrics.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    body::{Fields, json_object},
    problem::Problem,
};
use crate::{
    control::{
        change::{Applied, Change},
        handle::Control,
        history::HistoryEntry,
    },
    telemetry::{EXPOSITION_CONTENT_TYPE, exposition},
};

/// Reads the configuration file again and applies it as one change; a wrong one changes nothing.
#[utoipa::path(post, path = "/reload", tag = "operation",
    responses((status = 200, body = Applied), (status = 422, body = Problem)))]
pub async fn reload(State(control): State<Arc<Control>>, request: Request) -> Result<Json<Applied>, Problem> {
    Fields::of(json_object(request).await?).finish()?;
    Ok(Json(control.apply(Change::Reload).await?))
}

#[derive(Serialize, ToSchema)]
pub struct Listeners {
    listeners: Vec<Listener>,
    /// Where this API listens.
    control: String,
    /// Where the registry answers DNS queries, if it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    dns: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct Listener {
    /// As bound: with the port that was taken where the configuration says 0.
    address: String,
    configured: String,
}

/// Where the gateway listens.
#[utoipa::path(get, path = "/listeners", tag = "operation", responses((status = 200, body = Listeners)))]
pub async fn listeners(State(control): State<Arc<Control>>) -> Result<Json<Listeners>, Problem> {
    let current = control.current()?;
    let configured = current.desired.file.listeners.iter();
    let listeners = control
        .bound()
        .iter()
        .zip(configured)
        .map(|(bound, configured)| Listener { address: bound.to_string(), configured: configured.address.to_string() });
    Ok(Json(Listeners {
        listeners: listeners.collect(),
        control: control.address.to_string(),
        dns: control.dns.map(|address| address.to_string()),
    }))
}

#[derive(Serialize, ToSchema)]
pub struct HistoryPage {
    entries: Vec<HistoryEntry>,
}

/// What happened lately, the latest first.
#[utoipa::path(get, path = "/history", tag = "operation", responses((status = 200, body = HistoryPage)))]
pub async fn history(State(control): State<Arc<Control>>) -> Json<HistoryPage> {
    Json(HistoryPage { entries: control.history.entries() })
}

/// All figures, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operation",
    responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
pub async fn metrics(State(control): State<Arc<Control>>) -> Response {
    ([(header::CONTENT_TYPE, EXPOSITION_CONTENT_TYPE)], exposition(&control.metrics)).into_response()
}

#[derive(Serialize, ToSchema)]
pub struct Health {
    status: &'static str,
}

/// Answers as long as the process works.
#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = 200, body = Health)))]
pub async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// 200 once every listener serves, 503 before and while shutting down.
#[utoipa::path(get, path = "/readyz", tag = "operation",
    responses((status = 200, body = Health), (status = 503, body = Problem)))]
pub async fn ready(State(control): State<Arc<Control>>) -> Result<Json<Health>, Problem> {
    if control.is_ready() {
        return Ok(Json(Health { status: "ready" }));
    }
    Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not every listener serves"))
}
