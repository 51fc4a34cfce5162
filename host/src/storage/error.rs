//! What can go wrong with the store, each in one sentence that says what to do.

use std::{path::PathBuf, sync::Arc};

use bytesize::ByteSize;

use super::{BATCH_BYTES_MAX, KEY_BYTES_MAX};

/// Why a batch was not committed. Nothing of it was written, unless [`StorageError::is_in_doubt`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Another commit came first.
    #[error("condition {condition} of the commit does not hold")]
    Conflict {
        /// Which one, counted from 0.
        condition: usize,
    },
    #[error(transparent)]
    Storage(#[from] StorageError),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    #[error("the store {path} cannot be opened: {reason}; the gateway needs to read and write it", path = path.display())]
    Unusable { path: PathBuf, reason: Arc<str> },
    #[error("the store {path} is in use by another process", path = path.display())]
    InUse { path: PathBuf },
    #[error(
        "the store {path} is damaged ({reason}): bring it back from a backup, or move it away to begin with an empty one",
        path = path.display()
    )]
    Damaged { path: PathBuf, reason: Arc<str> },
    /// Nothing was written; writes go on by themselves once there is room.
    #[error(
        "the disk of the store {path} has {free} left, less than the {reserve} that are kept free: make room",
        path = path.display(), free = ByteSize(*free_bytes), reserve = ByteSize(*reserve_bytes)
    )]
    DiskFull { path: PathBuf, free_bytes: u64, reserve_bytes: u64 },
    /// A write or sync failed. What was under way may be there after a restart; nothing was acknowledged.
    #[error("the store {path} could not be written ({reason}) and takes nothing more until a restart", path = path.display())]
    WriteFailed { path: PathBuf, reason: Arc<str> },
    #[error("the store {path} could not be read: {reason}", path = path.display())]
    ReadFailed { path: PathBuf, reason: Arc<str> },
    #[error("{bytes} bytes are more than the {BATCH_BYTES_MAX} that one commit takes")]
    BatchTooLarge { bytes: usize },
    #[error("a key of {bytes} bytes is longer than the {KEY_BYTES_MAX} that the store takes")]
    KeyTooLong { bytes: usize },
    #[error("an empty key cannot be stored")]
    KeyEmpty,
    #[error("the store is closed")]
    Closed,
}

impl StorageError {
    /// Whether a batch that got this answer may all the same be found after a restart.
    pub fn is_in_doubt(&self) -> bool {
        matches!(self, Self::WriteFailed { .. } | Self::Closed)
    }
}
