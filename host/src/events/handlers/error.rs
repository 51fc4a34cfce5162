//! Why something cannot be done with event handlers, a sentence each.

use crate::{
    events::ReadError,
    model::HandlerName,
    plugin::Fault,
    storage::{ClaimError, StorageError},
};

#[derive(Clone, Debug, thiserror::Error)]
pub enum HandlersError {
    #[error("there is no event handler named {0}")]
    Unknown(HandlerName),
    /// It has not begun, or the version that it keeps to could not be loaded.
    #[error("event handler {name} cannot be read now: {reason}")]
    NotReadable { name: HandlerName, reason: String },
    /// All instances that read are in use.
    #[error("event handler {0} is read by as many as may at once: try again later")]
    Busy(HandlerName),
    /// The plugin did not come back from a read.
    #[error("event handler {name}: {fault}")]
    Fault { name: HandlerName, fault: Fault },
    #[error("event handler {0} is not halted: there is nothing to resume")]
    NotHalted(HandlerName),
    /// What was put aside while the old state was in use stays there until the new one is: its effects would go out of both.
    #[error(
        "event handler {0} builds its state anew: what stands aside can be replayed or discarded once that is in use"
    )]
    Rebuilding(HandlerName),
    /// The version that it keeps to cannot be loaded.
    #[error("event handler {name} does not run: {reason}")]
    NotRunning { name: HandlerName, reason: String },
    #[error("so much is asked of event handler {0} already that it takes no more: try again later")]
    AskedTooMuch(HandlerName),
    /// By another configuration, or by an error that is in its report.
    #[error("event handler {0} was interrupted at it, and is begun again: ask once more")]
    Interrupted(HandlerName),
    /// What came of it may be there in part.
    #[error("the store did not take it: {0}")]
    NotStored(String),
    #[error("it is not durable: {0}")]
    NotDurable(StorageError),
    #[error("what is stored of event handlers cannot be read: {0}")]
    Unreadable(#[from] StorageError),
    #[error("the record {key:?} of event handlers cannot be read: {reason}; bring data_dir/store back from a backup")]
    Damaged { key: String, reason: String },
    #[error("another gateway has taken the event handlers over")]
    TakenOver,
    #[error("the gateway is shutting down")]
    Closed,
}

impl HandlersError {
    pub(super) fn damaged(key: &[u8], reason: &dyn std::fmt::Display) -> Self {
        Self::Damaged { key: key.escape_ascii().to_string(), reason: reason.to_string() }
    }
}

impl From<ReadError> for HandlersError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Storage(error) => Self::Unreadable(error),
            ReadError::Damaged { position, reason } => Self::Damaged { key: format!("event {position}"), reason },
        }
    }
}

impl From<ClaimError> for HandlersError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Unreadable(error) => Self::Unreadable(error),
            ClaimError::Damaged { key, reason } => Self::damaged(&key, &reason),
            ClaimError::TakenOver => Self::TakenOver,
            ClaimError::NotDurable(error) => Self::NotDurable(error),
        }
    }
}
