//! Where a value stands: its space and its key.

use std::ops::Bound;

use bytes::Bytes;

/// Longest key, in bytes: names and ids with their separators; fjall takes up to 64 KiB.
pub const KEY_BYTES_MAX: usize = 4096;

/// A key space of its own for each subject. A batch may write to several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Service instances, their checks and the index.
    Registry,
    /// What discovery plugins told last, and their cursors.
    Discovery,
    /// Distributed transactions and the claim on them.
    Transactions,
    /// Events, by their position.
    Events,
    /// Where the events of a stream stand, the ids that are taken, and what is set for a stream.
    EventIndex,
    /// Event handlers: their checkpoints, their state, and what they have still to send.
    Handlers,
    /// Consumer groups: their checkpoints, and what was put aside.
    Groups,
}

impl Space {
    pub const ALL: [Self; 7] = [
        Self::Registry,
        Self::Discovery,
        Self::Transactions,
        Self::Events,
        Self::EventIndex,
        Self::Handlers,
        Self::Groups,
    ];

    /// What it is called on disk; never changes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Discovery => "discovery",
            Self::Transactions => "transactions",
            Self::Events => "events",
            Self::EventIndex => "event-index",
            Self::Handlers => "handlers",
            Self::Groups => "groups",
        }
    }
}

/// Keys from a first one on and up to an end that is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key that is in it, if there is such a key.
    start: Bytes,
    /// None: to the last key of the space.
    end: Option<Bytes>,
}

impl KeyRange {
    /// Every key of a space.
    pub fn all() -> Self {
        Self { start: Bytes::new(), end: None }
    }

    /// From `start` on, without `end`; empty where `end` is not above `start`.
    pub fn between(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self { start: start.into(), end: Some(end.into()) }
    }

    /// Keys that begin with these bytes.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        // The next of the same length, or shorter: trailing 0xff have no next.
        let kept = start.iter().rposition(|&byte| byte != 0xff);
        let end = kept.map(|last| {
            let mut end = start[..=last].to_vec();
            end[last] += 1;
            Bytes::from(end)
        });
        Self { start, end }
    }

    /// What is left of it behind `key`: for reading page by page.
    #[must_use]
    pub fn after(mut self, key: &[u8]) -> Self {
        let next = Bytes::from([key, &[0]].concat());
        self.start = self.start.max(next);
        self
    }

    /// What is left of it from `key` on.
    #[must_use]
    pub fn from(mut self, key: impl Into<Bytes>) -> Self {
        self.start = self.start.max(key.into());
        self
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        *self.start <= *key && self.end.as_ref().is_none_or(|end| *key < **end)
    }

    /// None: it can hold no key.
    pub(super) fn bounds(&self) -> Option<(Bound<Bytes>, Bound<Bytes>)> {
        if self.end.as_ref().is_some_and(|end| *end <= self.start) {
            return None;
        }
        let end = self.end.clone().map_or(Bound::Unbounded, Bound::Excluded);
        Some((Bound::Included(self.start.clone()), end))
    }
}
