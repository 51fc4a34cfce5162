//! Transactions over HTTP: the shortest form (`/transaction`), every protocol with the whole history (`/transactions`),
//! and DTM's API (`/api/dtmsvr`), so that its clients work unchanged. All of them are read into the same
//! [`Submission`](crate::transactions::Submission).

pub(super) mod dtm;
mod dtm_shown;
mod error;
pub(super) mod one;
pub(super) mod own;
pub(super) mod protocols;
mod query;
mod report;
pub(super) mod short;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::{access::Caller, problem::Problem};
use crate::transactions::{Coordinator, Gid, Status, TransactionError};

/// In front of every path of DTM's.
const DTM_PREFIX: &str = "/api/dtmsvr/";

/// Requests that wait for an outcome at once, over all transactions; others are told where it stands. With those that wait
/// for the registry, a few of the control listener's connections are left.
const WAITS_MAX: usize = 384;

/// How long a request waits for an outcome where it does not say: all of a two-phase commit's attempts to prepare, and
/// less than most clients wait for any answer.
const OUTCOME_WAIT: Duration = Duration::from_secs(20);

/// Longest that a request may ask to wait.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Whether this is about transactions, so that services may ask with their own token.
pub fn is_for_services(path: &str) -> bool {
    path.starts_with(DTM_PREFIX)
        || path.strip_prefix("/transaction").is_some_and(|rest| ["", "s"].contains(&rest) || rest.starts_with("s/"))
}

/// All of it.
pub fn routes(coordinator: Coordinator) -> Router {
    let surface = Arc::new(Surface { coordinator, waits: Semaphore::new(WAITS_MAX) });
    Router::new()
        .route("/transaction", post(short::commit))
        .route("/transactions", get(own::list).post(own::begin))
        .route("/transactions/{gid}", get(one::show))
        .route("/transactions/{gid}/submit", post(one::submit))
        .route("/transactions/{gid}/abort", post(one::abort))
        .route("/transactions/{gid}/branches", post(one::enlist))
        .route("/transactions/{gid}/retry", post(one::retry))
        .route("/transactions/{gid}/stop", post(one::stop))
        .route("/protocols", get(protocols::list))
        .route("/api/dtmsvr/newGid", get(dtm::new_gid))
        .route("/api/dtmsvr/query", get(dtm::query))
        .route("/api/dtmsvr/all", get(dtm::all))
        .route("/api/dtmsvr/prepare", post(dtm::prepare))
        .route("/api/dtmsvr/submit", post(dtm::submit))
        .route("/api/dtmsvr/abort", post(dtm::abort))
        .route("/api/dtmsvr/registerBranch", post(dtm::register_branch))
        // What older clients of DTM's call it.
        .route("/api/dtmsvr/registerTccBranch", post(dtm::register_branch))
        .route("/api/dtmsvr/registerXaBranch", post(dtm::register_branch))
        .route("/api/dtmsvr/forceStop", post(dtm::force_stop))
        .with_state(surface)
}

/// What the handlers share.
pub(super) struct Surface {
    coordinator: Coordinator,
    waits: Semaphore,
}

/// Where a transaction stands.
#[derive(Serialize, ToSchema)]
pub(super) struct Outcome {
    gid: String,
    /// prepared, submitted, committing, aborting, hazard, succeeded, failed or stopped.
    status: &'static str,
    /// Why it is not succeeding.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Surface {
    /// Where it stands as soon as it has ended or stands in hazard, or after `wait`; `status` is where it stood just now.
    async fn outcome(&self, gid: &Gid, status: Status, wait: Duration) -> Result<Status, TransactionError> {
        if status.has_ended() || wait.is_zero() {
            return Ok(status);
        }
        match self.waits.try_acquire() {
            Ok(_permit) => self.coordinator.outcome(gid, wait).await,
            Err(_) => Ok(status),
        }
    }

    async fn reason(&self, gid: &Gid, status: Status) -> Result<Option<String>, TransactionError> {
        match status {
            Status::Failed | Status::Stopped | Status::Hazard => {
                Ok(report::reason(&self.coordinator.details(gid).await?))
            }
            _ => Ok(None),
        }
    }

    async fn told(&self, gid: &Gid, status: Status) -> Result<Outcome, TransactionError> {
        let reason = self.reason(gid, status).await?;
        Ok(Outcome { gid: gid.to_string(), status: status.as_str(), reason })
    }

    /// 200 where it has succeeded, 409 where it has failed; while it goes on 202, and 201 where its client has still to
    /// ask for its end, with where to look for it.
    async fn answer(&self, gid: &Gid, status: Status, wait: Duration) -> Result<Response, TransactionError> {
        let status = self.outcome(gid, status, wait).await?;
        let outcome = self.told(gid, status).await?;
        let code = match status {
            Status::Succeeded => StatusCode::OK,
            Status::Failed | Status::Stopped => StatusCode::CONFLICT,
            Status::Prepared => StatusCode::CREATED,
            Status::Submitted | Status::Committing | Status::Aborting | Status::Hazard => StatusCode::ACCEPTED,
        };
        let mut response = (code, Json(outcome)).into_response();
        if matches!(code, StatusCode::CREATED | StatusCode::ACCEPTED) {
            let location = format!("/transactions/{gid}");
            let location = HeaderValue::try_from(location).expect("an id has no characters that a header has not");
            response.headers_mut().insert(header::LOCATION, location);
        }
        Ok(response)
    }
}

/// What takes a transaction out of its protocol's hands is not a service's.
fn operators_only(caller: Caller) -> Result<(), Problem> {
    match caller {
        Caller::Operator => Ok(()),
        Caller::Service => {
            Err(Problem::new(StatusCode::FORBIDDEN, "stopping and retrying transactions needs the operators' token"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_for_services;

    #[test]
    fn services_may_use_transactions_and_nothing_beside_them() {
        for path in ["/transaction", "/transactions", "/transactions/a/stop", "/api/dtmsvr/newGid"] {
            assert!(is_for_services(path), "{path}");
        }
        for path in ["/", "/transactional", "/transaction/a", "/transactionss", "/api/dtmsvr", "/protocols"] {
            assert!(!is_for_services(path), "{path}");
        }
    }
}
