//! Transactions as this API shows them.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    model::transaction::{Decision, Phase, Progress},
    transactions::{BranchShown, Details, Event, EventKind, OperationShown, Status, Summary},
};

/// The last millisecond that RFC 3339 can write, the end of the year 9999.
const LAST_MS: u64 = 253_402_300_799_999;

/// A line of the list.
#[derive(Serialize, ToSchema)]
pub struct SummaryReport {
    gid: String,
    protocol: String,
    /// prepared, submitted, committing, aborting, hazard, succeeded, failed or stopped.
    status: &'static str,
    /// It keeps to this version of its protocol until it ends.
    plugin: String,
    version: String,
    /// RFC 3339, UTC.
    created_at: String,
    updated_at: String,
    /// What its client has asked for: commit or abort.
    #[serde(skip_serializing_if = "Option::is_none")]
    asked: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<String>,
    /// Why an operator has to look.
    #[serde(skip_serializing_if = "Option::is_none")]
    hazard: Option<String>,
    /// What the call that has failed most often said last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

impl SummaryReport {
    pub fn of(summary: &Summary) -> Self {
        Self {
            gid: summary.gid.to_string(),
            protocol: summary.protocol.clone(),
            status: summary.status.as_str(),
            plugin: summary.plugin.to_string(),
            version: summary.version.to_string(),
            created_at: time(summary.created_ms),
            updated_at: time(summary.updated_ms),
            asked: summary.asked.map(|asked| asked.to_string()),
            decision: summary.decision.map(|decision| decision.to_string()),
            hazard: summary.hazard.clone(),
            last_error: summary.last_error.clone(),
        }
    }
}

/// One transaction with all that has happened to it.
#[derive(Serialize, ToSchema)]
pub struct DetailsReport {
    #[serde(flatten)]
    summary: SummaryReport,
    /// Of the protocol, as the transaction began.
    #[schema(value_type = Object)]
    settings: Map<String, Value>,
    /// Why it is not succeeding.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// When it expires, where it still does.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    branches: Vec<BranchReport>,
    /// In their order.
    events: Vec<EventReport>,
    /// Later ones that were not kept.
    events_left_out: u64,
    /// Why it does not go on, where that is the gateway's own trouble.
    #[serde(skip_serializing_if = "Option::is_none")]
    held_up: Option<String>,
    /// As received.
    #[schema(value_type = Object)]
    request: Map<String, Value>,
}

#[derive(Serialize, ToSchema)]
pub struct BranchReport {
    id: String,
    /// Branches that go before it.
    after: Vec<String>,
    operations: Vec<OperationReport>,
}

#[derive(Serialize, ToSchema)]
pub struct OperationReport {
    op: String,
    target: String,
    /// undecided, committed or aborted: when it may run.
    phase: &'static str,
    /// Whether the client makes the call itself.
    by_client: bool,
    /// idle, running, succeeded, refused or unknown.
    progress: &'static str,
    /// The participant's own words where it refused, and else why nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Without a clear answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_at: Option<String>,
}

/// Something that happened. `what` says which fields there are: branch, operation, why, decision, reason, ending.
#[derive(Serialize, ToSchema)]
pub struct EventReport {
    /// RFC 3339, UTC.
    at: String,
    #[serde(flatten)]
    #[schema(value_type = Object)]
    what: EventKind,
}

impl DetailsReport {
    pub fn of(details: &Details) -> Self {
        Self {
            summary: SummaryReport::of(&details.summary),
            settings: details.settings.clone(),
            reason: reason(details),
            expires_at: details.expires_ms.map(time),
            branches: details.branches.iter().map(branch).collect(),
            events: details.events.iter().map(event).collect(),
            events_left_out: details.events_left_out,
            held_up: details.held_up.clone(),
            request: details.request.clone(),
        }
    }
}

fn branch(BranchShown { id, after, operations }: &BranchShown) -> BranchReport {
    BranchReport { id: id.clone(), after: after.clone(), operations: operations.iter().map(operation).collect() }
}

fn operation(shown: &OperationShown) -> OperationReport {
    let (progress, reason) = match &shown.progress {
        Progress::Idle => ("idle", None),
        Progress::Running(_) => ("running", None),
        Progress::Succeeded => ("succeeded", None),
        Progress::Refused(why) => ("refused", Some(why.clone())),
        Progress::Unknown(why) => ("unknown", Some(why.clone())),
    };
    let trouble = shown.trouble.as_ref();
    OperationReport {
        op: shown.op.clone(),
        target: shown.target.clone(),
        phase: match shown.phase {
            Phase::Undecided => "undecided",
            Phase::Committed => "committed",
            Phase::Aborted => "aborted",
        },
        by_client: shown.by_client,
        progress,
        reason,
        attempts: trouble.map(|trouble| trouble.attempts),
        last_error: trouble.map(|trouble| trouble.last_error.clone()),
        next_at: trouble.and_then(|trouble| trouble.next_ms).map(time),
    }
}

fn event(event: &Event) -> EventReport {
    EventReport { at: time(event.at_ms), what: event.what.clone() }
}

/// RFC 3339, UTC.
pub fn time(at_ms: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(at_ms.min(LAST_MS))).to_string()
}

/// Why a transaction is not succeeding, in one sentence: what moved its protocol to abort, or keeps it in hazard.
pub fn reason(details: &Details) -> Option<String> {
    let Summary { status, hazard, .. } = &details.summary;
    match status {
        Status::Hazard => return hazard.clone(),
        Status::Stopped => return Some("an operator stopped it".to_owned()),
        Status::Aborting | Status::Failed => {}
        _ => return None,
    }
    let before_decision = details.events.iter().take_while(|event| !matches!(event.what, EventKind::Decided { .. }));
    let said = before_decision.filter_map(|event| match &event.what {
        EventKind::Refused { branch, operation, why } => Some(format!("branch {branch} refused {operation}: {why}")),
        EventKind::Asked { decision: Decision::Abort, reason } => Some(match reason {
            Some(reason) => format!("its client asked for it: {reason}"),
            None => "its client asked for it".to_owned(),
        }),
        EventKind::Expired => Some("its time was over".to_owned()),
        _ => None,
    });
    said.last().or_else(|| unanswered(details))
}

/// The call before the decision that has failed most often.
fn unanswered(details: &Details) -> Option<String> {
    let calls = details.branches.iter().flat_map(|branch| branch.operations.iter().map(move |call| (branch, call)));
    let undecided = calls.filter(|(_, call)| call.phase == Phase::Undecided);
    let in_trouble = undecided.filter_map(|(branch, call)| Some((branch, call, call.trouble.as_ref()?)));
    let (branch, call, trouble) = in_trouble.max_by_key(|(.., trouble)| trouble.attempts)?;
    let (id, op) = (&branch.id, &call.op);
    Some(format!(
        "branch {id} gave no clear answer to {op}, {} times; the last: {}",
        trouble.attempts, trouble.last_error
    ))
}
