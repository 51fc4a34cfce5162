//! What a handler's answer puts into the commit: events for the log, calls for the outbox.

use std::sync::Arc;

use super::{keys::CallId, record::OutboxCall};
use crate::{
    events::StreamAppend,
    model::{Draft, Event, EventSource, Expected, HandlerName},
    plugin::{Caused, Effect, HandlerCall},
};

/// Of one answer, in the order of the causes.
#[derive(Debug, Default)]
pub struct Effects {
    pub streams: Vec<StreamAppend>,
    /// Of all that is emitted.
    pub emitted: u64,
    pub calls: Vec<(CallId, OutboxCall)>,
}

/// What the rest of the gateway has to say to effects.
pub struct Within<'w> {
    pub now_ms: u64,
    /// How many handlers are known to emit something for such an event.
    pub emitters: &'w dyn Fn(&Event) -> u32,
    /// Whether this target may be called; why not otherwise.
    pub check_target: &'w dyn Fn(&str) -> Result<(), String>,
}

/// An event must not cause what the handler would have it cause, however often it is tried.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAllowed {
    /// Index of the event.
    pub at: usize,
    pub reason: String,
}

impl Effects {
    /// The n-th effect of an event has the same id for ever: handler, position of the cause, n.
    pub fn of(
        name: &HandlerName,
        events: &[Arc<Event>],
        mut caused: Vec<Caused>,
        within: &Within<'_>,
    ) -> Result<Self, NotAllowed> {
        caused.sort_by_key(|caused| caused.by);
        let source: EventSource = format!("/projections/{name}").parse().expect("a path is a right source");
        let mut effects = Self::default();
        let mut rest = caused.into_iter().peekable();
        while let Some(at) = rest.peek().map(|caused| caused.by) {
            let mut of_event = Vec::new();
            while let Some(caused) = rest.next_if(|caused| caused.by == at) {
                of_event.push(caused.effect);
            }
            let added = effects.add(name, &source, &events[at], of_event, within);
            added.map_err(|reason| NotAllowed { at, reason })?;
        }
        Ok(effects)
    }

    fn add(
        &mut self,
        name: &HandlerName,
        source: &EventSource,
        event: &Event,
        of_event: Vec<Effect>,
        within: &Within<'_>,
    ) -> Result<(), String> {
        let emits = of_event.iter().filter(|effect| matches!(effect, Effect::Emit(_))).count();
        let mut causation = event.draft.causation;
        if emits > 0 {
            let count = u32::try_from(emits).expect("HANDLE_EFFECTS_MAX bounds them");
            let next = causation.of_each_effect(count, (within.emitters)(event));
            causation = next.map_err(|problem| problem.to_string())?;
        }
        for (nth, effect) in (0_u32..).zip(of_event) {
            match effect {
                Effect::Emit(given) => {
                    self.emitted += 1;
                    let id = format!("{name}:{}:{nth}", event.position);
                    let id = id.parse().expect("a name and numbers are a right id");
                    let stream = given.stream.clone();
                    let draft = Draft { causation, ..given.into_draft(id, source.clone()) };
                    match self.streams.iter_mut().find(|of| of.stream == stream) {
                        Some(of) => of.drafts.push(draft),
                        None => {
                            self.streams.push(StreamAppend { stream, expected: Expected::Any, drafts: vec![draft] });
                        }
                    }
                }
                Effect::Call(given) => {
                    // One that must not be called would wait for nothing, and stand aside for ever.
                    (within.check_target)(&given.target).map_err(|reason| format!("{}: {reason}", given.target))?;
                    let id = CallId { cause: event.position, nth, stream: event.stream.clone() };
                    self.calls.push((id, record(given, within.now_ms)));
                }
            }
        }
        Ok(())
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
