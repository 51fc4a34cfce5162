//! Conditions among many who commit at once.

use super::*;
use crate::storage::CommitError;

/// So many that they wait for each other's syncs.
const TASKS: u64 = 64;

#[test]
fn of_many_who_want_to_be_the_first_one_is() {
    let (_folder, backends) = backends();
    for (name, storage) in backends {
        runtime().block_on(async {
            let claims = (0..TASKS).map(|task| {
                let storage = Arc::clone(&storage);
                tokio::spawn(async move {
                    let free = Condition::Absent { space: Space::Registry, key: "leader".into() };
                    let claim = Batch::new().require(free).put(Space::Registry, "leader", key(task));
                    (task, storage.commit(claim.put(Space::Discovery, key(task), "was here")).await)
                })
            });
            let mut winners = Vec::new();
            for claim in claims.collect::<Vec<_>>() {
                match claim.await.expect("it ends") {
                    (task, Ok(())) => winners.push(task),
                    (_, refused) => assert_eq!(refused, Err(CommitError::Conflict { condition: 0 }), "{name}"),
                }
            }
            assert_eq!(winners.len(), 1, "{name}: {winners:?}");
            let leader = storage.get(Space::Registry, "leader".into()).await.expect("it is read");
            assert_eq!(leader.as_ref().map(number), Some(winners[0]), "{name}");
            // A refused batch left nothing behind.
            let left = storage.scan(Space::Discovery, KeyRange::all(), 100).await.expect("it is read");
            assert_eq!(left.iter().map(|(key, _)| number(key)).collect::<Vec<_>>(), winners, "{name}");
        });
    }
}

#[test]
fn no_increment_of_a_shared_counter_is_lost() {
    const EACH: u64 = 10;
    let (_folder, backends) = backends();
    for (name, storage) in backends {
        runtime().block_on(async {
            storage.commit(Batch::new().put(Space::Registry, "count", key(0))).await.expect("it is committed");
            let tasks = (0..8).map(|_| {
                let storage = Arc::clone(&storage);
                tokio::spawn(async move {
                    let mut done = 0;
                    while done < EACH {
                        let value = storage.get(Space::Registry, "count".into()).await.expect("it is read");
                        let value = value.expect("it is there");
                        let next = key(number(&value) + 1);
                        let same = Condition::Equals { space: Space::Registry, key: "count".into(), value };
                        match storage.commit(Batch::new().require(same).put(Space::Registry, "count", next)).await {
                            Ok(()) => done += 1,
                            Err(refused) => assert_eq!(refused, CommitError::Conflict { condition: 0 }),
                        }
                    }
                })
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.expect("it ends");
            }
            let count = storage.get(Space::Registry, "count".into()).await.expect("it is read");
            assert_eq!(count.as_ref().map(number), Some(8 * EACH), "{name}");
        });
    }
}

#[test]
fn the_first_condition_that_does_not_hold_is_named() {
    let (_folder, backends) = backends();
    for (name, storage) in backends {
        runtime().block_on(async {
            let space = Space::Registry;
            storage.commit(Batch::new().put(space, "there", "1")).await.expect("it is committed");
            let batch = Batch::new()
                .require(Condition::Present { space, key: "there".into() })
                .require(Condition::Equals { space, key: "there".into(), value: "1".into() })
                .require(Condition::Absent { space: Space::Discovery, key: "there".into() })
                .require(Condition::Equals { space, key: "there".into(), value: "2".into() })
                .require(Condition::Present { space, key: "missing".into() });
            let refused = storage.commit(batch.delete(space, "there")).await;
            assert_eq!(refused, Err(CommitError::Conflict { condition: 3 }), "{name}");
            assert!(storage.get(space, "there".into()).await.expect("it is read").is_some(), "{name}");
        });
    }
}

#[test]
fn commits_made_together_are_judged_one_by_one_and_see_those_before_them() {
    let (_folder, backends) = backends();
    for (name, storage) in backends {
        runtime().block_on(async {
            let absent = || Condition::Absent { space: Space::Registry, key: "a".into() };
            let first = Batch::new().require(absent()).put(Space::Registry, "a", "1");
            let refused = Batch::new().require(absent()).put(Space::Registry, "a", "2").put(Space::Registry, "b", "2");
            let third = Batch::new().put(Space::Registry, "c", "3");
            let unfit = Batch::new().put(Space::Registry, "", "4");
            let answers = tokio::task::block_in_place(|| storage.commit_together(vec![first, refused, unfit, third]));
            assert_eq!(answers[..2], [Ok(()), Err(CommitError::Conflict { condition: 0 })], "{name}");
            assert!(matches!(answers[2], Err(CommitError::Storage(_))), "{name}");
            assert_eq!(answers[3], Ok(()), "{name}");
            for (key, there) in [("a", Some("1")), ("b", None), ("c", Some("3"))] {
                let found = storage.get(Space::Registry, key.into()).await.expect("it is read");
                assert_eq!(found.as_deref(), there.map(str::as_bytes), "{name}: {key}");
            }
        });
    }
}
