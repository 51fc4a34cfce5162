//! A store in memory for tests, on a simulated disk that loses, tears and reorders what was not synced.
//!
//! ```text
//! let storage = MemoryStorage::new();          // syncs at once
//! storage.hold_syncs();                        // commits wait from here on, written but not synced
//! storage.sync();                              // all that wait become durable together, and are answered
//! let after = storage.crash(seed);             // what a power cut leaves; commits that still wait are never answered
//! ```

mod disk;
mod log;
mod snapshot;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use self::{disk::Disk, log::Log, snapshot::MemorySnapshot};
use super::{Answer, Batch, CommitError, Entries, KeyRange, Snapshot, Space, Storage, StorageError, Write};

/// Clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    state: Arc<Mutex<State>>,
}

pub(super) type Table = BTreeMap<(Space, Bytes), Bytes>;

type Verdict = Result<(), CommitError>;

#[derive(Debug, Default)]
struct State {
    log: Log,
    /// With what is written and not synced: what conditions are checked against.
    written: Table,
    /// What reads see; shared with the snapshots of it.
    durable: Arc<Table>,
    /// What is written and not synced, in order.
    unsynced: Vec<Batch>,
    syncs_held: bool,
    acknowledges_too_early: bool,
    refuses_with: Option<StorageError>,
    waiting: Vec<(oneshot::Sender<Verdict>, Verdict)>,
}

impl MemoryStorage {
    pub fn new() -> Self {
        Self::default()
    }

    /// Commits wait until [`Self::sync`].
    pub fn hold_syncs(&self) {
        self.lock().syncs_held = true;
    }

    /// Syncs, and from here on at once again.
    pub fn release_syncs(&self) {
        let mut state = self.lock();
        state.syncs_held = false;
        state.sync();
    }

    /// Makes what waits durable and answers it.
    pub fn sync(&self) {
        self.lock().sync();
    }

    /// Commits that are written and not synced.
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Every commit is refused with this from now on; None: no longer.
    pub fn refuse_with(&self, error: Option<StorageError>) {
        self.lock().refuses_with = error;
    }

    /// A fault for tests of the tests: commits are answered before their sync.
    pub fn acknowledge_too_early(&self) {
        self.lock().acknowledges_too_early = true;
    }

    /// What is left after a power cut: everything synced, and of the rest whatever the seed leaves, read again as a
    /// store does when it is opened. This store is closed; what waits is never acknowledged.
    pub fn crash(&self, seed: u64) -> Self {
        let mut state = self.lock();
        state.refuses_with = Some(StorageError::Closed);
        state.waiting.clear();
        let left = state.log.disk().crash(&mut fastrand::Rng::with_seed(seed));
        let (log, table) = Log::recover(left);
        let recovered = State { log, written: table.clone(), durable: Arc::new(table), ..State::default() };
        Self { state: Arc::new(Mutex::new(recovered)) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The answer, or where it will come.
    fn write(&mut self, batch: &Batch) -> Result<oneshot::Receiver<Verdict>, CommitError> {
        batch.check_sizes()?;
        if let Some(error) = &self.refuses_with {
            return Err(error.clone().into());
        }
        let verdict = batch.check_conditions(|space, key| Ok(self.written.get(&(space, key.clone())).cloned()));
        if verdict.is_ok() {
            self.log.append(batch);
            apply(batch, &mut self.written);
            self.unsynced.push(batch.clone());
        }
        let (answer, answered) = oneshot::channel();
        if self.acknowledges_too_early {
            drop(answer.send(verdict));
        } else {
            self.waiting.push((answer, verdict));
        }
        if !self.syncs_held {
            self.sync();
        }
        Ok(answered)
    }

    fn sync(&mut self) {
        self.log.sync();
        for batch in self.unsynced.drain(..) {
            apply(&batch, Arc::make_mut(&mut self.durable));
        }
        for (answer, verdict) in self.waiting.drain(..) {
            // A caller that is gone does not want to know.
            drop(answer.send(verdict));
        }
    }

    fn check_open(&self) -> Result<(), StorageError> {
        if self.refuses_with == Some(StorageError::Closed) { Err(StorageError::Closed) } else { Ok(()) }
    }
}

impl Storage for MemoryStorage {
    fn commit(&self, batch: Batch) -> Answer<'_, Result<(), CommitError>> {
        Box::pin(async move {
            let answered = self.lock().write(&batch)?;
            answered.await.unwrap_or(Err(CommitError::Storage(StorageError::Closed)))
        })
    }

    fn commit_later(&self, batch: Batch) -> Answer<'_, Result<(), CommitError>> {
        self.commit(batch)
    }

    fn commit_together(&self, batches: Vec<Batch>) -> Vec<Result<(), CommitError>> {
        let written: Vec<_> = {
            let mut state = self.lock();
            batches.iter().map(|batch| state.write(batch)).collect()
        };
        let answer = |asked: Result<oneshot::Receiver<Verdict>, CommitError>| {
            asked?.blocking_recv().unwrap_or(Err(CommitError::Storage(StorageError::Closed)))
        };
        // tokio lets nobody wait so on a thread of its runtime, as a desk does for one that asks alone.
        let waits = move || written.into_iter().map(answer).collect();
        std::thread::spawn(waits).join().expect("it only waits")
    }

    fn get(&self, space: Space, key: Bytes) -> Answer<'_, Result<Option<Bytes>, StorageError>> {
        Box::pin(async move {
            let state = self.lock();
            state.check_open()?;
            Ok(state.durable.get(&(space, key)).cloned())
        })
    }

    fn scan(&self, space: Space, range: KeyRange, limit: usize) -> Answer<'_, Result<Entries, StorageError>> {
        Box::pin(async move {
            let state = self.lock();
            state.check_open()?;
            let of_space = state.durable.iter().filter(|((of, _), _)| *of == space);
            let within = of_space.filter(|((_, key), _)| range.contains(key));
            Ok(within.take(limit).map(|((_, key), value)| (key.clone(), value.clone())).collect())
        })
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StorageError> {
        let state = self.lock();
        state.check_open()?;
        Ok(Arc::new(MemorySnapshot(Arc::clone(&state.durable))))
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(async {
            let mut state = self.lock();
            state.sync();
            state.refuses_with = Some(StorageError::Closed);
        })
    }
}

fn apply(batch: &Batch, table: &mut Table) {
    for write in &batch.writes {
        match write.clone() {
            Write::Put { space, key, value } => table.insert((space, key), value),
            Write::Delete { space, key } => table.remove(&(space, key)),
        };
    }
}
