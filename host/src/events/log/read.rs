//! Pages of the log, or of one stream, in either direction.

use std::{ops::ControlFlow, sync::Arc};

use tokio::task::spawn_blocking;

use super::{EventStore, heads::Head, tail::Found};
use crate::{
    events::{error::ReadError, keys, record},
    model::{Event, Filter, Position, StreamName},
    storage::{KeyRange, Order, Snapshot, Space, StorageError},
};

/// Of the events of one page. The one that goes beyond is still in it.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Events that are looked at at once: where a filter fits few of them, pages are short or empty and say where to go on.
/// Read in their order, some 50 ms from memory and some 150 ms from the disk (reference measurement: 1,030,000 and 370,000
/// events a second).
const LOOKED_AT_MAX: usize = 50_000;

/// The same in bytes, which is what takes the time where events are large: some 100 ms from a disk that reads 160 MB/s.
const LOOKED_AT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Events of one stream that are looked at at once: each is looked up by itself, at some 50 µs where the disk is asked.
const LOOKED_UP_MAX: usize = 2_000;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Read {
    /// None: events of all streams.
    pub stream: Option<StreamName>,
    pub order: Order,
    /// The first that may be in it: a revision where `stream` is given, else a position. None: from the beginning, or
    /// backward from the end.
    pub from: Option<u64>,
    pub filter: Filter,
    /// At least 1.
    pub limit: usize,
}

#[derive(Clone, Debug)]
pub struct Page {
    /// In the order asked for.
    pub events: Vec<Arc<Event>>,
    /// Where the next page begins; None: there is nothing more now.
    pub next: Option<u64>,
    /// The page is of this moment: nothing will appear at or below.
    pub head: Position,
}

impl EventStore {
    /// One page. An unknown stream is an empty one.
    pub async fn read(&self, read: Read) -> Result<Page, ReadError> {
        let head = self.head();
        if let Some(page) = self.in_memory(&read, head).await {
            return Ok(page);
        }
        let now_ms = self.shared.wall.now_ms();
        self.on_disk(move |snapshot| match &read.stream {
            None => read_all(snapshot, &read, head),
            Some(stream) => read_stream(snapshot, stream, &read, head, now_ms),
        })
        .await
    }

    /// On a thread that may wait for the disk. It ends its look, and holds its turn, also where nobody waits for it any more.
    pub(super) async fn on_disk<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn Snapshot) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let turn = Arc::clone(&self.shared.disk_reads).acquire_owned().await.map_err(|_| StorageError::Closed)?;
        let storage = Arc::clone(&self.shared.storage);
        let looked = spawn_blocking(move || {
            let _turn = turn;
            look(&*storage.snapshot()?)
        });
        looked.await.unwrap_or_else(|gone| {
            Err(StorageError::ReadFailed { path: "events".into(), reason: gone.to_string().into() }.into())
        })
    }

    async fn in_memory(&self, read: &Read, head: Position) -> Option<Page> {
        if read.stream.is_some() || read.order == Order::Backward {
            return None;
        }
        let mut after = Position(read.from.unwrap_or(0).saturating_sub(1));
        loop {
            let Found { events, position } = self.shared.tail.after(after, &read.filter, read.limit, PAGE_BYTES_MAX)?;
            if events.is_empty() && position < head {
                after = position;
                tokio::task::yield_now().await;
                continue;
            }
            // Looked at under one lock, so the head may have moved meanwhile.
            let next = (position < head).then(|| position.next().0);
            return Some(Page { events, next, head: head.max(position) });
        }
    }
}

/// Fills a page, and says when it is full.
pub struct Filling<'r> {
    filter: &'r Filter,
    limit: usize,
    bytes_max: usize,
    looked_at_max: usize,
    pub events: Vec<Arc<Event>>,
    bytes: usize,
    looked_at: usize,
    looked_at_bytes: usize,
}

impl<'r> Filling<'r> {
    /// Of at most `limit` events and `bytes_max` bytes, and the event that goes beyond; in the order of the log.
    pub fn in_order(filter: &'r Filter, limit: usize, bytes_max: usize) -> Self {
        let looked_at_max = LOOKED_AT_MAX;
        let (bytes, looked_at, looked_at_bytes) = (0, 0, 0);
        Self { filter, limit, bytes_max, looked_at_max, events: Vec::new(), bytes, looked_at, looked_at_bytes }
    }

    /// The same where each event is looked up by itself.
    pub fn by_index(filter: &'r Filter, limit: usize, bytes_max: usize) -> Self {
        Self { looked_at_max: LOOKED_UP_MAX, ..Self::in_order(filter, limit, bytes_max) }
    }

    pub fn is_full(&self) -> bool {
        self.events.len() >= self.limit
            || self.bytes > self.bytes_max
            || self.looked_at >= self.looked_at_max
            || self.looked_at_bytes > LOOKED_AT_BYTES_MAX
    }

    pub fn take(&mut self, position: Position, bytes: &[u8]) -> Result<(), ReadError> {
        let decoded = record::decode(position, bytes, self.filter);
        let event = decoded.map_err(|reason| ReadError::Damaged { position: position.0, reason })?;
        self.looked_at += 1;
        self.looked_at_bytes += bytes.len();
        if let Some(event) = event {
            self.bytes += event.weight_bytes();
            self.events.push(Arc::new(event));
        }
        Ok(())
    }

    /// What stands before something damaged is given out; only where nothing does it is an error.
    pub fn end_at(&self, error: ReadError) -> Result<(), ReadError> {
        match error {
            ReadError::Damaged { .. } if self.looked_at > 0 => Ok(()),
            error => Err(error),
        }
    }
}

fn read_all(snapshot: &dyn Snapshot, read: &Read, head: Position) -> Result<Page, ReadError> {
    let range = match read.order {
        Order::Forward => keys::events(Position(read.from.unwrap_or(0)), head),
        Order::Backward => keys::events(Position::START, head.min(Position(read.from.unwrap_or(u64::MAX)))),
    };
    let mut page = Filling::in_order(&read.filter, read.limit, PAGE_BYTES_MAX);
    let next = fill(snapshot, range, read.order, &mut page)?;
    Ok(Page { events: page.events, next: next.map(|position| position.0), head })
}

/// Answers with the first position that was not looked at: where the page is full, or something is damaged.
pub fn fill(
    snapshot: &dyn Snapshot,
    range: KeyRange,
    order: Order,
    page: &mut Filling<'_>,
) -> Result<Option<Position>, ReadError> {
    let (mut next, mut failed) = (None, Ok(()));
    snapshot.walk(Space::Events, range, order, &mut |key, value| {
        let Some(position) = keys::position(key) else { return ControlFlow::Continue(()) };
        if page.is_full() {
            next = Some(position);
            return ControlFlow::Break(());
        }
        match page.take(position, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                next = Some(position);
                failed = page.end_at(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map(|()| next)
}

fn read_stream(
    snapshot: &dyn Snapshot,
    stream: &StreamName,
    read: &Read,
    head: Position,
    now_ms: u64,
) -> Result<Page, ReadError> {
    // What is not visible yet must not push out what is.
    let kept = Kept::of(&Head::read(snapshot, stream, head)?, now_ms);
    let (from, to) = match read.order {
        Order::Forward => (kept.first.max(read.from.unwrap_or(0)), u64::MAX),
        Order::Backward => (kept.first, read.from.unwrap_or(u64::MAX)),
    };
    let mut page = Filling::by_index(&read.filter, read.limit, PAGE_BYTES_MAX);
    let (mut next, mut failed) = (None, Ok(()));
    snapshot.walk(Space::EventIndex, keys::revisions(stream.as_str(), from, to), read.order, &mut |key, value| {
        let found = keys::stream_and_revision(key).zip(keys::position(value));
        let Some(((_, revision), position)) = found else { return ControlFlow::Continue(()) };
        if position > head {
            // Committed, and not visible before its round has ended: at most what one round takes.
            return ControlFlow::Continue(());
        }
        if page.is_full() {
            next = Some(revision);
            return ControlFlow::Break(());
        }
        match event_at(snapshot, position).and_then(|bytes| page.take(position, &bytes)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                next = Some(revision);
                failed = page.end_at(error).map_err(|error| of_stream(error, stream, revision));
                ControlFlow::Break(())
            }
        }
    })?;
    failed?;
    page.events.retain(|event| kept.keeps(event));
    Ok(Page { events: page.events, next, head })
}

/// Reads of a stream go by revisions, so whoever wants to go on behind what is damaged must know its revision.
fn of_stream(error: ReadError, stream: &StreamName, revision: u64) -> ReadError {
    match error {
        ReadError::Damaged { position, reason } => {
            ReadError::Damaged { position, reason: format!("{reason}; it is revision {revision} of stream {stream}") }
        }
        error => error,
    }
}

/// An event that an index names.
pub fn event_at(snapshot: &dyn Snapshot, position: Position) -> Result<bytes::Bytes, ReadError> {
    let missing =
        || ReadError::Damaged { position: position.0, reason: "the index names it, and it is not there".to_owned() };
    snapshot.get(Space::Events, &keys::event(position))?.ok_or_else(missing)
}

/// What of a stream is to be kept.
pub struct Kept {
    /// Nothing before this revision.
    pub first: u64,
    /// Nothing that was appended before.
    since_ms: u64,
}

impl Kept {
    pub fn of(head: &Head, now_ms: u64) -> Self {
        let retention = head.record.unwrap_or_default().retention;
        let by_count = retention.max_count.map_or(0, |count| head.next.saturating_sub(count));
        let since_ms = retention.max_age_ms.map_or(0, |age_ms| now_ms.saturating_sub(age_ms));
        Self { first: retention.first_revision.max(by_count), since_ms }
    }

    pub fn keeps(&self, event: &Event) -> bool {
        self.keeps_at(event.revision, event.recorded_ms)
    }

    /// The same of an event of which no more is known.
    pub fn keeps_at(&self, revision: u64, recorded_ms: u64) -> bool {
        revision >= self.first && recorded_ms >= self.since_ms
    }

    /// Whether there is an age beyond which nothing is kept.
    pub fn has_age(&self) -> bool {
        self.since_ms > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        events::{Append, log::DISK_READS_MAX},
        model::{Draft, Expected, Retention, Wall},
        storage::{Storage, memory::MemoryStorage},
    };

    async fn opened(storage: &MemoryStorage) -> EventStore {
        EventStore::open(Arc::new(storage.clone()), Wall::at(0), "a test".to_owned()).await.expect("it opens")
    }

    #[tokio::test]
    async fn a_read_that_nobody_waits_for_keeps_its_turn_until_it_has_ended() {
        let store = opened(&MemoryStorage::new()).await;
        let ((begin, begun), (end, ended)) = (tokio::sync::oneshot::channel(), std::sync::mpsc::channel::<()>());
        let reading = store.clone();
        let read = tokio::spawn(async move {
            let look = move |_: &dyn Snapshot| {
                begin.send(()).expect("the test waits for it");
                // Until the test has seen enough: then its end is gone.
                let _ = ended.recv();
                Ok(())
            };
            reading.on_disk(look).await.expect("it is read");
        });
        begun.await.expect("it begins");
        read.abort();
        assert!(read.await.expect_err("it was aborted").is_cancelled());
        let turns = Arc::clone(&store.shared.disk_reads);
        assert!(turns.try_acquire_many(DISK_READS_MAX as u32).is_err(), "one of them is taken");
        drop(end);
        drop(turns.acquire_many(DISK_READS_MAX as u32).await.expect("it ends"));
    }

    #[tokio::test]
    async fn what_is_not_visible_yet_pushes_nothing_out() {
        let storage = MemoryStorage::new();
        let store = opened(&storage).await;
        let stream: StreamName = "s".parse().expect("a name");
        for nth in 0..5 {
            let draft = Draft::new(
                format!("{nth}").parse().expect("an id"),
                "/s".parse().expect("a source"),
                "t".parse().expect("a type"),
            );
            let append = Append::to(stream.clone(), Expected::Any, vec![draft]);
            store.append(append).await.expect("it is appended");
        }
        let retention = Retention { max_count: Some(2), ..Retention::default() };
        store.set_retention(stream.clone(), retention).await.expect("it is set");
        let snapshot = storage.snapshot().expect("it is open");
        let order = Order::Forward;
        let read = Read { stream: Some(stream.clone()), order, from: None, filter: Filter::default(), limit: 9 };
        for (head, wanted) in [(5, vec![3, 4]), (3, vec![1, 2]), (1, vec![0])] {
            let page = read_stream(&*snapshot, &stream, &read, Position(head), 0).expect("it is read");
            let found: Vec<_> = page.events.iter().map(|event| event.revision).collect();
            assert_eq!(found, wanted, "at {head}");
        }
    }
}
