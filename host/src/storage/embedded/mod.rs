//! The store in `data_dir`: fjall, one database of which each [`Space`] is a keyspace, so that what belongs together is
//! one durable commit.

mod journal;
mod open;
mod snapshot;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use bytes::Bytes;
use fjall::{Database, Keyspace, Readable};
use tokio::{
    sync::{Semaphore, oneshot},
    task::spawn_blocking,
};

use self::{
    snapshot::EmbeddedSnapshot,
    writer::{Asked, FreeBytes, Writer},
};
use super::{Answer, Batch, CommitError, Desk, Entries, KeyRange, PATIENCE, Snapshot, Space, Storage, StorageError};

/// Batches that wait to be written, together: a commit beyond them waits for room.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The embedded store. Dropped without [`Storage::close`], it still commits what waits, and waits for that.
pub struct Embedded {
    path: PathBuf,
    /// Bytes that may still be queued.
    room: Arc<Semaphore>,
    /// None once closed.
    open: Mutex<Option<Open>>,
}

struct Open {
    tables: Tables,
    desk: Arc<Desk<Asked, Writer>>,
    writer: JoinHandle<()>,
}

/// The database and its keyspaces; cloned for each read.
#[derive(Clone)]
struct Tables {
    database: Database,
    keyspaces: [Keyspace; Space::ALL.len()],
}

impl Tables {
    fn of(&self, space: Space) -> &Keyspace {
        &self.keyspaces[space as usize]
    }
}

impl Embedded {
    /// Opens the store in this folder, or makes one. Blocks: after an unclean end the journal is read again first, up
    /// to seconds.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let free_bytes = writer::free_bytes_of(path);
        Self::open_on(path, free_bytes)
    }

    /// With another way to learn how much room the disk has.
    fn open_on(path: &Path, free_bytes: FreeBytes) -> Result<Self, StorageError> {
        let tables = open::tables(path)?;
        let desk = Arc::new(Desk::new(Writer::new(path, tables.clone(), free_bytes), writer::write_queued));
        let writing = Arc::clone(&desk);
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writing.keep_serving())
            .map_err(|error| open::unusable(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            open: Mutex::new(Some(Open { tables, desk, writer })),
        })
    }

    fn tables(&self) -> Result<Tables, StorageError> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().map(|open| open.tables.clone()).ok_or(StorageError::Closed)
    }

    fn desk(&self) -> Result<Arc<Desk<Asked, Writer>>, StorageError> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().map(|open| Arc::clone(&open.desk)).ok_or(StorageError::Closed)
    }

    async fn commit_queued(&self, batch: Batch, has_time: bool) -> Result<(), CommitError> {
        batch.check_sizes()?;
        let weight = u32::try_from(batch.weight_bytes()).expect("a batch is at most BATCH_BYTES_MAX");
        let room = Arc::clone(&self.room).acquire_many_owned(weight).await.map_err(|_| StorageError::Closed)?;
        let (answer, answered) = oneshot::channel();
        self.ask(Asked { batch, answer, room }, has_time)?;
        answered.await.unwrap_or(Err(CommitError::Storage(StorageError::Closed)))
    }

    /// Whoever waits for the answer does not hold the desk: with it goes the database, which must be closed once the store is.
    fn ask(&self, asked: Asked, has_time: bool) -> Result<(), StorageError> {
        let desk = self.desk()?;
        if has_time {
            desk.ask_later(asked, PATIENCE);
        } else {
            desk.ask(asked);
        }
        Ok(())
    }

    /// Reads block on the disk where the answer is not in memory.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(Tables) -> fjall::Result<T> + Send + 'static,
    ) -> Result<T, StorageError> {
        let tables = self.tables()?;
        let failed = |reason: String| StorageError::ReadFailed { path: self.path.clone(), reason: reason.into() };
        match spawn_blocking(move || read(tables)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(failed(open::reason(&error))),
            Err(gone) => Err(failed(gone.to_string())),
        }
    }
}

impl Storage for Embedded {
    fn commit(&self, batch: Batch) -> Answer<'_, Result<(), CommitError>> {
        Box::pin(self.commit_queued(batch, false))
    }

    fn commit_later(&self, batch: Batch) -> Answer<'_, Result<(), CommitError>> {
        Box::pin(self.commit_queued(batch, true))
    }

    fn commit_together(&self, batches: Vec<Batch>) -> Vec<Result<(), CommitError>> {
        let mut answers: Vec<Result<(), CommitError>> =
            batches.iter().map(|batch| batch.check_sizes().map_err(CommitError::from)).collect();
        let fitting = batches.into_iter().zip(&answers).filter(|(_, answer)| answer.is_ok()).map(|(batch, _)| batch);
        let fitting: Vec<_> = fitting.collect();
        let count = fitting.len();
        let desk = self.desk().ok();
        let verdicts = desk.and_then(|desk| desk.with(|writer, queue| writer::write_with(writer, queue, fitting)));
        let closed = || (0..count).map(|_| Err(StorageError::Closed.into())).collect();
        let mut verdicts = verdicts.unwrap_or_else(closed).into_iter();
        for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
            *answer = verdicts.next().expect("there is one for each that fits");
        }
        answers
    }

    fn get(&self, space: Space, key: Bytes) -> Answer<'_, Result<Option<Bytes>, StorageError>> {
        Box::pin(self.read(move |tables| look_up(&tables, space, &key)))
    }

    fn scan(&self, space: Space, range: KeyRange, limit: usize) -> Answer<'_, Result<Entries, StorageError>> {
        Box::pin(self.read(move |tables| {
            let Some(bounds) = range.bounds() else { return Ok(Entries::new()) };
            let found = tables.database.snapshot().range(tables.of(space), bounds);
            found
                .take(limit)
                .map(|entry| entry.into_inner().map(|(key, value)| (to_bytes(&key), to_bytes(&value))))
                .collect()
        }))
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StorageError> {
        Ok(Arc::new(EmbeddedSnapshot::now(&self.path, self.tables()?)))
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async {
            self.room.close();
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(open) = open {
                // One that panicked has nothing left to write.
                let _ = spawn_blocking(move || open.end()).await;
            }
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(open) = self.open.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            open.end();
        }
    }
}

impl Open {
    /// The writer ends when nothing waits any more.
    fn end(self) {
        self.desk.close();
        if self.writer.join().is_err() {
            tracing::error!("the thread that writes the store panicked");
        }
    }
}

fn look_up(tables: &Tables, space: Space, key: &[u8]) -> fjall::Result<Option<Bytes>> {
    Ok(tables.of(space).get(key)?.map(|value| to_bytes(&value)))
}

/// Copied: fjall's own would keep the whole block in memory that it stands in.
fn to_bytes(slice: &fjall::Slice) -> Bytes {
    Bytes::copy_from_slice(slice)
}

#[cfg(test)]
mod tests;
