//! What consumers may rely on, one promise a test.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::world::{World, name, places};
use crate::{
    events::groups::{GroupStart, GroupsError, How, Replay, Settings, settings::BUFFER_MAX},
    model::{Filter, Position, Retention},
    storage::{Batch, Space, Storage},
};

fn settings() -> Settings {
    Settings::default()
}

fn retry() -> How {
    How::Retry(Some("not now".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn consumers_share_the_events_and_those_of_one_stream_come_one_after_the_other() {
    let world = World::new().await;
    world.define(settings()).await;
    for stream in ["a", "b", "a", "a", "b"] {
        world.append(stream, "t").await;
    }
    let one = world.take("one", 1).await;
    let two = world.take("two", 10).await;
    assert_eq!((places(&one), places(&two)), (vec!["a@0".to_owned()], vec!["b@0".to_owned()]));
    assert_eq!(places(&world.take("three", 10).await), [""; 0]);
    world.settle(&one, &How::Ack).await;
    let three = world.take("three", 10).await;
    assert_eq!(places(&three), ["a@1"]);
    world.settle(&two, &How::Ack).await;
    world.settle(&three, &How::Ack).await;
    let rest = world.take("one", 10).await;
    assert_eq!(places(&rest), ["a@2", "b@1"]);
    world.settle(&rest, &How::Ack).await;
    let shown = world.shown();
    assert_eq!((shown.checkpoint, shown.lag(), shown.in_flight), (Position(5), 0, 0));
    assert_eq!((shown.acknowledged, shown.counts.delivered, shown.counts.redelivered), (5, 5, 0));
    assert_eq!(shown.consumers.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_settled_in_time_is_delivered_again_and_a_late_settlement_is_told_so() {
    let world = World::new().await;
    world.define(settings()).await;
    world.append("a", "t").await;
    let first = world.take("one", 1).await;
    tokio::time::advance(Duration::from_secs(29)).await;
    assert_eq!(world.take("two", 1).await.len(), 0);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(world.settle_one(first[0].token, How::Ack).await, Err("lease-over"));
    let again = world.take("two", 1).await;
    assert_eq!((again[0].attempt, &again[0].event), (2, &first[0].event));
    assert_eq!(world.settle_one(first[0].token, How::Ack).await, Err("lease-over"));
    assert_eq!(world.settle_one(again[0].token, How::Ack).await, Ok(()));
    assert_eq!(world.settle_one(again[0].token, How::Ack).await, Err("already-settled"));
}

#[tokio::test(start_paused = true)]
async fn what_a_consumer_that_goes_had_is_for_others_at_once() {
    let world = World::new().await;
    world.define(settings()).await;
    world.append("a", "t").await;
    world.append("b", "t").await;
    assert_eq!(world.take("one", 10).await.len(), 2);
    assert_eq!(world.groups.release(&name(), "other").expect("it is there"), 0);
    assert_eq!(world.groups.release(&name(), "one").expect("it is there"), 2);
    assert_eq!(world.take("two", 10).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_take_waits_for_what_comes_and_for_what_is_settled_retried_or_timed_out() {
    let world = Arc::new(World::new().await);
    world.define(settings()).await;
    let wait = |seconds| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.groups.take(&name(), "w", None, Duration::from_secs(seconds)).await })
    };
    assert_eq!(wait(5).await.expect("it ends").expect("it is there"), []);
    let waiting = wait(50);
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.append("a", "t").await;
    world.append("a", "t").await;
    let first = waiting.await.expect("it ends").expect("it is there");
    assert_eq!(places(&first), ["a@0"]);
    let waiting = wait(50);
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.settle(&first, &How::Ack).await;
    let second = waiting.await.expect("it ends").expect("it is there");
    assert_eq!(places(&second), ["a@1"]);
    world.settle(&second, &retry()).await;
    let third = wait(50).await.expect("it ends").expect("it is there");
    assert_eq!((places(&third), third[0].attempt), (places(&second), 2));
    let fourth = wait(50).await.expect("it ends").expect("it is there");
    assert_eq!((places(&fourth), fourth[0].attempt), (places(&second), 3));
    assert!(!world.shown().consumers[0].is_waiting);
}

#[tokio::test(start_paused = true)]
async fn a_retried_event_holds_up_its_stream_and_no_other_and_is_parked_after_ten_attempts() {
    let world = World::new().await;
    world.define(settings()).await;
    for stream in ["a", "a", "b", "b"] {
        world.append(stream, "t").await;
    }
    let mut attempts = 0;
    let mut seen = Vec::new();
    while attempts < 10 {
        let taken = world.groups.take(&name(), "one", None, Duration::from_secs(60)).await.expect("there is");
        for delivery in taken {
            seen.extend(places(std::slice::from_ref(&delivery)));
            let how = if delivery.event.position == Position(1) { retry() } else { How::Ack };
            attempts += u32::from(delivery.event.position == Position(1));
            world.settle(&[delivery], &how).await;
        }
    }
    assert!(!seen.contains(&"a@1".to_owned()) && seen.contains(&"b@1".to_owned()), "{seen:?}");
    let shown = world.shown();
    assert_eq!((shown.parked, shown.counts.parked, shown.counts.retried), (1, 1, 9));
    let page = world.groups.parked(&name(), Position::START, 10).await.expect("it can be read");
    let (position, parked, event) = &page.parked[0];
    assert_eq!((*position, parked.attempts, event.is_some()), (Position(1), 10, true));
    assert!(parked.reason.contains("10 times") && parked.reason.contains("not now"), "{}", parked.reason);
    assert_eq!(places(&world.take("one", 10).await), ["a@1"]);
}

#[tokio::test(start_paused = true)]
async fn what_times_out_ten_times_is_parked_too() {
    let world = World::new().await;
    world.define(settings()).await;
    world.append("a", "t").await;
    world.append("a", "t").await;
    for attempt in 1..=10 {
        let taken = world.groups.take(&name(), "one", None, Duration::from_secs(60)).await.expect("there is");
        assert_eq!((taken[0].event.position, taken[0].attempt), (Position(1), attempt));
    }
    let next = world.groups.take(&name(), "one", None, Duration::from_secs(60)).await.expect("there is");
    assert_eq!(places(&next), ["a@1"]);
    assert_eq!((world.shown().parked, world.shown().counts.timed_out), (1, 10));
}

#[tokio::test(start_paused = true)]
async fn replayed_events_come_before_the_later_ones_of_their_stream_and_alone() {
    let world = World::new().await;
    world.define(settings()).await;
    for stream in ["a", "a", "a", "b"] {
        world.append(stream, "t").await;
    }
    let first = world.take("one", 1).await;
    world.settle(&first, &How::Park("no".to_owned())).await;
    let others = world.take("one", 10).await;
    assert_eq!(places(&others), ["a@1", "b@0"]);
    assert_eq!(world.groups.replay(&name(), Replay::All).await.expect("it begins"), 1);
    // Not while another of its stream is under way.
    assert_eq!(places(&world.take("two", 10).await), [""; 0]);
    world.settle(&others, &How::Ack).await;
    let again = world.take("two", 10).await;
    assert_eq!((places(&again), again[0].attempt), (vec!["a@0".to_owned()], 1));
    assert_eq!((world.shown().parked, world.shown().is_replaying), (0, false));
    world.settle(&again, &How::Park("no".to_owned())).await;
    assert!(matches!(
        world.groups.replay(&name(), Replay::One(Position(2))).await,
        Err(GroupsError::NotParked { position: Position(2), .. })
    ));
    assert_eq!(world.groups.replay(&name(), Replay::One(Position(1))).await.expect("it begins"), 1);
    assert_eq!(places(&world.take("two", 10).await), ["a@0"]);
}

#[tokio::test(start_paused = true)]
async fn more_than_the_buffer_takes_is_replayed_piece_by_piece_and_each_once() {
    let world = World::new().await;
    world.define(settings()).await;
    let count = BUFFER_MAX + 30;
    for nth in 0..count {
        world.append(&format!("s{nth}"), "t").await;
    }
    let mut parked = 0;
    while parked < count {
        let taken = world.take("one", 100).await;
        parked += taken.len();
        world.settle(&taken, &How::Park("no".to_owned())).await;
    }
    assert_eq!(world.shown().parked, count as u64);
    assert_eq!(world.groups.replay(&name(), Replay::All).await.expect("it begins"), count as u64);
    let (mut seen, mut first) = (0, true);
    loop {
        let taken = world.take("one", 100).await;
        if taken.is_empty() {
            break;
        }
        seen += taken.len();
        // What fails again while the others come back stays aside.
        let how = if std::mem::take(&mut first) { How::Park("no".to_owned()) } else { How::Ack };
        world.settle(&taken, &how).await;
    }
    assert_eq!((seen, world.shown().parked, world.shown().is_replaying), (count, 100, false));
}

#[tokio::test(start_paused = true)]
async fn the_buffer_is_bounded_and_goes_on_when_something_is_settled() {
    let world = World::new().await;
    world.define(settings()).await;
    for nth in 0..BUFFER_MAX + 50 {
        world.append(&format!("s{nth}"), "t").await;
    }
    let taken = world.take("one", 10_000).await;
    assert_eq!(taken.len(), BUFFER_MAX);
    assert_eq!((world.take("one", 10).await.len(), world.shown().pending), (0, BUFFER_MAX));
    world.settle(&taken[..20], &How::Ack).await;
    assert_eq!(world.take("one", 100).await.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn only_what_fits_is_delivered_and_the_checkpoint_moves_over_the_rest() {
    let world = World::new().await;
    let filter = Filter { types: vec!["placed*".parse().expect("a pattern")], streams: Vec::new() };
    world.define(Settings { filter, from: GroupStart::Now, ..settings() }).await;
    for event_type in ["other", "placed.a", "other", "placed", "other"] {
        world.append("a", event_type).await;
    }
    for place in ["a@1", "a@3"] {
        let taken = world.take("one", 10).await;
        assert_eq!(places(&taken), [place]);
        world.settle(&taken, &How::Ack).await;
    }
    assert_eq!(world.take("one", 10).await, []);
    assert_eq!((world.shown().checkpoint, world.shown().lag()), (Position(5), 0));
}

#[tokio::test(start_paused = true)]
async fn a_group_begins_where_it_is_told_and_nowhere_beyond_the_head() {
    let world = World::new().await;
    world.append("a", "t").await;
    world.append("a", "t").await;
    let from = |position| Settings { from: GroupStart::Position(Position(position)), ..settings() };
    let refused = world.groups.define(&name(), |_| from(3)).await;
    assert!(matches!(refused, Err(GroupsError::OfTheFuture { field: "from", given: Position(3), .. })));
    assert!(matches!(world.groups.show(&name()), Err(GroupsError::Unknown(_))));
    world.define(from(1)).await;
    assert_eq!(places(&world.take("one", 10).await), ["a@1"]);
    assert!(matches!(world.groups.define(&name(), |_| from(0)).await, Err(GroupsError::HasBegun(_))));
    let refused = world.groups.reset(&name(), Position(3)).await;
    assert!(matches!(refused, Err(GroupsError::OfTheFuture { field: "to", .. })));
    assert_eq!(world.shown().in_flight, 1);
}

#[tokio::test(start_paused = true)]
async fn a_reset_delivers_everything_behind_it_again_and_takes_no_settlement_from_before() {
    let world = World::new().await;
    world.define(settings()).await;
    world.append("a", "t").await;
    world.append("b", "t").await;
    let taken = world.take("one", 10).await;
    world.settle(&taken[..1], &How::Park("no".to_owned())).await;
    world.groups.reset(&name(), Position::START).await.expect("it is reset");
    assert_eq!(world.settle_one(taken[1].token, How::Ack).await, Err("lease-over"));
    let again = world.take("one", 10).await;
    assert_eq!(places(&again), ["a@0", "b@0"]);
    // Parked a second time, it stands aside once.
    world.settle(&again[..1], &How::Park("no".to_owned())).await;
    assert_eq!(world.shown().parked, 1);
    world.settle(&again[1..], &How::Ack).await;
    assert_eq!(world.shown().checkpoint, Position(2));
}

#[tokio::test(start_paused = true)]
async fn settings_are_changed_in_place_and_setting_the_same_changes_nothing() {
    let world = World::new().await;
    world.define(settings()).await;
    world.append("a", "t").await;
    world.append("b", "t").await;
    let taken = world.take("one", 1).await;
    world.define(settings()).await;
    world.define(Settings { ack_timeout: Duration::from_secs(1), attempts_max: 1, ..settings() }).await;
    assert_eq!(world.settle_one(taken[0].token, How::Ack).await, Ok(()));
    assert_eq!(world.take("one", 10).await.len(), 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(world.take("one", 10).await, []);
    world.until("parked", |shown| shown.parked == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_group_is_gone_with_what_it_parked_and_its_name_is_free() {
    let world = World::new().await;
    world.define(settings()).await;
    world.append("a", "t").await;
    world.append("b", "t").await;
    let taken = world.take("one", 10).await;
    world.settle(&taken[..1], &How::Park("no".to_owned())).await;
    world.groups.delete(&name()).await.expect("it is deleted");
    let settled = world.groups.settle(&name(), &[(taken[1].token, How::Ack)]).await;
    assert!(matches!(settled, Err(GroupsError::Unknown(_))));
    assert_eq!(world.groups.list(), []);
    let left = world.storage.scan(Space::Groups, crate::storage::KeyRange::all(), 100).await.expect("it is read");
    assert_eq!(left.len(), 1, "the claim alone: {left:?}");
    world.define(settings()).await;
    assert_eq!((world.shown().parked, world.take("one", 10).await.len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_event_is_parked_and_said_and_those_around_it_are_delivered() {
    let world = World::new().await;
    for _ in 0..4 {
        world.append("a", "t").await;
    }
    let world = damaged(world, 2).await;
    world.define(settings()).await;
    for place in ["a@0", "a@2", "a@3"] {
        let taken = world.take("one", 10).await;
        assert_eq!(places(&taken), [place]);
        world.settle(&taken, &How::Ack).await;
    }
    let shown = world.shown();
    assert_eq!((shown.parked, shown.checkpoint), (1, Position(4)));
    assert!(shown.trouble.as_ref().is_some_and(|of| of.message.contains("the event at 2 is damaged")), "{shown:?}");
    let page = world.groups.parked(&name(), Position::START, 10).await.expect("it can be read");
    assert!(page.parked[0].1.reason.contains("damaged") && page.parked[0].2.is_none(), "{page:?}");
    // Replayed, it is still no event, and stays aside.
    world.groups.replay(&name(), Replay::All).await.expect("it begins");
    assert_eq!(world.take("one", 10).await, []);
    assert_eq!((world.shown().parked, world.shown().lag()), (1, 0));
}

/// The same after a restart, with other bytes where an event stood.
pub async fn damaged(world: World, position: u64) -> World {
    let key = Bytes::copy_from_slice(&position.to_be_bytes());
    world.storage.commit(Batch::new().put(Space::Events, key, &b"noise"[..])).await.expect("it is written");
    // The tail in memory has it still; the disk is read by what comes after.
    let World { storage, events, groups, receiver } = world;
    groups.close().await;
    events.close().await;
    World::over(storage, receiver).await
}

#[tokio::test(start_paused = true)]
async fn an_event_that_was_removed_is_no_obstacle() {
    let world = World::new().await;
    world.define(settings()).await;
    for _ in 0..3 {
        world.append("a", "t").await;
    }
    let taken = world.take("one", 10).await;
    world.settle(&taken, &retry()).await;
    let stream: crate::model::StreamName = "a".parse().expect("a name");
    let retention = Retention { first_revision: 2, ..Retention::default() };
    world.events.set_retention(stream, retention).await.expect("it is set");
    // The sweep comes by within seconds.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let World { storage, events, groups, receiver } = world;
    groups.close().await;
    events.close().await;
    let world = World::over(storage, receiver).await;
    assert_eq!(places(&world.take("one", 10).await), ["a@2"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_durable_is_not_acknowledged_and_can_be_settled_again() {
    let world = World::new().await;
    world.define(settings()).await;
    world.append("a", "t").await;
    let taken = world.take("one", 10).await;
    let full = crate::storage::StorageError::ReadFailed { path: "store".into(), reason: "no room".into() };
    world.storage.refuse_with(Some(full));
    let settled = world.groups.settle(&name(), &[(taken[0].token, How::Ack)]).await;
    assert!(matches!(settled, Err(GroupsError::NotDurable(_))), "{settled:?}");
    assert!(world.shown().trouble.is_some());
    world.storage.refuse_with(None);
    assert_eq!(world.shown().checkpoint, Position::START);
    assert_eq!(world.settle_one(taken[0].token, How::Ack).await, Ok(()));
    assert_eq!((world.shown().checkpoint, world.shown().trouble), (Position(1), None));
}

#[tokio::test(start_paused = true)]
async fn what_is_settled_while_others_are_made_durable_is_settled_once() {
    let world = Arc::new(World::new().await);
    world.define(settings()).await;
    for stream in ["a", "b", "c"] {
        world.append(stream, "t").await;
    }
    let taken = world.take("one", 10).await;
    world.storage.hold_syncs();
    let mut settling = tokio::task::JoinSet::new();
    for delivery in taken {
        let world = Arc::clone(&world);
        settling.spawn(async move { world.settle(&[delivery], &How::Ack).await });
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.storage.release_syncs();
    while let Some(settled) = settling.join_next().await {
        settled.expect("it is settled");
    }
    assert_eq!((world.shown().acknowledged, world.shown().counts.acknowledged), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn who_was_taken_over_from_delivers_and_settles_nothing_any_more() {
    let world = World::new().await;
    world.define(settings()).await;
    world.append("a", "t").await;
    world.append("b", "t").await;
    let taken = world.take("one", 1).await;
    let next = World::over(world.storage.clone(), Arc::clone(&world.receiver)).await;
    let settled = world.groups.settle(&name(), &[(taken[0].token, How::Ack)]).await;
    assert!(matches!(settled, Err(GroupsError::TakenOver)), "{settled:?}");
    assert!(matches!(world.groups.take(&name(), "one", None, Duration::ZERO).await, Err(GroupsError::TakenOver)));
    assert_eq!(next.settle_one(taken[0].token, How::Ack).await, Err("lease-over"));
    assert_eq!(next.take("two", 10).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_is_not_kept_in_memory() {
    let world = World::new().await;
    world.define(settings()).await;
    world.append("a", "t").await;
    world.append("a", "t").await;
    let taken = world.take("one", 10).await;
    assert!(world.groups.held_bytes() > 0);
    world.settle(&taken, &retry()).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(world.groups.held_bytes(), 0);
    let again = world.take("one", 10).await;
    assert_eq!((places(&again), again[0].attempt), (vec!["a@0".to_owned()], 2));
}
