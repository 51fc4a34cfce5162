//! What goes into one commit, and the checks that every backend makes of it.

use bytes::Bytes;

use super::{CommitError, KEY_BYTES_MAX, Space, StorageError};

/// Keys and values of one batch, in bytes: far more than any event or registration takes, and little enough to be
/// written in one piece.
pub const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a batch weighs in a queue besides its bytes.
const BATCH_OVERHEAD_BYTES: usize = 256;

/// Conditions and writes that become one durable commit together, or nothing at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Checked in this order against all that was committed before; the first that does not hold refuses the batch.
    pub conditions: Vec<Condition>,
    /// Made in this order: of two for one key the later one holds.
    pub writes: Vec<Write>,
}

/// What must hold at the moment of the commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    Absent { space: Space, key: Bytes },
    Present { space: Space, key: Bytes },
    Equals { space: Space, key: Bytes, value: Bytes },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Put {
        space: Space,
        key: Bytes,
        value: Bytes,
    },
    /// Of a key that is not there: nothing.
    Delete {
        space: Space,
        key: Bytes,
    },
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn require(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    #[must_use]
    pub fn put(mut self, space: Space, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.writes.push(Write::Put { space, key: key.into(), value: value.into() });
        self
    }

    #[must_use]
    pub fn delete(mut self, space: Space, key: impl Into<Bytes>) -> Self {
        self.writes.push(Write::Delete { space, key: key.into() });
        self
    }

    /// What it takes of a queue, in bytes.
    pub fn weight_bytes(&self) -> usize {
        let conditions = self.conditions.iter().map(|condition| match condition {
            Condition::Absent { key, .. } | Condition::Present { key, .. } => key.len(),
            Condition::Equals { key, value, .. } => key.len() + value.len(),
        });
        let writes = self.writes.iter().map(|write| match write {
            Write::Put { key, value, .. } => key.len() + value.len(),
            Write::Delete { key, .. } => key.len(),
        });
        BATCH_OVERHEAD_BYTES + conditions.chain(writes).sum::<usize>()
    }

    /// Whether every backend could take it.
    pub(super) fn check_sizes(&self) -> Result<(), StorageError> {
        let bytes = self.weight_bytes();
        if bytes > BATCH_BYTES_MAX {
            return Err(StorageError::BatchTooLarge { bytes });
        }
        let longest = self.keys().map(Bytes::len).max().unwrap_or(0);
        if longest > KEY_BYTES_MAX {
            return Err(StorageError::KeyTooLong { bytes: longest });
        }
        if self.keys().any(Bytes::is_empty) {
            return Err(StorageError::KeyEmpty);
        }
        Ok(())
    }

    /// `look_up` answers what stands there at the moment of the commit.
    pub(super) fn check_conditions(
        &self,
        mut look_up: impl FnMut(Space, &Bytes) -> Result<Option<Bytes>, StorageError>,
    ) -> Result<(), CommitError> {
        for (condition, wanted) in self.conditions.iter().enumerate() {
            let holds = match wanted {
                Condition::Absent { space, key } => look_up(*space, key)?.is_none(),
                Condition::Present { space, key } => look_up(*space, key)?.is_some(),
                Condition::Equals { space, key, value } => look_up(*space, key)?.as_ref() == Some(value),
            };
            if !holds {
                return Err(CommitError::Conflict { condition });
            }
        }
        Ok(())
    }

    fn keys(&self) -> impl Iterator<Item = &Bytes> {
        let conditions = self.conditions.iter().map(|condition| match condition {
            Condition::Absent { key, .. } | Condition::Present { key, .. } | Condition::Equals { key, .. } => key,
        });
        conditions.chain(self.writes.iter().map(|write| match write {
            Write::Put { key, .. } | Write::Delete { key, .. } => key,
        }))
    }
}
