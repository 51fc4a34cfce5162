//! Calls that events cause.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use super::world::{Native, World, name};
use crate::{
    events::handlers::{
        Doing, HandlersError, OutboxBounds,
        keys::{self, SPACE},
    },
    storage::{Batch, Storage},
};

#[tokio::test(start_paused = true)]
async fn the_calls_of_a_stream_are_made_in_order_and_repeated_with_their_key() {
    let world = World::new().await;
    world.service.refuses.lock().expect("unpoisoned").insert("0".into(), 3);
    world.append("s", &["call", "call", "call"]).await;
    world.want("one", &Native::new(&[], &[]));
    let shown = world.at_rest().await;
    assert_eq!((shown.calls_made, shown.calls_parked), (3, 0));
    assert_eq!(world.keys(), ["h:1:0", "h:1:0", "h:1:0", "h:1:0", "h:2:0", "h:3:0"]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_service_holds_up_no_other_stream() {
    let world = World::new().await;
    world.service.refuses.lock().expect("unpoisoned").insert("0".into(), 9);
    world.append("slow", &["call", "call"]).await;
    world.append("fast", &["call"]).await;
    world.want("one", &Native::new(&[], &[]));
    world.at_rest().await;
    let keys = world.keys();
    let fast = keys.iter().position(|key| key == "h:3:0").expect("it was called");
    assert!(fast <= 1, "{keys:?}");
    assert_eq!(keys.last().expect("there are calls"), "h:2:0");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_ten_times_is_put_aside_and_made_again_when_somebody_asks() {
    let world = World::new().await;
    world.service.refuses.lock().expect("unpoisoned").insert("0".into(), 10);
    world.append("s", &["call", "call"]).await;
    world.want("one", &Native::new(&[], &[]));
    let shown = world.at_rest().await;
    assert_eq!((shown.calls_made, shown.calls_parked), (1, 1));
    let aside = world.handlers.aside(&name(), 10).await.expect("it can be read");
    assert_eq!(aside.calls[0].1.attempts, 10);
    assert!(aside.calls[0].1.last_error.as_ref().is_some_and(|error| error.contains("503")), "{aside:?}");
    let replayed = world.handlers.replay_parked(&name()).await.expect("it is replayed");
    assert_eq!(replayed.calls, 1);
    let shown = world.until("made", |shown| shown.calls_made == 2).await;
    assert_eq!(shown.calls_parked, 0);
    assert_eq!(world.keys().iter().collect::<BTreeSet<_>>().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_waits_survives_a_crash_with_its_attempts() {
    let world = World::new().await;
    world.service.refuses.lock().expect("unpoisoned").insert("0".into(), 5);
    world.append("s", &["call", "both"]).await;
    world.want("one", &Native::new(&[], &[]));
    world.until("refused", |_| world.service.called.lock().expect("unpoisoned").len() == 3).await;
    let world = world.crashed(1).await;
    world.want("one", &Native::new(&[], &[]));
    world.until("made", |shown| shown.calls_waiting == 0 && shown.active.is_some()).await;
    let distinct: BTreeSet<_> = world.keys().into_iter().collect();
    assert_eq!(distinct, ["h:1:0".to_owned(), "h:2:0".to_owned()].into());
    world.at_rest().await;
    let emitted = world.log().await.iter().filter(|event| event.draft.id.as_str() == "h:2:1").count();
    assert_eq!(emitted, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_must_not_be_made_puts_its_event_aside_and_nothing_into_the_outbox() {
    let world = World::new().await;
    world.append("s", &["call", "stray", "call"]).await;
    world.want("one", &Native::new(&[], &[]));
    let shown = world.at_rest().await;
    assert_eq!((shown.calls_made, shown.calls_parked, world.parked()), (2, 0, 1));
    let aside = world.handlers.aside(&name(), 10).await.expect("it can be read");
    assert_eq!(aside.events[0].0.0, 2);
    assert_eq!(aside.events[0].1.reason, "service://others/: is not granted");
}

#[tokio::test(start_paused = true)]
async fn calls_that_stand_aside_take_room_until_they_are_discarded() {
    for bounds in
        [OutboxBounds { calls_max: 4, ..Default::default() }, OutboxBounds { bytes_max: 100, ..Default::default() }]
    {
        let world = World::within(bounds).await;
        for n in 0..40_u32 {
            world.service.refuses.lock().expect("unpoisoned").insert(n.to_string().into(), 10);
        }
        world.want("one", &Native::new(&[], &[]));
        for n in 0..8 {
            world.append(&format!("s{n}"), &["call"]).await;
            // One after the other, so that they are no batch.
            world
                .until("handled, or full", |shown| {
                    let active = shown.active.as_ref();
                    active.is_some_and(|it| {
                        it.progress.checkpoint == world.events.head() || it.doing == Doing::OutboxFull
                    })
                })
                .await;
        }
        let full = |shown: &crate::events::handlers::HandlerShown| {
            shown.calls_parked == 4 && shown.active.as_ref().is_some_and(|active| active.doing == Doing::OutboxFull)
        };
        let shown = world.until("full", full).await;
        assert_eq!(shown.active.expect("it is there").progress.checkpoint.0, 4);
        let discarded = world.handlers.discard_parked(&name()).await.expect("they are discarded");
        assert_eq!((discarded.events, discarded.calls), (0, 4));
        world.until("full again", full).await;
        world.handlers.discard_parked(&name()).await.expect("they are discarded");
        let shown = world.at_rest().await;
        assert_eq!((shown.calls_parked, shown.call_bytes), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_are_put_aside_again_at_once_are_put_back_once() {
    let world = World::new().await;
    for n in 0..20_u32 {
        world.service.refuses.lock().expect("unpoisoned").insert(n.to_string().into(), 10);
    }
    for n in 0..20 {
        world.append(&format!("s{n}"), &["call"]).await;
    }
    world.want("one", &Native::new(&[], &[]));
    world.until("parked", |shown| shown.calls_parked == 20).await;
    world.service.is_barred.store(true, Ordering::Relaxed);
    let replayed = world.handlers.replay_parked(&name()).await.expect("it ends");
    assert_eq!(replayed.calls, 20);
    world.until("parked again", |shown| shown.calls_parked == 20 && shown.calls_waiting == 0).await;
    world.handlers.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_that_a_thousand_streams_call_in_vain_holds_up_no_other() {
    let world = World::new().await;
    for n in 0..1_000 {
        world.append(&format!("s{n}"), &["silent"]).await;
    }
    world.append("other", &["call", "call"]).await;
    world.want("one", &Native::new(&[], &[]));
    world.until("called", |shown| shown.calls_made == 2).await;
    // Nor does one stream of which more wait than are looked for at once.
    world.append("s0", &["silent"; 1_000]).await;
    world.append("another", &["call"]).await;
    world.until("called", |shown| shown.calls_made == 3).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_put_aside_is_not_replayed_while_a_new_state_is_built() {
    let world = World::new().await;
    world.append("s", &["poison", "call"]).await;
    world.want("one", &Native::new(&[], &[]));
    world.at_rest().await;
    let next = Native::new(&["takes-poison"], &[]);
    let held = next.gate.clone().acquire_owned().await.expect("never closed");
    world.want("two", &next);
    world.until("replaying", |shown| shown.rebuilding.is_some()).await;
    let refused = world.handlers.replay_parked(&name()).await;
    assert!(matches!(refused, Err(HandlersError::Rebuilding(_))), "{refused:?}");
    let refused = world.handlers.discard_parked(&name()).await;
    assert!(matches!(refused, Err(HandlersError::Rebuilding(_))), "{refused:?}");
    drop(held);
    world.at_rest().await;
    let replayed = world.handlers.replay_parked(&name()).await.expect("it is replayed");
    assert_eq!((replayed.events_handled, replayed.events_failed), (1, 0));
    assert_eq!(world.keys(), ["h:2:0"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_lost_to_damage_makes_room_for_the_next() {
    let world = World::within(OutboxBounds { calls_max: 1, ..Default::default() }).await;
    world.service.refuses.lock().expect("unpoisoned").insert("0".into(), 9);
    world.append("s", &["call"]).await;
    world.want("one", &Native::new(&[], &[]));
    let full = |shown: &crate::events::handlers::HandlerShown| {
        shown.active.as_ref().is_some_and(|active| active.doing == Doing::OutboxFull)
    };
    world.until("full", full).await;
    let mut calls = world.storage.scan(SPACE, keys::outbox(&name()), 9).await.expect("it can be read");
    let (key, value) = calls.pop().expect("it waits");
    // No call can be read from it, and it is as long as the call weighed.
    let weight = usize::try_from(world.shown().call_bytes).expect("it is small");
    assert!(weight <= value.len());
    world.storage.commit(Batch::new().put(SPACE, key, vec![0xff; weight])).await.expect("it is written");
    world.append("s", &["a"]).await;
    let shown = world.at_rest().await;
    assert_eq!((shown.call_bytes, shown.calls_made), (0, 0));
    assert_eq!(world.counts().await, world.recomputed(|_| true).await);
    assert!(world.told.lock().expect("unpoisoned").iter().any(|told| told.contains("h:1:0 is lost")));
}
