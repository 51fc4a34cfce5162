//! What the seam promises, of both backends.

mod conditions;
mod crash;
mod failing_writes;
mod model;
mod power_cut;

use std::sync::Arc;

use bytes::Bytes;

use super::{Batch, Condition, Embedded, KeyRange, Space, Storage, memory::MemoryStorage};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime starts")
}

type Backends = [(&'static str, Arc<dyn Storage>); 2];

/// One of each backend, with the folder that the embedded one lies in.
fn backends() -> (tempfile::TempDir, Backends) {
    let folder = tempfile::tempdir().expect("a folder");
    let embedded = Embedded::open(folder.path()).expect("it opens");
    (folder, [("embedded", Arc::new(embedded)), ("memory", Arc::new(MemoryStorage::new()))])
}

fn number(bytes: &Bytes) -> u64 {
    u64::from_be_bytes(bytes[..].try_into().expect("it is a number's 8 bytes"))
}

fn key(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

#[test]
fn a_scan_goes_on_behind_a_key() {
    let (_folder, backends) = backends();
    for (name, storage) in backends {
        runtime().block_on(async {
            let batch = (0..10).fold(Batch::new(), |batch, n| batch.put(Space::Registry, key(n), Bytes::new()));
            storage.commit(batch).await.expect("it is committed");
            let (mut range, mut pages) = (KeyRange::between(key(1), key(9)), Vec::new());
            loop {
                let page = storage.scan(Space::Registry, range.clone(), 3).await.expect("it is read");
                let Some((last, _)) = page.last() else { break };
                range = range.after(last);
                pages.push(page.iter().map(|(key, _)| number(key)).collect::<Vec<_>>());
            }
            assert_eq!(pages, [vec![1, 2, 3], vec![4, 5, 6], vec![7, 8]], "{name}");
        });
    }
}

#[test]
fn what_is_asked_after_the_end_is_refused_as_closed() {
    use super::{CommitError, StorageError};
    let (_folder, backends) = backends();
    for (name, storage) in backends {
        runtime().block_on(async {
            storage.close().await;
            let refused = storage.commit(Batch::new().put(Space::Registry, "a", "1")).await;
            assert_eq!(refused, Err(CommitError::Storage(StorageError::Closed)), "{name}");
            assert_eq!(storage.get(Space::Registry, "a".into()).await, Err(StorageError::Closed), "{name}");
            assert_eq!(storage.scan(Space::Registry, KeyRange::all(), 1).await, Err(StorageError::Closed), "{name}");
        });
    }
}

#[test]
fn a_store_that_was_closed_opens_again_with_all_that_was_committed() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = runtime();
    for round in 0..3_u64 {
        let storage = Embedded::open(folder.path()).expect("it opens");
        runtime.block_on(async {
            let all = storage.scan(Space::Registry, KeyRange::all(), 100).await.expect("it is read");
            assert_eq!(all.len() as u64, round);
            storage.commit(Batch::new().put(Space::Registry, key(round), "x")).await.expect("it is committed");
            storage.close().await;
        });
    }
}

#[test]
fn a_key_or_batch_that_no_backend_could_take_is_refused() {
    use super::{BATCH_BYTES_MAX, CommitError, KEY_BYTES_MAX, StorageError};
    let (_folder, backends) = backends();
    for (name, storage) in backends {
        runtime().block_on(async {
            let long = vec![b'k'; KEY_BYTES_MAX + 1];
            let refused = storage.commit(Batch::new().put(Space::Registry, long, "")).await;
            let wanted = StorageError::KeyTooLong { bytes: KEY_BYTES_MAX + 1 };
            assert_eq!(refused, Err(CommitError::Storage(wanted)), "{name}");
            let refused = storage.commit(Batch::new().delete(Space::Registry, "")).await;
            assert_eq!(refused, Err(CommitError::Storage(StorageError::KeyEmpty)), "{name}");
            let large = vec![0; BATCH_BYTES_MAX];
            let refused = storage.commit(Batch::new().put(Space::Registry, "k", large)).await;
            assert!(matches!(refused, Err(CommitError::Storage(StorageError::BatchTooLarge { .. }))), "{name}");
            let longest = vec![b'k'; KEY_BYTES_MAX];
            storage.commit(Batch::new().put(Space::Registry, longest, "")).await.expect("the longest key is taken");
        });
    }
}
