//! Calls that events cause.

use std::collections::BTreeSet;

use super::world::{Native, World, name};

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
