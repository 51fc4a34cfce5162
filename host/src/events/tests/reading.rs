//! What reading and following promise, whatever stands in the log.

use std::time::Duration;

use super::*;
use crate::{
    events::{ReadError, keys},
    model::Retention,
    storage::{Batch, KeyRange, Space, StorageError},
};

/// Opened again, nothing of it is in memory.
async fn reopened(storage: &MemoryStorage, store: EventStore) -> EventStore {
    store.close().await;
    open(storage).await
}

async fn all_of(store: &EventStore, name: &str, ids: std::ops::Range<u32>, data: &str) {
    let drafts: Vec<_> = ids.map(|id| draft(&id.to_string(), "t", data)).collect();
    append(store, name, Expected::Any, &drafts).await.expect("it is appended");
}

async fn truncated(store: &EventStore, name: &str, first_revision: u64) {
    let retention = Retention { first_revision, ..Retention::default() };
    store.set_retention(stream(name), retention).await.expect("it is set");
}

/// Until no more than so many events are on the disk; the first turn of a store comes when it is opened.
async fn until_left(storage: &MemoryStorage, left: usize) {
    let until = std::time::Instant::now() + Duration::from_secs(4);
    while storage.scan(Space::Events, KeyRange::all(), 9_999).await.expect("it is read").len() > left {
        assert!(std::time::Instant::now() < until, "it is not removed in one turn");
        tokio::task::yield_now().await;
    }
}

async fn damage(storage: &MemoryStorage, position: u64) {
    let batch = Batch::new().put(Space::Events, keys::event(Position(position)), "no event");
    storage.commit(batch).await.expect("it is written");
}

fn positions(events: &[Arc<Event>]) -> Vec<u64> {
    events.iter().map(|event| event.position.0).collect()
}

#[test]
fn everything_that_need_not_be_kept_goes_in_one_turn_and_leaves_an_end_to_reads() {
    runtime().block_on(async {
        let storage = MemoryStorage::new();
        let store = open(&storage).await;
        all_of(&store, "s", 0..1_000, "").await;
        all_of(&store, "s", 1_000..1_800, "").await;
        truncated(&store, "s", 1_800).await;
        let store = reopened(&storage, store).await;
        until_left(&storage, 0).await;
        // In memory too, where the newest is the one that goes.
        all_of(&store, "s", 2_000..2_001, "").await;
        truncated(&store, "s", 1_801).await;
        let until = std::time::Instant::now() + Duration::from_secs(60);
        let read = everything(Order::Forward);
        while !store.read(read.clone()).await.expect("it is read").events.is_empty() {
            assert!(std::time::Instant::now() < until, "it is not removed");
            tokio::time::timeout(Duration::from_millis(20), std::future::pending::<()>()).await.expect_err("it waits");
        }
        assert_eq!(store.read(read).await.expect("it is read").next, None);
        let mut following = store.subscribe(Position(1_800), Filter::default());
        assert!(tokio::time::timeout(Duration::from_millis(20), following.next(9)).await.is_err(), "there is nothing");
        assert_eq!(following.position(), store.head());
    });
}

#[test]
fn one_look_is_bounded_in_bytes_and_in_single_reads_where_nothing_fits() {
    runtime().block_on(async {
        let storage = MemoryStorage::new();
        let store = open(&storage).await;
        let megabyte = "x".repeat(1024 * 1024);
        for id in 0..20 {
            all_of(&store, "large", id..id + 1, &megabyte).await;
        }
        for id in 0..3 {
            all_of(&store, "small", id * 1_000..(id + 1) * 1_000, "").await;
        }
        let store = reopened(&storage, store).await;
        let none = filter(&["u"], &[]);
        let read = Read { filter: none.clone(), ..everything(Order::Forward) };
        let page = store.read(read.clone()).await.expect("it is read");
        assert_eq!((page.events.len(), page.next), (0, Some(17)), "16 MiB and the event that goes beyond");
        let of_stream = Read { stream: Some(stream("small")), ..read };
        assert_eq!(store.read(of_stream).await.expect("it is read").next, Some(2_000));
    });
}

#[test]
fn a_follower_without_patience_gets_on() {
    runtime().block_on(async {
        let storage = MemoryStorage::new();
        let store = open(&storage).await;
        all_of(&store, "s", 0..50, "").await;
        let store = reopened(&storage, store).await;
        let mut following = store.subscribe(Position::START, filter(&["t"], &[]));
        let (mut found, mut dropped) = (Vec::new(), 0);
        while found.len() < 50 {
            assert!(dropped < 1_000_000, "it never gets on");
            let at_once = tokio::select! {
                biased;
                followed = following.next(20) => Some(followed),
                () = std::future::ready(()) => None,
            };
            match at_once {
                Some(followed) => {
                    let followed = followed.expect("it is read");
                    assert!(followed.events.len() <= 20 && followed.position == following.position());
                    found.extend(positions(&followed.events));
                }
                None => dropped += 1,
            }
            tokio::task::yield_now().await;
        }
        assert_eq!(found, (1..=50).collect::<Vec<_>>());
        assert!(dropped > 0, "it had to wait");
    });
}

#[test]
fn what_a_follower_is_given_at_once_is_bounded_in_bytes() {
    runtime().block_on(async {
        let storage = MemoryStorage::new();
        let store = open(&storage).await;
        all_of(&store, "s", 0..10, &"x".repeat(100 * 1024)).await;
        for of in [store.clone(), reopened(&storage, store).await] {
            let mut following = of.subscribe(Position::START, filter(&[], &["s"]));
            let mut lens = Vec::new();
            while lens.iter().sum::<usize>() < 10 {
                lens.push(following.next(100).await.expect("it is read").events.len());
            }
            assert_eq!(lens, [3, 3, 3, 1], "256 KiB, and the event that goes beyond");
        }
    });
}

#[test]
fn what_stands_around_a_damaged_event_is_read_and_followed() {
    runtime().block_on(async {
        let storage = MemoryStorage::new();
        let store = open(&storage).await;
        all_of(&store, "s", 0..5, "").await;
        let store = reopened(&storage, store).await;
        damage(&storage, 3).await;
        for (order, from, wanted) in [(Order::Forward, 1, [1, 2]), (Order::Backward, 5, [5, 4])] {
            let page = store.read(Read { from: Some(from), ..everything(order) }).await.expect("it is read");
            assert_eq!((positions(&page.events), page.next), (wanted.to_vec(), Some(3)));
        }
        let at = |from| Read { from: Some(from), ..everything(Order::Forward) };
        assert!(matches!(store.read(at(3)).await, Err(ReadError::Damaged { position: 3, .. })));
        assert_eq!(positions(&store.read(at(4)).await.expect("it is read").events), [4, 5]);
        let of_stream = |from| Read { stream: Some(stream("s")), ..at(from) };
        let page = store.read(of_stream(0)).await.expect("it is read");
        assert_eq!((positions(&page.events), page.next), (vec![1, 2], Some(2)));
        let told = store.read(of_stream(2)).await.expect_err("it is damaged").to_string();
        assert!(told.contains("position 3") && told.contains("revision 2 of stream s"), "{told}");
        for streams in [&[][..], &["s"]] {
            let mut following = store.subscribe(Position::START, filter(&[], streams));
            assert_eq!(positions(&following.next(9).await.expect("it is read").events), [1, 2]);
            for _ in 0..2 {
                assert!(matches!(following.next(9).await, Err(ReadError::Damaged { position: 3, .. })));
            }
            following.pass(Position(3));
            assert_eq!(positions(&following.next(9).await.expect("it is read").events), [4, 5]);
        }
    });
}

#[test]
fn a_damaged_event_keeps_no_stream_from_being_swept_by_its_revisions() {
    runtime().block_on(async {
        let storage = MemoryStorage::new();
        let store = open(&storage).await;
        for name in ["a", "b", "c"] {
            all_of(&store, name, 0..2, "").await;
            truncated(&store, name, 2).await;
        }
        // Everything is there still: the next turn is some seconds away.
        damage(&storage, 3).await;
        let batch = Batch::new().put(Space::EventIndex, keys::settings("a"), "");
        storage.commit(batch).await.expect("it is written");
        let _store = reopened(&storage, store).await;
        // Those of the stream of which nobody knows what is set for it.
        until_left(&storage, 2).await;
    });
}

#[test]
fn what_is_durable_is_said_to_be_whatever_becomes_of_what_came_with_it() {
    runtime().block_on(async {
        let storage = MemoryStorage::new();
        let store = open(&storage).await;
        all_of(&store, "s", 0..2, "").await;
        storage.hold_syncs();
        let ask = |id: &str| {
            let (store, drafts) = (store.clone(), [draft(id, "t", "")]);
            tokio::spawn(async move { append(&store, "s", Expected::Any, &drafts).await })
        };
        let first = ask("held");
        while storage.waiting() == 0 {
            tokio::task::yield_now().await;
        }
        // These wait for the next round, together.
        let (new, known) = (ask("new"), ask("1"));
        tokio::task::yield_now().await;
        let full = StorageError::DiskFull { path: "store".into(), free_bytes: 0, reserve_bytes: 1 };
        storage.refuse_with(Some(full));
        storage.release_syncs();
        first.await.expect("it ends").expect("it is appended");
        assert!(matches!(new.await.expect("it ends"), Err(AppendError::NotDurable(_))));
        assert_eq!(position(&known.await.expect("it ends").expect("it is there")), Position(2));
    });
}

#[test]
fn a_damaged_record_of_an_id_is_no_unknown_id() {
    runtime().block_on(async {
        let storage = MemoryStorage::new();
        let store = open(&storage).await;
        all_of(&store, "s", 0..1, "").await;
        let batch = Batch::new().put(Space::EventIndex, keys::id("s", "0"), "short");
        storage.commit(batch).await.expect("it is written");
        let refused = append(&store, "s", Expected::Any, &[draft("0", "t", "")]).await.expect_err("it is damaged");
        assert!(refused.to_string().contains("what is known of the id \"0\" of stream s is damaged"), "{refused}");
        assert_eq!(store.head(), Position(1));
    });
}

#[test]
fn another_schema_is_another_event() {
    runtime().block_on(async {
        let store = open(&MemoryStorage::new()).await;
        let of = |schema: &str| Draft { schema: Some(schema.into()), ..draft("1", "t", "") };
        append(&store, "s", Expected::Any, &[of("urn:a")]).await.expect("it is appended");
        append(&store, "s", Expected::Any, &[of("urn:a")]).await.expect("it is there");
        let refused = append(&store, "s", Expected::Any, &[of("urn:b")]).await;
        assert!(matches!(refused, Err(AppendError::IdTaken { .. })), "{refused:?}");
    });
}
