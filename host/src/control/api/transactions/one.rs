//! `/transactions/{gid}`: one transaction's whole history, and what can be asked of it.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::{Path, Request, State},
    http::StatusCode,
    response::Response,
};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Outcome, Surface, operators_only, report::DetailsReport};
use crate::{
    control::api::{
        access::Caller,
        body::{Fields, json_object, json_object_within, text},
        parameters::Parameters,
        path_name,
        problem::Problem,
    },
    transactions::{Enlistment, Gid, REQUEST_BYTES_MAX, Submission},
};

/// One transaction: branches with their operations and what has become of each, and everything that has happened to it.
#[utoipa::path(get, path = "/transactions/{gid}", tag = "transactions",
    params(("gid" = String, Path), ("wait" = Option<String>, Query, description = "Until it has ended or stands in hazard, such as 10s")),
    responses((status = 200, body = DetailsReport), (status = 404, body = Problem)))]
pub async fn show(
    State(surface): State<Arc<Surface>>,
    Path(gid): Path<String>,
    parameters: Parameters,
) -> Result<Json<DetailsReport>, Problem> {
    let gid: Gid = path_name(&gid)?;
    let wait = parameters.wait(Duration::ZERO)?;
    let status = surface.coordinator.status(&gid).await?;
    surface.outcome(&gid, status, wait).await?;
    Ok(Json(DetailsReport::of(&surface.coordinator.details(&gid).await?)))
}

/// Asks for what was begun with `prepare=true` to be committed.
#[utoipa::path(post, path = "/transactions/{gid}/submit", tag = "transactions",
    params(("gid" = String, Path), ("wait" = Option<String>, Query)),
    responses((status = 200, body = Outcome, description = "succeeded"), (status = 202, body = Outcome, description = "goes on"),
        (status = 404, body = Problem), (status = 409, body = Outcome, description = "failed; or a problem: it is too late")))]
pub async fn submit(
    State(surface): State<Arc<Surface>>,
    Path(gid): Path<String>,
    parameters: Parameters,
    request: Request,
) -> Result<Response, Problem> {
    let gid: Gid = path_name(&gid)?;
    let wait = parameters.wait(Duration::ZERO)?;
    Fields::of(json_object(request).await?).finish()?;
    let begun = surface.coordinator.details(&gid).await?;
    let status = surface.coordinator.submit(Submission::parse(Value::Object(begun.request))?).await?;
    Ok(surface.answer(&gid, status, wait).await?)
}

#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is read field by field so that every problem is found")]
pub struct Abort {
    /// For those who look at it later.
    reason: Option<String>,
}

/// Asks for a transaction to be aborted; one that is decided to be committed cannot be.
#[utoipa::path(post, path = "/transactions/{gid}/abort", tag = "transactions", params(("gid" = String, Path)),
    request_body = Abort,
    responses((status = 200, body = Outcome), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn abort(
    State(surface): State<Arc<Surface>>,
    Path(gid): Path<String>,
    request: Request,
) -> Result<Json<Outcome>, Problem> {
    let gid: Gid = path_name(&gid)?;
    let mut fields = Fields::of(json_object(request).await?);
    let reason: Option<String> = fields.optional("reason", text);
    fields.finish()?;
    let status = surface.coordinator.abort(&gid, reason).await?;
    Ok(Json(surface.told(&gid, status).await?))
}

/// Adds a branch to a prepared transaction, in the fields of DTM's `registerBranch`. It is durable when this is answered,
/// so that the branch's own call may be made.
#[utoipa::path(post, path = "/transactions/{gid}/branches", tag = "transactions", params(("gid" = String, Path)),
    request_body = Object,
    responses((status = 201, body = Outcome), (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem)))]
pub async fn enlist(
    State(surface): State<Arc<Surface>>,
    Path(gid): Path<String>,
    request: Request,
) -> Result<(StatusCode, Json<Outcome>), Problem> {
    let gid: Gid = path_name(&gid)?;
    let mut body = json_object_within(request, REQUEST_BYTES_MAX).await?;
    body.insert("gid".to_owned(), gid.to_string().into());
    let status = surface.coordinator.enlist(Enlistment::parse(Value::Object(body))?).await?;
    Ok((StatusCode::CREATED, Json(surface.told(&gid, status).await?)))
}

/// Tries again at once whatever waits for its next attempt; a transaction in hazard goes on.
#[utoipa::path(post, path = "/transactions/{gid}/retry", tag = "transactions", params(("gid" = String, Path)),
    responses((status = 200, body = Outcome), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn retry(
    State(surface): State<Arc<Surface>>,
    Extension(caller): Extension<Caller>,
    Path(gid): Path<String>,
    request: Request,
) -> Result<Json<Outcome>, Problem> {
    operators_only(caller)?;
    let gid: Gid = path_name(&gid)?;
    Fields::of(json_object(request).await?).finish()?;
    let status = surface.coordinator.retry(&gid).await?;
    Ok(Json(surface.told(&gid, status).await?))
}

/// Ends a transaction wherever it stands: nothing more is called, and its participants may disagree.
#[utoipa::path(post, path = "/transactions/{gid}/stop", tag = "transactions", params(("gid" = String, Path)),
    responses((status = 200, body = Outcome), (status = 404, body = Problem), (status = 409, body = Problem)))]
pub async fn stop(
    State(surface): State<Arc<Surface>>,
    Extension(caller): Extension<Caller>,
    Path(gid): Path<String>,
    request: Request,
) -> Result<Json<Outcome>, Problem> {
    operators_only(caller)?;
    let gid: Gid = path_name(&gid)?;
    Fields::of(json_object(request).await?).finish()?;
    let status = surface.coordinator.stop(&gid).await?;
    Ok(Json(surface.told(&gid, status).await?))
}
