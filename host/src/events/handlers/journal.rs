//! The handlers' part of the store: each change one durable commit, under the claim of this gateway.

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use tokio::task::spawn_blocking;

use super::{
    error::HandlersError,
    keys::{self, CallId, SPACE},
    record::{Generation, OutboxCall, ParkedEvent, Pin, Progress, Registration, compact, from_compact, from_json},
    room::OutboxCounts,
};
use crate::{
    events::{Append, AppendError, EventStore, StreamAppend},
    model::{HandlerName, Position},
    storage::{Batch, Claim, CommitError, Entries, KeyRange, Order, Snapshot, Storage, StorageError, crash_point},
};

/// Keys removed in one commit.
const REMOVED_AT_ONCE: usize = 512;

/// Why a change did not become durable.
#[derive(Clone, Debug)]
pub enum NotKept {
    /// Another gateway has claimed the handlers.
    TakenOver,
    /// What was to be kept is wrong in itself: too large, too deep, an id that is taken. Nothing was kept.
    Refused(String),
    /// Somebody else has moved what it goes on from: a second task for the same generation.
    Moved,
    /// The store's trouble.
    Storage(StorageError),
}

impl From<NotKept> for HandlersError {
    fn from(not_kept: NotKept) -> Self {
        match not_kept {
            NotKept::TakenOver => Self::TakenOver,
            NotKept::Refused(reason) => Self::NotStored(reason),
            NotKept::Moved => Self::NotStored("another task has moved its checkpoint".to_owned()),
            NotKept::Storage(error) => Self::NotDurable(error),
        }
    }
}

pub struct Journal {
    pub storage: Arc<dyn Storage>,
    events: EventStore,
    claim: Claim,
}

impl Journal {
    /// Claims the handlers of this store: whoever had claimed them before can change nothing any more.
    pub async fn claim(storage: Arc<dyn Storage>, events: EventStore, owner: String) -> Result<Self, HandlersError> {
        let claim = Claim::take(&*storage, SPACE, keys::CLAIM, owner).await?;
        Ok(Self { storage, events, claim })
    }

    /// Writes, with events that are appended in the same commit where there are any. The conditions of `with` are on what it
    /// goes on from.
    pub async fn commit(&self, streams: Vec<StreamAppend>, mut with: Batch) -> Result<(), NotKept> {
        self.claim.guard(&mut with);
        crash_point::here("before-handled");
        let kept = if streams.is_empty() {
            self.storage.commit(with).await.map_err(not_committed)
        } else {
            self.events.append(Append { streams, with }).await.map(drop).map_err(not_appended)
        };
        crash_point::here("after-handled");
        kept
    }

    pub async fn write(&self, batch: Batch) -> Result<(), NotKept> {
        self.commit(Vec::new(), batch).await
    }

    pub async fn registration(&self, name: &HandlerName) -> Result<Option<Registration>, HandlersError> {
        let key = keys::registration(name);
        let value = self.storage.get(SPACE, key.clone()).await?;
        value.map(|value| from_json(&key, &value)).transpose()
    }

    pub async fn generation(&self, name: &HandlerName, generation: u64) -> Result<Generation, HandlersError> {
        let key = keys::generation(name, generation);
        let value = self.storage.get(SPACE, key.clone()).await?;
        from_json(&key, &value.ok_or_else(|| HandlersError::damaged(&key, &"it is missing"))?)
    }

    pub async fn progress(&self, name: &HandlerName, generation: u64) -> Result<Progress, HandlersError> {
        let key = keys::progress(name, generation);
        let value = self.storage.get(SPACE, key.clone()).await?;
        from_compact(&key, &value.ok_or_else(|| HandlersError::damaged(&key, &"it is missing"))?)
    }

    /// All that some generation of some handler keeps to.
    pub async fn pins(&self) -> Result<Vec<Pin>, HandlersError> {
        let entries = self.entries(keys::all_generations()).await?;
        entries.iter().map(|(key, value)| Ok(from_json::<Generation>(key, value)?.pin)).collect()
    }

    /// The first so many behind `after`.
    pub async fn parked_events(
        &self,
        name: &HandlerName,
        generation: u64,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<(Position, ParkedEvent)>, HandlersError> {
        let mut range = keys::parked_events(name, generation);
        if let Some(after) = after {
            range = range.after(&keys::parked_event(name, generation, after));
        }
        let entries = self.storage.scan(SPACE, range, limit).await?;
        let parked = entries.iter().map(|(key, value)| {
            let position = keys::last_position(key).ok_or_else(|| HandlersError::damaged(key, &"it names no event"))?;
            Ok((position, from_compact(key, value)?))
        });
        parked.collect()
    }

    pub async fn call(&self, name: &HandlerName, id: &CallId) -> Result<Option<OutboxCall>, HandlersError> {
        let key = id.outbox(name);
        let value = self.storage.get(SPACE, key.clone()).await?;
        value.map(|value| from_compact(&key, &value)).transpose()
    }

    /// Bytes that a call which cannot be read counts as: those of its record, as [`Self::count_calls`] has it.
    pub async fn damaged_call_bytes(&self, name: &HandlerName, id: &CallId) -> Result<u64, HandlersError> {
        let value = self.storage.get(SPACE, id.outbox(name)).await?;
        Ok(value.map_or(0, |value| value.len() as u64))
    }

    /// Was made, and answered well.
    pub async fn call_done(&self, name: &HandlerName, id: &CallId) -> Result<(), NotKept> {
        crash_point::here("before-called");
        self.write(Batch::new().delete(SPACE, id.outbox(name))).await
    }

    /// Has failed once more.
    pub async fn call_failed(&self, name: &HandlerName, id: &CallId, call: &OutboxCall) -> Result<(), NotKept> {
        self.write(Batch::new().put(SPACE, id.outbox(name), compact(call))).await
    }

    /// Is made no more until somebody says so.
    pub async fn park_call(&self, name: &HandlerName, id: &CallId, call: &OutboxCall) -> Result<(), NotKept> {
        self.write(Batch::new().delete(SPACE, id.outbox(name)).put(SPACE, id.parked(name), compact(call))).await
    }

    /// The first so many behind `after`.
    pub async fn parked_calls(
        &self,
        name: &HandlerName,
        after: Option<&CallId>,
        limit: usize,
    ) -> Result<Vec<(CallId, OutboxCall)>, HandlersError> {
        let range = match after {
            Some(after) => keys::parked_calls(name).after(&after.parked(name)),
            None => keys::parked_calls(name),
        };
        let entries = self.storage.scan(SPACE, range, limit).await?;
        let parked = entries.iter().map(|(key, value)| {
            let id = CallId::of(key).ok_or_else(|| HandlersError::damaged(key, &"it names no call"))?;
            Ok((id, from_compact(key, value)?))
        });
        parked.collect()
    }

    /// The last of them; what is put aside from now on may stand before it all the same.
    pub async fn last_parked_call(&self, name: &HandlerName) -> Result<Option<CallId>, HandlersError> {
        let range = keys::parked_calls(name);
        self.on_disk(move |snapshot| {
            let mut last = None;
            snapshot.walk(SPACE, range, Order::Backward, &mut |key, _| {
                last = CallId::of(key);
                ControlFlow::Break(())
            })?;
            Ok(last)
        })
        .await
    }

    /// Those that wait behind a key, at most so many, with their targets; the rest of them stays where it is.
    pub async fn calls_waiting(
        &self,
        name: &HandlerName,
        after: Option<&Bytes>,
        limit: usize,
    ) -> Result<Vec<(CallId, String)>, HandlersError> {
        let range = match after {
            Some(after) => keys::outbox(name).after(after),
            None => keys::outbox(name),
        };
        self.on_disk(move |snapshot| {
            let mut found = Vec::new();
            snapshot.walk(SPACE, range, Order::Forward, &mut |key, value| {
                if found.len() == limit {
                    return ControlFlow::Break(());
                }
                let target = OutboxCall::target_of(value).unwrap_or_default().to_owned();
                let id = CallId::of(key).ok_or_else(|| HandlersError::damaged(key, &"it names no call"));
                found.push(id.map(|id| (id, target)));
                ControlFlow::Continue(())
            })?;
            found.into_iter().collect()
        })
        .await
    }

    /// What there is of a handler's calls.
    pub async fn count_calls(&self, name: &HandlerName) -> Result<OutboxCounts, HandlersError> {
        let (waiting, parked) = (keys::outbox(name), keys::parked_calls(name));
        self.on_disk(move |snapshot| {
            let mut counts = OutboxCounts::default();
            counts.waiting = count(snapshot, waiting, &mut counts.bytes)?;
            counts.parked = count(snapshot, parked, &mut counts.bytes)?;
            Ok(counts)
        })
        .await
    }

    /// Generations of a handler of which something may be left.
    pub async fn dropped(&self, name: &HandlerName) -> Result<Vec<u64>, HandlersError> {
        let found = self.keys(keys::all_dropped(name), REMOVED_AT_ONCE).await?;
        Ok(found.iter().filter_map(|key| keys::last_generation(key)).collect())
    }

    /// Removes some of a dropped generation. Answers whether there was nothing left of it.
    pub async fn remove_some(&self, name: &HandlerName, generation: u64) -> Result<bool, HandlersError> {
        let mut found = self.keys(KeyRange::prefix(keys::state(name, generation)), REMOVED_AT_ONCE).await?;
        found.extend(self.keys(keys::parked_events(name, generation), REMOVED_AT_ONCE).await?);
        let is_last = found.is_empty();
        if is_last {
            found.push(keys::progress(name, generation));
            found.push(keys::generation(name, generation));
            found.push(keys::dropped(name, generation));
        }
        let batch = found.into_iter().fold(Batch::new(), |batch, key| batch.delete(SPACE, key));
        self.write(batch).await?;
        Ok(is_last)
    }

    async fn entries(&self, mut range: KeyRange) -> Result<Entries, HandlersError> {
        let mut entries = Vec::new();
        loop {
            let page = self.storage.scan(SPACE, range.clone(), REMOVED_AT_ONCE).await?;
            let Some((last, _)) = page.last() else { return Ok(entries) };
            range = range.after(last);
            entries.extend(page);
        }
    }

    async fn keys(&self, range: KeyRange, limit: usize) -> Result<Vec<Bytes>, HandlersError> {
        self.on_disk(move |snapshot| {
            let mut found = Vec::new();
            snapshot.walk(SPACE, range, Order::Forward, &mut |key, _| {
                if found.len() == limit {
                    return ControlFlow::Break(());
                }
                found.push(Bytes::copy_from_slice(key));
                ControlFlow::Continue(())
            })?;
            Ok(found)
        })
        .await
    }

    /// On a thread that may wait for the disk.
    pub async fn on_disk<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn Snapshot) -> Result<T, HandlersError> + Send + 'static,
    ) -> Result<T, HandlersError> {
        let storage = Arc::clone(&self.storage);
        let looked = spawn_blocking(move || look(&*storage.snapshot()?)).await;
        looked.unwrap_or(Err(HandlersError::Closed))
    }
}

fn count(snapshot: &dyn Snapshot, range: KeyRange, bytes: &mut u64) -> Result<u64, StorageError> {
    let mut count = 0;
    snapshot.walk(SPACE, range, Order::Forward, &mut |key, value| {
        count += 1;
        *bytes += from_compact(key, value).map_or(value.len() as u64, |call: OutboxCall| call.weight_bytes());
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

/// The claim is the first condition.
fn not_committed(error: CommitError) -> NotKept {
    match error {
        CommitError::Conflict { condition: 0 } => NotKept::TakenOver,
        CommitError::Conflict { .. } => NotKept::Moved,
        CommitError::Storage(
            error @ (StorageError::BatchTooLarge { .. } | StorageError::KeyTooLong { .. } | StorageError::KeyEmpty),
        ) => NotKept::Refused(error.to_string()),
        CommitError::Storage(error) => NotKept::Storage(error),
    }
}

fn not_appended(error: AppendError) -> NotKept {
    match error {
        AppendError::Overtaken { condition: 0 } | AppendError::TakenOver => NotKept::TakenOver,
        AppendError::Overtaken { .. } => NotKept::Moved,
        AppendError::NotDurable(error) => not_committed(CommitError::Storage(error)),
        refused => NotKept::Refused(format!("what it emits is refused: {refused}")),
    }
}
