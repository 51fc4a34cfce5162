//! Opening the database, and what its errors mean.

use std::{fs, io, path::Path};

use fjall::{Database, Error, KeyspaceCreateOptions, LsmError, config::PartitioningPolicy};

use super::{Tables, journal};
use crate::storage::{Space, StorageError};

/// Blocks read from disk that are kept in memory, for all spaces together. A gateway that stores nothing may take 64 MiB as a whole.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;

/// What one space may hold in memory before it is written out as a table; the least that fjall recommends.
const MEMTABLE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The same of events and of their index, which take most of what is written: written out more rarely, they are merged more
/// rarely too, which is worth a tenth of the rate of appends and the half of their p99. A gateway whose services append nothing
/// needs none of it.
const EVENTS_MEMTABLE_BYTES_MAX: u64 = 32 * 1024 * 1024;
const EVENT_INDEX_MEMTABLE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// All journals together, the least that fjall takes: a smaller one is read again faster after a crash.
const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Threads that write tables out and merge them: one may flush while the other merges. One alone would not do: fjall 3.1 asks
/// for a flush by a bounded queue that only these threads read, and merges once for each flush and thread.
const BACKGROUND_THREADS: usize = 2;

pub(super) fn tables(path: &Path) -> Result<Tables, StorageError> {
    fs::create_dir_all(path).map_err(|error| unusable(path, error))?;
    // fjall leaves out by itself what ends too early, and says nothing.
    let torn = journal::torn_end(path).map_err(|error| unusable(path, error))?;
    let database = match database(path) {
        Err(Error::JournalRecovery(_)) => after_power_failure(path)?,
        opened => {
            let database = opened.map_err(|error| opening(path, &error))?;
            if let Some(bytes) = torn {
                say_torn(path, bytes);
            }
            database
        }
    };
    let mut keyspaces = Vec::with_capacity(Space::ALL.len());
    for space in Space::ALL {
        let options = || {
            // Whether a key is there at all is asked for each id of an event: where a filter is read as a whole, a megabyte of
            // it is read and summed up for each question once the tables are larger than the cache. In parts of 4 KiB it
            // costs the same however large they are. Filters of the first level stay in memory.
            let partitioned = PartitioningPolicy::new([false, true]);
            KeyspaceCreateOptions::default()
                .max_memtable_size(memtable_bytes_max(space))
                .filter_block_partitioning_policy(partitioned.clone())
                .index_block_partitioning_policy(partitioned)
        };
        keyspaces.push(database.keyspace(space.name(), options).map_err(|error| opening(path, &error))?);
    }
    let keyspaces = keyspaces.try_into().unwrap_or_else(|_| unreachable!("one was opened for each space"));
    Ok(Tables { database, keyspaces })
}

fn memtable_bytes_max(space: Space) -> u64 {
    match space {
        Space::Events => EVENTS_MEMTABLE_BYTES_MAX,
        Space::EventIndex => EVENT_INDEX_MEMTABLE_BYTES_MAX,
        _ => MEMTABLE_BYTES_MAX,
    }
}

fn database(path: &Path) -> fjall::Result<Database> {
    Database::builder(path)
        .cache_size(CACHE_BYTES)
        .max_journaling_size(JOURNAL_BYTES_MAX)
        .worker_threads(BACKGROUND_THREADS)
        .open()
}

/// Once more, without the commit that was under way, if that is what is wrong.
fn after_power_failure(path: &Path) -> Result<Database, StorageError> {
    if let Some(bytes) = journal::cut_torn_end(path).map_err(|error| unusable(path, error))? {
        say_torn(path, bytes);
    }
    database(path).map_err(|error| opening(path, &error))
}

fn say_torn(path: &Path, bytes: u64) {
    tracing::warn!(path = %path.display(), bytes, "the last commit was cut off before it was whole, and is left out");
}

pub(super) fn unusable(path: &Path, error: io::Error) -> StorageError {
    StorageError::Unusable { path: path.to_owned(), reason: error.to_string().into() }
}

/// What an error of fjall says, without its wrapping.
pub(super) fn reason(error: &Error) -> String {
    match error {
        Error::Io(error) | Error::Storage(LsmError::Io(error)) => error.to_string(),
        Error::Poisoned => "an earlier write failed".to_owned(),
        Error::JournalRecovery(error) => format!("its journal cannot be read: {error:?}"),
        Error::InvalidVersion(_) => "it was written by another version of the storage engine".to_owned(),
        other => format!("{other:?}"),
    }
}

fn opening(path: &Path, error: &Error) -> StorageError {
    match error {
        Error::Locked => StorageError::InUse { path: path.to_owned() },
        Error::Io(source) | Error::Storage(LsmError::Io(source)) if !tells_of_damage(source.kind()) => {
            StorageError::Unusable { path: path.to_owned(), reason: source.to_string().into() }
        }
        other => StorageError::Damaged { path: path.to_owned(), reason: reason(other).into() },
    }
}

/// A file that should be there is not, or ends too early, or does not hold what it should.
fn tells_of_damage(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    matches!(kind, InvalidData | NotFound | UnexpectedEof)
}
