//! Removing what need not be kept: in the background, in small commits, by the writer like everything else.

use std::{
    ops::ControlFlow,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::oneshot;

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
    model::{Filter, Position, StreamName},
    storage::{Order, Snapshot, Space, Write},
};

/// Between two looks at all streams for which something is set.
const EVERY: Duration = Duration::from_secs(5);

/// Events removed in one commit.
pub const REMOVED_AT_ONCE: usize = 512;

/// Streams that are looked at in one reading of the disk.
const STREAMS_AT_ONCE: usize = 256;

/// The first events of a stream, of which nothing need be kept.
pub struct Removal {
    pub stream: StreamName,
    /// Those before this revision; at most [`REMOVED_AT_ONCE`] go at a time.
    pub before: u64,
}

/// Until the store is gone.
pub(super) async fn keep_sweeping(shared: Weak<Shared>) {
    let mut turns = tokio::time::interval(EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let store = EventStore { shared };
        if let Err(error) = sweep(&store).await {
            tracing::warn!(%error, "events that need not be kept were not removed; it is tried again");
        }
    }
}

async fn sweep(store: &EventStore) -> Result<(), AppendError> {
    let mut after = None;
    loop {
        let now_ms = store.shared.wall.now_ms();
        let begin = after.clone();
        let looked = store.on_disk(move |snapshot| superfluous(snapshot, begin.as_ref(), now_ms)).await;
        let (removals, last) = looked.map_err(unreadable)?;
        for removal in removals {
            let Removal { stream, before } = removal;
            let (answer, answered) = oneshot::channel();
            let removal = Removal { stream: stream.clone(), before };
            let weight = stream.as_str().len();
            store.shared.ask(Command::Remove { removal, answer }, weight, answered).await?;
            store.shared.tail.forget(&stream, before);
        }
        after = last;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// What can go, and the last stream that was looked at; None: all were.
type Superfluous = (Vec<Removal>, Option<StreamName>);

fn superfluous(snapshot: &dyn Snapshot, after: Option<&StreamName>, now_ms: u64) -> Result<Superfluous, ReadError> {
    let mut range = keys::all_settings("");
    if let Some(after) = after {
        range = range.after(&keys::settings(after.as_str()));
    }
    let mut streams = Vec::new();
    snapshot.walk(Space::EventIndex, range, Order::Forward, &mut |key, _| {
        streams.extend(keys::settings_stream(key));
        if streams.len() < STREAMS_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let last = (streams.len() == STREAMS_AT_ONCE).then(|| streams.last().cloned()).flatten();
    let mut removals = Vec::new();
    for stream in streams {
        let kept = Kept::of(&Head::read(snapshot, &stream)?, now_ms);
        if let Some(before) = first_kept(snapshot, &stream, &kept)? {
            removals.push(Removal { stream, before });
        }
    }
    Ok((removals, last))
}

/// The revision before which everything can go, if there is anything; of one removal at most.
fn first_kept(snapshot: &dyn Snapshot, stream: &StreamName, kept: &Kept) -> Result<Option<u64>, ReadError> {
    let (mut before, mut looked_at, mut failed) = (None, 0, None);
    snapshot.walk(
        Space::EventIndex,
        keys::revisions(stream.as_str(), 0, u64::MAX),
        Order::Forward,
        &mut |key, value| {
            let found = keys::stream_and_revision(key).zip(keys::position(value));
            let Some(((_, revision), position)) = found else { return ControlFlow::Break(()) };
            let event = event_at(snapshot, position).and_then(|bytes| decoded(position, &bytes));
            match event {
                Ok(event) if !kept.keeps(&event) && looked_at < REMOVED_AT_ONCE => {
                    before = Some(revision + 1);
                    looked_at += 1;
                    ControlFlow::Continue(())
                }
                Ok(_) => ControlFlow::Break(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        },
    )?;
    failed.map_or(Ok(before), Err)
}

fn decoded(position: Position, bytes: &[u8]) -> Result<crate::model::Event, ReadError> {
    let damaged = |reason| ReadError::Damaged { position: position.0, reason };
    let event = record::decode(position, bytes, &Filter::default()).map_err(damaged)?;
    event.ok_or_else(|| damaged("it fits no filter".to_owned()))
}

/// Takes a removal into a round of the writer.
pub fn remove(round: &mut Round<'_>, removal: Removal, answer: Answer<()>) {
    match removed(round, &removal) {
        Ok(writes) => {
            round.shared.batch.writes.extend(writes);
            round.shared.others.push(answer);
        }
        Err(error) => drop(answer.send(Err(unreadable(error)))),
    }
}

fn removed(round: &mut Round<'_>, removal: &Removal) -> Result<Vec<Write>, ReadError> {
    let snapshot = Arc::clone(&round.snapshot);
    let stream = removal.stream.as_str();
    let Some(last) = removal.before.checked_sub(1) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    snapshot.walk(Space::EventIndex, keys::revisions(stream, 0, last), Order::Forward, &mut |key, value| {
        found.push((Bytes::copy_from_slice(key), keys::position(value)));
        if found.len() < REMOVED_AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    let delete = |space, key| Write::Delete { space, key };
    let mut writes = Vec::new();
    for (key, position) in found {
        let Some(position) = position else { continue };
        let event = decoded(position, &event_at(&*snapshot, position)?)?;
        writes.extend([
            delete(Space::Events, keys::event(position)),
            delete(Space::EventIndex, keys::id(stream, event.draft.id.as_str())),
            delete(Space::EventIndex, key),
        ]);
    }
    // Revisions go on where they were, also when no event is left to tell.
    let mut head = round.heads.get(&*snapshot, &removal.stream)?;
    let retention = head.record.unwrap_or_default().retention;
    let record = StreamRecord { retention, next_revision: head.next };
    head.record = Some(record);
    round.heads.set(removal.stream.clone(), head);
    writes.push(Write::Put { space: Space::EventIndex, key: keys::settings(stream), value: record.to_bytes() });
    Ok(writes)
}
