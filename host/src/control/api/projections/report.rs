//! An event handler as the API shows it.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    control::api::access::Caller,
    events::handlers::{
        Aside, CallId, Doing, GenerationShown, HandlerShown, OutboxCall, ParkedEvent, Refused, TroubleShown,
    },
    model::{EventTime, OnFailure, Position},
};

#[derive(Serialize, ToSchema)]
pub struct ProjectionReport {
    name: String,
    /// starting, following, retrying, halted, outbox-full, not-stored, not-loaded or taken-over.
    status: &'static str,
    /// Why it does not follow; null where it does.
    reason: Option<String>,
    plugin: Option<String>,
    /// That made the state in use.
    version: Option<String>,
    /// For operators alone, for there may be secrets in it; null for others.
    #[schema(value_type = Option<Object>)]
    settings: Option<Map<String, Value>>,
    /// Grows with each state that comes into use.
    generation: u64,
    /// Which events it wants; empty: all.
    types: Vec<String>,
    streams: Vec<String>,
    /// What becomes of an event that it does not take: park or halt.
    on_failure: &'static str,
    /// Of the last event that there is.
    head: u64,
    /// All at or below was handled, put aside, or is none that it wants.
    checkpoint: u64,
    /// Events that it has not looked at.
    lag: u64,
    /// Events handled.
    handled: u64,
    /// Events that it has appended.
    emitted: u64,
    /// Events that stand aside.
    parked: u64,
    calls: CallsReport,
    /// Keys and values.
    state_bytes: u64,
    /// Calls of the plugin that did not come back, since the gateway started.
    faults: u64,
    last_error: Option<TroubleReport>,
    /// Builds its state beside the one in use, to take over; null where none does.
    rebuilding: Option<RebuildReport>,
    /// Why the last one did not take over; null where it did.
    refused: Option<RefusedReport>,
}

/// What its events have called.
#[derive(Serialize, ToSchema)]
pub struct CallsReport {
    waiting: u64,
    /// Answered well, since the gateway started.
    made: u64,
    /// That failed too often.
    parked: u64,
    /// Of those that wait or stand aside.
    bytes: u64,
}

#[derive(Serialize, ToSchema)]
pub struct TroubleReport {
    /// RFC 3339, UTC.
    at: String,
    message: String,
}

#[derive(Serialize, ToSchema)]
pub struct RebuildReport {
    plugin: String,
    version: String,
    generation: u64,
    /// replaying, retrying or not-stored.
    status: &'static str,
    reason: Option<String>,
    checkpoint: u64,
    /// The checkpoint of the state in use, at which it takes over.
    goal: u64,
    percent: u8,
    /// Events handled.
    handled: u64,
}

#[derive(Serialize, ToSchema)]
pub struct RefusedReport {
    plugin: String,
    version: String,
    /// Of the event that it did not take.
    position: u64,
    reason: String,
    at: String,
}

/// An event handler with what was put aside.
#[derive(Serialize, ToSchema)]
pub struct DetailsReport {
    #[serde(flatten)]
    projection: ProjectionReport,
    /// The first of them.
    parked_events: Vec<ParkedEventReport>,
    /// The first of them; for operators alone, for there may be secrets in what they call.
    parked_calls: Vec<ParkedCallReport>,
}

#[derive(Serialize, ToSchema)]
pub struct ParkedEventReport {
    position: u64,
    reason: String,
    attempts: u32,
    at: String,
}

#[derive(Serialize, ToSchema)]
pub struct ParkedCallReport {
    /// Of the event that caused it.
    position: u64,
    stream: String,
    /// Which of the event's effects it is.
    nth: u32,
    method: String,
    target: String,
    attempts: u32,
    reason: Option<String>,
    at: String,
}

impl ProjectionReport {
    pub fn of(shown: HandlerShown, caller: Caller) -> Self {
        let lag = shown.lag();
        let HandlerShown { name, on_failure, head, active, rebuilding, refused, last_error, .. } = shown;
        let goal = active.as_ref().map_or(Position::START, |active| active.progress.checkpoint);
        let progress = active.as_ref().map(|active| active.progress).unwrap_or_default();
        let doing = active.as_ref().map(|active| active.doing.clone()).unwrap_or_default();
        let filter = active.as_ref().and_then(|active| active.filter.clone()).unwrap_or_default();
        let pin = active.as_ref().map(|active| &active.pin);
        let texts = |patterns: Vec<crate::model::Pattern>| patterns.iter().map(ToString::to_string).collect();
        Self {
            name: name.to_string(),
            status: doing.as_str(),
            reason: reason(&doing),
            plugin: pin.map(|pin| pin.plugin.to_string()),
            version: pin.map(|pin| pin.version.to_string()),
            settings: (caller == Caller::Operator).then(|| pin.map(|pin| pin.settings.clone()).unwrap_or_default()),
            generation: active.as_ref().map_or(0, |active| active.generation),
            types: texts(filter.types),
            streams: texts(filter.streams),
            on_failure: match on_failure {
                OnFailure::Park => "park",
                OnFailure::Halt => "halt",
            },
            head: head.0,
            checkpoint: progress.checkpoint.0,
            lag,
            handled: progress.handled,
            emitted: progress.emitted,
            parked: progress.parked,
            calls: CallsReport {
                waiting: shown.calls_waiting,
                made: shown.calls_made,
                parked: shown.calls_parked,
                bytes: shown.call_bytes,
            },
            state_bytes: progress.state_bytes,
            faults: shown.faults,
            last_error: last_error.map(|TroubleShown { at_ms, message }| TroubleReport { at: time(at_ms), message }),
            rebuilding: rebuilding.map(|rebuilding| RebuildReport::of(&rebuilding, shown.begins, goal)),
            refused: refused.map(RefusedReport::of),
        }
    }
}

impl RebuildReport {
    fn of(shown: &GenerationShown, begins: Position, goal: Position) -> Self {
        let checkpoint = shown.progress.checkpoint.0;
        let (done, all) = (checkpoint.saturating_sub(begins.0), goal.0.saturating_sub(begins.0));
        let percent = if all == 0 { 100 } else { (u128::from(done) * 100 / u128::from(all)).min(100) };
        Self {
            plugin: shown.pin.plugin.to_string(),
            version: shown.pin.version.to_string(),
            generation: shown.generation,
            status: shown.doing.as_str(),
            reason: reason(&shown.doing),
            checkpoint,
            goal: goal.0,
            percent: u8::try_from(percent).unwrap_or(100),
            handled: shown.progress.handled,
        }
    }
}

impl RefusedReport {
    fn of(Refused { pin, position, reason, at_ms }: Refused) -> Self {
        let (plugin, version) = (pin.plugin.to_string(), pin.version.to_string());
        Self { plugin, version, position: position.0, reason, at: time(at_ms) }
    }
}

impl DetailsReport {
    pub fn of(shown: HandlerShown, aside: Aside, caller: Caller) -> Self {
        let is_operator = caller == Caller::Operator;
        let event = |(position, parked): (Position, ParkedEvent)| ParkedEventReport {
            position: position.0,
            reason: parked.reason,
            attempts: parked.attempts,
            at: time(parked.at_ms),
        };
        let call = |(id, call): (CallId, OutboxCall)| ParkedCallReport {
            position: id.cause.0,
            stream: id.stream.to_string(),
            nth: id.nth,
            method: call.method,
            target: call.target,
            attempts: call.attempts,
            reason: call.last_error,
            at: time(call.at_ms),
        };
        Self {
            projection: ProjectionReport::of(shown, caller),
            parked_events: aside.events.into_iter().map(event).collect(),
            parked_calls: if is_operator { aside.calls.into_iter().map(call).collect() } else { Vec::new() },
        }
    }
}

fn reason(doing: &Doing) -> Option<String> {
    match doing {
        Doing::Retrying { position, attempts, reason } => {
            Some(format!("the event at {position} failed {attempts} times: {reason}"))
        }
        Doing::Halted { position, reason } => Some(format!("the event at {position} failed: {reason}")),
        Doing::NotStored(reason) | Doing::NotLoaded(reason) => Some(reason.clone()),
        Doing::OutboxFull => Some(
            "more calls wait or stand aside than may: they wait for their targets, or to be replayed or discarded"
                .to_owned(),
        ),
        Doing::TakenOver => Some("another gateway has taken the event handlers over".to_owned()),
        Doing::Starting | Doing::Following | Doing::Replaying => None,
    }
}

/// RFC 3339, UTC.
fn time(unix_ms: u64) -> String {
    EventTime::of_unix_ms(unix_ms).as_str().to_owned()
}
