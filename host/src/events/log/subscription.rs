//! Following the log: what is there first, then what comes, with one position between them, so that there is neither a gap
//! nor a repetition.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;

use super::{
    EventStore,
    read::{Filling, PAGE_BYTES_MAX, event_at, fill},
    tail::Found,
};
use crate::{
    events::{error::ReadError, keys},
    model::{Event, Filter, Pattern, Position, StreamName},
    storage::{Order, Snapshot, Space, StorageError},
};

/// Events that do not fit are passed over in silence up to so many, then the follower is told how far it has come: its
/// checkpoint moves too.
const SILENT_MAX: u64 = 10_000;

/// A place in the log, and what is wanted from there on. Holds no event: a follower that takes its time costs nothing.
pub struct Subscription {
    store: EventStore,
    filter: Filter,
    position: Position,
    reached: Arc<AtomicU64>,
    head: watch::Receiver<Position>,
}

/// What came.
#[derive(Clone, Debug)]
pub struct Followed {
    /// In order. Empty where much was passed over.
    pub events: Vec<Arc<Event>>,
    /// All at or below were looked at.
    pub position: Position,
}

impl EventStore {
    /// Follows the log from behind `after`.
    pub fn subscribe(&self, after: Position, filter: Filter) -> Subscription {
        let reached = Arc::new(AtomicU64::new(after.0));
        Subscription { store: self.clone(), filter, position: after, reached, head: self.shared.tail.watch() }
    }
}

impl Subscription {
    /// All at or below were given out, or did not fit.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The same, for whoever looks while [`Self::next`] is under way.
    pub fn reached(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.reached)
    }

    /// The next that fit, at least one and at most `limit`, as soon as there are any; or none, and how far it has come
    /// without any. Nothing is lost where the future is dropped.
    pub async fn next(&mut self, limit: usize) -> Result<Followed, ReadError> {
        let began = self.position;
        loop {
            let head = *self.head.borrow_and_update();
            if self.position < head {
                let Found { events, position } = self.look(head, limit).await?;
                self.position = position;
                self.reached.store(position.0, Ordering::Relaxed);
                if !events.is_empty() || position.0 - began.0 >= SILENT_MAX {
                    return Ok(Followed { events, position });
                }
            } else if self.head.changed().await.is_err() {
                return Err(StorageError::Closed.into());
            }
        }
    }

    async fn look(&self, head: Position, limit: usize) -> Result<Found, ReadError> {
        if let Some(found) = self.store.shared.tail.after(self.position, &self.filter, limit, PAGE_BYTES_MAX) {
            return Ok(found);
        }
        let (filter, after) = (self.filter.clone(), self.position);
        self.store
            .on_disk(move |snapshot| match &*filter.streams {
                [Pattern::Exact(stream)] => match stream.parse::<StreamName>() {
                    Ok(stream) => of_stream(snapshot, &stream, &filter, after, head, limit),
                    Err(_) => Ok(Found { events: Vec::new(), position: head }),
                },
                _ => of_all(snapshot, &filter, after, head, limit),
            })
            .await
    }
}

fn of_all(
    snapshot: &dyn Snapshot,
    filter: &Filter,
    after: Position,
    head: Position,
    limit: usize,
) -> Result<Found, ReadError> {
    let mut page = Filling::new(filter, limit);
    let next = fill(snapshot, keys::events(after.next(), head), Order::Forward, &mut page)?;
    let position = next.map_or(head, |next| Position(next.0 - 1));
    Ok(Found { events: page.events, position })
}

/// By the stream's own index, so that nothing else is looked at.
fn of_stream(
    snapshot: &dyn Snapshot,
    stream: &StreamName,
    filter: &Filter,
    after: Position,
    head: Position,
    limit: usize,
) -> Result<Found, ReadError> {
    let mut page = Filling::new(filter, limit);
    let mut found = Found { events: Vec::new(), position: head };
    let (mut looked_at, mut failed) = (after, None);
    let first = first_behind(snapshot, stream, after)?;
    let range = keys::revisions(stream.as_str(), first, u64::MAX);
    snapshot.walk(Space::EventIndex, range, Order::Forward, &mut |_, value| {
        let Some(position) = keys::position(value).filter(|position| *position <= head) else {
            return std::ops::ControlFlow::Break(());
        };
        if page.is_full() {
            found.position = looked_at;
            return std::ops::ControlFlow::Break(());
        }
        looked_at = position;
        match event_at(snapshot, position).and_then(|bytes| page.take(position, &bytes)) {
            Ok(()) => std::ops::ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                std::ops::ControlFlow::Break(())
            }
        }
    })?;
    found.events = page.events;
    failed.map_or(Ok(found), Err)
}

/// The first revision whose position is above `after`, by halving: both grow together.
fn first_behind(snapshot: &dyn Snapshot, stream: &StreamName, after: Position) -> Result<u64, ReadError> {
    let end = |order| {
        let mut end = None;
        let all = keys::revisions(stream.as_str(), 0, u64::MAX);
        snapshot
            .walk(Space::EventIndex, all, order, &mut |key, _| {
                end = keys::stream_and_revision(key).map(|(_, revision)| revision);
                std::ops::ControlFlow::Break(())
            })
            .map(|()| end)
    };
    let (Some(mut low), Some(last)) = (end(Order::Forward)?, end(Order::Backward)?) else { return Ok(0) };
    let mut high = last + 1;
    while low < high {
        let middle = low + (high - low) / 2;
        let position = snapshot.get(Space::EventIndex, &keys::revision(stream.as_str(), middle))?;
        // One that is missing was removed, as all before it were or will be.
        let is_behind = position.and_then(|bytes| keys::position(&bytes)).is_some_and(|position| position > after);
        if is_behind { high = middle } else { low = middle + 1 }
    }
    Ok(low)
}
