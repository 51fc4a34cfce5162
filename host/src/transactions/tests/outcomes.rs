//! The events of an outcome are there if and only if the outcome is.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    protocols::{DecidesAgain, NoOthers, stock},
    world::{Network, Weather, World},
};
use crate::{
    events::{Append, EventStore, Read},
    model::{Draft, Expected, Filter as EventFilter, Wall},
    storage::{Batch, KeyRange, Order, Space, Storage, memory::MemoryStorage},
    transactions::{Alert, Coordinator, Parts, Protocols, Status, Submission, TransactionError},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// None where the protocols are not built.
async fn gateway(storage: &MemoryStorage, events: Option<EventStore>) -> Option<Coordinator> {
    let alert: Alert = Arc::new(|gid, _, _, reason| panic!("{gid} stands in hazard: {reason}"));
    gateway_in(World::new(1, Weather::CALM), alert, storage, events).await
}

async fn gateway_in(
    world: World,
    alert: Alert,
    storage: &MemoryStorage,
    events: Option<EventStore>,
) -> Option<Coordinator> {
    let protocols = stock()?;
    let wall = Wall::at(1_700_000_000_000);
    let coordinator = Coordinator::open(Parts {
        storage: Arc::new(storage.clone()) as Arc<dyn Storage>,
        events,
        caller: Arc::new(Network { world, wall }),
        versions: Arc::new(NoOthers),
        alert,
        wall,
        retention: Duration::from_secs(3600),
        owner: "test".to_owned(),
        seed: 1,
    });
    let coordinator = coordinator.await.expect("the store is claimed");
    coordinator.set_protocols(protocols);
    coordinator.recover().await.expect("what has not ended goes on");
    Some(coordinator)
}

async fn open(storage: &MemoryStorage) -> EventStore {
    let storage: Arc<dyn Storage> = Arc::new(storage.clone());
    EventStore::open(storage, Wall::at(1_700_000_000_000), "test".to_owned()).await.expect("it opens")
}

fn submission(gid: &str, protocol: &str) -> Submission {
    let mut request = json!({"gid": gid, "trans_type": protocol, "events": {
        "committed": [{"type": "order.placed", "stream": "order-1", "data": {"gid": gid}}, {"type": "sold"}],
        "aborted": [{"type": "order.rejected", "stream": "order-1"}],
    }});
    if protocol == "two-phase-commit" {
        request["branches"] = json!([{"service": "a"}, {"service": "b"}]);
    }
    Submission::parse(request).expect("it is right")
}

async fn types(store: &EventStore) -> Vec<String> {
    let read = Read { stream: None, order: Order::Forward, from: None, filter: EventFilter::default(), limit: 100 };
    let page = store.read(read).await.expect("it is read");
    page.events.iter().map(|event| event.draft.event_type.to_string()).collect()
}

/// Of the one transaction there is, as it stands in the store.
async fn decision(storage: &MemoryStorage) -> Option<String> {
    let entries = storage.scan(Space::Transactions, KeyRange::all(), usize::MAX).await.expect("it is open");
    let standing = entries.iter().find(|(key, _)| key.starts_with(b"o/") || key.starts_with(b"d/"));
    let standing: Value = serde_json::from_slice(&standing?.1).expect("it is JSON");
    standing["facts"]["decision"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn an_outcome_appends_its_events_once() {
    let storage = MemoryStorage::new();
    let store = open(&storage).await;
    let Some(coordinator) = gateway(&storage, Some(store.clone())).await else { return };
    coordinator.submit(submission("g-1", "two-phase-commit")).await.expect("it is taken");
    let gid = "g-1".parse().expect("a gid");
    assert_eq!(coordinator.outcome(&gid, PATIENCE).await.expect("it is there"), Status::Succeeded);
    assert_eq!(types(&store).await, ["order.placed", "sold"]);
    coordinator.prepare(submission("g-2", "tcc")).await.expect("it is taken");
    let gid = "g-2".parse().expect("a gid");
    assert_eq!(types(&store).await.len(), 2, "nothing is told before it is decided");
    assert_eq!(coordinator.abort(&gid, None).await.expect("it is prepared"), Status::Failed);
    assert_eq!(types(&store).await, ["order.placed", "sold", "order.rejected"]);
    let again = coordinator.submit(submission("g-1", "two-phase-commit")).await;
    assert_eq!(again.expect("it is the same"), Status::Succeeded);
    assert_eq!(types(&store).await.len(), 3);
    coordinator.close().await;
    store.close().await;
}

/// How a transaction ends up whose outcome's second event, the only one of stream `sold`, cannot be appended: the event's id
/// is spoiled before a call of it arrives.
async fn in_hazard(protocols: Option<Protocols>, spoil: impl AsyncFnOnce(&MemoryStorage, &EventStore, String)) {
    let Some(protocols) = protocols else { return };
    let storage = MemoryStorage::new();
    let store = open(&storage).await;
    let world = World::new(1, Weather { lost: 1_000, ..Weather::CALM });
    let alert: Alert = Arc::new(|_, _, _, _| ());
    let Some(coordinator) = gateway_in(world.clone(), alert, &storage, Some(store.clone())).await else { return };
    coordinator.set_protocols(protocols);
    coordinator.submit(submission("g-1", "two-phase-commit")).await.expect("it is taken");
    let gid = "g-1".parse().expect("a gid");
    let begun_ms = coordinator.details(&gid).await.expect("it is there").summary.created_ms;
    spoil(&storage, &store, format!("g-1:{begun_ms}:1")).await;
    world.set_weather(Weather::CALM);
    assert_eq!(coordinator.outcome(&gid, PATIENCE).await.expect("it is there"), Status::Hazard);
    let hazard = coordinator.details(&gid).await.expect("it is there").summary.hazard;
    let is_of_the_id = |why: &String| why.contains("events of the transaction's outcome") && why.contains("the id \"");
    assert!(hazard.as_ref().is_some_and(is_of_the_id), "{hazard:?}");
    assert_eq!(decision(&storage).await, None);
    assert!(!types(&store).await.contains(&"order.placed".to_owned()));
    assert_eq!(coordinator.stop(&gid).await.expect("an operator may"), Status::Stopped);
    coordinator.close().await;
    store.close().await;
}

async fn take(store: &EventStore, id: String) {
    let source = "/elsewhere".parse().expect("a source");
    let taken = Draft::new(id.parse().expect("an id"), source, "t".parse().expect("a type"));
    let append = Append::to("sold".parse().expect("a name"), Expected::Any, vec![taken]);
    store.append(append).await.expect("it is appended");
}

#[tokio::test]
async fn an_outcome_whose_events_are_refused_stands_in_hazard_undecided() {
    in_hazard(stock(), async |_, store, id| take(store, id).await).await;
}

#[tokio::test]
async fn an_outcome_whose_events_meet_with_damage_stands_in_hazard_undecided() {
    let damage = async |storage: &MemoryStorage, _: &EventStore, id: String| {
        let batch = Batch::new().put(Space::EventIndex, format!("isold\0{id}"), "short");
        storage.commit(batch).await.expect("it is written");
    };
    in_hazard(stock(), damage).await;
}

#[tokio::test]
async fn a_second_decision_does_not_make_up_for_the_events_of_the_first() {
    let Some(mut protocols) = stock() else { return };
    let mut in_force = protocols["two-phase-commit"].clone();
    in_force.incumbent.protocol = Arc::new(DecidesAgain(Arc::clone(&in_force.incumbent.protocol)));
    protocols.insert("two-phase-commit".to_owned(), in_force);
    in_hazard(Some(protocols), async |_, store, id| take(store, id).await).await;
}

#[tokio::test]
async fn where_no_events_can_be_stored_a_transaction_that_asks_for_them_is_refused() {
    let storage = MemoryStorage::new();
    let Some(coordinator) = gateway(&storage, None).await else { return };
    let refused = coordinator.submit(submission("g-1", "two-phase-commit")).await;
    assert!(
        matches!(&refused, Err(TransactionError::Invalid(problems)) if problems[0].pointer == "/events"),
        "{refused:?}"
    );
    coordinator.close().await;
}

#[tokio::test]
async fn a_power_cut_leaves_an_outcome_with_its_events_or_neither() {
    let mut decided = 0;
    for seed in 0..60 {
        println!("seed {seed}");
        let storage = MemoryStorage::new();
        let store = open(&storage).await;
        let Some(coordinator) = gateway(&storage, Some(store.clone())).await else { return };
        storage.hold_syncs();
        let submitting = coordinator.clone();
        let client = tokio::spawn(async move { submitting.submit(submission("g", "two-phase-commit")).await });
        let until = Instant::now() + PATIENCE;
        for nth in 0..=seed % 3 {
            while storage.waiting() == 0 {
                assert!(Instant::now() < until, "nothing more is written");
                tokio::task::yield_now().await;
            }
            if nth < seed % 3 {
                storage.sync();
            }
        }
        let left = storage.crash(seed);
        coordinator.close().await;
        store.close().await;
        // It has its answer, or hears that the gateway is gone.
        let _ = client.await;
        let store = open(&left).await;
        let told = types(&store).await;
        match decision(&left).await.as_deref() {
            Some("commit") => assert_eq!(told, ["order.placed", "sold"]),
            Some(other) => panic!("decided to {other}"),
            None => assert_eq!(told, [""; 0], "the events of an outcome that is not there"),
        }
        decided += usize::from(!told.is_empty());
        store.close().await;
    }
    assert!((10..60).contains(&decided), "{decided} of 60 were decided: the cuts are at the wrong places");
}
