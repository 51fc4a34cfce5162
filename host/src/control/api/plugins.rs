//! `/plugins`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, Request, State, rejection::QueryRejection},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    body::{Fields, component, json_object, text},
    path_name,
    problem::Problem,
};
use crate::{
    control::{
        change::{Applied, Change},
        handle::Control,
        report::{self, PluginReport},
    },
    model::Percent,
};

#[derive(Serialize, ToSchema)]
pub struct Plugins {
    plugins: Vec<PluginReport>,
}

/// All plugins there are.
#[utoipa::path(get, path = "/plugins", tag = "plugins", responses((status = 200, body = Plugins)))]
pub async fn list(State(control): State<Arc<Control>>) -> Result<Json<Plugins>, Problem> {
    Ok(Json(Plugins { plugins: report::plugins(&control)? }))
}

/// One plugin: its versions, the services that use it, and how its canary does.
#[utoipa::path(get, path = "/plugins/{name}", tag = "plugins", params(("name" = String, Path)),
    responses((status = 200, body = PluginReport), (status = 404, body = Problem)))]
pub async fn show(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
) -> Result<Json<PluginReport>, Problem> {
    Ok(Json(report::plugin(&control, &path_name(&name)?)?))
}

/// How a component is uploaded.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushOptions {
    #[serde(default = "yes")]
    activate: bool,
}

fn yes() -> bool {
    true
}

/// Uploads a component. It is compiled, checked, configured for every service that uses the plugin, and then in use on
/// every worker; or, if any of that fails for any service, nothing changes. With `activate=false` it is compiled, checked
/// and kept, and no more: for a canary, or to be brought into use later.
#[utoipa::path(put, path = "/plugins/{name}", tag = "plugins",
    params(("name" = String, Path), ("activate" = Option<bool>, Query, description = "true where absent")),
    request_body(content = Vec<u8>, content_type = "application/wasm"),
    responses((status = 200, body = Applied), (status = 413, body = Problem), (status = 422, body = Problem)))]
pub async fn push(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    options: Result<Query<PushOptions>, QueryRejection>,
    request: Request,
) -> Result<Json<Applied>, Problem> {
    let plugin = path_name(&name)?;
    let Query(options) = options.map_err(|wrong| Problem::new(StatusCode::BAD_REQUEST, wrong.body_text()))?;
    let component = component(request, &control.uploads).await?;
    let change =
        if options.activate { Change::Push { plugin, component } } else { Change::Upload { plugin, component } };
    Ok(Json(control.apply(change).await?))
}

/// Forgets what was uploaded for a plugin: what the configuration file or the binary brings is in use again.
#[utoipa::path(delete, path = "/plugins/{name}", tag = "plugins", params(("name" = String, Path)),
    responses((status = 200, body = Applied), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub async fn forget(State(control): State<Arc<Control>>, Path(name): Path<String>) -> Result<Json<Applied>, Problem> {
    Ok(Json(control.apply(Change::Forget { plugin: path_name(&name)? }).await?))
}

/// What to activate.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is read field by field so that every problem is found")]
pub struct Activation {
    /// The first 12 hex digits of the component's SHA-256.
    version: String,
}

/// Makes a version that is there already the one in use.
#[utoipa::path(post, path = "/plugins/{name}/activate", tag = "plugins", params(("name" = String, Path)),
    request_body = Activation,
    responses((status = 200, body = Applied), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub async fn activate(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Applied>, Problem> {
    let plugin = path_name(&name)?;
    let mut fields = Fields::of(json_object(request).await?);
    let version = fields.required("version", text);
    fields.finish()?;
    let version = version.expect("no problem was found with it");
    Ok(Json(control.apply(Change::Activate { plugin, version }).await?))
}

/// Makes the version that was in use before the one in use again.
#[utoipa::path(post, path = "/plugins/{name}/rollback", tag = "plugins", params(("name" = String, Path)),
    responses((status = 200, body = Applied), (status = 409, body = Problem)))]
pub async fn roll_back(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Applied>, Problem> {
    let plugin = path_name(&name)?;
    Fields::of(json_object(request).await?).finish()?;
    Ok(Json(control.apply(Change::RollBack { plugin }).await?))
}

/// A version on trial.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is read field by field so that every problem is found")]
pub struct CanaryRequest {
    /// The first 12 hex digits of the component's SHA-256.
    version: String,
    /// Of requests, by hash, 1 to 99.
    percent: u8,
    /// Every service that uses the plugin, where absent.
    service: Option<String>,
}

/// Puts a version on trial beside the one in use. It is withdrawn by itself when it does worse.
#[utoipa::path(post, path = "/plugins/{name}/canary", tag = "plugins", params(("name" = String, Path)),
    request_body = CanaryRequest,
    responses((status = 200, body = Applied), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
pub async fn start_canary(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Applied>, Problem> {
    let plugin = path_name(&name)?;
    let mut fields = Fields::of(json_object(request).await?);
    let version = fields.required("version", text);
    let percent = fields.required("percent", |value| {
        let percent = value.as_i64().and_then(Percent::new).filter(|percent| (1..=99).contains(&percent.get()));
        percent.ok_or_else(|| "must be a whole number from 1 to 99".to_owned())
    });
    let service = fields.optional("service", text);
    fields.finish()?;
    let (version, percent) = version.zip(percent).expect("no problem was found with them");
    Ok(Json(control.apply(Change::StartCanary { plugin, version, percent, service }).await?))
}

/// Ends the trial: the version in use gets every request again.
#[utoipa::path(delete, path = "/plugins/{name}/canary", tag = "plugins", params(("name" = String, Path)),
    responses((status = 200, body = Applied), (status = 404, body = Problem)))]
pub async fn end_canary(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
) -> Result<Json<Applied>, Problem> {
    Ok(Json(control.apply(Change::EndCanary { plugin: path_name(&name)? }).await?))
}
