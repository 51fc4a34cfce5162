//! One round of the writer: what waits is decided in order, against what is durable and what is before it in the round.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    ahead::{Absent, Recent},
    heads::{Head, Heads},
    sweep::Removal,
};
use crate::{
    events::{
        append::{Append, Appended, AppendedEvent, AppendedStream, StreamAppend},
        error::{AppendError, ReadError},
        keys,
        record::{self, IdRecord},
    },
    model::{Draft, Event, EventId, Position, StreamName},
    storage::{Batch, Claim, Snapshot, Space, StorageError, Write},
};

/// Where an append's answer goes.
pub type Answer<T> = oneshot::Sender<Result<T, AppendError>>;

pub struct Round<'w> {
    pub snapshot: Arc<dyn Snapshot>,
    pub heads: &'w mut Heads,
    recent: &'w mut Recent,
    pub claim: &'w Claim,
    /// The last position given.
    pub last: Position,
    pub now_ms: u64,
    /// Ids that are new in this round.
    ids: HashMap<(StreamName, EventId), IdRecord>,
    /// What all share that nothing but the claim can refuse.
    pub shared: Commit,
    /// Each a commit of its own, which may be refused by its own conditions.
    pub joint: Vec<Commit>,
    /// Streams of the joint ones: whether their events will be there is not known yet.
    uncertain: Vec<StreamName>,
}

/// A batch, the events in it, and who waits for it.
#[derive(Default)]
pub struct Commit {
    pub batch: Batch,
    pub events: Vec<Arc<Event>>,
    pub answers: Vec<(Answer<Appended>, Appended)>,
    pub others: Vec<Answer<()>>,
    /// What is not there any more once it is durable.
    pub removals: Vec<Removal>,
}

/// What one event of an append comes to.
enum Verdict {
    Known(IdRecord),
    /// The same, of this very round: not durable yet.
    Expected(IdRecord),
    /// The same as an earlier one of this append.
    Same(usize),
    New {
        digest: u64,
    },
}

impl Verdict {
    /// Nothing of it has to be written, or waited for.
    fn is_settled(&self) -> bool {
        matches!(self, Self::Known(_) | Self::Same(_))
    }
}

impl<'w> Round<'w> {
    pub fn new(
        snapshot: Arc<dyn Snapshot>,
        heads: &'w mut Heads,
        recent: &'w mut Recent,
        claim: &'w Claim,
        last: Position,
        now_ms: u64,
    ) -> Self {
        Self {
            snapshot,
            heads,
            recent,
            claim,
            last,
            now_ms,
            ids: HashMap::new(),
            shared: Commit::default(),
            joint: Vec::new(),
            uncertain: Vec::new(),
        }
    }

    /// Whether it can be decided before this round has ended.
    pub fn can_decide(&self, append: &Append) -> bool {
        append.streams.iter().all(|of| !self.is_uncertain(&of.stream))
    }

    pub fn is_uncertain(&self, stream: &StreamName) -> bool {
        self.uncertain.contains(stream)
    }

    /// Takes an append in, or answers it with why not. [`Self::can_decide`] it must. What is known of its ids already is
    /// `absent`.
    pub fn take(&mut self, append: Append, absent: Option<Absent>, answer: Answer<Appended>) {
        let verdicts: Result<Vec<_>, _> = append.streams.iter().map(|of| self.judge(of, absent)).collect();
        let verdicts = match verdicts {
            Ok(verdicts) => verdicts,
            // A caller that is gone does not want to know.
            Err(error) => return drop(answer.send(Err(error))),
        };
        let is_joint = append.is_joint();
        if append.with == Batch::default() && verdicts.iter().all(|(_, of)| of.iter().all(Verdict::is_settled)) {
            // Durable, whatever becomes of this round.
            let streams = append.streams.into_iter().zip(verdicts);
            let streams =
                streams.map(|(of, (head, verdicts))| self.give_places(of, head, verdicts, &mut Commit::default()));
            return drop(answer.send(Ok(Appended { streams: streams.collect() })));
        }
        let mut commit = if is_joint { Commit::default() } else { std::mem::take(&mut self.shared) };
        let streams = append.streams.into_iter().zip(verdicts);
        let streams: Vec<_> =
            streams.map(|(of, (head, verdicts))| self.give_places(of, head, verdicts, &mut commit)).collect();
        if is_joint {
            self.uncertain.extend(streams.iter().map(|of| of.stream.clone()));
        }
        commit.answers.push((answer, Appended { streams }));
        let Batch { conditions, writes } = append.with;
        commit.batch.conditions.extend(conditions);
        commit.batch.writes.extend(writes);
        if is_joint {
            self.joint.push(commit);
        } else {
            self.shared = commit;
        }
    }

    /// Something else of the writer's, beside what all share.
    pub fn put(&mut self, key: Bytes, value: Bytes) {
        self.shared.batch.writes.push(Write::Put { space: Space::EventIndex, key, value });
    }

    /// The batches, in the order of their commits: each under the claim, and with the last position given so far.
    pub fn finish(mut self) -> (Vec<Commit>, Position) {
        let mut commits = Vec::new();
        let mut last = Position::START;
        for mut commit in std::iter::once(std::mem::take(&mut self.shared)).chain(std::mem::take(&mut self.joint)) {
            if commit.batch == Batch::default() {
                commits.push(commit);
                continue;
            }
            self.claim.guard(&mut commit.batch);
            if let Some(event) = commit.events.last() {
                last = last.max(event.position);
                commit.batch = commit.batch.put(Space::EventIndex, keys::LAST, keys::event(last));
            }
            commits.push(commit);
        }
        (commits, self.last)
    }

    /// Which of them are new, and whether the stream stands where it was expected.
    fn judge(&mut self, of: &StreamAppend, absent: Option<Absent>) -> Result<(Head, Vec<Verdict>), AppendError> {
        let head = self.heads.get(&*self.snapshot, &of.stream).map_err(unreadable)?;
        let mut verdicts = Vec::with_capacity(of.drafts.len());
        // The first of each id, and what it is; one alone has no earlier one.
        let mut earlier: HashMap<&EventId, (usize, u64)> = HashMap::new();
        for (index, draft) in of.drafts.iter().enumerate() {
            let digest = record::digest(draft);
            let taken = || AppendError::IdTaken { stream: of.stream.clone(), id: draft.id.clone() };
            let verdict = match earlier.get(&draft.id) {
                Some(&(first, same)) if same == digest => Verdict::Same(first),
                Some(_) => return Err(taken()),
                None => self.known(&of.stream, &draft.id, digest, absent)?.ok_or_else(taken)?,
            };
            if of.drafts.len() > 1 && !matches!(verdict, Verdict::Same(_)) {
                earlier.insert(&draft.id, (index, digest));
            }
            verdicts.push(verdict);
        }
        let brings_any = verdicts.iter().any(|verdict| matches!(verdict, Verdict::New { .. }));
        if brings_any && !of.expected.holds(head.last()) {
            return Err(AppendError::Conflict {
                stream: of.stream.clone(),
                expected: of.expected,
                actual: head.last(),
            });
        }
        Ok((head, verdicts))
    }

    /// None: the id is another event's.
    fn known(
        &self,
        stream: &StreamName,
        id: &EventId,
        digest: u64,
        absent: Option<Absent>,
    ) -> Result<Option<Verdict>, AppendError> {
        let same = |verdict: fn(IdRecord) -> Verdict, known: IdRecord| (known.digest == digest).then(|| verdict(known));
        if !self.ids.is_empty()
            && let Some(known) = self.ids.get(&(stream.clone(), id.clone()))
        {
            return Ok(same(Verdict::Expected, *known));
        }
        if absent.is_some_and(|absent| self.recent.confirms(absent, stream, id)) {
            return Ok(Some(Verdict::New { digest }));
        }
        let key = keys::id(stream.as_str(), id.as_str());
        let Some(found) = self.snapshot.get(Space::EventIndex, &key).map_err(AppendError::NotDurable)? else {
            return Ok(Some(Verdict::New { digest }));
        };
        let Some(known) = IdRecord::from_bytes(&found) else {
            let reason = format!("what is known of the id {:?} of stream {stream} is damaged", id.as_str());
            return Err(AppendError::NotDurable(StorageError::ReadFailed {
                path: "event-index".into(),
                reason: reason.into(),
            }));
        };
        Ok(same(Verdict::Known, known))
    }

    fn give_places(
        &mut self,
        of: StreamAppend,
        mut head: Head,
        verdicts: Vec<Verdict>,
        commit: &mut Commit,
    ) -> AppendedStream {
        let mut events: Vec<AppendedEvent> = Vec::with_capacity(verdicts.len());
        for (draft, verdict) in of.drafts.into_iter().zip(verdicts) {
            let place = match verdict {
                Verdict::Known(IdRecord { position, revision, .. })
                | Verdict::Expected(IdRecord { position, revision, .. }) => {
                    AppendedEvent { position, revision, is_new: false }
                }
                Verdict::Same(earlier) => AppendedEvent { is_new: false, ..events[earlier] },
                Verdict::New { digest } => {
                    self.last = self.last.next();
                    let place = IdRecord { position: self.last, revision: head.next, digest };
                    head.next += 1;
                    self.write(&of.stream, draft, place, commit);
                    AppendedEvent { position: place.position, revision: place.revision, is_new: true }
                }
            };
            events.push(place);
        }
        self.heads.set(of.stream.clone(), head);
        AppendedStream { stream: of.stream, events }
    }

    fn write(&mut self, stream: &StreamName, draft: Draft, place: IdRecord, commit: &mut Commit) {
        let id = draft.id.clone();
        let IdRecord { position, revision, .. } = place;
        let event = Event { position, stream: stream.clone(), revision, recorded_ms: self.now_ms, draft };
        let at = keys::event(position);
        let put = |space, key: Bytes, value: Bytes| Write::Put { space, key, value };
        commit.batch.writes.extend([
            put(Space::Events, at.clone(), record::encode(&event)),
            put(Space::EventIndex, keys::revision(stream.as_str(), revision), at),
            put(Space::EventIndex, keys::id(stream.as_str(), id.as_str()), place.to_bytes()),
        ]);
        self.recent.add(&event);
        commit.events.push(Arc::new(event));
        self.ids.insert((stream.clone(), id), place);
    }
}

pub fn unreadable(error: ReadError) -> AppendError {
    match error {
        ReadError::Storage(error) => AppendError::NotDurable(error),
        ReadError::Damaged { position, reason } => AppendError::NotDurable(StorageError::ReadFailed {
            path: "events".into(),
            reason: format!("the event at position {position} is damaged: {reason}").into(),
        }),
    }
}
