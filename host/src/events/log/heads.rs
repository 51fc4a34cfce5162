//! Where streams end, remembered: the disk is asked only for streams that nobody appended to for long.

use std::{collections::HashMap, ops::ControlFlow};

use crate::{
    events::{error::ReadError, keys, record::StreamRecord},
    model::{Position, StreamName},
    storage::{Order, Snapshot, Space, StorageError},
};

/// Streams of each of the two generations: some 200 bytes each, so 2.5 MiB at most together.
const GENERATION_MAX: usize = 8_192;

/// The end of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The revision that the next event gets.
    pub next: u64,
    /// What is set for the stream, if anything is.
    pub record: Option<StreamRecord>,
}

impl Head {
    /// The revision of the last event that the stream ever had.
    pub fn last(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// As it is with what stands at or below a position.
    pub fn read(snapshot: &dyn Snapshot, stream: &StreamName, visible: Position) -> Result<Self, ReadError> {
        let record = snapshot.get(Space::EventIndex, &keys::settings(stream.as_str()))?;
        let record = record.map(|bytes| StreamRecord::from_bytes(&bytes)).transpose();
        let record = record.map_err(|reason| damaged(stream, &reason))?;
        let (mut last, mut beyond) = (None, None);
        let revisions = keys::revisions(stream.as_str(), 0, u64::MAX);
        snapshot.walk(Space::EventIndex, revisions, Order::Backward, &mut |key, value| {
            let revision = keys::stream_and_revision(key).map(|(_, revision)| revision);
            if keys::position(value).is_some_and(|position| position > visible) {
                beyond = revision;
                return ControlFlow::Continue(());
            }
            last = revision;
            ControlFlow::Break(())
        })?;
        let next = match beyond {
            // Revisions have no gap.
            Some(first) => first,
            // Where no event is left, the record knows where they go on.
            None => last.map_or(0, |last| last + 1).max(record.map_or(0, |record| record.next_revision)),
        };
        Ok(Self { next, record })
    }
}

fn damaged(stream: &StreamName, reason: &str) -> StorageError {
    StorageError::ReadFailed {
        path: "event-index".into(),
        reason: format!("what is set for stream {stream} is damaged: {reason}").into(),
    }
}

/// The streams of late. The older generation goes when the younger one is full.
#[derive(Default)]
pub struct Heads {
    young: HashMap<StreamName, Head>,
    old: HashMap<StreamName, Head>,
}

impl Heads {
    pub fn get(&mut self, snapshot: &dyn Snapshot, stream: &StreamName) -> Result<Head, ReadError> {
        if let Some(head) = self.young.get(stream) {
            return Ok(*head);
        }
        let head = match self.old.remove(stream) {
            Some(head) => head,
            None => Head::read(snapshot, stream, Position(u64::MAX))?,
        };
        self.set(stream.clone(), head);
        Ok(head)
    }

    pub fn set(&mut self, stream: StreamName, head: Head) {
        if self.young.len() >= GENERATION_MAX && !self.young.contains_key(&stream) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(stream, head);
    }

    /// What was decided has not happened: the disk is asked again.
    pub fn forget(&mut self, stream: &StreamName) {
        self.young.remove(stream);
        self.old.remove(stream);
    }

    /// The same, where it is not known of which.
    pub fn forget_all(&mut self) {
        *self = Self::default();
    }
}
