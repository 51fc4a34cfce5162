//! What becomes of transactions in time, and between gateways.

use std::{sync::Arc, time::Duration};

use serde_json::json;

use super::{
    protocols::{NoOthers, stock},
    world::{Network, Weather, World},
};
use crate::{
    model::Wall,
    storage::{KeyRange, Space, Storage, StorageError, memory::MemoryStorage},
    transactions::{Coordinator, Filter, Parts, Status, Submission, TransactionError},
};

const RETENTION: Duration = Duration::from_secs(3600);

/// None where the protocols are not built.
async fn coordinator(storage: &MemoryStorage) -> Option<Coordinator> {
    let protocols = stock()?;
    let wall = Wall::at(1_700_000_000_000);
    let coordinator = Coordinator::open(Parts {
        storage: Arc::new(storage.clone()) as Arc<dyn Storage>,
        events: None,
        caller: Arc::new(Network { world: World::new(1, Weather::CALM), wall }),
        versions: Arc::new(NoOthers),
        alert: Arc::new(|gid, _, _, reason| panic!("{gid} stands in hazard: {reason}")),
        wall,
        retention: RETENTION,
        owner: "test".to_owned(),
        seed: 1,
    });
    let coordinator = coordinator.await.expect("the store is claimed");
    coordinator.set_protocols(protocols);
    coordinator.recover().await.expect("nothing is there");
    Some(coordinator)
}

fn submission(gid: &str) -> Submission {
    let branches = json!([{"service": "a"}, {"service": "b"}]);
    let request = json!({"gid": gid, "trans_type": "two-phase-commit", "branches": branches});
    Submission::parse(request).expect("it is right")
}

async fn keys(storage: &MemoryStorage) -> Vec<String> {
    let entries = storage.scan(Space::Transactions, KeyRange::all(), usize::MAX).await.expect("it is open");
    entries.iter().map(|(key, _)| String::from_utf8_lossy(&key[..1]).into_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn an_ended_transaction_is_kept_for_its_time_and_then_leaves_nothing_behind() {
    let storage = MemoryStorage::new();
    let Some(coordinator) = coordinator(&storage).await else { return };
    for number in 0..300 {
        coordinator.submit(submission(&format!("g{number}"))).await.expect("it is taken");
    }
    let first = "g0".parse().expect("a gid");
    for number in 0..300 {
        let gid = format!("g{number}").parse().expect("a gid");
        let status = coordinator.outcome(&gid, Duration::from_secs(60)).await;
        assert_eq!(status.expect("it is there"), Status::Succeeded);
    }
    tokio::time::sleep(RETENTION - Duration::from_secs(30)).await;
    assert_eq!(coordinator.status(&first).await.expect("it is kept"), Status::Succeeded);
    assert_eq!(coordinator.submit(submission("g0")).await.expect("it is the same"), Status::Succeeded);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(matches!(coordinator.status(&first).await, Err(TransactionError::Unknown(_))));
    assert_eq!(coordinator.list(&Filter::default(), None, 10).await.expect("it is read").transactions, []);
    assert_eq!(keys(&storage).await, ["c"], "only the claim is left");
    coordinator.close().await;
}

#[tokio::test(start_paused = true)]
async fn one_that_ends_with_its_clients_own_word_is_removed_like_any_other() {
    let storage = MemoryStorage::new();
    let Some(coordinator) = coordinator(&storage).await else { return };
    let request = json!({"gid": "g", "trans_type": "tcc"});
    coordinator.prepare(Submission::parse(request).expect("it is right")).await.expect("it is taken");
    let gid = "g".parse().expect("a gid");
    // There is nothing to undo, so the abort is its end.
    assert_eq!(coordinator.abort(&gid, None).await.expect("it is prepared"), Status::Failed);
    tokio::time::sleep(RETENTION + Duration::from_secs(60)).await;
    assert_eq!(keys(&storage).await, ["c"], "only the claim is left");
    coordinator.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_gateway_whose_transactions_another_has_taken_over_changes_nothing_any_more() {
    let storage = MemoryStorage::new();
    let Some(one) = coordinator(&storage).await else { return };
    one.submit(submission("before")).await.expect("it is taken");
    let Some(other) = coordinator(&storage).await else { return };
    let refused = one.submit(submission("after")).await.expect_err("it has lost its claim");
    assert!(matches!(refused, TransactionError::TakenOver), "{refused}");
    other.submit(submission("after")).await.expect("the other has it");
    let gid = "after".parse().expect("a gid");
    let status = other.outcome(&gid, Duration::from_secs(60)).await;
    assert_eq!(status.expect("it is there"), Status::Succeeded);
    one.close().await;
    other.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_new_transactions_and_those_under_way_go_on_when_there_is_room() {
    let storage = MemoryStorage::new();
    let Some(coordinator) = coordinator(&storage).await else { return };
    coordinator.submit(submission("under-way")).await.expect("it is taken");
    let full = StorageError::DiskFull { path: "store".into(), free_bytes: 1, reserve_bytes: 2 };
    storage.refuse_with(Some(full));
    let refused = coordinator.submit(submission("new")).await.expect_err("there is no room");
    assert!(refused.to_string().contains("not durable"), "{refused}");
    let (under_way, new) = ("under-way".parse().expect("a gid"), "new".parse().expect("a gid"));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(coordinator.status(&under_way).await.expect("it is there"), Status::Submitted);
    let details = coordinator.details(&under_way).await.expect("it is there");
    assert!(details.held_up.is_some_and(|why| why.contains("make room")));
    storage.refuse_with(None);
    let status = coordinator.outcome(&under_way, Duration::from_secs(60)).await;
    assert_eq!(status.expect("it is there"), Status::Succeeded);
    assert!(matches!(coordinator.status(&new).await, Err(TransactionError::Unknown(_))), "it was never there");
    coordinator.close().await;
}
