//! DTM's HTTP API, as its clients speak it: paths, fields, statuses and answers are DTM's.
//!
//! A client searches a body for `FAILURE` and `ONGOING`, and takes 409 for the first and 425 for the second. So an answer
//! to what was done says `SUCCESS` and nothing more; whatever is refused for good (a 4xx: nothing was stored) says
//! `FAILURE`; and what may be tried again (a 5xx) says neither.
//!
//! What is different:
//!
//! - the list is the newest first, and its positions mean nothing to anybody else;
//! - a transaction in hazard, which DTM does not know, stands where its decision has brought it, and one that an operator
//!   stopped has failed;
//! - delayed messages (`custom_data`), workflows (`prepareWorkflow`) and topics (`subscribe`) are not there;
//! - `retry_limit` bounds the calls before the decision alone: what is decided is never given up;
//! - `wait_result` ends after 20 s, or shortly before the request's own `request_timeout`, with 425.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::{Query, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use super::{OUTCOME_WAIT, Surface, dtm_shown, operators_only, query};
use crate::{
    control::api::{access::Caller, body::json_object_within, problem::Problem},
    transactions::{Enlistment, Filter, Gid, REQUEST_BYTES_MAX, Status, Submission, TransactionError},
};

/// Of DTM's list, where nothing is said.
const LIMIT_DEFAULT: usize = 100;

type Answer = Result<Json<Value>, Refused>;

/// What was not done.
pub struct Refused(Problem);

impl<E: Into<Problem>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Problem { status, detail, problems, .. } = self.0;
        let status = StatusCode::from_u16(status).expect("made from a status");
        let said: Vec<_> = std::iter::once(detail).chain(problems.iter().map(ToString::to_string)).collect();
        let mut body = json!({"message": said.join("; "), "problems": problems});
        if status.is_client_error() {
            body["dtm_result"] = "FAILURE".into();
        }
        (status, Json(body)).into_response()
    }
}

/// A new transaction's id.
#[utoipa::path(get, path = "/api/dtmsvr/newGid", tag = "dtm", responses((status = 200, body = Object)))]
pub async fn new_gid(State(surface): State<Arc<Surface>>) -> Json<Value> {
    Json(json!({"gid": surface.coordinator.new_gid(), "dtm_result": "SUCCESS"}))
}

/// One transaction and its branches; both empty where there is none.
#[utoipa::path(get, path = "/api/dtmsvr/query", tag = "dtm", params(("gid" = String, Query)),
    responses((status = 200, body = Object), (status = 422, body = Object)))]
pub async fn query(State(surface): State<Arc<Surface>>, Query(pairs): Query<Vec<(String, String)>>) -> Answer {
    let given = parameter(&pairs, "gid").unwrap_or_default();
    let gid: Gid = given.parse().map_err(|rule: String| TransactionError::field("/gid", rule))?;
    match surface.coordinator.details(&gid).await {
        Ok(details) => Ok(Json(dtm_shown::whole(&details))),
        Err(TransactionError::Unknown(_)) => Ok(Json(json!({"transaction": null, "branches": []}))),
        Err(error) => Err(error.into()),
    }
}

/// All transactions, the newest first.
#[utoipa::path(get, path = "/api/dtmsvr/all", tag = "dtm",
    params(("position" = Option<String>, Query), ("limit" = Option<usize>, Query)),
    responses((status = 200, body = Object), (status = 422, body = Object)))]
pub async fn all(State(surface): State<Arc<Surface>>, Query(pairs): Query<Vec<(String, String)>>) -> Answer {
    let limit = match parameter(&pairs, "limit") {
        Some(limit) => query::limit(limit).map_err(|rule| TransactionError::field("/limit", rule))?,
        None => LIMIT_DEFAULT,
    };
    let page = surface.coordinator.list(&Filter::default(), parameter(&pairs, "position"), limit).await?;
    let transactions: Vec<_> = page.transactions.iter().map(dtm_shown::summary).collect();
    Ok(Json(json!({"transactions": transactions, "next_position": page.next.unwrap_or_default()})))
}

/// Begins a transaction whose client has still to ask for its end.
#[utoipa::path(post, path = "/api/dtmsvr/prepare", tag = "dtm", request_body = Object,
    responses((status = 200, body = Object), (status = 409, body = Object), (status = 422, body = Object)))]
pub async fn prepare(State(surface): State<Arc<Surface>>, request: Request) -> Answer {
    let submission = Submission::parse(body(request).await?)?;
    let gid = submission.gid.clone();
    match surface.coordinator.prepare(submission).await? {
        Status::Prepared => Ok(success()),
        status => Err(TransactionError::TooLate { gid, status, wanted: "be prepared" }.into()),
    }
}

/// Begins a transaction if it is not there, and asks for it to be committed. With `wait_result` its outcome is answered:
/// 409 where it failed, 425 where it goes on.
#[utoipa::path(post, path = "/api/dtmsvr/submit", tag = "dtm", request_body = Object,
    responses((status = 200, body = Object), (status = 409, body = Object), (status = 422, body = Object), (status = 425, body = Object)))]
pub async fn submit(State(surface): State<Arc<Surface>>, request: Request) -> Result<Response, Refused> {
    let submission = Submission::parse(body(request).await?)?;
    let gid = submission.gid.clone();
    let wait = wait(&submission);
    let status = surface.coordinator.submit(submission).await?;
    let Some(wait) = wait else { return Ok(success().into_response()) };
    let status = surface.outcome(&gid, status, wait).await?;
    let reason = surface.reason(&gid, status).await?.map(|reason| format!(": {reason}")).unwrap_or_default();
    let message = format!("transaction {gid} is {status}{reason}");
    Ok(match status {
        Status::Succeeded => success().into_response(),
        Status::Failed | Status::Stopped => {
            let answer = json!({"dtm_result": "FAILURE", "message": message});
            (StatusCode::CONFLICT, Json(answer)).into_response()
        }
        _ => (StatusCode::TOO_EARLY, Json(json!({"dtm_result": "ONGOING", "message": message}))).into_response(),
    })
}

/// Asks for a transaction to be aborted.
#[utoipa::path(post, path = "/api/dtmsvr/abort", tag = "dtm", request_body = Object,
    responses((status = 200, body = Object), (status = 404, body = Object), (status = 409, body = Object)))]
pub async fn abort(State(surface): State<Arc<Surface>>, request: Request) -> Answer {
    let Enlistment { gid, request } = Enlistment::parse(body(request).await?)?;
    let reason = text(&request, "rollback_reason");
    surface.coordinator.abort(&gid, reason).await?;
    Ok(success())
}

/// Adds a branch to a prepared transaction. It is durable when this is answered.
#[utoipa::path(post, path = "/api/dtmsvr/registerBranch", tag = "dtm", request_body = Object,
    responses((status = 200, body = Object), (status = 404, body = Object), (status = 409, body = Object), (status = 422, body = Object)))]
pub async fn register_branch(State(surface): State<Arc<Surface>>, request: Request) -> Answer {
    surface.coordinator.enlist(Enlistment::parse(body(request).await?)?).await?;
    Ok(success())
}

/// Ends a transaction wherever it stands; an operator's.
#[utoipa::path(post, path = "/api/dtmsvr/forceStop", tag = "dtm", request_body = Object,
    responses((status = 200, body = Object), (status = 403, body = Object), (status = 404, body = Object), (status = 409, body = Object)))]
pub async fn force_stop(
    State(surface): State<Arc<Surface>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Answer {
    operators_only(caller)?;
    let Enlistment { gid, .. } = Enlistment::parse(body(request).await?)?;
    surface.coordinator.stop(&gid).await?;
    Ok(success())
}

fn success() -> Json<Value> {
    Json(json!({"dtm_result": "SUCCESS"}))
}

async fn body(request: Request) -> Result<Value, Problem> {
    Ok(Value::Object(json_object_within(request, REQUEST_BYTES_MAX).await?))
}

/// None where the client does not wait. One that names how long a call may take waits no longer than that itself, and is
/// answered before.
fn wait(submission: &Submission) -> Option<Duration> {
    let waits = submission.request.get("wait_result") == Some(&Value::Bool(true));
    let own = submission.options.request_timeout_ms.map(|ms| Duration::from_millis(ms) * 7 / 8);
    waits.then(|| own.map_or(OUTCOME_WAIT, |own| own.min(OUTCOME_WAIT)))
}

fn text(request: &Map<String, Value>, field: &str) -> Option<String> {
    request.get(field)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The first of this name that is not empty.
fn parameter<'p>(pairs: &'p [(String, String)], name: &str) -> Option<&'p str> {
    pairs.iter().find(|(given, value)| given == name && !value.is_empty()).map(|(_, value)| value.as_str())
}
