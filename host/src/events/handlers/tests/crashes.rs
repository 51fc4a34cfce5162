//! Power cuts at random moments: each event has its effect exactly once.

use std::{collections::BTreeMap, time::Duration};

use super::world::{Native, World};
use crate::events::handlers::HandlersError;

const TYPES: [&str; 6] = ["a", "b", "emit", "call", "both", "poison"];

#[tokio::test(start_paused = true)]
async fn through_crashes_every_effect_is_there_once_and_no_call_without_its_key() {
    for seed in 0..30 {
        through_crashes(seed).await;
    }
}

async fn through_crashes(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::new().await;
    let mut version = 0;
    let natives: Vec<_> = (0..3).map(|_| Native::new(&[], &[])).collect();
    for _ in 0..random.usize(2..6) {
        world.want(&format!("v{version}"), &natives[version]);
        for _ in 0..random.usize(1..12) {
            let stream = format!("s{}", random.u8(0..3));
            let types: Vec<_> = (0..random.usize(1..6)).map(|_| TYPES[random.usize(0..TYPES.len())]).collect();
            world.append(&stream, &types).await;
            for _ in 0..random.usize(0..4) {
                tokio::time::sleep(Duration::from_micros(random.u64(0..300))).await;
            }
        }
        if version < 2 && random.bool() {
            version += 1;
        }
        world = world.crashed(random.u64(..)).await;
    }
    world.want(&format!("v{version}"), &natives[version]);
    world.at_rest().await;
    assert_eq!(world.counts().await, world.recomputed(|of| of != "poison").await, "seed {seed}");
    let log = world.log().await;
    let mut emitted = BTreeMap::new();
    for event in &log {
        let id = event.draft.id.as_str();
        if id.starts_with("h:") {
            *emitted.entry(id.to_owned()).or_insert(0) += 1;
        }
    }
    let (mut ids, mut keys) = (BTreeMap::new(), Vec::new());
    for event in &log {
        let at = event.position.0;
        match event.draft.event_type.as_str() {
            "emit" => drop(ids.insert(format!("h:{at}:0"), 1)),
            "call" => keys.push(format!("h:{at}:0")),
            "both" => {
                ids.insert(format!("h:{at}:1"), 1);
                keys.push(format!("h:{at}:0"));
            }
            _ => {}
        }
    }
    assert_eq!(emitted, ids, "seed {seed}");
    let mut called = world.keys();
    called.sort();
    called.dedup();
    keys.sort();
    assert_eq!(called, keys, "seed {seed}");
}

#[tokio::test(start_paused = true)]
async fn who_was_taken_over_from_changes_nothing_any_more() {
    let world = World::new().await;
    world.want("one", &Native::new(&[], &[]));
    world.append("s", &["a"]).await;
    world.at_rest().await;
    let next = World::over(world.storage.clone(), world.service.clone(), world.versions.clone()).await;
    next.want("one", &Native::new(&[], &[]));
    next.append("s", &["a", "call"]).await;
    next.at_rest().await;
    assert!(matches!(world.handlers.rebuild(&super::world::name()).await, Err(HandlersError::TakenOver)));
    assert_eq!(next.counts().await, next.recomputed(|_| true).await);
    assert_eq!(next.keys(), ["h:3:0"]);
}
