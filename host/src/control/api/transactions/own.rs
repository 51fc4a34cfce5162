//! `/transactions`: those there are, and new ones of any protocol.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    response::Response,
};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Outcome, Surface, query, report::SummaryReport};
use crate::{
    control::api::{body::json_object_within, parameters::Parameters, problem::Problem},
    transactions::{REQUEST_BYTES_MAX, Submission},
};

#[derive(Serialize, ToSchema)]
pub struct TransactionPage {
    /// From the newest on. May be empty though others follow: only `next` says that nothing does.
    transactions: Vec<SummaryReport>,
    /// Where the next page is; null where nothing is left.
    next: Option<String>,
}

/// Transactions, the newest first. Those that have ended are kept for `transactions.retention`.
#[utoipa::path(get, path = "/transactions", tag = "transactions",
    params(("status" = Option<String>, Query, description = "One or several: prepared, submitted, committing, aborting, hazard, succeeded, failed, stopped"),
        ("protocol" = Option<String>, Query), ("limit" = Option<usize>, Query, description = "1 to 1000, 100 where it is not given"),
        ("after" = Option<String>, Query, description = "As in `next`")),
    responses((status = 200, body = TransactionPage), (status = 400, body = Problem)))]
pub async fn list(
    State(surface): State<Arc<Surface>>,
    parameters: Parameters,
) -> Result<Json<TransactionPage>, Problem> {
    let listing = parameters.list()?;
    let listed = surface.coordinator.list(&listing.filter, listing.after.as_deref(), listing.limit).await;
    let page = listed.map_err(query::refused)?;
    Ok(Json(TransactionPage {
        transactions: page.transactions.iter().map(SummaryReport::of).collect(),
        next: page.next.map(|after| listing.next(&after)),
    }))
}

/// A transaction of any protocol. What else it takes is the protocol's: `steps`, `branches`, `payloads`, …
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is read field by field so that every problem is found")]
pub struct NewTransaction {
    /// One is made up where it is not given.
    gid: Option<String>,
    #[schema(example = "saga")]
    trans_type: String,
    /// After so many seconds it expires.
    timeout_to_fail: Option<u64>,
    /// Of one call, in seconds.
    request_timeout: Option<u64>,
    /// Before the first repetition of a call, in seconds, on average.
    retry_interval: Option<u64>,
    /// Attempts of an operation before the decision.
    retry_limit: Option<u32>,
    /// Headers of its calls.
    #[schema(value_type = Option<Object>)]
    branch_headers: Option<Map<String, Value>>,
}

/// Begins a transaction, in the fields of DTM's API, and asks for it to be committed; with `prepare=true` only begins it.
/// The same once more is harmless.
#[utoipa::path(post, path = "/transactions", tag = "transactions", request_body = NewTransaction,
    params(("wait" = Option<String>, Query, description = "For its outcome, such as 10s; not at all where it is not given"),
        ("prepare" = Option<bool>, Query)),
    responses((status = 200, body = Outcome, description = "succeeded"), (status = 201, body = Outcome, description = "prepared"),
        (status = 202, body = Outcome, description = "goes on"), (status = 409, body = Outcome, description = "failed; or a problem: it is there with another content"),
        (status = 413, body = Problem), (status = 422, body = Problem), (status = 502, body = Problem), (status = 503, body = Problem)))]
pub async fn begin(
    State(surface): State<Arc<Surface>>,
    parameters: Parameters,
    request: Request,
) -> Result<Response, Problem> {
    let (wait, prepare) = parameters.begin()?;
    let mut body = json_object_within(request, REQUEST_BYTES_MAX).await?;
    if body.get("gid").is_none_or(Value::is_null) {
        body.insert("gid".to_owned(), surface.coordinator.new_gid().to_string().into());
    }
    let submission = Submission::parse(Value::Object(body))?;
    let gid = submission.gid.clone();
    let status = if prepare {
        surface.coordinator.prepare(submission).await?
    } else {
        surface.coordinator.submit(submission).await?
    };
    Ok(surface.answer(&gid, status, wait).await?)
}
