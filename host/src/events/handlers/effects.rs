//! What a handler's answer puts into the commit: events for the log, calls for the outbox.

use std::sync::Arc;

use super::{keys::CallId, record::OutboxCall};
use crate::{
    events::StreamAppend,
    model::{Event, EventSource, Expected, HandlerName},
    plugin::{Caused, Effect, HandlerCall},
};

/// Of one answer, in the order of the causes.
#[derive(Debug, Default)]
pub struct Effects {
    pub streams: Vec<StreamAppend>,
    /// Of all that is emitted.
    pub depth: u8,
    pub emitted: u64,
    pub calls: Vec<(CallId, OutboxCall)>,
}

/// What is emitted has causes of several depths, which one append cannot say. In smaller pieces it can.
#[derive(Debug, PartialEq, Eq)]
pub struct SeveralDepths;

impl Effects {
    /// The n-th effect of an event has the same id for ever: handler, position of the cause, n.
    pub fn of(
        name: &HandlerName,
        events: &[Arc<Event>],
        mut caused: Vec<Caused>,
        now_ms: u64,
    ) -> Result<Self, SeveralDepths> {
        caused.sort_by_key(|caused| caused.by);
        let source: EventSource = format!("/projections/{name}").parse().expect("a path is a right source");
        let mut effects = Self::default();
        let (mut cause, mut nth) = (usize::MAX, 0);
        for Caused { by, effect } in caused {
            nth = if by == cause { nth + 1 } else { 0 };
            cause = by;
            let event = &events[by];
            match effect {
                Effect::Emit(given) => {
                    let depth = event.depth.saturating_add(1);
                    if effects.emitted > 0 && effects.depth != depth {
                        return Err(SeveralDepths);
                    }
                    effects.depth = depth;
                    effects.emitted += 1;
                    let id = format!("{name}:{}:{nth}", event.position);
                    let id = id.parse().expect("a name and numbers are a right id");
                    let stream = given.stream.clone();
                    let draft = given.into_draft(id, source.clone());
                    match effects.streams.iter_mut().find(|of| of.stream == stream) {
                        Some(of) => of.drafts.push(draft),
                        None => {
                            effects.streams.push(StreamAppend { stream, expected: Expected::Any, drafts: vec![draft] });
                        }
                    }
                }
                Effect::Call(given) => {
                    let id = CallId { cause: event.position, nth, stream: event.stream.clone() };
                    effects.calls.push((id, record(given, now_ms)));
                }
            }
        }
        Ok(effects)
    }
}

/// By which a service knows a call that it has had already.
pub fn idempotency_key(name: &HandlerName, id: &CallId) -> String {
    format!("{name}:{}:{}", id.cause, id.nth)
}

fn record(given: HandlerCall, now_ms: u64) -> OutboxCall {
    let HandlerCall { target, method, headers, body } = given;
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    OutboxCall { target, method: method.to_string(), headers, body, at_ms: now_ms, attempts: 0, last_error: None }
}
