//! What holds when things come at the same moment, and at the bounds.

use std::{sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::world::{World, name, places};
use crate::{
    events::groups::{
        GroupsError, How, Replay, Settings, Token, Webhook,
        record::{Definition, Progress},
        settings::BUFFER_MAX,
        shown::Pushing,
        state::{State, Step},
    },
    model::{Position, Retention},
};

/// Of large events: some ten of them are more than a group has in memory.
const LARGE_BYTES: usize = 600 * 1024;

/// What a group has in memory at most: the buffer, and one event beyond.
const HELD_BYTES_MAX: usize = 4 * 1024 * 1024 + LARGE_BYTES + 1024;

fn settings() -> Settings {
    Settings::default()
}

fn pushed(path: &str) -> Settings {
    Settings { webhook: Some(Webhook::to(format!("service://billing/{path}"))), ..settings() }
}

fn park() -> How {
    How::Park("no".to_owned())
}

async fn park_all(world: &World, count: usize) {
    let mut parked = 0;
    while parked < count {
        let taken = world.take("one", 500).await;
        parked += taken.len();
        world.settle(&taken, &park()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_a_group_is_deleted_is_refused_and_the_next_of_its_name_stays() {
    let world = Arc::new(World::new().await);
    world.define(settings()).await;
    world.append("a", "t").await;
    let taken = world.take("one", 1).await;
    world.storage.hold_syncs();
    let other = Arc::clone(&world);
    let deleting = tokio::spawn(async move { other.groups.delete(&name()).await });
    sleep(Duration::from_millis(1)).await;
    let other = Arc::clone(&world);
    let settling = tokio::spawn(async move { other.groups.settle(&name(), &[(taken[0].token, How::Ack)]).await });
    sleep(Duration::from_millis(1)).await;
    world.storage.release_syncs();
    deleting.await.expect("it ends").expect("it is deleted");
    world.define(settings()).await;
    let settled = settling.await.expect("it ends");
    assert!(matches!(settled, Err(GroupsError::BeingDeleted(_))), "{settled:?}");
    assert_eq!(world.take("one", 1).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_set_behind_a_deletion_does_not_undo_it() {
    let world = Arc::new(World::new().await);
    world.define(settings()).await;
    world.append("a", "t").await;
    let taken = world.take("one", 1).await;
    world.storage.hold_syncs();
    let other = Arc::clone(&world);
    let settling = tokio::spawn(async move { other.settle(&taken, &How::Ack).await });
    sleep(Duration::from_millis(1)).await;
    // Whoever deletes goes before it is answered, so that the next has its turn.
    let given_up = tokio::time::timeout(Duration::from_millis(1), world.groups.delete(&name())).await;
    assert!(given_up.is_err());
    let other = Arc::clone(&world);
    let defining = tokio::spawn(async move { other.groups.define(&name(), |_| pushed("a")).await });
    sleep(Duration::from_millis(1)).await;
    world.storage.release_syncs();
    settling.await.expect("it is settled");
    let defined = defining.await.expect("it ends");
    assert!(matches!(defined, Err(GroupsError::BeingDeleted(_))), "{defined:?}");
    assert_eq!(world.groups.list(), []);
}

#[tokio::test(start_paused = true)]
async fn the_name_of_a_deleted_group_is_free_only_when_all_of_it_is_removed() {
    let world = Arc::new(World::new().await);
    world.define(settings()).await;
    world.storage.hold_syncs();
    let other = Arc::clone(&world);
    let deleting = tokio::spawn(async move { other.groups.delete(&name()).await });
    sleep(Duration::from_millis(1)).await;
    let full = crate::storage::StorageError::ReadFailed { path: "store".into(), reason: "no room".into() };
    world.storage.refuse_with(Some(full));
    world.storage.release_syncs();
    sleep(Duration::from_secs(5)).await;
    for given in [settings(), pushed("a")] {
        let defined = world.groups.define(&name(), |_| given).await;
        assert!(matches!(defined, Err(GroupsError::BeingDeleted(_))), "{defined:?}");
    }
    assert!(!deleting.is_finished() && world.groups.list().is_empty());
    world.storage.refuse_with(None);
    deleting.await.expect("it ends").expect("it is deleted");
    world.define(settings()).await;
}

#[tokio::test(start_paused = true)]
async fn a_replay_for_many_consumers_at_once_brings_back_no_more_than_the_buffer_takes() {
    let world = Arc::new(World::new().await);
    world.define(settings()).await;
    for nth in 0..2 * BUFFER_MAX {
        world.append(&format!("s{nth}"), "t").await;
    }
    park_all(&world, 2 * BUFFER_MAX).await;
    let mut taking = JoinSet::new();
    for nth in 0..5 {
        let world = Arc::clone(&world);
        let consumer = format!("c{nth}");
        taking.spawn(async move {
            world.groups.take(&name(), &consumer, Some(1), Duration::from_secs(50)).await.expect("it is there").len()
        });
    }
    sleep(Duration::from_secs(1)).await;
    world.groups.replay(&name(), Replay::All).await.expect("it begins");
    assert_eq!(taking.join_all().await, [1; 5]);
    assert_eq!(world.shown().pending, BUFFER_MAX);
}

#[tokio::test(start_paused = true)]
async fn large_events_come_back_a_few_at_a_time() {
    let world = World::new().await;
    world.define(settings()).await;
    for nth in 0..20 {
        world.append_sized(&format!("s{nth}"), "t", LARGE_BYTES).await;
    }
    park_all(&world, 20).await;
    let page = world.groups.parked(&name(), Position::START, 100).await.expect("it can be read");
    assert!(page.parked.len() < 10 && page.next == page.parked.last().map(|(at, ..)| *at), "{}", page.parked.len());
    world.groups.replay(&name(), Replay::All).await.expect("it begins");
    let mut seen = 0;
    while seen < 20 {
        let taken = world.take("one", 500).await;
        assert!(!taken.is_empty() && world.groups.held_bytes() < HELD_BYTES_MAX, "{}", world.groups.held_bytes());
        seen += taken.len();
        world.settle(&taken, &How::Ack).await;
    }
    assert_eq!((world.shown().parked, world.shown().checkpoint), (0, Position(20)));
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_is_delivered_although_what_follows_it_has_taken_all_the_room() {
    let world = World::new().await;
    world.define(settings()).await;
    world.append("a", "t").await;
    let first = world.take("one", 1).await;
    world.settle(&first, &park()).await;
    for nth in 0..10 {
        world.append_sized(&format!("s{nth}"), "t", LARGE_BYTES).await;
    }
    while world.groups.held_bytes() < 4 * 1024 * 1024 {
        assert_ne!(world.take("one", 500).await, []);
    }
    world.groups.release(&name(), "one").expect("it is there");
    world.groups.replay(&name(), Replay::One(Position(1))).await.expect("it begins");
    assert_eq!(places(&world.take("one", 1).await), ["a@0"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_being_settled_wakes_nobody_when_its_lease_is_over() {
    let world = World::new().await;
    world.define(settings()).await;
    world.append("a", "t").await;
    let event = Arc::clone(&world.take("one", 1).await[0].event);
    let definition = Definition { settings: settings(), created_ms: 0, stopped: None, deleted: false };
    let now = Instant::now();
    let mut state = State::new(definition, Progress::default(), now, Arc::default());
    state.add(0, vec![event], Position(1), now);
    let take = |state: &mut State, now| {
        state.take(&"one".into(), 1, now, Duration::from_secs(1), |position| Token { position, epoch: 1, number: 1 })
    };
    let Step::Deliver(taken) = take(&mut state, now) else { panic!("there is one") };
    state.settle(taken[0].token, &How::Ack, now, |_| Duration::ZERO).expect("it is in time");
    let waits = take(&mut state, now + Duration::from_secs(2));
    assert!(matches!(waits, Step::Wait { until: None, .. }), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_goes_is_shown_no_more_and_its_last_attempt_was_one() {
    let world = World::new().await;
    world.define(Settings { attempts_max: 1, ..settings() }).await;
    world.append("a", "t").await;
    assert_eq!(world.take("one", 1).await.len(), 1);
    assert_eq!(world.groups.release(&name(), "one").expect("it is there"), 1);
    world.until("it is parked", |shown| shown.parked == 1).await;
    assert_eq!(world.shown().consumers, []);
    assert_eq!(world.take("two", 1).await, []);
    assert_eq!(world.shown().consumers.len(), 1);
    sleep(Duration::from_secs(180)).await;
    assert_eq!(world.shown().consumers, []);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_events_of_a_group_that_becomes_a_webhook_is_told_so() {
    let world = Arc::new(World::new().await);
    world.define(settings()).await;
    let other = Arc::clone(&world);
    let waiting = tokio::spawn(async move { other.groups.take(&name(), "one", None, Duration::from_secs(50)).await });
    sleep(Duration::from_secs(1)).await;
    world.define(pushed("a")).await;
    let taken = waiting.await.expect("it ends");
    assert!(matches!(taken, Err(GroupsError::IsPushed(_))), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn a_parked_event_that_was_removed_is_said_and_is_not_what_follows_it() {
    let world = World::new().await;
    world.define(settings()).await;
    world.append("a", "t").await;
    world.append("b", "t").await;
    park_all(&world, 2).await;
    world.append("c", "t").await;
    let retention = Retention { first_revision: 1, ..Retention::default() };
    world.events.set_retention("a".parse().expect("a name"), retention).await.expect("it is set");
    // The sweep comes by within seconds.
    sleep(Duration::from_secs(60)).await;
    let world = super::promises::damaged(world, 2).await;
    let replayed = world.groups.replay(&name(), Replay::One(Position(1))).await;
    assert!(matches!(replayed, Err(GroupsError::Removed { position: Position(1), .. })), "{replayed:?}");
    world.groups.replay(&name(), Replay::All).await.expect("it begins");
    assert_eq!(places(&world.take("one", 10).await), ["c@0"]);
    let shown = world.shown();
    assert_eq!((shown.counts.removed, shown.parked, shown.checkpoint), (1, 1, Position(2)));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_names_no_pause_is_not_called_in_a_circle() {
    let world = World::new().await;
    world.append("a", "t").await;
    world.receiver.answer("a-0", &vec![(503, vec![("retry-after", "0".to_owned())]); 6]);
    let began = Instant::now();
    world.define(pushed("a")).await;
    world.until("all is sent", |shown| shown.acknowledged == 1).await;
    assert!(began.elapsed() >= Duration::from_secs(6), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_one_receiver_says_does_not_hold_for_the_next() {
    let world = Arc::new(World::new().await);
    world.append("a", "t").await;
    world.receiver.answer("a-0", &[(429, vec![("retry-after", "3000".to_owned())]), (410, Vec::new())]);
    let began = Instant::now();
    world.define(pushed("a")).await;
    world.until("it is paused", |shown| shown.pushing == Some(Pushing::Paused)).await;
    *world.receiver.takes.lock().expect("unpoisoned") = Duration::from_secs(2);
    world.define(pushed("b")).await;
    // The handshake, and then the call: its answer comes while another receiver is set.
    sleep(Duration::from_secs(3)).await;
    world.storage.hold_syncs();
    let other = Arc::clone(&world);
    let defining = tokio::spawn(async move { other.define(pushed("c")).await });
    sleep(Duration::from_secs(2)).await;
    world.storage.release_syncs();
    defining.await.expect("it is set");
    world.until("it is sent", |shown| shown.acknowledged == 1).await;
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(world.receiver.sent(), ["a-0"; 3]);
}
