//! Power cuts under concurrent appends, on a disk that drops, tears and reorders what was not synced.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::*;
use crate::{
    events::StreamAppend,
    storage::{Batch, Condition, Space},
};

const CASES: u64 = 150;
const CUTS: usize = 4;
const WRITERS: u64 = 6;
const PATIENCE: Duration = Duration::from_secs(30);

/// What the clients know.
#[derive(Clone, Default)]
struct Known {
    /// Ids by position: acknowledged.
    acknowledged: BTreeMap<u64, String>,
    /// Ids of each append that was asked for.
    asked: Vec<Vec<String>>,
    /// The largest position that a reader was shown.
    shown: u64,
}

/// Each append brings a value of its own, and its events.
async fn write(store: EventStore, known: Arc<Mutex<Known>>, writer: u64, mut random: fastrand::Rng) {
    for n in 0.. {
        let count = random.usize(1..=3);
        let ids: Vec<_> = (0..count).map(|nth| format!("{writer}-{n}-{nth}-{}", random.u32(..))).collect();
        let mut drafts = ids.iter().map(|id| draft(id, "t", id));
        let first = StreamAppend {
            stream: stream(&format!("s{}", random.u8(0..3))),
            expected: Expected::Any,
            drafts: drafts.by_ref().take(2).collect(),
        };
        let rest = StreamAppend { stream: stream("other"), expected: Expected::Any, drafts: drafts.collect() };
        let streams = std::iter::once(first).chain((!rest.drafts.is_empty()).then_some(rest)).collect();
        // Some bring a write of their own, which stands or falls with them.
        let with =
            match random.u8(0..3) {
                0 => Batch::new()
                    .require(Condition::Absent { space: Space::Handlers, key: ids[0].clone().into() })
                    .put(Space::Handlers, ids[0].clone(), "there"),
                _ => Batch::new(),
            };
        known.lock().expect("nobody panicked").asked.push(ids.clone());
        let Ok(appended) = store.append(Append { streams, with }).await else { return };
        let places = appended.streams.iter().flat_map(|of| &of.events).map(|event| event.position.0);
        let mut known = known.lock().expect("nobody panicked");
        for (position, id) in places.zip(ids) {
            assert_eq!(known.acknowledged.insert(position, id), None, "a position was given twice");
        }
    }
}

async fn wait_for(what: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !what() {
        assert!(Instant::now() < until, "it did not come to that");
        tokio::task::yield_now().await;
    }
}

/// Several syncs, then a cut in the middle of what is written.
async fn until_a_cut(storage: &MemoryStorage, random: &mut fastrand::Rng, known: &Arc<Mutex<Known>>) -> MemoryStorage {
    let store = open(storage).await;
    storage.hold_syncs();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(store.clone(), Arc::clone(known), writer, random.fork()));
    }
    for _ in 0..random.usize(0..6) {
        wait_for(|| storage.waiting() > 0).await;
        storage.sync();
        known.lock().expect("nobody panicked").shown = store.head().0;
    }
    wait_for(|| storage.waiting() > 0).await;
    let left = storage.crash(random.u64(..));
    // Their answers never come, or say that the store is closed.
    store.close().await;
    while writers.join_next().await.is_some() {}
    left
}

async fn check(storage: &MemoryStorage, known: &Known) {
    let store = open(storage).await;
    let events = read_on(&store, everything(Order::Forward)).await;
    let there: BTreeMap<_, _> = events.iter().map(|event| (event.position.0, event.draft.id.to_string())).collect();
    for (position, id) in &known.acknowledged {
        assert_eq!(there.get(position), Some(id), "an acknowledged event is gone, or elsewhere");
    }
    let ids: BTreeSet<_> = there.values().cloned().collect();
    assert_eq!(ids.len(), there.len(), "an event is there twice");
    for ids_of_one in &known.asked {
        let count = ids_of_one.iter().filter(|id| ids.contains(*id)).count();
        assert!(count == 0 || count == ids_of_one.len(), "an append is there in part: {ids_of_one:?}");
    }
    let beside = storage.scan(Space::Handlers, crate::storage::KeyRange::all(), usize::MAX).await.expect("it is read");
    for (key, _) in beside {
        let id = String::from_utf8(key.to_vec()).expect("an id");
        assert!(ids.contains(&id), "what came with an append is there without it: {id}");
    }
    assert!(store.head().0 >= known.shown, "readers saw what is not there any more");
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    for event in &events {
        let next = next.entry(event.stream.to_string()).or_default();
        assert_eq!(event.revision, *next, "a revision is missing");
        *next += 1;
    }
    for (name, next) in next {
        let of_stream = read_on(&store, Read { stream: Some(stream(&name)), ..everything(Order::Forward) }).await;
        assert_eq!(of_stream.len() as u64, next, "the index says otherwise");
    }
    store.close().await;
}

async fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut storage = MemoryStorage::new();
    let known = Arc::new(Mutex::new(Known::default()));
    for _ in 0..CUTS {
        storage = until_a_cut(&storage, &mut random, &known).await;
        let known = known.lock().expect("nobody panicked").clone();
        check(&storage, &known).await;
    }
}

#[test]
fn a_power_cut_loses_nothing_acknowledged_and_leaves_nothing_in_part() {
    let first = fastrand::u64(..u64::MAX - CASES);
    println!("seeds from {first}");
    let (one, several) = (runtime(), threads());
    for seed in first..first + CASES {
        println!("seed {seed}");
        let of = if seed % 2 == 0 { &one } else { &several };
        of.block_on(run(seed));
    }
}

#[test]
fn a_disk_that_acknowledges_too_early_is_found_out() {
    let found = std::panic::catch_unwind(|| {
        runtime().block_on(async {
            for seed in 0..50 {
                let mut random = fastrand::Rng::with_seed(seed);
                let storage = MemoryStorage::new();
                storage.acknowledge_too_early();
                let known = Arc::new(Mutex::new(Known::default()));
                let store = open(&storage).await;
                storage.hold_syncs();
                let writer = tokio::spawn(write(store.clone(), Arc::clone(&known), 0, random.fork()));
                wait_for(|| known.lock().expect("nobody panicked").acknowledged.len() > 3).await;
                let left = storage.crash(random.u64(..));
                store.close().await;
                writer.await.expect("it ends");
                let known = known.lock().expect("nobody panicked").clone();
                check(&left, &known).await;
            }
        });
    });
    assert!(found.is_err(), "50 power cuts of a disk that lies went unnoticed");
}
