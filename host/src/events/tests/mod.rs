//! What the store of events promises.

mod crash;
mod model;
mod promises;
mod reading;

use std::sync::Arc;

use bytes::Bytes;

use super::{Append, AppendError, Appended, EventStore, Page, Read};
use crate::{
    model::{Draft, Event, Expected, Filter, Position, StreamName, Wall},
    storage::{Order, Storage, memory::MemoryStorage},
};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts")
}

/// Where whoever appends may do so on its own thread.
fn threads() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts")
}

async fn open(storage: &MemoryStorage) -> EventStore {
    open_at(storage, Wall::at(1_800_000_000_000)).await
}

async fn open_at(storage: &MemoryStorage, wall: Wall) -> EventStore {
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    EventStore::open(storage, wall, "a test".to_owned()).await.expect("it opens")
}

fn stream(name: &str) -> StreamName {
    name.parse().expect("a stream name")
}

fn draft(id: &str, event_type: &str, data: &str) -> Draft {
    let mut draft = Draft::new(
        id.parse().expect("an id"),
        "/tests".parse().expect("a source"),
        event_type.parse().expect("a type"),
    );
    draft.data = Bytes::copy_from_slice(data.as_bytes());
    draft
}

fn filter(types: &[&str], streams: &[&str]) -> Filter {
    let patterns = |given: &[&str]| given.iter().map(|text| text.parse().expect("a pattern")).collect();
    Filter { types: patterns(types), streams: patterns(streams) }
}

fn everything(order: Order) -> Read {
    Read { stream: None, order, from: None, filter: Filter::default(), limit: 1_000 }
}

async fn append(store: &EventStore, to: &str, expected: Expected, drafts: &[Draft]) -> Result<Appended, AppendError> {
    store.append(Append::to(stream(to), expected, drafts.to_vec())).await
}

/// Page after page until there is nothing more.
async fn read_on(store: &EventStore, mut read: Read) -> Vec<Arc<Event>> {
    let mut events = Vec::new();
    loop {
        let Page { events: some, next, .. } = store.read(read.clone()).await.expect("it is read");
        assert!(some.len() <= read.limit);
        events.extend(some);
        if next.is_none() {
            return events;
        }
        assert_ne!(read.from, next, "a page leads nowhere");
        read.from = next;
    }
}

/// How an event is told from others in a failed assertion.
fn told(event: &Event) -> (u64, String, u64, String) {
    (event.position.0, event.stream.to_string(), event.revision, event.draft.id.to_string())
}

fn position(appended: &Appended) -> Position {
    appended.streams[0].events[0].position
}
