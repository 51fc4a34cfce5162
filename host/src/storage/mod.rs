//! What must survive a crash: one seam, with the embedded store behind it.
//!
//! A [`Batch`] of conditions and writes goes in and becomes one durable commit, or is refused and changes nothing;
//! there are no closures over a transaction, so that a store elsewhere can stand behind the same seam. What
//! [`Storage::commit`] has answered with `Ok` is synced: it is there after `kill -9` and after a power cut.
//! What it answered with an error is not there, with one exception that [`StorageError::is_in_doubt`] names.
//!
//! ```text
//!  commit ──▶ queue (bounded in bytes) ──▶ who writes: conditions in order ──▶ one journal write, one sync ──▶ answers
//! ```
//!
//! | backend | for |
//! | --- | --- |
//! | [`Embedded`] | the gateway: fjall in `data_dir/store`, group commit |
//! | `MemoryStorage` | tests: a simulated disk that drops, tears and reorders what was not synced |

mod batch;
pub mod blocking;
mod claim;
pub mod crash_point;
mod desk;
mod embedded;
mod error;
mod key;
#[cfg(test)]
pub mod memory;
mod snapshot;

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;

pub use batch::{BATCH_BYTES_MAX, Batch, Condition, Write};
pub use claim::{Claim, ClaimError};
pub use desk::Desk;
pub use embedded::Embedded;
pub use error::{CommitError, StorageError};
pub use key::{KEY_BYTES_MAX, KeyRange, Space};
pub use snapshot::{Order, Snapshot, Visitor};

/// How long a commit waits for company that nobody waits for: some hundred syncs.
pub const PATIENCE: Duration = Duration::from_millis(20);

/// The folder of the store within `data_dir`.
pub const STORE_DIR: &str = "store";

/// What a call to the store resolves to; boxed, so that the store can be a `dyn Storage`.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A durable, ordered map from keys to values in each [`Space`].
///
/// Reads see all that has been acknowledged before they are asked, and never anything that is not durable.
pub trait Storage: Send + Sync + 'static {
    /// Resolves once the writes are durable, all of them together; waits for room while too much waits to be written.
    /// A future that is dropped does not take its batch back.
    fn commit(&self, batch: Batch) -> Answer<'_, Result<(), CommitError>>;

    /// The same for what nobody waits for: it goes with the next commit, and spares the disk a sync, or after
    /// [`PATIENCE`].
    fn commit_later(&self, batch: Batch) -> Answer<'_, Result<(), CommitError>>;

    /// Several commits in this order, each taken or refused by itself, with one sync. Blocks the thread until they are
    /// durable, in exchange for changing to no other.
    fn commit_together(&self, batches: Vec<Batch>) -> Vec<Result<(), CommitError>>;

    fn get(&self, space: Space, key: Bytes) -> Answer<'_, Result<Option<Bytes>, StorageError>>;

    /// The first `limit` entries of the range, in the order of their keys (bytewise), as they stood at one moment.
    fn scan(&self, space: Space, range: KeyRange, limit: usize) -> Answer<'_, Result<Entries, StorageError>>;

    /// All spaces as they stand now, for reading much, or several things of one moment. Kept open, it keeps what was
    /// overwritten since on the disk.
    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StorageError>;

    /// Commits what waits and gives the store up: everything asked later is refused as [`StorageError::Closed`].
    /// When it has resolved, the store can be opened again.
    fn close(&self) -> Answer<'_, ()>;
}

/// Keys and their values.
pub type Entries = Vec<(Bytes, Bytes)>;

#[cfg(test)]
mod tests;
