//! What the tasks of all handlers share.

use std::{
    collections::BTreeMap,
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
    model::{Event, Filter, HandlerName, Position, Wall, backoff},
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

/// Handlers that have emitted something since the gateway started, and which events they want. Those that want an event share
/// what may come of it.
#[derive(Default)]
pub(super) struct Emitters(Mutex<BTreeMap<HandlerName, Filter>>);

impl Emitters {
    /// This one does.
    pub fn add(&self, name: &HandlerName, filter: &Filter) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(name) != Some(filter) {
            all.insert(name.clone(), filter.clone());
        }
    }

    /// How many want the event.
    pub fn count(&self, event: &Event) -> u32 {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (event_type, stream) = (event.draft.event_type.as_str(), event.stream.as_str());
        let count = all.values().filter(|filter| filter.admits(event_type, stream)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// Resolves once it is time to stop.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Whoever could say so is gone: that is as good.
    let _ = stop.wait_for(|stop| *stop).await;
}
