//! Following the log: what is there first, then what comes, with one position between them, so that there is neither a gap
//! nor a repetition.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::{sync::watch, task::JoinHandle};

use super::{
    EventStore,
    read::{Filling, event_at, fill},
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

/// Of what is given out at once, in bytes, and the event that goes beyond: a follower that takes its time holds no more.
const FOLLOWED_BYTES_MAX: usize = 256 * 1024;

/// A place in the log, and what is wanted from there on. Holds no event, but of a look at the disk that was not waited for.
pub struct Subscription {
    store: EventStore,
    filter: Filter,
    position: Position,
    reached: Arc<AtomicU64>,
    head: watch::Receiver<Position>,
    /// A look at the disk that has begun, and has not been given out yet: the time that it takes is not lost to a follower
    /// that has less patience. It goes on by itself, so that nobody who stopped waiting keeps others from the disk, and
    /// ends by itself, as it is bounded.
    looking: Option<JoinHandle<Result<Found, ReadError>>>,
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
        let head = self.shared.tail.watch();
        Subscription { store: self.clone(), filter, position: after, reached, head, looking: None }
    }
}

impl Subscription {
    /// All at or below were given out, or did not fit.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes on behind this position, which cannot be read.
    pub fn pass(&mut self, damaged: Position) {
        self.position = self.position.max(damaged);
        self.looking = None;
        self.reached.store(self.position.0, Ordering::Relaxed);
    }

    /// The same, for whoever looks while [`Self::next`] is under way.
    pub fn reached(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.reached)
    }

    /// The next that fit, at least one and at most `limit`, as soon as there are any; or none, and how far it has come
    /// without any. Nothing is lost where the future is dropped, the look at the disk that it waited for neither. What
    /// stands before something damaged comes first, and then the error each time, until it is [passed](Self::pass).
    pub async fn next(&mut self, limit: usize) -> Result<Followed, ReadError> {
        let began = self.position;
        loop {
            let head = *self.head.borrow_and_update();
            if self.position < head {
                let Found { events, position } = self.look(head, limit).await?;
                if !events.is_empty() || position.0 - began.0 >= SILENT_MAX {
                    return Ok(Followed { events, position });
                }
                tokio::task::yield_now().await;
            } else if self.head.changed().await.is_err() {
                return Err(StorageError::Closed.into());
            }
        }
    }

    /// The next that fit among what is there, at most `limit`, and how far it has come; waits for nothing but the disk. Where
    /// it has come to the head, there are no more now.
    pub async fn next_there(&mut self, limit: usize) -> Result<Followed, ReadError> {
        let head = *self.head.borrow_and_update();
        if self.position >= head {
            return Ok(Followed { events: Vec::new(), position: self.position });
        }
        let Found { events, position } = self.look(head, limit).await?;
        Ok(Followed { events, position })
    }

    /// And goes on behind what it finds.
    async fn look(&mut self, head: Position, limit: usize) -> Result<Found, ReadError> {
        let mut found = self.find(head, limit).await?;
        if found.events.len() > limit {
            // Begun when more were wanted.
            found.events.truncate(limit);
            found.position = found.events.last().map_or(self.position, |last| last.position);
        }
        self.position = found.position;
        self.reached.store(found.position.0, Ordering::Relaxed);
        Ok(found)
    }

    async fn find(&mut self, head: Position, limit: usize) -> Result<Found, ReadError> {
        if self.looking.is_none() {
            let tail = &self.store.shared.tail;
            if let Some(found) = tail.after(self.position, &self.filter, limit, FOLLOWED_BYTES_MAX) {
                return Ok(found);
            }
        }
        let looking = self.looking.get_or_insert_with(|| {
            tokio::spawn(look_on_disk(self.store.clone(), self.filter.clone(), self.position, head, limit))
        });
        let found = looking.await;
        self.looking = None;
        found.unwrap_or_else(|gone| {
            Err(StorageError::ReadFailed { path: "events".into(), reason: gone.to_string().into() }.into())
        })
    }
}

async fn look_on_disk(
    store: EventStore,
    filter: Filter,
    after: Position,
    head: Position,
    limit: usize,
) -> Result<Found, ReadError> {
    let look = move |snapshot: &dyn Snapshot| match &*filter.streams {
        [Pattern::Exact(stream)] => match stream.parse::<StreamName>() {
            Ok(stream) => of_stream(snapshot, &stream, &filter, after, head, limit),
            Err(_) => Ok(Found { events: Vec::new(), position: head }),
        },
        _ => of_all(snapshot, &filter, after, head, limit),
    };
    store.on_disk(look).await
}

fn of_all(
    snapshot: &dyn Snapshot,
    filter: &Filter,
    after: Position,
    head: Position,
    limit: usize,
) -> Result<Found, ReadError> {
    let mut page = Filling::in_order(filter, limit, FOLLOWED_BYTES_MAX);
    let next = fill(snapshot, keys::events(after.next(), head), Order::Forward, &mut page)?;
    let position = next.map_or(head, |next| Position(next.0 - 1));
    Ok(Found { events: page.events, position })
}

/// By the stream's own index, so that nothing else is looked at. What need not be kept is shown until it is removed, as in
/// reads of everything.
fn of_stream(
    snapshot: &dyn Snapshot,
    stream: &StreamName,
    filter: &Filter,
    after: Position,
    head: Position,
    limit: usize,
) -> Result<Found, ReadError> {
    let mut page = Filling::by_index(filter, limit, FOLLOWED_BYTES_MAX);
    let mut found = Found { events: Vec::new(), position: head };
    let (mut looked_at, mut failed) = (after, Ok(()));
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
        match event_at(snapshot, position).and_then(|bytes| page.take(position, &bytes)) {
            Ok(()) => {
                looked_at = position;
                std::ops::ControlFlow::Continue(())
            }
            Err(error) => {
                found.position = looked_at;
                failed = page.end_at(error);
                std::ops::ControlFlow::Break(())
            }
        }
    })?;
    failed?;
    found.events = page.events;
    Ok(found)
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
