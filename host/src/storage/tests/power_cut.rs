//! The simulated disk: what was acknowledged survives every crash, and what else survives is whole and in order.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use super::*;
use crate::storage::CommitError;

/// Crashes to try; each has its seed.
const SEEDS: std::ops::Range<u64> = 0..500;

type Commit = Pin<Box<dyn Future<Output = Result<(), CommitError>>>>;

/// Commits numbered pairs, each one batch over two spaces, and syncs at random.
/// How many were begun, and which of them acknowledged.
fn commit_some(storage: &MemoryStorage, rng: &mut fastrand::Rng) -> (u64, Vec<u64>) {
    storage.hold_syncs();
    let begun = rng.u64(1..40);
    let mut waiting: Vec<(u64, Commit)> = Vec::new();
    let mut acknowledged = Vec::new();
    for n in 0..begun {
        let value = vec![1; rng.usize(0..1500)];
        let batch = Batch::new().put(Space::Registry, key(n), value).put(Space::Discovery, key(n), "half");
        let asked = storage.clone();
        waiting.push((n, Box::pin(async move { asked.commit(batch).await })));
        poll_all(&mut waiting, &mut acknowledged);
        if rng.u8(..5) == 0 {
            storage.sync();
            poll_all(&mut waiting, &mut acknowledged);
        }
    }
    (begun, acknowledged)
}

fn poll_all(waiting: &mut Vec<(u64, Commit)>, acknowledged: &mut Vec<u64>) {
    let mut context = Context::from_waker(Waker::noop());
    waiting.retain_mut(|(n, commit)| match commit.as_mut().poll(&mut context) {
        Poll::Ready(answer) => {
            answer.expect("it is committed");
            acknowledged.push(*n);
            false
        }
        Poll::Pending => true,
    });
}

async fn numbers(storage: &MemoryStorage, space: Space) -> Vec<u64> {
    let all = storage.scan(space, KeyRange::all(), usize::MAX).await.expect("it is read");
    all.iter().map(|(key, _)| number(key)).collect()
}

#[test]
fn what_was_acknowledged_is_there_after_a_power_cut_and_nothing_in_halves() {
    let mut unacknowledged_survived = 0;
    for seed in SEEDS {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let storage = MemoryStorage::new();
        let (begun, acknowledged) = commit_some(&storage, rng);
        runtime().block_on(async {
            let after = storage.crash(rng.u64(..));
            let (left, halves) = (numbers(&after, Space::Registry).await, numbers(&after, Space::Discovery).await);
            assert_eq!(left, halves, "seed {seed}: a batch survived in part");
            assert!(left.len() >= acknowledged.len(), "seed {seed}: {acknowledged:?} acknowledged, {left:?} left");
            assert_eq!(left, (0..left.len() as u64).collect::<Vec<_>>(), "seed {seed}: {begun} begun, not in order");
            unacknowledged_survived += left.len() - acknowledged.len();

            // And it goes on from there.
            after.commit(Batch::new().put(Space::Registry, "later", "1")).await.expect("it is committed");
            let again = after.crash(rng.u64(..));
            assert_eq!(again.get(Space::Registry, "later".into()).await, Ok(Some("1".into())), "seed {seed}");
        });
    }
    assert!(unacknowledged_survived > 0, "the simulated disk drops all that is not synced, which is too kind");
}

#[test]
fn nobody_reads_what_is_not_durable_and_nobody_is_refused_for_it() {
    runtime().block_on(async {
        let storage = MemoryStorage::new();
        storage.hold_syncs();
        let claim = |value: &'static str| {
            let free = Condition::Absent { space: Space::Registry, key: "name".into() };
            let batch = Batch::new().require(free).put(Space::Registry, "name", value);
            let storage = storage.clone();
            tokio::spawn(async move { storage.commit(batch).await })
        };
        let first = claim("first");
        while storage.waiting() < 1 {
            tokio::task::yield_now().await;
        }
        let second = claim("second");
        while storage.waiting() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(storage.get(Space::Registry, "name".into()).await, Ok(None));
        assert!(!first.is_finished() && !second.is_finished(), "the second lost to a commit that may yet be lost");
        storage.release_syncs();
        assert_eq!(first.await.expect("it ends"), Ok(()));
        assert_eq!(second.await.expect("it ends"), Err(CommitError::Conflict { condition: 0 }));
        assert_eq!(storage.commit(Batch::new().delete(Space::Registry, "name")).await, Ok(()));
    });
}

#[test]
fn a_store_that_acknowledges_before_its_sync_is_found_out() {
    let lost = SEEDS.filter(|&seed| {
        let rng = &mut fastrand::Rng::with_seed(seed);
        let storage = MemoryStorage::new();
        storage.acknowledge_too_early();
        let (_, acknowledged) = commit_some(&storage, rng);
        let left = runtime().block_on(async { numbers(&storage.crash(rng.u64(..)), Space::Registry).await });
        left.len() < acknowledged.len()
    });
    assert!(lost.count() > 0);
}
