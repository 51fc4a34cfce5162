//! The store as it stood at one moment.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::{KeyRange, Space, StorageError};

/// Which way a range is gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// From the smallest key on.
    Forward,
    /// From the largest key on.
    Backward,
}

/// Is shown each key and its value, and says when it has seen enough.
pub type Visitor<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// Reads of one moment: what is committed later is not seen. They block on the disk where the answer is not in memory,
/// so that they belong on a thread that may.
pub trait Snapshot: Send + Sync {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, StorageError>;

    /// Shows the entries of a range, in the order of their keys (bytewise) or against it, until the visitor has enough.
    /// Nothing is held in memory but what is being shown.
    fn walk(&self, space: Space, range: KeyRange, order: Order, visit: &mut Visitor<'_>) -> Result<(), StorageError>;
}
