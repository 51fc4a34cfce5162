//! Why the coordinator refuses something.

use std::fmt;

use super::{Gid, Status};
use crate::{
    events::AppendError,
    model::EventProblem,
    plugin::Fault,
    storage::{ClaimError, StorageError},
};

/// One thing wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// JSON Pointer (RFC 6901) into the request; empty for the whole.
    pub pointer: String,
    /// Says what would be right.
    pub message: String,
}

impl FieldProblem {
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.pointer, self.message)
        }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum TransactionError {
    /// Everything that is wrong, each with its field. Nothing was stored.
    #[error("{}", listed(.0))]
    Invalid(Vec<FieldProblem>),
    #[error("there is no transaction {0}")]
    Unknown(Gid),
    #[error("transaction {gid} is there already, with another {field}")]
    OtherContent { gid: Gid, field: String },
    #[error("transaction {gid} is {status}: it cannot {wanted} any more")]
    TooLate { gid: Gid, status: Status, wanted: &'static str },
    /// The protocol's plugin did not come back. Nothing was stored.
    #[error("protocol {protocol}: {fault}")]
    Protocol { protocol: String, fault: Fault },
    #[error("{max} transactions are under way, which is as many as there may be: try again later")]
    Full { max: usize },
    /// It was not made durable, or if the store is in doubt, may show after a restart.
    #[error("the transaction is not durable: {0}")]
    NotDurable(StorageError),
    /// The events of its outcome are not taken, and without them there is no outcome.
    #[error("the events of the transaction's outcome cannot be appended: {0}")]
    EventsRefused(AppendError),
    #[error("event {nth} of the transaction's outcome is not right any more: {problem}")]
    EventWrong { nth: usize, problem: EventProblem },
    #[error("the store of transactions cannot be read: {0}")]
    Unreadable(StorageError),
    #[error("the record {key:?} of transactions cannot be read: {reason}; bring data_dir/store back from a backup")]
    Damaged { key: String, reason: String },
    /// Another gateway has taken the transactions over.
    #[error("another gateway coordinates the transactions of this store")]
    TakenOver,
    #[error("the gateway is shutting down")]
    Closed,
}

impl TransactionError {
    pub fn field(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldProblem::new(pointer, message)])
    }

    /// The outcome's events are refused, as they would be each time.
    pub fn is_of_events(&self) -> bool {
        matches!(self, Self::EventsRefused(_) | Self::EventWrong { .. })
    }
}

fn listed(problems: &[FieldProblem]) -> String {
    problems.iter().map(FieldProblem::to_string).collect::<Vec<_>>().join("; ")
}

impl From<ClaimError> for TransactionError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Unreadable(error) => Self::Unreadable(error),
            ClaimError::Damaged { key, reason } => {
                Self::Damaged { key: String::from_utf8_lossy(&key).into_owned(), reason }
            }
            ClaimError::TakenOver => Self::TakenOver,
            ClaimError::NotDurable(error) => Self::NotDurable(error),
        }
    }
}
