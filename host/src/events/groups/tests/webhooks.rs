//! What a receiver of webhooks may rely on, and what it may not do.

use std::time::Duration;

use http::Method;

use super::world::{Answer, Receiver, World, name};
use crate::{
    events::groups::{GroupsError, Settings, TroubleShown, Webhook, shown::Pushing},
    model::Position,
};

fn pushed() -> Settings {
    Settings { webhook: Some(Webhook::to("service://billing/events".to_owned())), ..Settings::default() }
}

fn allow(rate: Option<&str>) -> Answer {
    let rate = rate.map(|rate| ("webhook-allowed-rate", rate.to_owned()));
    (200, [("webhook-allowed-origin", "sluice".to_owned())].into_iter().chain(rate).collect())
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_the_receiver_has_allowed_it() {
    let receiver = Receiver::allowing();
    receiver.greet(&[(404, vec![]), (200, vec![("webhook-allowed-origin", "others".to_owned())]), allow(None)]);
    let world = World::over(crate::storage::memory::MemoryStorage::new(), receiver).await;
    world.append("a", "t").await;
    world.define(pushed()).await;
    let is_said = |of: &TroubleShown| of.message.contains("\"others\"");
    world.until("it is said why", |shown| shown.trouble.as_ref().is_some_and(is_said)).await;
    world.until("all is sent", |shown| shown.acknowledged == 1).await;
    let called = world.receiver.called.lock().expect("unpoisoned").clone();
    let methods: Vec<_> = called.iter().map(|(method, ..)| method.clone()).collect();
    assert_eq!(methods, [Method::OPTIONS, Method::OPTIONS, Method::OPTIONS, Method::POST]);
    assert_eq!(world.shown().trouble, None, "it is over");
}

#[tokio::test(start_paused = true)]
async fn streams_go_at_once_and_each_in_its_order() {
    let world = World::new().await;
    *world.receiver.takes.lock().expect("unpoisoned") = Duration::from_secs(1);
    for _ in 0..3 {
        for stream in ["a", "b", "c"] {
            world.append(stream, "t").await;
        }
    }
    let began = tokio::time::Instant::now();
    world.define(pushed()).await;
    world.until("all is sent", |shown| shown.acknowledged == 9).await;
    assert!(began.elapsed() < Duration::from_secs(6), "one after the other: {:?}", began.elapsed());
    let sent = world.receiver.sent();
    for stream in ["a", "b", "c"] {
        let of_stream: Vec<_> = sent.iter().filter(|id| id.starts_with(stream)).collect();
        assert!(of_stream.is_sorted() && of_stream.len() == 3, "{of_stream:?}");
    }
    let taken = world.groups.take(&name(), "one", None, Duration::ZERO).await;
    assert!(matches!(taken, Err(GroupsError::IsPushed(_))));
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_sent_again_and_parked_after_ten_attempts_while_other_streams_go_on() {
    let world = World::new().await;
    for stream in ["a", "a", "b"] {
        world.append(stream, "t").await;
    }
    world.receiver.answer("a-0", &vec![(500, Vec::new()); 10]);
    world.receiver.answer("b-2", &[(404, Vec::new())]);
    world.define(pushed()).await;
    world.until("all is settled", |shown| shown.checkpoint == Position(3)).await;
    let sent = world.receiver.sent();
    let times = |id: &str| sent.iter().filter(|of| *of == id).count();
    assert_eq!((times("a-0"), times("a-1"), times("b-2")), (10, 1, 2));
    assert_eq!(sent.last().map(String::as_str), Some("a-1"));
    let parked = world.groups.parked(&name(), Position::START, 10).await.expect("it can be read").parked;
    assert!(parked[0].1.reason.contains("500"), "{parked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_wants_a_pause_gets_it_and_no_attempt_is_counted() {
    let world = World::new().await;
    world.append("a", "t").await;
    world.append("a", "t").await;
    let later: Answer = (429, vec![("retry-after", "40".to_owned())]);
    world.receiver.answer("a-0", &vec![later; 12]);
    let began = tokio::time::Instant::now();
    world.define(pushed()).await;
    let paused = world.until("paused", |shown| shown.pushing == Some(Pushing::Paused)).await;
    assert!(paused.trouble.is_some_and(|of| of.message.contains("40 s")));
    world.until("all is sent", |shown| shown.acknowledged == 2).await;
    assert!(began.elapsed() >= Duration::from_secs(12 * 40), "{:?}", began.elapsed());
    assert_eq!((world.shown().parked, world.receiver.sent().len()), (0, 14));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_gone_gets_nothing_more_over_restarts_until_somebody_says_so() {
    let world = World::new().await;
    world.append("a", "t").await;
    world.append("b", "t").await;
    world.receiver.answer("a-0", &[(410, Vec::new())]);
    *world.receiver.takes.lock().expect("unpoisoned") = Duration::from_millis(5);
    world.define(pushed()).await;
    let stopped = world.until("stopped", |shown| shown.pushing == Some(Pushing::Stopped)).await;
    assert!(stopped.trouble.is_some_and(|of| of.message.contains("410")));
    let sent = world.receiver.sent().len();
    let world = world.crashed(1).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(world.receiver.sent().len(), sent);
    world.define(pushed()).await;
    world.until("all is sent", |shown| shown.checkpoint == Position(2)).await;
}

#[tokio::test(start_paused = true)]
async fn no_more_are_sent_than_the_receiver_allows_a_minute() {
    let receiver = Receiver::allowing();
    receiver.greet(&[allow(Some("60"))]);
    let world = World::over(crate::storage::memory::MemoryStorage::new(), receiver).await;
    for nth in 0..20 {
        world.append(&format!("s{nth}"), "t").await;
    }
    let began = tokio::time::Instant::now();
    world.define(pushed()).await;
    world.until("all is sent", |shown| shown.acknowledged == 20).await;
    assert!(began.elapsed() >= Duration::from_secs(19), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_webhook_goes_nowhere_else_than_it_may() {
    let world = World::new().await;
    let elsewhere =
        Settings { webhook: Some(Webhook::to("https://elsewhere.example/".to_owned())), ..Settings::default() };
    let refused = world.groups.define(&name(), |_| elsewhere).await;
    assert!(matches!(refused, Err(GroupsError::NoTarget(_))), "{refused:?}");
    assert_eq!(world.groups.list(), []);
}

#[tokio::test(start_paused = true)]
async fn a_group_becomes_a_webhook_and_a_group_again_where_it_is() {
    let world = World::new().await;
    world.define(Settings::default()).await;
    world.append("a", "t").await;
    world.append("a", "t").await;
    let taken = world.take("one", 1).await;
    world.settle(&taken, &crate::events::groups::How::Ack).await;
    world.define(pushed()).await;
    world.until("all is sent", |shown| shown.checkpoint == Position(2)).await;
    assert_eq!(world.receiver.sent(), ["a-1"]);
    world.define(Settings::default()).await;
    world.append("a", "t").await;
    world.until("it is pushed no more", |shown| shown.pushing.is_none()).await;
    assert_eq!(world.take("one", 1).await.len(), 1);
}
