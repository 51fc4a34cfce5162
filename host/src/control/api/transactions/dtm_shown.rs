//! Transactions in DTM's words.

use serde_json::{Value, json};

use super::report::{reason, time};
use crate::{
    model::transaction::{Decision, Progress},
    transactions::{Details, Status, Summary},
};

/// The answer to DTM's `query`.
pub fn whole(details: &Details) -> Value {
    let mut transaction = summary(&details.summary);
    for field in ["query_prepared", "custom_data", "steps", "payloads"] {
        if let Some(value) = details.request.get(field) {
            transaction[field] = value.clone();
        }
    }
    if let Some(reason) = reason(details) {
        transaction["rollback_reason"] = reason.into();
    }
    let gid = &details.summary.gid;
    // What the client calls itself is no branch of DTM's.
    let branches = details.branches.iter().flat_map(|branch| {
        let calls = branch.operations.iter().filter(|operation| !operation.by_client);
        calls.map(|call| {
            let status = progress(&call.progress);
            json!({"gid": gid, "branch_id": branch.id, "op": call.op, "url": call.target, "status": status})
        })
    });
    json!({"transaction": transaction, "branches": branches.collect::<Vec<_>>()})
}

/// One of DTM's `all`.
pub fn summary(summary: &Summary) -> Value {
    let mut transaction = json!({
        "gid": summary.gid,
        "trans_type": summary.protocol,
        "status": status(summary),
        "protocol": "http",
        "create_time": time(summary.created_ms),
        "update_time": time(summary.updated_ms),
    });
    let ended = match summary.status {
        Status::Succeeded => Some("finish_time"),
        Status::Failed => Some("rollback_time"),
        _ => None,
    };
    if let Some(ended) = ended {
        transaction[ended] = time(summary.updated_ms).into();
    }
    transaction
}

/// DTM knows no hazard: such a transaction stands where its decision has brought it. What an operator stopped has failed,
/// as there.
fn status(summary: &Summary) -> &'static str {
    match (summary.status, summary.decision.or(summary.asked)) {
        (Status::Succeeded, _) => "succeed",
        (Status::Failed | Status::Stopped, _) => "failed",
        (Status::Prepared, _) | (Status::Hazard, None) => "prepared",
        (Status::Aborting, _) | (Status::Hazard, Some(Decision::Abort)) => "aborting",
        (Status::Submitted | Status::Committing, _) | (Status::Hazard, Some(Decision::Commit)) => "submitted",
    }
}

fn progress(progress: &Progress) -> &'static str {
    match progress {
        Progress::Succeeded => "succeed",
        Progress::Refused(_) => "failed",
        Progress::Idle | Progress::Running(_) | Progress::Unknown(_) => "prepared",
    }
}
