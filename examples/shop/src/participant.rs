//! A service as a participant of transactions: what the gateway's coordinator calls.
//!
//! Each operation is a path of its own name: `service://inventory/prepare` is `POST /prepare` at an instance of inventory,
//! with `?gid=&trans_type=&branch_id=&op=` and the order as its body. No route of the gateway leads there, so that nobody
//! but the coordinator calls them. Any instance will do: those of a service share their store, and with it the
//! [`Barrier`](crate::barrier::Barrier), so a repetition finds what the first copy did although another instance did it
//! and has been killed since.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    barrier::{Operation, Passed, Stopped},
    reply::{Refusal, Reply, answering},
};

/// Orders under way for which a service holds something at once; more are refused.
pub const HOLDS_MAX: usize = 1_000;

/// What each participant is sent: the whole order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    pub order: String,
    pub sku: String,
    pub quantity: u64,
    pub price_cents: u64,
    #[serde(default)]
    pub card: String,
    /// The instance that took the order.
    pub taken_by: String,
}

/// Whose call this is.
#[derive(Clone, Debug, Deserialize)]
pub struct Call {
    pub gid: String,
    pub branch_id: String,
    pub op: Op,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    Prepare,
    Commit,
    Abort,
    Try,
    Confirm,
    Cancel,
    Action,
    Compensate,
}

/// What an operation is to the business, whatever its protocol calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Sets aside, so that it is there for this order, and can be given back.
    Hold,
    /// What is held is for good.
    Settle,
    /// What is held is given back.
    Release,
    /// At once for good: a saga does not hold.
    Perform,
    /// Undoes what was performed.
    Revert,
}

/// A service's side of it.
pub trait Participant: Send + Sync + 'static {
    /// Passes the barrier and does it, in one change of the service's store.
    fn carry_out(&self, operation: Operation<'_>, deed: Deed, part: &Part) -> Reply<Outcome>;
}

/// As the barrier answers.
pub type Outcome = Result<Passed<()>, Stopped<Refusal>>;

impl Op {
    const ALL: [Self; 8] = [
        Self::Prepare,
        Self::Commit,
        Self::Abort,
        Self::Try,
        Self::Confirm,
        Self::Cancel,
        Self::Action,
        Self::Compensate,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Commit => "commit",
            Self::Abort => "abort",
            Self::Try => "try",
            Self::Confirm => "confirm",
            Self::Cancel => "cancel",
            Self::Action => "action",
            Self::Compensate => "compensate",
        }
    }

    fn deed(self) -> Deed {
        match self {
            Self::Prepare | Self::Try => Deed::Hold,
            Self::Commit | Self::Confirm => Deed::Settle,
            Self::Abort | Self::Cancel => Deed::Release,
            Self::Action => Deed::Perform,
            Self::Compensate => Deed::Revert,
        }
    }
}

/// What is to be settled or undone is not there: the barrier lets no such call through unless the store has lost something,
/// so the transaction is to stand where people see it.
pub fn nothing_of(order: &str) -> Refusal {
    Refusal::new(StatusCode::CONFLICT, format!("there is nothing of order {order:?}"))
}

/// The paths that the coordinator calls.
pub fn router<P: Participant>(participant: Arc<P>) -> Router {
    let paths = Op::ALL.into_iter().fold(Router::new(), |router, op| {
        let carry_out = async move |State(participant): State<Arc<P>>, Query(call): Query<Call>, Json(part)| {
            carry_out(participant, op, call, part).await
        };
        router.route(&format!("/{}", op.name()), post(carry_out))
    });
    paths.with_state(participant)
}

async fn carry_out<P: Participant>(participant: Arc<P>, op: Op, call: Call, part: Part) -> Response {
    answering(move || {
        let Call { gid, branch_id, op: named } = &call;
        if *named != op {
            let detail = format!("op={} does not belong to /{}", named.name(), op.name());
            return Err(Refusal::new(StatusCode::BAD_REQUEST, detail));
        }
        let operation = Operation { gid, branch_id, op: op.name() };
        Ok(answer(participant.carry_out(operation, op.deed(), &part)?))
    })
    .await
}

/// 2xx: it is as wanted; 409: it is not to be, in plain words, which the coordinator keeps. (A store that fails is a
/// 5xx, and the coordinator asks again.)
fn answer(outcome: Outcome) -> Response {
    let passed = |how: &str| Json(json!({ "passed": how })).into_response();
    let conflict = |why: String| (StatusCode::CONFLICT, why).into_response();
    match outcome {
        Ok(Passed::Done(())) => passed("done"),
        Ok(Passed::Duplicate) => passed("duplicate"),
        Ok(Passed::Empty) => passed("empty"),
        Err(Stopped::Refused(refusal)) => conflict(refusal.detail),
        Err(Stopped::RefusedBefore(why)) => conflict(why),
        Err(Stopped::TooLate) => conflict("it has been undone already".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_named_in_a_call_as_its_path_is() {
        for op in Op::ALL {
            let call = json!({ "gid": "g", "branch_id": "01", "op": op.name(), "trans_type": "saga" });
            assert_eq!(serde_json::from_value::<Call>(call).expect("a call").op, op);
        }
    }

    #[test]
    fn every_refusal_is_a_conflict_and_everything_else_is_success() {
        let refusal = Refusal::not_found("product", "gold");
        for stopped in [Stopped::Refused(refusal), Stopped::RefusedBefore("no".to_owned()), Stopped::TooLate] {
            assert_eq!(answer(Err(stopped)).status(), StatusCode::CONFLICT);
        }
        for passed in [Passed::Done(()), Passed::Duplicate, Passed::Empty] {
            assert_eq!(answer(Ok(passed)).status(), StatusCode::OK);
        }
    }
}
