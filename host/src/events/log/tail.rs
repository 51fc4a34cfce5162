//! The last events, in memory: whoever keeps up never reads the disk.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::watch;

use crate::model::{Event, Filter, Position, StreamName};

/// Of all events in the tail. Followers that fall behind by more read the disk.
const TAIL_BYTES_MAX: usize = 4 * 1024 * 1024;

pub struct Tail {
    events: RwLock<Events>,
    head: watch::Sender<Position>,
}

struct Events {
    /// In order; all there are above `floor`.
    list: VecDeque<Arc<Event>>,
    bytes: usize,
    floor: Position,
}

/// What was looked at, and what of it was wanted.
pub struct Found {
    pub events: Vec<Arc<Event>>,
    /// All at or below were looked at.
    pub position: Position,
}

impl Tail {
    pub fn new(head: Position) -> Self {
        let events = Events { list: VecDeque::new(), bytes: 0, floor: head };
        Self { events: RwLock::new(events), head: watch::Sender::new(head) }
    }

    pub fn head(&self) -> Position {
        *self.head.borrow()
    }

    pub fn watch(&self) -> watch::Receiver<Position> {
        self.head.subscribe()
    }

    /// Makes them visible. They are in order, and above all that are visible.
    pub fn push(&self, new: Vec<Arc<Event>>) {
        let Some(head) = new.last().map(|event| event.position) else { return };
        {
            let mut events = self.events.write().unwrap_or_else(PoisonError::into_inner);
            for event in new {
                events.bytes += event.weight_bytes();
                events.list.push_back(event);
            }
            while events.bytes > TAIL_BYTES_MAX
                && let Some(first) = events.list.pop_front()
            {
                events.bytes -= first.weight_bytes();
                events.floor = first.position;
            }
        }
        self.head.send_replace(head);
    }

    /// What was removed from the disk is not shown any more.
    pub fn forget(&self, stream: &StreamName, before: u64) {
        let mut events = self.events.write().unwrap_or_else(PoisonError::into_inner);
        let Events { list, bytes, .. } = &mut *events;
        list.retain(|event| {
            let stays = event.stream != *stream || event.revision >= before;
            *bytes -= if stays { 0 } else { event.weight_bytes() };
            stays
        });
    }

    /// Those behind `after`, at most `limit`; None: the disk has to be asked.
    pub fn after(&self, after: Position, filter: &Filter, limit: usize, bytes_max: usize) -> Option<Found> {
        let events = self.events.read().unwrap_or_else(PoisonError::into_inner);
        if after < events.floor {
            return None;
        }
        let mut found = Found { events: Vec::new(), position: after };
        let mut bytes = 0;
        let first = events.list.partition_point(|event| event.position <= after);
        for event in events.list.range(first..) {
            if filter.matches(event) {
                if found.events.len() == limit || bytes > bytes_max {
                    return Some(found);
                }
                bytes += event.weight_bytes();
                found.events.push(Arc::clone(event));
            }
            found.position = event.position;
        }
        Some(found)
    }
}
