//! One generation of a handler, and how it takes events: each batch is handled and becomes one durable commit, or nothing.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::watch, time::sleep};

use super::{
    Handler,
    core::{Core, Told, is_told, stopped},
    effects::{Effects, NotAllowed, Within},
    error::HandlersError,
    handler::StoredState,
    journal::NotKept,
    keys::{self, SPACE},
    record::{ParkedEvent, Pin, Progress, compact},
    shown::{Cell, Doing},
};
use crate::{
    events::StreamAppend,
    model::{Event, HandlerName, OnFailure, Position, backoff},
    plugin::{Caused, Effect, Fault, FaultKind, HandleFailure, Handled, StateQuota},
    storage::{Batch, Condition, crash_point},
};

/// Events handled in one call and one commit. More would hardly make a commit cheaper (a sync takes 0.2 ms, an event
/// some 10 µs), and be more to do again where one of them fails.
pub const BATCH_EVENTS_MAX: usize = 256;

/// Of one batch: a guest has 16 MiB of memory, and lays a batch out twice. One event may be as large alone.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Calls that fail on one event before it is put aside, as KurrentDB's persistent subscriptions do it.
pub const ATTEMPTS_MAX: u32 = 10;

/// The same of calls that do not come back: what traps once mostly traps again.
const FAULTS_MAX: u32 = 3;

/// Longest pause after the first fault.
const FAULT_PAUSE: Duration = Duration::from_millis(200);

/// Batches that are handled well before one that was too large to be handled in time is tried again.
const CALM_BATCHES: u32 = 1_000;

/// What one generation may store, keys and values: a read model, not an archive.
const STATE_BYTES_MAX: u64 = 4 << 30;

/// Why it does not go on.
#[derive(Clone, Debug)]
pub enum Ended {
    Stopped,
    TakenOver,
    /// On an event, by setting.
    Halted {
        position: Position,
        reason: String,
    },
    /// On an event that must not be put aside, while its state is built.
    Refused {
        position: Position,
        reason: String,
    },
    /// For the store's sake. Nothing of the batch is there, or it is in doubt.
    Store(String),
}

impl From<HandlersError> for Ended {
    fn from(error: HandlersError) -> Self {
        match error {
            HandlersError::TakenOver => Self::TakenOver,
            other => Self::Store(other.to_string()),
        }
    }
}

pub(super) struct Stepper {
    pub core: Arc<Core>,
    pub cell: Arc<Cell>,
    pub name: HandlerName,
    pub generation: u64,
    pub pin: Pin,
    pub handler: Arc<dyn Handler>,
    pub progress: Progress,
    /// Events of one batch: halved where a batch causes too much for one commit, and one more each time that it does not.
    pub batch_max: usize,
    /// So many batches more are handled before it grows.
    pub grows_after: u32,
    /// The generation beside which it builds its state: nothing goes out then.
    pub replays: Option<u64>,
    pub on_failure: OnFailure,
    /// Calls of the handler that asked for what is not granted.
    pub refusals: u64,
    pub stop: watch::Receiver<bool>,
}

/// An event that is tried no more.
struct GivenUp {
    position: Position,
    /// The checkpoint then.
    upto: Position,
    reason: String,
    attempts: u32,
    /// What stands there is no event any more.
    is_damaged: bool,
}

/// What became of a batch.
pub(super) enum Tried {
    Done,
    /// In smaller pieces it may be possible.
    TooMuch,
    Failed {
        at: usize,
        transient: bool,
        reason: String,
    },
    Fault(Fault),
}

impl Stepper {
    /// Handles events in order. When it answers well all of them were handled or put aside, and the checkpoint is
    /// `looked_at`.
    pub async fn take(&mut self, events: &[Arc<Event>], looked_at: Position) -> Result<(), Ended> {
        if events.is_empty() {
            return self.pass(looked_at).await;
        }
        let mut rest = events;
        // How many come one by one, and how many at most otherwise; how often the first of them has failed.
        let (mut alone, mut limit, mut failed, mut faults) = (0_usize, usize::MAX, 0, 0);
        while let Some(first) = rest.first() {
            let size = if alone > 0 { 1 } else { batch_len(rest).min(limit).min(self.batch_max) };
            let (batch, behind) = rest.split_at(size);
            let upto = if behind.is_empty() { looked_at } else { batch[size - 1].position };
            let reason = match self.try_batch(batch, upto).await? {
                Tried::Done => {
                    (rest, limit, failed, faults) = (behind, usize::MAX, 0, 0);
                    alone = alone.saturating_sub(size);
                    self.grow();
                    continue;
                }
                Tried::TooMuch => {
                    self.batch_max = (size / 2).max(1);
                    continue;
                }
                // Those before it are handled again, alone.
                Tried::Failed { at, .. } if at > 0 => {
                    limit = at;
                    continue;
                }
                Tried::Failed { transient, reason, .. } => {
                    failed += 1;
                    alone = alone.max(1);
                    if transient && failed < ATTEMPTS_MAX {
                        self.pause(first.position, failed, &reason, backoff::BASE).await?;
                        continue;
                    }
                    reason
                }
                // It is the number of them, mostly.
                Tried::Fault(Fault { kind: FaultKind::Deadline | FaultKind::Memory, .. }) if size > 1 => {
                    (self.batch_max, self.grows_after) = ((size / 4).max(1), CALM_BATCHES);
                    continue;
                }
                Tried::Fault(fault) if size > 1 => {
                    // Which of them it was shows when they come one by one.
                    alone = size;
                    self.pause(first.position, 1, &fault.to_string(), FAULT_PAUSE).await?;
                    continue;
                }
                Tried::Fault(fault) => {
                    faults += 1;
                    failed += 1;
                    let reason = fault.to_string();
                    if faults < FAULTS_MAX {
                        self.pause(first.position, faults, &reason, FAULT_PAUSE).await?;
                        continue;
                    }
                    reason
                }
            };
            let upto = if rest.len() == 1 { looked_at } else { first.position };
            self.give_up(GivenUp { position: first.position, upto, reason, attempts: failed, is_damaged: false })
                .await?;
            (rest, failed, faults) = (&rest[1..], 0, 0);
            alone = alone.saturating_sub(1);
        }
        Ok(())
    }

    /// After a fault that cost a second of CPU time, not at once.
    fn grow(&mut self) {
        self.grows_after = self.grows_after.saturating_sub(1);
        if self.grows_after == 0 && self.batch_max < BATCH_EVENTS_MAX {
            self.batch_max += 1;
        }
    }

    /// Nothing fits up to there: the checkpoint moves all the same.
    pub async fn pass(&mut self, looked_at: Position) -> Result<(), Ended> {
        if looked_at <= self.progress.checkpoint {
            return Ok(());
        }
        let progress = Progress { checkpoint: looked_at, ..self.progress };
        self.keep(Vec::new(), Batch::new(), progress).await.map_err(not_kept)
    }

    /// What stands at a position is damaged.
    pub async fn pass_damaged(&mut self, position: Position, reason: String) -> Result<(), Ended> {
        self.give_up(GivenUp { position, upto: position, reason, attempts: 1, is_damaged: true }).await
    }

    async fn try_batch(&mut self, batch: &[Arc<Event>], upto: Position) -> Result<Tried, Ended> {
        match self.ask(batch).await? {
            Ok(handled) => self.commit(batch, upto, handled, false).await,
            Err(tried) => Ok(tried),
        }
    }

    pub(super) async fn ask(&mut self, batch: &[Arc<Event>]) -> Result<Result<Handled, Tried>, Ended> {
        let storage = &self.core.journal.storage;
        let snapshot = storage.snapshot().map_err(|error| Ended::Store(error.to_string()))?;
        let prefix = keys::state(&self.name, self.generation);
        let state = Arc::new(StoredState { snapshot, prefix });
        let quota = StateQuota { used_bytes: self.progress.state_bytes, bytes_max: STATE_BYTES_MAX };
        let handled = tokio::select! {
            biased;
            () = stopped(&mut self.stop) => return Err(Ended::Stopped),
            handled = self.handler.handle(batch.to_vec(), state, quota) => handled,
        };
        self.tell_refusals();
        Ok(match handled {
            Ok(Ok(handled)) => Ok(handled),
            Ok(Err(HandleFailure { at, transient, message })) => {
                let at = at.min(batch.len() - 1);
                self.cell.failed(self.core.wall.now_ms(), format!("the event at {}: {message}", batch[at].position));
                Err(Tried::Failed { at, transient, reason: message })
            }
            Err(Fault { kind: FaultKind::Storage, message, .. }) => return Err(Ended::Store(message)),
            // Too many effects for one answer, mostly.
            Err(Fault { kind: FaultKind::Answer, .. }) if batch.len() > 1 => Err(Tried::TooMuch),
            Err(fault) => {
                let nth = self.cell.faulted();
                self.cell.failed(self.core.wall.now_ms(), fault.to_string());
                if is_told(nth) {
                    (self.core.tell)(&self.name, &self.pin, &Told::Fault(fault.to_string()));
                }
                Err(Tried::Fault(fault))
            }
        })
    }

    /// What it wanted of the world outside and was not granted.
    fn tell_refusals(&mut self) {
        let Some((times, first)) = self.handler.take_refusals() else { return };
        self.refusals += 1;
        if is_told(self.refusals) {
            (self.core.tell)(&self.name, &self.pin, &Told::NotGranted { times, first });
        }
    }

    pub(super) async fn commit(
        &mut self,
        batch: &[Arc<Event>],
        upto: Position,
        handled: Handled,
        unparks: bool,
    ) -> Result<Tried, Ended> {
        let Handled { caused, writes, state_bytes } = handled;
        let effects = match self.effects(batch, caused) {
            Ok(effects) => effects,
            Err(NotAllowed { at, reason }) => return Ok(Tried::Failed { at, transient: false, reason }),
        };
        let mut progress = Progress { checkpoint: upto.max(self.progress.checkpoint), ..self.progress };
        progress.handled += batch.len() as u64;
        progress.state_bytes = state_bytes;
        progress.emitted += effects.emitted;
        progress.called += effects.calls.len() as u64;
        let prefix = keys::state(&self.name, self.generation);
        let mut with = writes.into_iter().fold(Batch::new(), |with, (key, value)| {
            let key = Bytes::from([&prefix[..], key.as_bytes()].concat());
            match value {
                Some(value) => with.put(SPACE, key, value),
                None => with.delete(SPACE, key),
            }
        });
        let first_call = effects.calls.first().map(|(id, _)| id.cause);
        let calls = effects.calls.len() as u64;
        let call_bytes = effects.calls.iter().map(|(_, call)| call.weight_bytes()).sum();
        for (id, call) in effects.calls {
            with = with.put(SPACE, id.outbox(&self.name), compact(&call));
        }
        if unparks {
            progress.parked = progress.parked.saturating_sub(1);
            with = with.delete(SPACE, keys::parked_event(&self.name, self.generation, batch[0].position));
        }
        // Before one of them can have been made.
        self.cell.outbox.add(calls, call_bytes);
        let kept = self.keep(effects.streams, with, progress).await;
        if kept.is_err() {
            self.cell.outbox.remove(calls, call_bytes);
        }
        if let Some(first) = first_call {
            // Where that is in doubt they may be there.
            self.cell.added_from(first);
        }
        match kept {
            Ok(()) => Ok(Tried::Done),
            Err(NotKept::Refused(_)) if batch.len() > 1 => Ok(Tried::TooMuch),
            Err(NotKept::Refused(reason)) => Ok(Tried::Failed { at: 0, transient: false, reason }),
            Err(other) => Err(not_kept(other)),
        }
    }

    /// What goes out of it. Of a replay nothing does.
    fn effects(&self, batch: &[Arc<Event>], caused: Vec<Caused>) -> Result<Effects, NotAllowed> {
        if self.replays.is_some() {
            return Ok(Effects::default());
        }
        let core = &self.core;
        for emits in caused.iter().filter(|caused| matches!(caused.effect, Effect::Emit(_))) {
            core.emitters.add(&self.name, self.handler.filter(), &batch[emits.by].draft.event_type);
        }
        let within = Within {
            now_ms: core.wall.now_ms(),
            emitters: &|event| core.emitters.count(event.draft.event_type.as_str(), event.stream.as_str()),
            check_target: &|target| core.caller.check(target),
        };
        Effects::of(&self.name, batch, caused, &within)
    }

    /// Puts the event aside, or ends if that must not be.
    async fn give_up(&mut self, given_up: GivenUp) -> Result<(), Ended> {
        let GivenUp { position, upto, reason, attempts, is_damaged } = given_up;
        if self.replays.is_some() {
            // What nobody can read any more is no reason to keep it.
            if !is_damaged {
                return Err(Ended::Refused { position, reason });
            }
        } else if self.on_failure == OnFailure::Halt {
            return Err(Ended::Halted { position, reason });
        }
        crash_point::here("before-parked");
        let parked = ParkedEvent { reason: reason.clone(), attempts, at_ms: self.core.wall.now_ms() };
        let key = keys::parked_event(&self.name, self.generation, position);
        let batch = Batch::new().put(SPACE, key, compact(&parked));
        let progress = Progress {
            checkpoint: upto.max(self.progress.checkpoint),
            parked: self.progress.parked + 1,
            ..self.progress
        };
        self.keep(Vec::new(), batch, progress).await.map_err(not_kept)?;
        self.cell.failed(parked.at_ms, format!("the event at {position} was put aside: {reason}"));
        if is_told(progress.parked) {
            (self.core.tell)(&self.name, &self.pin, &Told::Parked { position, reason });
        }
        Ok(())
    }

    /// Goes on from where it knows itself to be: a second task of this generation would do everything twice.
    pub(super) async fn keep(
        &mut self,
        streams: Vec<StreamAppend>,
        with: Batch,
        progress: Progress,
    ) -> Result<(), NotKept> {
        let key = keys::progress(&self.name, self.generation);
        let before = Condition::Equals { space: SPACE, key: key.clone(), value: compact(&self.progress) };
        let with = with.require(before).put(SPACE, key, compact(&progress));
        self.core.journal.commit(streams, with).await?;
        self.progress = progress;
        let is_replay = self.replays.is_some();
        self.cell.update(self.generation, |shown| {
            shown.progress = progress;
            shown.looked_at = shown.looked_at.max(progress.checkpoint);
            shown.doing = if is_replay { Doing::Replaying } else { Doing::Following };
        });
        Ok(())
    }

    async fn pause(&mut self, position: Position, failed: u32, reason: &str, base: Duration) -> Result<(), Ended> {
        let doing = Doing::Retrying { position, attempts: failed, reason: reason.to_owned() };
        self.cell.doing(self.generation, doing);
        let pause = self.core.pause(failed, base);
        tokio::select! {
            () = stopped(&mut self.stop) => Err(Ended::Stopped),
            () = sleep(pause) => Ok(()),
        }
    }
}

pub(super) fn not_kept(error: NotKept) -> Ended {
    match error {
        NotKept::TakenOver => Ended::TakenOver,
        NotKept::Refused(reason) => Ended::Store(reason),
        NotKept::Moved => Ended::Store("another task has moved its checkpoint".to_owned()),
        NotKept::Storage(error) => Ended::Store(error.to_string()),
    }
}

/// Of the events at hand, as many as go into one batch; at least one.
fn batch_len(events: &[Arc<Event>]) -> usize {
    let mut bytes = 0;
    let fitting = events.iter().take(BATCH_EVENTS_MAX).take_while(|event| {
        bytes += event.weight_bytes();
        bytes <= BATCH_BYTES_MAX
    });
    fitting.count().max(1)
}
