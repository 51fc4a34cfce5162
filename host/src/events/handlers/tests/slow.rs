//! A disk on which each look takes longer than anybody waits for it.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::world::{Native, World};
use crate::storage::{
    Answer, Batch, CommitError, Entries, KeyRange, Snapshot, Space, Storage, StorageError, memory::MemoryStorage,
};

/// Longer than the second after which a follower sees how far it has come.
const LOOK: Duration = Duration::from_millis(1_200);

struct Slow(MemoryStorage);

impl Storage for Slow {
    fn commit(&self, batch: Batch) -> Answer<'_, Result<(), CommitError>> {
        self.0.commit(batch)
    }

    fn commit_later(&self, batch: Batch) -> Answer<'_, Result<(), CommitError>> {
        self.0.commit_later(batch)
    }

    fn commit_together(&self, batches: Vec<Batch>) -> Vec<Result<(), CommitError>> {
        self.0.commit_together(batches)
    }

    fn get(&self, space: Space, key: Bytes) -> Answer<'_, Result<Option<Bytes>, StorageError>> {
        self.0.get(space, key)
    }

    fn scan(&self, space: Space, range: KeyRange, limit: usize) -> Answer<'_, Result<Entries, StorageError>> {
        self.0.scan(space, range, limit)
    }

    fn snapshot(&self) -> Result<Arc<dyn Snapshot>, StorageError> {
        std::thread::sleep(LOOK);
        self.0.snapshot()
    }

    fn close(&self) -> Answer<'_, ()> {
        self.0.close()
    }
}

/// In real time: the look is a thread's.
#[tokio::test]
async fn a_look_at_a_slow_disk_is_not_begun_again_before_it_has_ended() {
    let world = World::new().await;
    world.append("s", &["a", "b", "a"]).await;
    world.events.close().await;
    let World { storage, service, versions, .. } = world;
    let disk = Arc::new(Slow(storage.clone()));
    let world = World::with(storage, disk, service, versions, Default::default()).await;
    world.want("one", &Native::new(&[], &[]));
    world.at_rest().await;
    assert_eq!(world.counts().await, [("a".to_owned(), 2), ("b".to_owned(), 1)].into());
}
