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

/// Events that are looked at for one page: where a filter fits few of them, pages are short or empty and say where to go
/// on. Some 50 ms of reading.
pub const LOOKED_AT_MAX: usize = 50_000;

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
        if let Some(page) = self.in_memory(&read, head) {
            return Ok(page);
        }
        let now_ms = self.shared.wall.now_ms();
        self.on_disk(move |snapshot| match &read.stream {
            None => read_all(snapshot, &read, head),
            Some(stream) => read_stream(snapshot, stream, &read, head, now_ms),
        })
        .await
    }

    /// On a thread that may wait for the disk.
    pub(super) async fn on_disk<T: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn Snapshot) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let _turn = self.shared.disk_reads.acquire().await.map_err(|_| StorageError::Closed)?;
        let storage = Arc::clone(&self.shared.storage);
        let looked = spawn_blocking(move || look(&*storage.snapshot()?)).await;
        looked.unwrap_or_else(|gone| {
            Err(StorageError::ReadFailed { path: "events".into(), reason: gone.to_string().into() }.into())
        })
    }

    fn in_memory(&self, read: &Read, head: Position) -> Option<Page> {
        if read.stream.is_some() || read.order == Order::Backward {
            return None;
        }
        let after = Position(read.from.unwrap_or(0).saturating_sub(1));
        let Found { events, position } = self.shared.tail.after(after, &read.filter, read.limit, PAGE_BYTES_MAX)?;
        // Looked at under one lock, so the head may have moved meanwhile.
        let next = (position < head).then(|| position.next().0);
        Some(Page { events, next, head: head.max(position) })
    }
}

/// Fills a page, and says when it is full.
pub struct Filling<'r> {
    filter: &'r Filter,
    limit: usize,
    pub events: Vec<Arc<Event>>,
    bytes: usize,
    looked_at: usize,
}

impl<'r> Filling<'r> {
    pub fn new(filter: &'r Filter, limit: usize) -> Self {
        Self { filter, limit, events: Vec::new(), bytes: 0, looked_at: 0 }
    }

    pub fn is_full(&self) -> bool {
        self.events.len() >= self.limit || self.bytes > PAGE_BYTES_MAX || self.looked_at >= LOOKED_AT_MAX
    }

    pub fn take(&mut self, position: Position, bytes: &[u8]) -> Result<(), ReadError> {
        self.looked_at += 1;
        let decoded = record::decode(position, bytes, self.filter);
        let event = decoded.map_err(|reason| ReadError::Damaged { position: position.0, reason })?;
        if let Some(event) = event {
            self.bytes += event.weight_bytes();
            self.events.push(Arc::new(event));
        }
        Ok(())
    }
}

fn read_all(snapshot: &dyn Snapshot, read: &Read, head: Position) -> Result<Page, ReadError> {
    let range = match read.order {
        Order::Forward => keys::events(Position(read.from.unwrap_or(0)), head),
        Order::Backward => keys::events(Position::START, head.min(Position(read.from.unwrap_or(u64::MAX)))),
    };
    let mut page = Filling::new(&read.filter, read.limit);
    let next = fill(snapshot, range, read.order, &mut page)?;
    Ok(Page { events: page.events, next: next.map(|position| position.0), head })
}

/// Answers with the first position that was not looked at.
pub fn fill(
    snapshot: &dyn Snapshot,
    range: KeyRange,
    order: Order,
    page: &mut Filling<'_>,
) -> Result<Option<Position>, ReadError> {
    let mut next = None;
    let mut failed = None;
    snapshot.walk(Space::Events, range, order, &mut |key, value| {
        let Some(position) = keys::position(key) else { return ControlFlow::Continue(()) };
        if page.is_full() {
            next = Some(position);
            return ControlFlow::Break(());
        }
        match page.take(position, value) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    failed.map_or(Ok(next), Err)
}

fn read_stream(
    snapshot: &dyn Snapshot,
    stream: &StreamName,
    read: &Read,
    head: Position,
    now_ms: u64,
) -> Result<Page, ReadError> {
    let kept = Kept::of(&Head::read(snapshot, stream)?, now_ms);
    let (from, to) = match read.order {
        Order::Forward => (kept.first.max(read.from.unwrap_or(0)), u64::MAX),
        Order::Backward => (kept.first, read.from.unwrap_or(u64::MAX)),
    };
    let mut page = Filling::new(&read.filter, read.limit);
    let mut next = None;
    let mut failed = None;
    snapshot.walk(Space::EventIndex, keys::revisions(stream.as_str(), from, to), read.order, &mut |key, value| {
        let found = keys::stream_and_revision(key).zip(keys::position(value));
        let Some(((_, revision), position)) = found else { return ControlFlow::Continue(()) };
        if position > head {
            // Committed, and not visible before its round has ended.
            return ControlFlow::Continue(());
        }
        if page.is_full() {
            next = Some(revision);
            return ControlFlow::Break(());
        }
        match event_at(snapshot, position).and_then(|bytes| page.take(position, &bytes)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    page.events.retain(|event| kept.keeps(event));
    Ok(Page { events: page.events, next, head })
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
        event.revision >= self.first && event.recorded_ms >= self.since_ms
    }
}
