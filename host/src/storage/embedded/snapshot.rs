//! fjall's snapshot behind the seam's.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use fjall::Readable;

use super::{Tables, open, to_bytes};
use crate::storage::{KeyRange, Order, Snapshot, Space, StorageError, Visitor};

pub(super) struct EmbeddedSnapshot {
    path: PathBuf,
    tables: Tables,
    snapshot: fjall::Snapshot,
}

impl EmbeddedSnapshot {
    pub fn now(path: &Path, tables: Tables) -> Self {
        let snapshot = tables.database.snapshot();
        Self { path: path.to_owned(), tables, snapshot }
    }

    fn failed(&self, error: &fjall::Error) -> StorageError {
        StorageError::ReadFailed { path: self.path.clone(), reason: open::reason(error).into() }
    }
}

impl Snapshot for EmbeddedSnapshot {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let found = self.snapshot.get(self.tables.of(space), key).map_err(|error| self.failed(&error))?;
        Ok(found.map(|value| to_bytes(&value)))
    }

    fn walk(&self, space: Space, range: KeyRange, order: Order, visit: &mut Visitor<'_>) -> Result<(), StorageError> {
        let Some(bounds) = range.bounds() else { return Ok(()) };
        let mut entries = self.snapshot.range(self.tables.of(space), bounds);
        loop {
            let next = match order {
                Order::Forward => entries.next(),
                Order::Backward => entries.next_back(),
            };
            let Some(entry) = next else { return Ok(()) };
            let (key, value) = entry.into_inner().map_err(|error| self.failed(&error))?;
            if let ControlFlow::Break(()) = visit(&key, &value) {
                return Ok(());
            }
        }
    }
}
