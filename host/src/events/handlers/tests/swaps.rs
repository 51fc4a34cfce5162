//! Another version builds its state beside the one in use.

use std::collections::BTreeMap;

use super::world::{Native, World, name};
use crate::{
    events::{
        self,
        handlers::{
            Doing,
            keys::{self, SPACE},
        },
    },
    model::Position,
    storage::{Batch, KeyRange, Space, Storage},
};

fn refused(world: &World) -> Option<String> {
    world.shown().refused.map(|refused| refused.reason)
}

#[tokio::test(start_paused = true)]
async fn a_swap_repeats_no_effect_and_ends_with_the_state_of_the_new_version() {
    let world = World::new().await;
    world.append("s", &["a", "emit", "call", "both", "b"]).await;
    world.want("one", &Native::new(&[], &["a", "emit", "call", "both"]));
    world.at_rest().await;
    let (log, keys) = (world.log().await.len(), world.keys());
    world.want("two", &Native::new(&[], &[]));
    let shown =
        world.until("taken over", |shown| shown.active.as_ref().is_some_and(|active| active.generation == 2)).await;
    assert_eq!(shown.rebuilding, None);
    world.at_rest().await;
    assert_eq!(world.log().await.len(), log);
    assert_eq!(world.keys(), keys);
    assert_eq!(world.counts().await, world.recomputed(|_| true).await);
    // What comes then goes out.
    world.append("s", &["both"]).await;
    world.at_rest().await;
    assert_eq!(world.keys().len(), keys.len() + 1);
    assert_eq!(world.log().await.len(), log + 2);
}

#[tokio::test(start_paused = true)]
async fn reads_are_of_the_old_state_until_the_new_one_takes_over() {
    let world = World::new().await;
    world.append("s", &["a", "a"]).await;
    world.want("one", &Native::new(&[], &["a"]));
    world.at_rest().await;
    let next = Native::new(&[], &["a", "b"]);
    let held = next.gate.clone().acquire_owned().await.expect("never closed");
    world.append("s", &["b"]).await;
    world.append("s", &(["a"; 3])).await;
    world.want("two", &next);
    world.until("replaying", |shown| shown.rebuilding.is_some()).await;
    let old: BTreeMap<_, _> = [("a".to_owned(), 5)].into();
    world.until("followed", |shown| shown.active.as_ref().is_some_and(|active| active.progress.handled == 5)).await;
    assert_eq!(world.counts().await, old);
    drop(held);
    world.at_rest().await;
    assert_eq!(world.shown().active.expect("it is there").generation, 2);
    assert_eq!(world.counts().await, [("a".to_owned(), 5), ("b".to_owned(), 1)].into());
}

#[tokio::test(start_paused = true)]
async fn a_version_that_fails_while_it_replays_never_takes_over_and_says_why() {
    let world = World::new().await;
    world.append("s", &["a", "poison", "b"]).await;
    world.want("one", &Native::new(&[], &[]));
    world.at_rest().await;
    world.want("two", &Native::new(&["fails-on-b"], &[]));
    world.until("refused", |_| refused(&world).is_some()).await;
    assert_eq!(refused(&world).as_deref(), Some("no b"));
    world.append("s", &["a", "call"]).await;
    let shown = world.at_rest().await;
    assert_eq!(shown.active.expect("it is there").generation, 1);
    assert_eq!(world.counts().await, world.recomputed(|of| of != "poison").await);
    // Nor after a restart; another one may, though it does not take what the one in use had put aside either.
    let world = world.crashed(3).await;
    world.want("two", &Native::new(&["fails-on-b"], &[]));
    world.at_rest().await;
    assert_eq!(world.shown().refused.map(|refused| refused.position.0), Some(3));
    world.want("three", &Native::new(&[], &[]));
    world.until("taken over", |shown| shown.active.as_ref().is_some_and(|active| active.generation > 2)).await;
    assert_eq!(world.shown().refused, None);
    assert_eq!(world.parked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_replay_goes_on_after_a_restart() {
    let world = World::new().await;
    for _ in 0..40 {
        world.append("s", &(["a"; 50])).await;
    }
    world.want("one", &Native::new(&[], &[]));
    world.at_rest().await;
    let next = Native::new(&["stepwise"], &[]);
    next.gate.add_permits(1);
    world.want("two", &next);
    world.until("on its way", |shown| shown.rebuilding.as_ref().is_some_and(|it| it.progress.handled == 512)).await;
    let world = world.crashed(5).await;
    next.gate.add_permits(100);
    world.want("two", &next);
    let shown = world.until("taken over", |shown| shown.active.as_ref().is_some_and(|it| it.generation == 2)).await;
    assert_eq!(shown.active.expect("it is there").progress.handled, 2_000);
    assert_eq!(world.counts().await, world.recomputed(|_| true).await);
}

#[tokio::test(start_paused = true)]
async fn of_a_generation_that_is_not_in_use_nothing_is_left() {
    let world = World::new().await;
    world.append("s", &["a", "poison", "b"]).await;
    world.want("one", &Native::new(&[], &[]));
    world.at_rest().await;
    let size = async || world.storage.scan(SPACE, KeyRange::all(), 1_000).await.expect("it can be read").len();
    let before = size().await;
    world.handlers.rebuild(&name()).await.expect("it begins");
    world.until("taken over", |shown| shown.active.as_ref().is_some_and(|active| active.generation == 2)).await;
    let began = std::time::Instant::now();
    while size().await != before {
        assert!(began.elapsed().as_secs() < 20, "{before} keys became {}", size().await);
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(world.counts().await, world.recomputed(|of| of != "poison").await);
}

#[tokio::test(start_paused = true)]
async fn a_halted_version_is_taken_over_from_by_one_that_takes_the_event() {
    let world = World::new().await;
    world.append("s", &["a", "poison", "emit"]).await;
    let halt = crate::model::OnFailure::Halt;
    let start = crate::model::HandlerStart::Start;
    world.want_so("one", &Native::new(&[], &[]), halt, start);
    let halted = |doing: &Doing| matches!(doing, Doing::Halted { .. });
    world.until("halted", |shown| shown.active.as_ref().is_some_and(|active| halted(&active.doing))).await;
    world.want_so("two", &Native::new(&["takes-poison"], &[]), halt, start);
    world.at_rest().await;
    assert_eq!(world.counts().await, world.recomputed(|_| true).await);
    assert_eq!(world.log().await.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_away_for_a_while_goes_on_where_it_was() {
    let world = World::new().await;
    let native = Native::new(&[], &[]);
    world.append("s", &["call"]).await;
    world.want("one", &native);
    world.at_rest().await;
    world.handlers.set(BTreeMap::new());
    assert!(world.handlers.list().is_empty());
    world.append("s", &["call"]).await;
    world.want("one", &native);
    world.at_rest().await;
    assert_eq!(world.keys(), ["h:1:0", "h:2:0"]);
}

#[tokio::test(start_paused = true)]
async fn the_one_in_use_goes_on_where_the_last_stretch_takes_too_long() {
    let world = World::new().await;
    world.append("s", &["a", "a"]).await;
    world.want("one", &Native::new(&[], &[]));
    world.at_rest().await;
    let next = Native::new(&[], &[]);
    let held = next.gate.clone().acquire_owned().await.expect("never closed");
    world.want("two", &next);
    world.until("replaying", |shown| shown.rebuilding.is_some()).await;
    for _ in 0..3 {
        world.append("s", &["a", "call"]).await;
        world.until("followed", |shown| shown.lag() == 0 && shown.calls_waiting == 0).await;
    }
    assert_eq!(world.keys().len(), 3);
    drop(held);
    let shown = world.at_rest().await;
    assert_eq!(shown.active.expect("it is there").generation, 2);
    assert_eq!(world.keys().len(), 3);
    assert_eq!(world.counts().await, world.recomputed(|_| true).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_damaged_is_put_aside_in_a_replay_and_the_new_version_takes_over() {
    let world = World::new().await;
    world.append("s", &["a", "b", "a"]).await;
    world.want("one", &Native::new(&[], &[]));
    world.at_rest().await;
    let damage = Batch::new().put(Space::Events, events::keys::event(Position(2)), "no event");
    world.storage.commit(damage).await.expect("it is written");
    // What was in memory hides it.
    let world = world.crashed(1).await;
    world.want("two", &Native::new(&[], &[]));
    let shown = world.until("taken over", |shown| shown.active.as_ref().is_some_and(|it| it.generation == 2)).await;
    assert_eq!(shown.active.expect("it is there").progress.parked, 1);
    assert_eq!(world.counts().await, [("a".to_owned(), 2)].into());
}

#[tokio::test(start_paused = true)]
async fn damage_in_a_stream_that_is_not_wanted_is_not_met_in_a_replay() {
    let world = World::new().await;
    world.append("s", &["a"]).await;
    world.append("other", &["a"]).await;
    world.append("s", &["a"]).await;
    world.want("one", &Native::of_stream("s"));
    world.at_rest().await;
    let damage = Batch::new().put(Space::Events, events::keys::event(Position(2)), "no event");
    world.storage.commit(damage).await.expect("it is written");
    // What was in memory hides it.
    let world = world.crashed(1).await;
    world.want("two", &Native::of_stream("s"));
    world.until("taken over", |shown| shown.active.as_ref().is_some_and(|it| it.generation == 2)).await;
    assert_eq!(world.parked(), 0);
    assert_eq!(world.counts().await, [("a".to_owned(), 2)].into());
}

#[tokio::test(start_paused = true)]
async fn what_the_old_version_did_not_take_has_its_effects_under_the_new_one() {
    let world = World::new().await;
    world.append("s", &["call", "a", "both", "both", "a"]).await;
    world.want("one", &Native::new(&["fails-on-both"], &[]));
    world.at_rest().await;
    assert_eq!((world.parked(), world.keys()), (2, vec!["h:1:0".to_owned()]));
    world.want("two", &Native::new(&[], &[]));
    world.until("taken over", |shown| shown.active.as_ref().is_some_and(|it| it.generation == 2)).await;
    assert_eq!((world.parked(), world.keys().len()), (2, 1));
    let aside = world.handlers.aside(&name(), 10).await.expect("it can be read");
    assert_eq!(aside.events[0].1.reason, "no both");
    let replayed = world.handlers.replay_parked(&name()).await.expect("it is replayed");
    assert_eq!((replayed.events_handled, replayed.events_failed), (2, 0));
    world.at_rest().await;
    assert_eq!((world.parked(), world.keys()), (0, ["h:1:0", "h:3:0", "h:4:0"].map(str::to_owned).to_vec()));
    assert_eq!(world.log().await.len(), 7);
    assert_eq!(world.counts().await, world.recomputed(|_| true).await);
    // From here on they are like any others.
    world.handlers.rebuild(&name()).await.expect("it begins");
    world.until("taken over", |shown| shown.active.as_ref().is_some_and(|it| it.generation == 3)).await;
    world.at_rest().await;
    assert_eq!((world.parked(), world.keys().len(), world.log().await.len()), (0, 3, 7));
    assert_eq!(world.counts().await, world.recomputed(|_| true).await);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_record_of_a_rebuild_is_no_harm_to_the_one_in_use() {
    let world = World::new().await;
    world.append("s", &["a"]).await;
    world.want("one", &Native::new(&[], &[]));
    world.at_rest().await;
    let next = Native::new(&[], &[]);
    let held = next.gate.clone().acquire_owned().await.expect("never closed");
    world.want("two", &next);
    world.until("replaying", |shown| shown.rebuilding.is_some()).await;
    let damage = Batch::new().put(SPACE, keys::generation(&name(), 2), "no record");
    world.storage.commit(damage).await.expect("it is written");
    let world = world.crashed(2).await;
    drop(held);
    world.append("s", &["a"]).await;
    world.want("two", &next);
    let shown = world.at_rest().await;
    assert_eq!(shown.active.expect("it is there").generation, 3);
    assert_eq!(world.counts().await, world.recomputed(|_| true).await);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_away_during_its_rebuild_goes_on_with_it() {
    let world = World::new().await;
    world.append("s", &["a", "call", "emit"]).await;
    world.want("one", &Native::new(&[], &[]));
    world.at_rest().await;
    let next = Native::new(&[], &[]);
    let held = next.gate.clone().acquire_owned().await.expect("never closed");
    world.want("two", &next);
    world.until("replaying", |shown| shown.rebuilding.is_some()).await;
    world.handlers.set(BTreeMap::new());
    world.append("s", &["call"]).await;
    drop(held);
    world.want("two", &next);
    let shown = world.until("taken over", |shown| shown.active.as_ref().is_some_and(|it| it.generation == 2)).await;
    assert_eq!(shown.rebuilding, None);
    world.at_rest().await;
    assert_eq!(world.keys(), ["h:2:0", "h:5:0"]);
    assert_eq!(world.counts().await, world.recomputed(|_| true).await);
}
