//! What the tasks of all handlers share.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::watch;

use super::{HandlerVersions, journal::Journal, record::Pin, room::OutboxBounds};
use crate::{
    events::EventStore,
    model::{EventType, Filter, HandlerName, Position, Wall, backoff},
    plugin::BoxFuture,
};

/// A call that an event has caused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingCall {
    pub method: http::Method,
    /// `service://NAME/path`, or a URL.
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub timeout: Duration,
}

/// Makes calls.
pub trait HandlerCaller: Send + Sync + 'static {
    /// The status of the answer, or why there is none.
    fn call(&self, call: OutgoingCall) -> BoxFuture<'static, Result<StatusCode, String>>;

    /// Whether it may be called at all; why not otherwise.
    fn check(&self, target: &str) -> Result<(), String>;
}

/// Something that somebody may want to know of a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Fault(String),
    Parked {
        position: Position,
        reason: String,
    },
    Halted {
        position: Position,
        reason: String,
    },
    /// A new generation builds its state.
    Rebuilding,
    /// The new generation is in use.
    TookOver {
        checkpoint: Position,
    },
    /// The new generation is not in use, and goes.
    Refused {
        position: Position,
        reason: String,
    },
    CallParked {
        target: String,
        reason: String,
    },
    /// Its record cannot be read.
    CallLost {
        reason: String,
    },
    /// It asked for what is not granted, so often.
    NotGranted {
        times: u64,
        first: String,
    },
}

/// Whether the so-manieth of its kind is told: thousands of the same would push everything else out of the history.
pub(super) fn is_told(nth: u64) -> bool {
    nth <= 10 || nth.is_multiple_of(1_000)
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => write!(f, "{fault}"),
            Self::Parked { position, reason } => write!(f, "the event at {position} is put aside: {reason}"),
            Self::Halted { position, reason } => write!(f, "it is halted at the event at {position}: {reason}"),
            Self::Rebuilding => f.write_str("it builds its state beside the one in use"),
            Self::TookOver { checkpoint } => write!(f, "its new state is in use from position {checkpoint} on"),
            Self::Refused { position, reason } => {
                write!(f, "its new state does not come into use, for the event at {position}: {reason}")
            }
            Self::CallParked { target, reason } => write!(f, "a call to {target} is put aside: {reason}"),
            Self::CallLost { reason } => f.write_str(reason),
            Self::NotGranted { times, first } => {
                write!(f, "it asked {times} times for what is not granted, the first time so: {first}")
            }
        }
    }
}

/// Passes it on.
pub type Tell = Arc<dyn Fn(&HandlerName, &Pin, &Told) + Send + Sync>;

pub(super) struct Core {
    pub journal: Journal,
    pub events: EventStore,
    pub caller: Arc<dyn HandlerCaller>,
    pub versions: Arc<dyn HandlerVersions>,
    pub tell: Tell,
    pub wall: Wall,
    pub random: Mutex<fastrand::Rng>,
    pub emitters: Emitters,
    pub outbox: OutboxBounds,
    pub shutdown: watch::Sender<bool>,
}

impl Core {
    pub fn pause(&self, failed: u32, base: Duration) -> Duration {
        backoff::pause(failed, base, &mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Types of events that are remembered of one handler: handlers name a few dozen. One with more may emit for any.
const CAUSE_TYPES_MAX: usize = 1_000;

/// For which events handlers have emitted something since the gateway started: those that do so for an event share what may
/// come of it. One that has yet to begin is not among them.
#[derive(Default)]
pub(super) struct Emitters(Mutex<BTreeMap<HandlerName, Emitter>>);

struct Emitter {
    filter: Filter,
    causes: BTreeSet<EventType>,
}

impl Emitters {
    /// This one emits something for an event of this type.
    pub fn add(&self, name: &HandlerName, filter: &Filter, cause: &EventType) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(name).is_some_and(|of| of.filter == *filter);
        if !known {
            all.insert(name.clone(), Emitter { filter: filter.clone(), causes: BTreeSet::new() });
        }
        if let Some(of) = all.get_mut(name)
            && of.causes.len() < CAUSE_TYPES_MAX
            && !of.causes.contains(cause)
        {
            of.causes.insert(cause.clone());
        }
    }

    /// Nobody wants it any more.
    pub fn remove(&self, name: &HandlerName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// How many emit something for such an event.
    pub fn count(&self, event_type: &str, stream: &str) -> u32 {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.values().filter(|of| of.may_emit_for(event_type, stream)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

impl Emitter {
    fn may_emit_for(&self, event_type: &str, stream: &str) -> bool {
        let is_cause = self.causes.len() >= CAUSE_TYPES_MAX || self.causes.contains(event_type);
        is_cause && self.filter.admits(event_type, stream)
    }
}

/// Resolves once it is time to stop.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Whoever could say so is gone: that is as good.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HandlerName {
        text.parse().expect("a name")
    }

    fn event_type(text: &str) -> EventType {
        text.parse().expect("a type")
    }

    #[test]
    fn those_that_emit_for_an_event_share_what_comes_of_it_and_no_others() {
        let (emitters, everything) = (Emitters::default(), Filter::default());
        for (handler, cause) in [("a", "ordered"), ("b", "paid"), ("c", "sent"), ("d", "sent")] {
            emitters.add(&name(handler), &everything, &event_type(cause));
        }
        assert_eq!(["ordered", "paid", "sent", "other"].map(|of| emitters.count(of, "s")), [1, 1, 2, 0]);
        // What another version does not want is not counted.
        let others = Filter { streams: vec!["other".parse().expect("a pattern")], ..Filter::default() };
        emitters.add(&name("c"), &others, &event_type("sent"));
        assert_eq!((emitters.count("sent", "s"), emitters.count("sent", "other")), (1, 2));
        emitters.remove(&name("d"));
        assert_eq!(emitters.count("sent", "s"), 0);
    }

    #[test]
    fn one_that_emits_for_more_types_than_are_remembered_is_counted_for_all() {
        let emitters = Emitters::default();
        for n in 0..CAUSE_TYPES_MAX + 9 {
            assert_eq!(emitters.count("other", "s"), u32::from(n >= CAUSE_TYPES_MAX));
            emitters.add(&name("a"), &Filter::default(), &event_type(&format!("t{n}")));
        }
        let all = emitters.0.lock().expect("unpoisoned");
        assert_eq!(all[&name("a")].causes.len(), CAUSE_TYPES_MAX);
    }
}
