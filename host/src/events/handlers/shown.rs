//! How a handler stands, for whoever looks.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;

use super::{
    record::{Pin, Progress, Refused},
    room::{Outbox, OutboxCounts},
};
use crate::model::{Filter, HandlerName, OnFailure, Position};

/// What a generation is at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Doing {
    #[default]
    Starting,
    /// Handles what comes.
    Following,
    /// Builds its state beside the one in use.
    Replaying,
    /// The event at this position failed; it is tried again.
    Retrying {
        position: Position,
        attempts: u32,
        reason: String,
    },
    /// The event at this position failed, and nothing goes on until somebody says so.
    Halted {
        position: Position,
        reason: String,
    },
    /// So many calls wait or stand aside that no more are added.
    OutboxFull,
    /// The store does not take what was handled; it is tried again.
    NotStored(String),
    /// The version that it keeps to cannot be loaded.
    NotLoaded(String),
    TakenOver,
}

impl Doing {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Following => "following",
            Self::Replaying => "replaying",
            Self::Retrying { .. } => "retrying",
            Self::Halted { .. } => "halted",
            Self::OutboxFull => "outbox-full",
            Self::NotStored(_) => "not-stored",
            Self::NotLoaded(_) => "not-loaded",
            Self::TakenOver => "taken-over",
        }
    }
}

/// One generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationShown {
    pub generation: u64,
    pub pin: Pin,
    pub filter: Option<Filter>,
    pub progress: Progress,
    /// At or above the checkpoint: up to here nothing fits that it has not handled.
    pub looked_at: Position,
    pub doing: Doing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TroubleShown {
    pub at_ms: u64,
    pub message: String,
}

/// Everything of a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerShown {
    pub name: HandlerName,
    pub on_failure: OnFailure,
    /// What came at or before is none of its business.
    pub begins: Position,
    /// The last event that there is.
    pub head: Position,
    /// None: it has not begun.
    pub active: Option<GenerationShown>,
    /// Builds its state, to take over.
    pub rebuilding: Option<GenerationShown>,
    /// Why the last one did not take over.
    pub refused: Option<Refused>,
    pub calls_waiting: u64,
    pub calls_parked: u64,
    /// Of those that wait or stand aside.
    pub call_bytes: u64,
    /// Since the gateway started.
    pub calls_made: u64,
    pub faults: u64,
    pub last_error: Option<TroubleShown>,
}

impl HandlerShown {
    /// Events that it has not looked at.
    pub fn lag(&self) -> u64 {
        self.active.as_ref().map_or(0, |active| self.head.0.saturating_sub(active.looked_at.0))
    }
}

/// Where the tasks of a handler write down how it stands.
#[derive(Debug, Default)]
pub(super) struct Cell {
    standing: Mutex<Standing>,
    pub outbox: Outbox,
    /// The first event of which calls were added that the sender has not looked for.
    first_added: Mutex<Option<Position>>,
    pub calls_made: AtomicU64,
    faults: AtomicU64,
    /// Calls were added to the outbox.
    pub calls_added: Notify,
    /// One of them has gone.
    pub call_gone: Notify,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    pub active: Option<GenerationShown>,
    pub rebuilding: Option<GenerationShown>,
    pub refused: Option<Refused>,
    pub last_error: Option<TroubleShown>,
    pub on_failure: OnFailure,
    pub begins: Position,
}

impl Cell {
    pub fn lock(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down something of a generation that still stands there.
    pub fn update(&self, generation: u64, change: impl FnOnce(&mut GenerationShown)) {
        let mut standing = self.lock();
        let Standing { active, rebuilding, .. } = &mut *standing;
        let shown = [active, rebuilding].into_iter().flatten().find(|shown| shown.generation == generation);
        if let Some(shown) = shown {
            change(shown);
        }
    }

    pub fn doing(&self, generation: u64, doing: Doing) {
        self.update(generation, |shown| shown.doing = doing);
    }

    pub fn failed(&self, at_ms: u64, message: String) {
        self.lock().last_error = Some(TroubleShown { at_ms, message });
    }

    /// Answers how often it has.
    pub fn faulted(&self) -> u64 {
        self.faults.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Calls of events from there on were added to the outbox.
    pub fn added_from(&self, first: Position) {
        let mut added = self.first_added.lock().unwrap_or_else(PoisonError::into_inner);
        *added = Some(added.map_or(first, |before| before.min(first)));
        self.calls_added.notify_one();
    }

    pub fn take_first_added(&self) -> Option<Position> {
        self.first_added.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub fn show(&self, name: &HandlerName, head: Position) -> HandlerShown {
        let Standing { active, rebuilding, refused, last_error, on_failure, begins } = self.lock().clone();
        let OutboxCounts { waiting, parked, bytes } = self.outbox.counts();
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        HandlerShown {
            name: name.clone(),
            on_failure,
            begins,
            head,
            active,
            rebuilding,
            refused,
            calls_waiting: waiting,
            calls_parked: parked,
            call_bytes: bytes,
            calls_made: count(&self.calls_made),
            faults: count(&self.faults),
            last_error,
        }
    }
}
