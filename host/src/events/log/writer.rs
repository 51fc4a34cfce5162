//! Who appends: while a commit is on its way to the disk the next appends gather, and go together ([`Desk`](crate::storage::Desk)).

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    ahead::{Absent, Recent},
    heads::Heads,
    round::{Answer, Commit, Round},
    sweep::{self, Removal},
    tail::Tail,
};
use crate::{
    events::{
        append::{Append, Appended},
        error::{AppendError, EventStoreError},
        keys,
        record::StreamRecord,
    },
    model::{Event, Position, Retention, StreamName, Wall},
    storage::{Batch, Claim, CommitError, Order, Space, Storage, crash_point},
};

/// Events of one round; what waits beyond them goes into the next. Past some hundred the sync is no longer what takes the
/// time (reference measurement: 256 writers, 60,700 commits a second).
const ROUND_EVENTS_MAX: usize = 2_048;

/// The same in bytes: with one append more it still fits into one batch of the store.
const ROUND_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Commits of their own in one round.
const JOINT_MAX: usize = 256;

/// What waits for the writer.
pub(super) struct Asked {
    pub command: Command,
    /// Its place in the queue, given back when it is answered.
    pub room: OwnedSemaphorePermit,
}

pub(super) enum Command {
    Append { append: Append, absent: Option<Absent>, answer: Answer<Appended> },
    Retain { stream: StreamName, retention: Retention, answer: Answer<()> },
    Remove { removal: Removal, answer: Answer<()> },
}

/// Claims the events; answers with the last position that was given, too.
pub(super) async fn claim(storage: &dyn Storage, owner: String) -> Result<(Claim, Position), EventStoreError> {
    let claim = Claim::take(storage, Space::EventIndex, keys::CLAIM, owner).await?;
    // Nobody else appends any more: what is there now is all.
    let last = storage.get(Space::EventIndex, Bytes::from_static(keys::LAST)).await;
    let last = match last.map_err(EventStoreError::Unreadable)? {
        None => Position::START,
        Some(bytes) => {
            keys::position(&bytes).ok_or_else(|| EventStoreError::Damaged("the last position is none".to_owned()))?
        }
    };
    let snapshot = storage.snapshot().map_err(EventStoreError::Unreadable)?;
    let mut beyond = None;
    let range = keys::events(last.next(), Position(u64::MAX));
    snapshot
        .walk(Space::Events, range, Order::Backward, &mut |key, _| {
            beyond = keys::position(key);
            std::ops::ControlFlow::Break(())
        })
        .map_err(EventStoreError::Unreadable)?;
    if let Some(beyond) = beyond {
        let told = format!("there is an event at position {beyond}, above the last that was given, {last}");
        return Err(EventStoreError::Damaged(told));
    }
    Ok((claim, last))
}

pub(super) struct Writer {
    storage: Arc<dyn Storage>,
    claim: Claim,
    tail: Arc<Tail>,
    wall: Wall,
    heads: Heads,
    recent: Recent,
    last: Position,
    appended: Arc<AtomicU64>,
}

impl Writer {
    pub fn new(storage: Arc<dyn Storage>, claim: Claim, tail: Arc<Tail>, wall: Wall, appended: Arc<AtomicU64>) -> Self {
        let last = tail.head();
        Self { storage, claim, tail, wall, heads: Heads::default(), recent: Recent::above(last), last, appended }
    }

    /// One commit of what waits, or of as much of it as one takes. Blocks on the disk.
    pub fn round(&mut self, waiting: &mut VecDeque<Asked>) {
        let snapshot = match self.storage.snapshot() {
            Ok(snapshot) => snapshot,
            Err(error) => {
                for asked in waiting.drain(..) {
                    asked.command.refuse(&AppendError::NotDurable(error.clone()));
                }
                return;
            }
        };
        let mut round =
            Round::new(snapshot, &mut self.heads, &mut self.recent, &self.claim, self.last, self.wall.now_ms());
        let mut rooms = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        while let Some(Asked { command, room }) = waiting.pop_front() {
            let is_full = events >= ROUND_EVENTS_MAX || bytes >= ROUND_BYTES_MAX || round.joint.len() >= JOINT_MAX;
            if is_full || !command.can_be_decided(&round) {
                waiting.push_front(Asked { command, room });
                break;
            }
            match command {
                Command::Append { append, absent, answer } => {
                    events += append.drafts().count();
                    bytes += append.weight_bytes() + append.with.weight_bytes();
                    round.take(append, absent, answer);
                }
                Command::Retain { stream, retention, answer } => retain(&mut round, stream, retention, answer),
                Command::Remove { removal, answer } => {
                    events += sweep::REMOVED_AT_ONCE;
                    sweep::remove(&mut round, removal, answer);
                }
            }
            rooms.push(room);
        }
        let (commits, last) = round.finish();
        self.last = last;
        self.commit(commits);
    }

    fn commit(&mut self, commits: Vec<Commit>) {
        let mut batches = Vec::new();
        let mut waiting = Vec::new();
        for Commit { batch, events, answers, others, removals } in commits {
            if batch == Batch::default() {
                // What it found is durable already.
                answers.into_iter().for_each(|(answer, appended)| drop(answer.send(Ok(appended))));
                continue;
            }
            batches.push(batch);
            waiting.push((events, answers, others, removals));
        }
        crash_point::here("before-append-commit");
        let outcomes = self.storage.commit_together(batches);
        crash_point::here("after-append-commit");
        let mut visible: Vec<Arc<Event>> = Vec::new();
        let mut answers = Vec::new();
        for ((events, of, others, removals), outcome) in waiting.into_iter().zip(outcomes) {
            match outcome.map_err(refused) {
                Ok(()) => {
                    for Removal { stream, before, last } in removals {
                        self.tail.forget(&stream, before, last);
                    }
                    visible.extend(events);
                    answers.extend(of.into_iter().map(|(answer, appended)| (answer, Ok(appended))));
                    others.into_iter().for_each(|answer| drop(answer.send(Ok(()))));
                }
                Err(error) => {
                    self.forget_heads(&error, &events);
                    answers.extend(of.into_iter().map(|(answer, _)| (answer, Err(error.clone()))));
                    others.into_iter().for_each(|answer| drop(answer.send(Err(error.clone()))));
                }
            }
        }
        self.appended.fetch_add(visible.len() as u64, Ordering::Relaxed);
        visible.sort_unstable_by_key(|event| event.position);
        self.tail.push(visible);
        for (answer, appended) in answers {
            // A caller that is gone does not want to know.
            drop(answer.send(appended));
        }
    }

    /// Of what was refused. A joint commit is the only one of its round for its streams.
    fn forget_heads(&mut self, error: &AppendError, events: &[Arc<Event>]) {
        match error {
            AppendError::Overtaken { .. } => events.iter().for_each(|event| self.heads.forget(&event.stream)),
            _ => self.heads.forget_all(),
        }
    }
}

impl Command {
    fn can_be_decided(&self, round: &Round<'_>) -> bool {
        match self {
            Self::Append { append, .. } => round.can_decide(append),
            Self::Retain { stream, .. } => !round.is_uncertain(stream),
            Self::Remove { removal, .. } => !round.is_uncertain(&removal.stream),
        }
    }

    fn refuse(self, error: &AppendError) {
        match self {
            Self::Append { answer, .. } => drop(answer.send(Err(error.clone()))),
            Self::Retain { answer, .. } | Self::Remove { answer, .. } => drop(answer.send(Err(error.clone()))),
        }
    }
}

fn retain(round: &mut Round<'_>, stream: StreamName, retention: Retention, answer: Answer<()>) {
    match round.heads.get(&*round.snapshot, &stream) {
        Err(error) => drop(answer.send(Err(super::round::unreadable(error)))),
        Ok(mut head) => {
            let record = StreamRecord { retention, next_revision: head.next };
            head.record = Some(record);
            round.put(keys::settings(stream.as_str()), record.to_bytes());
            round.heads.set(stream, head);
            round.shared.others.push(answer);
        }
    }
}

/// The claim is the first condition of all; the others are whose with the append came.
fn refused(error: CommitError) -> AppendError {
    match error {
        CommitError::Conflict { condition: 0 } => AppendError::TakenOver,
        CommitError::Conflict { condition } => AppendError::Overtaken { condition: condition - 1 },
        CommitError::Storage(error) => AppendError::NotDurable(error),
    }
}
