//! Why something cannot be done with groups, a sentence each.

use super::hub::GROUPS_MAX;
use crate::{
    events::ReadError,
    model::{GroupName, Position},
    storage::{ClaimError, StorageError},
};

#[derive(Clone, Debug, thiserror::Error)]
pub enum GroupsError {
    #[error("there is no consumer group named {0}")]
    Unknown(GroupName),
    #[error("there are {GROUPS_MAX} consumer groups already")]
    TooMany,
    /// A group is where it is: it is moved by a reset.
    #[error("from: group {0} is there already, and begins nowhere else: POST /groups/{0}/reset moves it")]
    HasBegun(GroupName),
    /// A checkpoint of another log, or of one that was brought back from a backup.
    #[error("{field}: {given} is beyond the last position, {head}: it is no checkpoint of these events")]
    OfTheFuture { field: &'static str, given: Position, head: Position },
    #[error("webhook.url: {0}")]
    NoTarget(String),
    #[error("group {0} is pushed to its webhook: nobody else takes its events")]
    IsPushed(GroupName),
    #[error("group {0} has as many consumers as it may")]
    Crowded(GroupName),
    #[error("group {0} has as many unsettled events as it may: replay one when others are settled")]
    Full(GroupName),
    #[error("group {group} has parked no event at position {position}")]
    NotParked { group: GroupName, position: Position },
    #[error("the event that group {group} parked at position {position} was removed: there is nothing to be delivered")]
    Removed { group: GroupName, position: Position },
    /// Its name is free when that is done.
    #[error("group {0} is being deleted")]
    BeingDeleted(GroupName),
    #[error("it is not durable: {0}")]
    NotDurable(StorageError),
    #[error("what is stored of consumer groups cannot be read: {0}")]
    Unreadable(#[from] StorageError),
    #[error("the events of consumer groups cannot be read: {0}")]
    Events(ReadError),
    #[error("the record {key:?} of consumer groups cannot be read: {reason}; bring data_dir/store back from a backup")]
    Damaged { key: String, reason: String },
    #[error("another gateway has taken the consumer groups over")]
    TakenOver,
    #[error("the gateway is shutting down")]
    Closed,
}

impl GroupsError {
    pub(super) fn damaged(key: &[u8], reason: &dyn std::fmt::Display) -> Self {
        Self::Damaged { key: key.escape_ascii().to_string(), reason: reason.to_string() }
    }
}

impl From<ClaimError> for GroupsError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Unreadable(error) => Self::Unreadable(error),
            ClaimError::Damaged { key, reason } => Self::damaged(&key, &reason),
            ClaimError::TakenOver => Self::TakenOver,
            ClaimError::NotDurable(error) => Self::NotDurable(error),
        }
    }
}
