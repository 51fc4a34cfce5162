//! What can go wrong with the store of events, a sentence each.

use crate::{
    model::{EventId, EventProblem, Expected, StreamName},
    storage::{ClaimError, StorageError},
};

/// Why nothing was appended, except where [`Self::is_in_doubt`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// `actual` is the revision of the stream's last event.
    #[error("stream {stream} was expected at revision {expected}, and {}", standing(*.actual))]
    Conflict { stream: StreamName, expected: Expected, actual: Option<u64> },
    /// The same id, and not the same event.
    #[error("stream {stream} has another event with the id \"{id}\", of another source, type, subject, data or schema")]
    IdTaken { stream: StreamName, id: EventId },
    #[error("event {index} of stream {stream}: {problem}")]
    Invalid { stream: StreamName, index: usize, problem: EventProblem },
    #[error("an append has 1 to {max} events, and this one {given}")]
    Count { given: usize, max: usize },
    #[error("an append has at most {max} bytes, and this one {given}")]
    TooLarge { given: usize, max: usize },
    #[error("stream {0} is named twice in one append")]
    StreamTwice(StreamName),
    #[error("{depth} events have caused each other, more than the {max} that may: this one is not appended")]
    TooDeep { depth: u8, max: u8 },
    /// What belongs to the same commit has changed: this condition of it did not hold.
    #[error("what belongs to the same commit has changed meanwhile")]
    Overtaken { condition: usize },
    #[error("it is not durable: {0}")]
    NotDurable(StorageError),
    #[error("another gateway has taken the events over")]
    TakenOver,
}

impl AppendError {
    /// Whether it may be there nevertheless; with the same ids it can be asked again.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::NotDurable(error) if error.is_in_doubt())
    }
}

fn standing(actual: Option<u64>) -> String {
    match actual {
        Some(revision) => format!("is at revision {revision}"),
        None => "has no event".to_owned(),
    }
}

/// Why events cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What stands there is no event, which only damage explains. Other events can be read.
    #[error("the event at position {position} is damaged: {reason}")]
    Damaged { position: u64, reason: String },
}

/// Why the store of events cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventStoreError {
    #[error("the events cannot be read: {0}")]
    Unreadable(StorageError),
    #[error("the events cannot be claimed: {0}")]
    NotDurable(StorageError),
    #[error("the events are damaged: {0}")]
    Damaged(String),
    #[error("another gateway has taken the events over")]
    TakenOver,
    #[error("the writer of events does not start: {0}")]
    Writer(String),
}

impl From<ClaimError> for EventStoreError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Unreadable(error) => Self::Unreadable(error),
            ClaimError::Damaged { reason, .. } => Self::Damaged(format!("the claim on them: {reason}")),
            ClaimError::TakenOver => Self::TakenOver,
            ClaimError::NotDurable(error) => Self::NotDurable(error),
        }
    }
}
