//! What is asked of the writer, and its answer.

use crate::{
    model::{Draft, Expected, Position, StreamName},
    storage::Batch,
};

/// Events of one append, over all its streams.
pub const EVENTS_MAX: usize = 1_000;

/// Of all events of one append, in bytes as [`Draft::weight_bytes`] has it: it is one durable commit.
pub const APPEND_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What may come with an append into a commit that many share, in bytes.
const SHARED_BYTES_MAX: usize = 64 * 1024;

/// Events for one stream, in order.
#[derive(Clone, Debug)]
pub struct StreamAppend {
    pub stream: StreamName,
    /// Asked of the stream as it stands before the first of them.
    pub expected: Expected,
    pub drafts: Vec<Draft>,
}

/// What becomes one durable commit, or nothing at all. A stream is named once at most.
#[derive(Clone, Debug, Default)]
pub struct Append {
    pub streams: Vec<StreamAppend>,
    /// Belongs into the same commit; where its conditions do not hold nothing is appended. It must not touch the spaces of
    /// events.
    pub with: Batch,
}

impl Append {
    /// To one stream.
    pub fn to(stream: StreamName, expected: Expected, drafts: Vec<Draft>) -> Self {
        Self { streams: vec![StreamAppend { stream, expected, drafts }], ..Self::default() }
    }

    /// Roughly what it takes in the queue and in its commit, without what comes with it.
    pub fn weight_bytes(&self) -> usize {
        self.drafts().map(Draft::weight_bytes).sum()
    }

    /// Whether it needs a commit of its own: it may be refused where others are not, or would make theirs too large.
    pub(super) fn is_joint(&self) -> bool {
        !self.with.conditions.is_empty() || self.with.weight_bytes() > SHARED_BYTES_MAX
    }

    pub fn drafts(&self) -> impl Iterator<Item = &Draft> {
        self.streams.iter().flat_map(|of| &of.drafts)
    }
}

/// Durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// As they were given.
    pub streams: Vec<AppendedStream>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendedStream {
    pub stream: StreamName,
    /// As they were given.
    pub events: Vec<AppendedEvent>,
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedEvent {
    pub position: Position,
    pub revision: u64,
    /// Not: an event with its id was there already, and stays.
    pub is_new: bool,
}
