//! Events that a handler does not take.

use super::world::{Native, World, name};
use crate::{
    events::{
        self,
        handlers::{
            Doing, HandlersError, Progress, keys,
            record::{compact, from_compact},
        },
    },
    model::{CAUSATION_DEPTH_MAX, DESCENDANTS_MAX, HandlerStart, OnFailure, Position},
    plugin::ReadQuery,
    storage::{Batch, Space, Storage},
};

const HARMFUL: [&str; 3] = ["poison", "trap", "never"];

#[tokio::test(start_paused = true)]
async fn an_event_that_is_not_taken_is_put_aside_and_the_others_go_on() {
    let world = World::new().await;
    world.append("s", &["a", "poison", "b", "trap", "a", "later", "never", "b"]).await;
    world.want("one", &Native::new(&[], &[]));
    let shown = world.at_rest().await;
    assert_eq!(world.counts().await, world.recomputed(|of| !HARMFUL.contains(&of)).await);
    let progress = shown.active.expect("it is there").progress;
    assert_eq!((progress.handled, progress.parked), (5, 3));
    assert!(shown.faults >= 3 && shown.last_error.is_some());
    let aside = world.handlers.aside(&name(), 10).await.expect("it can be read");
    let attempts: Vec<_> = aside.events.iter().map(|(position, parked)| (position.0, parked.attempts)).collect();
    assert_eq!(attempts, [(2, 1), (4, 3), (7, 10)]);
    assert_eq!(aside.events[0].1.reason, "no poison");
}

#[tokio::test(start_paused = true)]
async fn what_was_put_aside_is_handled_when_somebody_asks_and_its_effects_go_out_once() {
    let world = World::new().await;
    world.append("s", &["a", "poison", "emit"]).await;
    world.want("one", &Native::new(&[], &[]));
    world.at_rest().await;
    // The same version, with an instance that takes it.
    world.want("one", &Native::new(&["takes-poison"], &[]));
    world.at_rest().await;
    let replayed = world.handlers.replay_parked(&name()).await.expect("it is replayed");
    assert_eq!((replayed.events_handled, replayed.events_failed), (1, 0));
    world.at_rest().await;
    assert_eq!(world.parked(), 0);
    assert_eq!(world.counts().await, world.recomputed(|_| true).await);
    assert!(world.handlers.aside(&name(), 10).await.expect("it can be read").events.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_put_aside_and_is_gone_is_forgotten_though_its_neighbour_is_damaged() {
    let world = World::new().await;
    world.append("s", &["poison", "a"]).await;
    world.want("one", &Native::new(&[], &[]));
    world.at_rest().await;
    let (gone, damaged) = (events::keys::event(Position(1)), events::keys::event(Position(2)));
    let batch = Batch::new().delete(Space::Events, gone).put(Space::Events, damaged, "no event");
    world.storage.commit(batch).await.expect("it is written");
    // What was in memory hides it.
    let world = world.crashed(1).await;
    world.want("one", &Native::new(&[], &[]));
    world.at_rest().await;
    assert_eq!(world.parked(), 1);
    let replayed = world.handlers.replay_parked(&name()).await.expect("it is replayed");
    assert_eq!((replayed.events_handled, replayed.events_failed, world.parked()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_is_to_halt_halts_and_goes_on_when_told() {
    let world = World::new().await;
    world.append("s", &["a", "poison", "b"]).await;
    world.want_so("one", &Native::new(&[], &[]), OnFailure::Halt, HandlerStart::Start);
    let halted = |doing: &Doing| matches!(doing, Doing::Halted { position, .. } if position.0 == 2);
    let shown = world.until("halted", |shown| shown.active.as_ref().is_some_and(|active| halted(&active.doing))).await;
    assert_eq!(shown.active.expect("it is there").progress.checkpoint.0, 1);
    assert_eq!(world.counts().await, [("a".to_owned(), 1)].into());
    world.handlers.resume(&name()).await.expect("it is halted");
    // It fails on the same event again.
    let told = || world.told.lock().expect("unpoisoned").iter().filter(|told| told.contains("halted")).count();
    world.until("halted again", |_| told() == 2).await;
    world.want_so("one", &Native::new(&["takes-poison"], &[]), OnFailure::Halt, HandlerStart::Start);
    world.at_rest().await;
    assert_eq!(world.counts().await, world.recomputed(|_| true).await);
    assert!(matches!(world.handlers.resume(&name()).await, Err(HandlersError::NotHalted(_))));
}

#[tokio::test(start_paused = true)]
async fn events_that_cause_each_other_end_at_a_depth() {
    let world = World::new().await;
    world.want("one", &Native::new(&[], &[]));
    world.append("s", &["circle"]).await;
    world.until("put aside", |shown| shown.active.as_ref().is_some_and(|active| active.progress.parked == 1)).await;
    let log = world.log().await;
    assert_eq!(log.len(), 1 + usize::from(CAUSATION_DEPTH_MAX));
    assert_eq!(log.last().expect("there are events").draft.causation.depth, CAUSATION_DEPTH_MAX);
    let aside = world.handlers.aside(&name(), 10).await.expect("it can be read");
    assert!(aside.events[0].1.reason.contains("caused each other"), "{:?}", aside.events);
}

#[tokio::test(start_paused = true)]
async fn events_that_cause_ten_of_their_kind_end_at_a_number() {
    let world = World::new().await;
    world.want("one", &Native::new(&[], &[]));
    world.append("s", &["flood"]).await;
    world.at_rest().await;
    // Each of a thousand may cause nine more, and would cause ten.
    assert_eq!((world.log().await.len(), world.parked()), (1 + 10 + 100 + 1_000, 1_000));
    assert!(world.log().await.len() as u64 <= u64::from(DESCENDANTS_MAX));
    let aside = world.handlers.aside(&name(), 1).await.expect("it can be read");
    assert!(aside.events[0].1.reason.contains("about 10000 at most"), "{:?}", aside.events);
    let told = world.told.lock().expect("unpoisoned").len();
    assert!(told < 20, "{told} of the same were told");
}

#[tokio::test(start_paused = true)]
async fn batches_that_take_too_long_get_smaller_and_stay_so() {
    let world = World::new().await;
    for _ in 0..10 {
        world.append("s", &["a"; 100]).await;
    }
    let native = Native::new(&["slow-40"], &[]);
    world.want("one", &native);
    let shown = world.at_rest().await;
    let batches = native.batches.lock().expect("unpoisoned").clone();
    assert!(shown.faults <= 2 && batches.len() < 80, "{} faults, {batches:?}", shown.faults);
    assert_eq!(world.counts().await, world.recomputed(|_| true).await);
}

#[tokio::test(start_paused = true)]
async fn a_halted_handler_is_shown_as_halted_whatever_else_is_asked_of_it() {
    let world = World::new().await;
    world.append("s", &["a", "poison"]).await;
    world.want_so("one", &Native::new(&[], &[]), OnFailure::Park, HandlerStart::Start);
    world.at_rest().await;
    world.want_so("one", &Native::new(&["fails-on-b"], &[]), OnFailure::Halt, HandlerStart::Start);
    // The one before would take it.
    world.until("changed", |shown| shown.on_failure == OnFailure::Halt).await;
    world.append("s", &["b"]).await;
    let is_halted = |doing: &Doing| matches!(doing, Doing::Halted { position, .. } if position.0 == 3);
    let halted = |shown: &crate::events::handlers::HandlerShown| {
        shown.active.as_ref().is_some_and(|active| is_halted(&active.doing))
    };
    world.until("halted", halted).await;
    let discarded = world.handlers.discard_parked(&name()).await.expect("it is asked");
    assert_eq!(discarded.events, 1);
    world.until("halted still", halted).await;
    assert_eq!(world.parked(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_second_task_of_a_generation_does_nothing_twice() {
    let world = World::new().await;
    world.append("s", &["a"]).await;
    world.want("one", &Native::new(&[], &[]));
    world.at_rest().await;
    // As another one would have left it.
    let key = keys::progress(&name(), 1);
    let stored = world.storage.get(keys::SPACE, key.clone()).await.expect("it can be read").expect("it is there");
    let mut progress: Progress = from_compact(&key, &stored).expect("a record");
    progress.handled = 100;
    world.storage.commit(Batch::new().put(keys::SPACE, key, compact(&progress))).await.expect("it is written");
    world.append("s", &["b"]).await;
    let shown = world.at_rest().await;
    assert_eq!(shown.active.expect("it is there").progress.handled, 101);
    assert_eq!(world.counts().await, world.recomputed(|_| true).await);
}

#[tokio::test(start_paused = true)]
async fn an_emitted_id_that_somebody_has_taken_puts_its_cause_aside() {
    let world = World::new().await;
    let mut taken = crate::model::Draft::new(
        "h:2:0".parse().expect("an id"),
        "/tests".parse().expect("a source"),
        "other".parse().expect("a type"),
    );
    taken.data = "mine".into();
    let append = crate::events::Append::to("s".parse().expect("a stream"), Default::default(), vec![taken]);
    world.events.append(append).await.expect("it is appended");
    world.append("s", &["emit", "emit"]).await;
    world.want("one", &Native::new(&[], &["emit"]));
    world.until("handled", |shown| shown.active.as_ref().is_some_and(|active| active.progress.emitted == 1)).await;
    let aside = world.handlers.aside(&name(), 10).await.expect("it can be read");
    assert_eq!(aside.events.len(), 1);
    assert!(aside.events[0].1.reason.contains("h:2:0"), "{:?}", aside.events);
}

#[tokio::test(start_paused = true)]
async fn causes_of_several_depths_keep_their_own() {
    let world = World::new().await;
    world.want("one", &Native::new(&[], &["emit"]));
    world.append("s", &["emit"]).await;
    world.at_rest().await;
    // Nobody handles what comes now. One that is only not wanted any more may do so for a moment, and passes over what it does
    // not want.
    let world = world.crashed(1).await;
    world.append("s", &["a"]).await;
    // Ends at the depth of what it is caused by, whatever else is in its batch.
    world.append("s", &["circle", "emit", "emit"]).await;
    world.want("one", &Native::new(&[], &["circle", "emit"]));
    world.until("handled", |shown| shown.active.as_ref().is_some_and(|active| active.progress.parked == 1)).await;
    let depths: Vec<_> = world
        .log()
        .await
        .iter()
        .filter(|event| event.draft.event_type.as_str() == "emitted")
        .map(|event| event.draft.causation.depth)
        .collect();
    assert_eq!(depths, [1, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_from_now_on_sees_nothing_that_was_before() {
    let world = World::new().await;
    world.append("s", &["a", "a"]).await;
    world.want_so("one", &Native::new(&[], &[]), OnFailure::Park, HandlerStart::Now);
    world.at_rest().await;
    world.append("s", &["b"]).await;
    world.at_rest().await;
    world.handlers.rebuild(&name()).await.expect("it begins");
    world.at_rest().await;
    assert_eq!(world.counts().await, [("b".to_owned(), 1)].into());
}

#[tokio::test(start_paused = true)]
async fn events_that_do_not_fit_move_the_checkpoint_too() {
    let world = World::new().await;
    world.want("one", &Native::new(&[], &["wanted*"]));
    world.append("s", &["a", "b", "wanted.1", "c"]).await;
    let shown = world.at_rest().await;
    assert_eq!((shown.lag(), shown.active.expect("it is there").progress.handled), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_traps_is_an_error_and_harms_nobody() {
    let world = World::new().await;
    world.append("s", &["a"]).await;
    world.want("one", &Native::new(&[], &[]));
    world.at_rest().await;
    let trap = ReadQuery { path: "trap".to_owned(), parameters: Vec::new() };
    assert!(matches!(world.handlers.read(&name(), trap).await, Err(HandlersError::Fault { .. })));
    assert_eq!(world.counts().await, [("a".to_owned(), 1)].into());
    let other = "other".parse().expect("a name");
    assert!(matches!(world.handlers.read(&other, ReadQuery::default()).await, Err(HandlersError::Unknown(_))));
}

#[tokio::test(start_paused = true)]
async fn reads_do_not_wait_for_a_handler_that_handles() {
    let world = World::new().await;
    let native = Native::new(&[], &[]);
    world.append("s", &["a"]).await;
    world.want("one", &native);
    world.at_rest().await;
    let held = native.gate.clone().acquire_owned().await.expect("never closed");
    world.append("s", &["a"]).await;
    assert_eq!(world.counts().await, [("a".to_owned(), 1)].into());
    drop(held);
    world.at_rest().await;
    assert_eq!(world.counts().await, [("a".to_owned(), 2)].into());
}
