//! Who writes: all that waits goes into one durable commit, with one sync.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use fjall::PersistMode;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{Tables, look_up, open};
use crate::storage::{Batch, CommitError, Space, StorageError, Write};

/// Of one durable commit: what waits beyond it goes into the next. Past some hundred small batches the sync is no
/// longer what takes the time (reference measurement: 256 writers, 60,700 commits a second).
const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Kept free on the disk, in bytes: what is in memory must still fit when it is written out, and a journal of 64 MiB
/// with it.
const RESERVE_BYTES: u64 = 384 * 1024 * 1024;

/// A batch and whoever waits for it.
pub(super) struct Asked {
    pub batch: Batch,
    pub answer: oneshot::Sender<Result<(), CommitError>>,
    /// Given back when the batch has been answered.
    pub room: OwnedSemaphorePermit,
}

/// How many bytes the disk has left.
pub(super) type FreeBytes = Box<dyn Fn() -> io::Result<u64> + Send>;

/// For those who are not root, as the gateway should not be.
pub(super) fn free_bytes_of(path: &Path) -> FreeBytes {
    let path = path.to_owned();
    Box::new(move || {
        let disk = rustix::fs::statvfs(&path)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    })
}

/// Writes all that waits, and answers it.
pub(super) fn write_queued(writer: &mut Writer, queue: &mut VecDeque<Asked>) {
    drop(write_with(writer, queue, Vec::new()));
}

/// The same with some more in the same commit: their answers.
pub(super) fn write_with(
    writer: &mut Writer,
    queue: &mut VecDeque<Asked>,
    own: Vec<Batch>,
) -> Vec<Result<(), CommitError>> {
    let mut bytes: usize = own.iter().map(Batch::weight_bytes).sum();
    let (mut batches, mut answers) = (Vec::with_capacity(own.len() + queue.len()), Vec::with_capacity(queue.len()));
    while bytes < GROUP_BYTES_MAX
        && let Some(Asked { batch, answer, room }) = queue.pop_front()
    {
        bytes += batch.weight_bytes();
        batches.push(batch);
        answers.push((answer, room));
    }
    batches.extend(own);
    let mut verdicts = writer.commit(batches);
    let own = verdicts.split_off(answers.len());
    for ((answer, _room), verdict) in answers.into_iter().zip(verdicts) {
        // A caller that is gone does not want to know.
        drop(answer.send(verdict));
    }
    own
}

pub(super) struct Writer {
    path: PathBuf,
    tables: Tables,
    free_bytes: FreeBytes,
    /// Why nothing can be written any more.
    failed: Option<Arc<str>>,
}

/// What a group of batches would change, not yet written. None: deleted.
type Changes = BTreeMap<(Space, Bytes), Option<Bytes>>;

impl Writer {
    pub fn new(path: &Path, tables: Tables, free_bytes: FreeBytes) -> Self {
        Self { path: path.to_owned(), tables, free_bytes, failed: None }
    }

    /// An answer for each, for the refused ones too only when it is durable what they were decided on.
    fn commit(&mut self, group: Vec<Batch>) -> Vec<Result<(), CommitError>> {
        if group.is_empty() {
            return Vec::new();
        }
        if let Err(error) = self.can_write() {
            return group.iter().map(|_| Err(error.clone().into())).collect();
        }
        let mut changes = Changes::new();
        let verdicts: Vec<_> = group
            .into_iter()
            .map(|batch| {
                let verdict = self.check(&batch, &changes);
                if verdict.is_ok() {
                    take_in(batch, &mut changes);
                }
                verdict
            })
            .collect();
        let written = self.write(changes);
        verdicts.into_iter().map(|verdict| written.clone().map_err(CommitError::from).and(verdict)).collect()
    }

    fn can_write(&self) -> Result<(), StorageError> {
        if let Some(reason) = &self.failed {
            return Err(self.write_failed(reason));
        }
        // A disk that cannot tell may still take writes; if not, the write fails.
        let free_bytes = (self.free_bytes)().unwrap_or(u64::MAX);
        if free_bytes < RESERVE_BYTES {
            return Err(StorageError::DiskFull { path: self.path.clone(), free_bytes, reserve_bytes: RESERVE_BYTES });
        }
        Ok(())
    }

    /// Against what stands, and what those before it in the group will have changed.
    fn check(&self, batch: &Batch, changes: &Changes) -> Result<(), CommitError> {
        batch.check_conditions(|space, key| match changes.get(&(space, key.clone())) {
            Some(changed) => Ok(changed.clone()),
            None => look_up(&self.tables, space, key).map_err(|error| StorageError::ReadFailed {
                path: self.path.clone(),
                reason: open::reason(&error).into(),
            }),
        })
    }

    /// One entry in the journal, synced before anybody can read it.
    fn write(&mut self, changes: Changes) -> Result<(), StorageError> {
        let mut commit = self.tables.database.batch().durability(Some(PersistMode::SyncAll));
        for ((space, key), value) in changes {
            let keyspace = self.tables.of(space);
            match value {
                Some(value) => commit.insert(keyspace, key.as_ref(), value.as_ref()),
                None => commit.remove(keyspace, key.as_ref()),
            }
        }
        commit.commit().map_err(|error| {
            // fjall takes nothing more after a failed write; neither do we, as what follows could not be relied on.
            let reason: Arc<str> = open::reason(&error).into();
            tracing::error!(path = %self.path.display(), %reason, "the store cannot be written: restart the gateway");
            self.failed = Some(Arc::clone(&reason));
            self.write_failed(&reason)
        })
    }

    fn write_failed(&self, reason: &Arc<str>) -> StorageError {
        StorageError::WriteFailed { path: self.path.clone(), reason: Arc::clone(reason) }
    }
}

fn take_in(batch: Batch, changes: &mut Changes) {
    for write in batch.writes {
        match write {
            Write::Put { space, key, value } => changes.insert((space, key), Some(value)),
            Write::Delete { space, key } => changes.insert((space, key), None),
        };
    }
}
