//! The table as it stood, shared until something is written.

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;

use super::Table;
use crate::storage::{KeyRange, Order, Snapshot, Space, StorageError, Visitor};

pub(super) struct MemorySnapshot(pub Arc<Table>);

impl Snapshot for MemorySnapshot {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.0.get(&(space, Bytes::copy_from_slice(key))).cloned())
    }

    fn walk(&self, space: Space, range: KeyRange, order: Order, visit: &mut Visitor<'_>) -> Result<(), StorageError> {
        let of_space = self.0.range((space, Bytes::new())..).take_while(|((of, _), _)| *of == space);
        let mut within: Vec<_> = of_space.filter(|((_, key), _)| range.contains(key)).collect();
        if order == Order::Backward {
            within.reverse();
        }
        for ((_, key), value) in within {
            if let ControlFlow::Break(()) = visit(key, value) {
                break;
            }
        }
        Ok(())
    }
}
