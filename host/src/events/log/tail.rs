//! The last events, in memory: whoever keeps up never reads the disk.

use std::{
    collections::VecDeque,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::sync::watch;

use crate::model::{Event, Filter, Position, StreamName};

/// Of all events in the tail. Followers that fall behind by more read the disk.
const TAIL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Events that are looked at under one lock: with as many patterns as a filter may have, some 0.1 ms in which nothing can
/// be pushed.
const LOOKED_AT_MAX: usize = 1_000;

pub struct Tail {
    events: RwLock<Events>,
    head: watch::Sender<Position>,
}

struct Events {
    /// In order; all there are above `floor`.
    list: VecDeque<Arc<Event>>,
    bytes: usize,
    floor: Position,
    /// The last that was pushed, whether it is still there or not.
    last: Position,
}

/// What was looked at, and what of it was wanted.
pub struct Found {
    pub events: Vec<Arc<Event>>,
    /// All at or below were looked at.
    pub position: Position,
}

impl Tail {
    pub fn new(head: Position) -> Self {
        let events = Events { list: VecDeque::new(), bytes: 0, floor: head, last: head };
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
            events.last = head;
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

    /// What was removed from the disk is not shown any more: of this stream what is before a revision, the last of it at
    /// this position.
    pub fn forget(&self, stream: &StreamName, before: u64, last: Position) {
        let mut events = self.events.write().unwrap_or_else(PoisonError::into_inner);
        if last <= events.floor {
            return;
        }
        let Events { list, bytes, .. } = &mut *events;
        list.retain(|event| {
            let stays = event.stream != *stream || event.revision >= before;
            *bytes -= if stays { 0 } else { event.weight_bytes() };
            stays
        });
    }

    /// Those behind `after`, at most `limit`, of at most [`LOOKED_AT_MAX`] that are looked at; None: the disk has to be
    /// asked.
    pub fn after(&self, after: Position, filter: &Filter, limit: usize, bytes_max: usize) -> Option<Found> {
        let events = self.events.read().unwrap_or_else(PoisonError::into_inner);
        if after < events.floor {
            return None;
        }
        let mut found = Found { events: Vec::new(), position: after };
        let mut bytes = 0;
        let first = events.list.partition_point(|event| event.position <= after);
        for (looked_at, event) in events.list.range(first..).enumerate() {
            if looked_at == LOOKED_AT_MAX {
                return Some(found);
            }
            if filter.matches(event) {
                if found.events.len() == limit || bytes > bytes_max {
                    return Some(found);
                }
                bytes += event.weight_bytes();
                found.events.push(Arc::clone(event));
            }
            found.position = event.position;
        }
        // Those behind it were removed, which makes them no less looked at.
        found.position = found.position.max(events.last);
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Draft;

    fn event(position: u64) -> Arc<Event> {
        let draft = Draft::new(
            position.to_string().parse().expect("an id"),
            "/s".parse().expect("a source"),
            "t".parse().expect("a type"),
        );
        let stream = "s".parse().expect("a name");
        Arc::new(Event { position: Position(position), stream, revision: position - 1, recorded_ms: 0, draft })
    }

    #[test]
    fn what_was_forgotten_was_looked_at() {
        let tail = Tail::new(Position::START);
        tail.push((1..=3).map(event).collect());
        tail.forget(&"s".parse().expect("a name"), 3, Position(3));
        for after in 0..=3 {
            let found = tail.after(Position(after), &Filter::default(), 9, 9).expect("it is in memory");
            assert_eq!((found.events.len(), found.position), (0, Position(3)), "behind {after}");
        }
    }

    #[test]
    fn one_look_is_bounded_where_nothing_fits() {
        let tail = Tail::new(Position::START);
        tail.push((1..=LOOKED_AT_MAX as u64 + 5).map(event).collect());
        let none = Filter { types: vec!["u".parse().expect("a pattern")], ..Filter::default() };
        let found = tail.after(Position::START, &none, 9, 9).expect("it is in memory");
        assert_eq!((found.events.len(), found.position), (0, Position(LOOKED_AT_MAX as u64)));
        let found = tail.after(found.position, &none, 9, 9).expect("it is in memory");
        assert_eq!(found.position, tail.head());
    }
}
