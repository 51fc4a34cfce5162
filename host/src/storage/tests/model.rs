//! The backends beside a plain map, given the same random batches.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::select};

use super::*;
use crate::storage::{CommitError, Write};

type Model = BTreeMap<(Space, Bytes), Bytes>;

#[derive(Clone, Debug)]
enum Step {
    Commit(Batch),
    Scan(Space, KeyRange, usize),
    /// Closed and opened again, or crashed with everything synced.
    Reopen,
}

fn space() -> impl Strategy<Value = Space> {
    select(&Space::ALL[..])
}

/// Few, so that batches meet; with bytes that are easy to get wrong.
fn some_key() -> impl Strategy<Value = Bytes> {
    vec(select(&[0_u8, 1, b'a', 0xfe, 0xff][..]), 1..=2).prop_map(Bytes::from)
}

fn some_value() -> impl Strategy<Value = Bytes> {
    prop_oneof![vec(any::<u8>(), 0..=2).prop_map(Bytes::from), Just(Bytes::from(vec![7; 5000]))]
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        (space(), some_key()).prop_map(|(space, key)| Condition::Absent { space, key }),
        (space(), some_key()).prop_map(|(space, key)| Condition::Present { space, key }),
        (space(), some_key(), some_value()).prop_map(|(space, key, value)| Condition::Equals { space, key, value }),
    ]
}

fn write() -> impl Strategy<Value = Write> {
    prop_oneof![
        3 => (space(), some_key(), some_value()).prop_map(|(space, key, value)| Write::Put { space, key, value }),
        1 => (space(), some_key()).prop_map(|(space, key)| Write::Delete { space, key }),
    ]
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        Just(KeyRange::all()),
        (some_key(), some_key()).prop_map(|(start, end)| KeyRange::between(start, end)),
        some_key().prop_map(KeyRange::prefix),
        (some_key(), some_key()).prop_map(|(prefix, key)| KeyRange::prefix(prefix).after(&key)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let batch = (vec(condition(), 0..=2), vec(write(), 0..=4));
    prop_oneof![
        8 => batch.prop_map(|(conditions, writes)| Step::Commit(Batch { conditions, writes })),
        4 => (space(), range(), 0..6_usize).prop_map(|(space, range, limit)| Step::Scan(space, range, limit)),
        1 => Just(Step::Reopen),
    ]
}

fn holds(model: &Model, condition: &Condition) -> bool {
    match condition.clone() {
        Condition::Absent { space, key } => !model.contains_key(&(space, key)),
        Condition::Present { space, key } => model.contains_key(&(space, key)),
        Condition::Equals { space, key, value } => model.get(&(space, key)) == Some(&value),
    }
}

fn commit(model: &mut Model, batch: &Batch) -> Result<(), CommitError> {
    if let Some(condition) = batch.conditions.iter().position(|condition| !holds(model, condition)) {
        return Err(CommitError::Conflict { condition });
    }
    for write in batch.writes.clone() {
        match write {
            Write::Put { space, key, value } => model.insert((space, key), value),
            Write::Delete { space, key } => model.remove(&(space, key)),
        };
    }
    Ok(())
}

fn scan(model: &Model, wanted: Space, range: &KeyRange, limit: usize) -> Vec<(Bytes, Bytes)> {
    let all = model.iter().filter(|((space, key), _)| *space == wanted && range.contains(key));
    all.take(limit).map(|((_, key), value)| (key.clone(), value.clone())).collect()
}

/// Runs the steps against the store that `reopen` gives again.
async fn agrees(
    steps: Vec<Step>,
    mut storage: Arc<dyn Storage>,
    reopen: impl AsyncFn(Arc<dyn Storage>) -> Arc<dyn Storage>,
) {
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Commit(batch) => {
                assert_eq!(storage.commit(batch.clone()).await, commit(&mut model, &batch), "{batch:?}")
            }
            Step::Scan(space, range, limit) => {
                let found = storage.scan(space, range.clone(), limit).await;
                assert_eq!(found, Ok(scan(&model, space, &range, limit)), "{range:?}");
            }
            Step::Reopen => storage = reopen(storage).await,
        }
    }
    for ((space, key), value) in &model {
        assert_eq!(storage.get(*space, key.clone()).await, Ok(Some(value.clone())));
    }
    storage.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_store_does_what_a_map_does(steps in vec(step(), 1..40)) {
        let folder = tempfile::tempdir().expect("a folder");
        runtime().block_on(async {
            let open = || Arc::new(Embedded::open(folder.path()).expect("it opens")) as Arc<dyn Storage>;
            agrees(steps, open(), async |storage: Arc<dyn Storage>| {
                storage.close().await;
                open()
            }).await;
        });
    }
}

proptest! {
    #[test]
    fn the_store_in_memory_does_what_a_map_does(steps in vec(step(), 1..60), seed: u64) {
        runtime().block_on(async {
            let memory = std::sync::Mutex::new(MemoryStorage::new());
            let first = Arc::new(memory.lock().expect("nobody panicked").clone());
            agrees(steps, first, async |_| {
                let mut memory = memory.lock().expect("nobody panicked");
                *memory = memory.crash(seed);
                Arc::new(memory.clone()) as Arc<dyn Storage>
            }).await;
        });
    }

    #[test]
    fn a_prefix_holds_what_begins_with_it(prefix in some_key(), key in vec(select(&[0_u8, 1, b'a', 0xfe, 0xff][..]), 0..=4)) {
        let within = KeyRange::prefix(prefix.clone()).contains(&key);
        prop_assert_eq!(within, key.starts_with(&prefix));
    }
}
