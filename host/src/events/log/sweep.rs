//! Removing what need not be kept: in the background, in small commits, by the writer like everything else.

use std::{
    ops::ControlFlow,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use super::{
    EventStore, Shared,
    heads::Head,
    read::{Kept, event_at},
    round::{Answer, Round, unreadable},
    writer::Command,
};
use crate::{
    events::{
        error::{AppendError, ReadError},
        keys,
        record::{self, StreamRecord},
    },
    model::{Event, Filter, Position, Retention, StreamName},
    storage::{Order, Snapshot, Space, StorageError, Write},
};

/// Between two looks at all streams for which something is set.
const EVERY: Duration = Duration::from_secs(5);

/// Events removed in one commit.
pub const REMOVED_AT_ONCE: usize = 512;

/// Streams that are looked at in one reading of the disk.
const STREAMS_AT_ONCE: usize = 256;

/// Records that are looked at for them: most streams that have one keep everything from here on.
const RECORDS_AT_ONCE: usize = 10_000;

/// The first events of a stream, of which nothing need be kept; at most [`REMOVED_AT_ONCE`].
pub struct Removal {
    pub stream: StreamName,
    /// Those before this revision.
    pub before: u64,
    /// Where the last of them stands.
    pub last: Position,
}

/// Until the store is gone.
pub(super) async fn keep_sweeping(shared: Weak<Shared>) {
    let mut turns = tokio::time::interval(EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let store = EventStore { shared };
        let until = Instant::now() + EVERY;
        if let Err(error) = sweep(&store, until).await {
            tracing::warn!(%error, "events that need not be kept were not removed; it is tried again");
        }
    }
}

/// All streams once, and those of which more can go than at once again, until nothing of them is left or the next turn is
/// due.
async fn sweep(store: &EventStore, until: Instant) -> Result<(), AppendError> {
    let (mut unfinished, mut after) = (Vec::new(), None);
    loop {
        let looked = store.on_disk(move |snapshot| with_settings(snapshot, after.as_ref())).await;
        let streams;
        (streams, after) = looked.map_err(unreadable)?;
        let more = sweep_these(store, streams).await?;
        unfinished.extend(more.into_iter().take(STREAMS_AT_ONCE - unfinished.len()));
        if after.is_none() {
            break;
        }
    }
    while !unfinished.is_empty() && Instant::now() < until {
        unfinished = sweep_these(store, unfinished).await?;
    }
    Ok(())
}

/// One removal of each; answers those of which more can go.
async fn sweep_these(store: &EventStore, streams: Vec<StreamName>) -> Result<Vec<StreamName>, AppendError> {
    let now_ms = store.shared.wall.now_ms();
    let looked = store.on_disk(move |snapshot| superfluous(snapshot, streams, now_ms)).await;
    let mut unfinished = Vec::new();
    for (removal, is_full) in looked.map_err(unreadable)? {
        let (answer, answered) = oneshot::channel();
        let stream = removal.stream.clone();
        let weight = stream.as_str().len();
        match store.shared.ask(Command::Remove { removal, answer }, weight, answered).await {
            Ok(()) if is_full => unfinished.push(stream),
            Ok(()) => {}
            // Something damaged in one of them does not keep the others.
            Err(error @ AppendError::NotDurable(StorageError::ReadFailed { .. })) => not_removed(&stream, &error),
            Err(error) => return Err(error),
        }
    }
    Ok(unfinished)
}

/// Some of the streams of which something is bounded, in their order; and behind which one to go on, if there may be more.
type Bounded = (Vec<StreamName>, Option<StreamName>);

fn with_settings(snapshot: &dyn Snapshot, after: Option<&StreamName>) -> Result<Bounded, ReadError> {
    let mut range = keys::all_settings("");
    if let Some(after) = after {
        range = range.after(&keys::settings(after.as_str()));
    }
    let (mut streams, mut looked_at, mut next) = (Vec::new(), 0, None);
    snapshot.walk(Space::EventIndex, range, Order::Forward, &mut |key, value| {
        let stream = keys::settings_stream(key);
        looked_at += 1;
        // Of what is damaged more is said where its stream is looked at.
        if StreamRecord::from_bytes(value).map_or(true, |record| record.retention != Retention::default()) {
            streams.extend(stream.clone());
        }
        if streams.len() < STREAMS_AT_ONCE && looked_at < RECORDS_AT_ONCE {
            return ControlFlow::Continue(());
        }
        next = stream;
        ControlFlow::Break(())
    })?;
    Ok((streams, next))
}

fn not_removed(stream: &StreamName, error: &impl std::fmt::Display) {
    tracing::warn!(%stream, %error, "events that need not be kept are not removed");
}

/// What of them can go, and whether more can than in one removal.
fn superfluous(
    snapshot: &dyn Snapshot,
    streams: Vec<StreamName>,
    now_ms: u64,
) -> Result<Vec<(Removal, bool)>, ReadError> {
    let mut removals = Vec::new();
    for stream in streams {
        match first_removal(snapshot, &stream, now_ms) {
            Ok(removal) => removals.extend(removal),
            Err(error @ (ReadError::Damaged { .. } | ReadError::Storage(StorageError::ReadFailed { .. }))) => {
                not_removed(&stream, &error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(removals)
}

/// The first events of a stream that can go, if there are any, and whether those are as many as can go at once.
fn first_removal(
    snapshot: &dyn Snapshot,
    stream: &StreamName,
    now_ms: u64,
) -> Result<Option<(Removal, bool)>, ReadError> {
    let kept = Kept::of(&Head::read(snapshot, stream, Position(u64::MAX))?, now_ms);
    let (mut removal, mut looked_at, mut failed) = (None, 0, Ok(()));
    let revisions = keys::revisions(stream.as_str(), 0, u64::MAX);
    snapshot.walk(Space::EventIndex, revisions, Order::Forward, &mut |key, value| {
        let found = keys::stream_and_revision(key).zip(keys::position(value));
        let Some(((_, revision), position)) = found else { return ControlFlow::Break(()) };
        match is_kept(snapshot, &kept, revision, position) {
            Ok(false) if looked_at < REMOVED_AT_ONCE => {
                removal = Some(Removal { stream: stream.clone(), before: revision + 1, last: position });
                looked_at += 1;
                ControlFlow::Continue(())
            }
            Ok(_) => ControlFlow::Break(()),
            Err(error) => {
                failed = Err(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map(|()| removal.map(|removal| (removal, looked_at == REMOVED_AT_ONCE)))
}

/// The event itself is asked only where its age matters.
fn is_kept(snapshot: &dyn Snapshot, kept: &Kept, revision: u64, position: Position) -> Result<bool, ReadError> {
    let recorded_ms = if revision >= kept.first && kept.has_age() {
        let recorded_ms = record::recorded_ms(&event_at(snapshot, position)?);
        recorded_ms.map_err(|reason| ReadError::Damaged { position: position.0, reason })?
    } else {
        u64::MAX
    };
    Ok(kept.keeps_at(revision, recorded_ms))
}

fn decoded(position: Position, bytes: &[u8]) -> Result<Event, ReadError> {
    let damaged = |reason| ReadError::Damaged { position: position.0, reason };
    let event = record::decode(position, bytes, &Filter::default()).map_err(damaged)?;
    event.ok_or_else(|| damaged("it fits no filter".to_owned()))
}

/// Takes a removal into a round of the writer.
pub fn remove(round: &mut Round<'_>, removal: Removal, answer: Answer<()>) {
    match removed(round, &removal) {
        Ok((writes, gone)) => {
            round.shared.batch.writes.extend(writes);
            round.shared.removals.extend(gone);
            round.shared.others.push(answer);
        }
        Err(error) => drop(answer.send(Err(unreadable(error)))),
    }
}

/// What it comes to: what is kept of the stream may be more by now than when it was looked at.
fn removed(round: &mut Round<'_>, removal: &Removal) -> Result<(Vec<Write>, Option<Removal>), ReadError> {
    let snapshot = Arc::clone(&round.snapshot);
    let stream = removal.stream.as_str();
    let mut writes = Vec::new();
    let Some(last) = removal.before.checked_sub(1) else { return Ok((writes, None)) };
    let mut found = Vec::new();
    snapshot.walk(Space::EventIndex, keys::revisions(stream, 0, last), Order::Forward, &mut |key, value| {
        found.push((Bytes::copy_from_slice(key), keys::position(value)));
        if found.len() < REMOVED_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let mut head = round.heads.get(&*snapshot, &removal.stream)?;
    let kept = Kept::of(&head, round.now_ms);
    let mut gone = None;
    let delete = |space, key| Write::Delete { space, key };
    for (key, position) in found {
        let revision = keys::stream_and_revision(&key).map(|(_, revision)| revision);
        let Some((revision, position)) = revision.zip(position) else { continue };
        let event = event_at(&*snapshot, position).and_then(|bytes| decoded(position, &bytes));
        match event {
            Ok(event) if kept.keeps(&event) => break,
            Ok(event) => writes.push(delete(Space::EventIndex, keys::id(stream, event.draft.id.as_str()))),
            // That it goes its revision says alone. What is known of its id stays: which one it was nobody can tell any more.
            Err(ReadError::Damaged { .. }) if revision < kept.first => {}
            Err(error) => return Err(error),
        }
        gone = Some(Removal { stream: removal.stream.clone(), before: revision + 1, last: position });
        writes.extend([delete(Space::Events, keys::event(position)), delete(Space::EventIndex, key)]);
    }
    // Revisions go on where they were, also when no event is left to tell.
    let retention = head.record.unwrap_or_default().retention;
    let record = StreamRecord { retention, next_revision: head.next };
    head.record = Some(record);
    round.heads.set(removal.stream.clone(), head);
    writes.push(Write::Put { space: Space::EventIndex, key: keys::settings(stream), value: record.to_bytes() });
    Ok((writes, gone))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        events::log::{ahead::Recent, heads::Heads},
        storage::{Claim, Storage, memory::MemoryStorage},
    };

    #[tokio::test]
    async fn what_is_kept_again_is_not_removed() {
        let storage = MemoryStorage::new();
        let claim = Claim::take(&storage, Space::EventIndex, keys::CLAIM, "a test".to_owned()).await;
        let (mut heads, claim) = (Heads::default(), claim.expect("it is free"));
        let mut recent = Recent::above(Position::START);
        let snapshot = storage.snapshot().expect("it is open");
        let stream: StreamName = "s".parse().expect("a name");
        let mut round = Round::new(Arc::clone(&snapshot), &mut heads, &mut recent, &claim, Position::START, 0);
        let draft = |id: &str| {
            let text = |text: &str| text.parse().expect("it is right");
            crate::model::Draft::new(id.parse().expect("an id"), "/s".parse().expect("a source"), text("t"))
        };
        let append =
            crate::events::Append::to(stream.clone(), crate::model::Expected::Any, vec![draft("1"), draft("2")]);
        round.take(append, None, oneshot::channel().0);
        let (commits, last) = round.finish();
        for commit in commits {
            storage.commit(commit.batch).await.expect("nobody else has claimed the events");
        }
        let removal = || Removal { stream: stream.clone(), before: 2, last };
        let snapshot = storage.snapshot().expect("it is open");
        for (first_revision, gone) in [(0, None), (1, Some(1)), (2, Some(2))] {
            let retention = Retention { first_revision, ..Retention::default() };
            heads.set(stream.clone(), Head { next: 2, record: Some(StreamRecord { retention, next_revision: 2 }) });
            let mut round = Round::new(Arc::clone(&snapshot), &mut heads, &mut recent, &claim, last, 0);
            let (_, removed) = removed(&mut round, &removal()).expect("it is read");
            assert_eq!(removed.map(|removal| removal.before), gone, "truncated before {first_revision}");
        }
    }
}
