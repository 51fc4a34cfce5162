//! One promise a test.

use std::time::Duration;

use super::*;
use crate::{
    events::StreamAppend,
    model::{CAUSATION_DEPTH_MAX, DATA_BYTES_MAX, Retention},
    storage::{Batch, Condition, KeyRange, Space},
};

async fn ids(store: &EventStore, of: &str) -> Vec<String> {
    let read = Read { stream: Some(stream(of)), ..everything(Order::Forward) };
    read_on(store, read).await.iter().map(|event| event.draft.id.to_string()).collect()
}

#[test]
fn a_repeated_append_is_answered_with_where_it_stands_whatever_was_expected() {
    runtime().block_on(async {
        let store = open(&MemoryStorage::new()).await;
        let both = [draft("1", "t", "x"), draft("2", "t", "y")];
        let first = append(&store, "s", Expected::NoStream, &both).await.expect("it is appended");
        let again = append(&store, "s", Expected::NoStream, &both).await.expect("it is there");
        let places = |of: &Appended| of.streams[0].events.iter().map(|event| event.position).collect::<Vec<_>>();
        assert_eq!(places(&first), places(&again));
        assert!(again.streams[0].events.iter().all(|event| !event.is_new));
        // With a third one that is new, the expectation counts.
        let three = [both[0].clone(), draft("3", "t", "z")];
        let refused = append(&store, "s", Expected::NoStream, &three).await.expect_err("it stands elsewhere");
        assert_eq!(refused.to_string(), "stream s was expected at revision none, and is at revision 1");
        let third = append(&store, "s", Expected::Revision(1), &three).await.expect("it is appended");
        assert_eq!(third.streams[0].events.iter().map(|event| event.is_new).collect::<Vec<_>>(), [false, true]);
        // The same id of another stream is another event.
        append(&store, "u", Expected::NoStream, &both).await.expect("it is appended");
        assert_eq!(ids(&store, "s").await, ["1", "2", "3"]);
    });
}

#[test]
fn another_event_under_an_id_that_is_taken_is_refused() {
    runtime().block_on(async {
        let store = open(&MemoryStorage::new()).await;
        append(&store, "s", Expected::Any, &[draft("1", "t", "x")]).await.expect("it is appended");
        for other in [draft("1", "t", "y"), draft("1", "u", "x")] {
            let refused = append(&store, "s", Expected::Any, &[draft("2", "t", ""), other]).await;
            assert!(matches!(refused, Err(AppendError::IdTaken { .. })), "{refused:?}");
        }
        assert_eq!(ids(&store, "s").await, ["1"], "nothing of a refused append is there");
    });
}

#[test]
fn several_streams_are_appended_to_together_or_not_at_all() {
    runtime().block_on(async {
        let store = open(&MemoryStorage::new()).await;
        append(&store, "b", Expected::Any, &[draft("0", "t", "")]).await.expect("it is appended");
        let of =
            |name: &str, expected| StreamAppend { stream: stream(name), expected, drafts: vec![draft("1", "t", "")] };
        let streams = vec![of("a", Expected::NoStream), of("b", Expected::NoStream)];
        let refused = store.append(Append { streams, ..Append::default() }).await;
        assert!(matches!(refused, Err(AppendError::Conflict { actual: Some(0), .. })), "{refused:?}");
        assert_eq!(ids(&store, "a").await, [""; 0]);
        let streams = vec![of("a", Expected::NoStream), of("b", Expected::Revision(0))];
        store.append(Append { streams, ..Append::default() }).await.expect("both stand there");
        assert_eq!((ids(&store, "a").await.len(), ids(&store, "b").await.len()), (1, 2));
    });
}

#[test]
fn what_comes_with_an_append_stands_or_falls_with_it() {
    runtime().block_on(async {
        let storage = MemoryStorage::new();
        let store = open(&storage).await;
        let absent = || Condition::Absent { space: Space::Handlers, key: "k".into() };
        let with = || Batch::new().require(absent()).put(Space::Handlers, "k", "v");
        let to = |id: &str| Append::to(stream("s"), Expected::Any, vec![draft(id, "t", "")]);
        store.append(Append { with: with(), ..to("1") }).await.expect("nothing stands there");
        let refused = store.append(Append { with: with(), ..to("2") }).await;
        assert_eq!(refused, Err(AppendError::Overtaken { condition: 0 }));
        // What a refused one was given is given to the next: revisions have no gap.
        let third = append(&store, "s", Expected::Revision(0), &[draft("3", "t", "")]).await.expect("it is appended");
        assert_eq!(third.streams[0].events[0].revision, 1);
        assert_eq!(ids(&store, "s").await, ["1", "3"]);
        assert_eq!(storage.scan(Space::Handlers, KeyRange::all(), 9).await.expect("it is read").len(), 1);
        // Refused by the stream, and so without what came with it.
        let refused = Append { with: Batch::new().put(Space::Handlers, "l", "v"), ..to("1") };
        let refused = Append {
            streams: vec![StreamAppend {
                expected: Expected::NoStream,
                drafts: vec![draft("4", "t", "")],
                ..refused.streams[0].clone()
            }],
            ..refused
        };
        assert!(matches!(store.append(refused).await, Err(AppendError::Conflict { .. })));
        assert_eq!(storage.scan(Space::Handlers, KeyRange::all(), 9).await.expect("it is read").len(), 1);
    });
}

#[test]
fn many_at_once_are_all_there_in_one_order() {
    for of in [runtime(), threads()] {
        of.block_on(many_at_once());
    }
}

async fn many_at_once() {
    let store = open(&MemoryStorage::new()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..500 {
        let store = store.clone();
        tasks.spawn(async move {
            let with = if n % 7 == 0 { Batch::new().put(Space::Handlers, n.to_string(), "") } else { Batch::new() };
            let to = Append::to(stream(&format!("s{}", n % 5)), Expected::Any, vec![draft(&n.to_string(), "t", "")]);
            store.append(Append { with, ..to }).await.expect("it is appended")
        });
    }
    let mut places: Vec<_> = tasks.join_all().await.iter().map(|appended| position(appended).0).collect();
    places.sort_unstable();
    let read = read_on(&store, Read { limit: 7, ..everything(Order::Forward) }).await;
    assert_eq!(read.iter().map(|event| event.position.0).collect::<Vec<_>>(), places);
    assert_eq!(store.appended(), 500);
    for n in 0..5 {
        assert_eq!(ids(&store, &format!("s{n}")).await.len(), 100);
    }
}

#[test]
fn a_follower_that_is_dropped_while_it_waits_loses_nothing() {
    runtime().block_on(async {
        let store = open(&MemoryStorage::new()).await;
        let mut following = store.subscribe(Position::START, filter(&["t"], &[]));
        assert!(tokio::time::timeout(Duration::from_millis(1), following.next(9)).await.is_err(), "there is nothing");
        append(&store, "s", Expected::Any, &[draft("1", "u", ""), draft("2", "t", "")]).await.expect("it is appended");
        let followed = following.next(9).await.expect("it is read");
        assert_eq!(followed.events.iter().map(|event| event.draft.id.as_str()).collect::<Vec<_>>(), ["2"]);
        assert_eq!(followed.position, store.head());
    });
}

#[test]
fn a_follower_of_one_stream_begins_behind_its_position() {
    runtime().block_on(async {
        let storage = MemoryStorage::new();
        let store = open(&storage).await;
        for n in 0..20 {
            let to = if n % 3 == 0 { "mine" } else { "others" };
            append(&store, to, Expected::Any, &[draft(&n.to_string(), "t", "")]).await.expect("it is appended");
        }
        // Opened again, nothing is in memory.
        store.close().await;
        let store = open(&storage).await;
        for after in 0..=20 {
            let mut following = store.subscribe(Position(after), filter(&[], &["mine"]));
            let mut found = Vec::new();
            while following.position() < store.head() {
                let reading = tokio::time::timeout(Duration::from_secs(60), following.next(2));
                // Behind the last of them there is nothing to wait for.
                if found.last().copied().unwrap_or(after) >= 19 {
                    break;
                }
                found.extend(reading.await.expect("in time").expect("it is read").events.iter().map(|e| e.position.0));
            }
            let wanted: Vec<_> = (1..=20).filter(|at| (at - 1) % 3 == 0 && *at > after).collect();
            assert_eq!(found, wanted, "behind {after}");
        }
    });
}

#[test]
fn what_need_not_be_kept_is_not_shown_and_goes_and_revisions_go_on() {
    runtime().block_on(async {
        let storage = MemoryStorage::new();
        let wall = Wall::at(1_800_000_000_000);
        let store = open_at(&storage, wall).await;
        for n in 0..10 {
            append(&store, "s", Expected::Any, &[draft(&n.to_string(), "t", "")]).await.expect("it is appended");
        }
        let kept = |retention| async move { retention };
        let by_count = Retention { max_count: Some(3), ..Retention::default() };
        store.set_retention(stream("s"), kept(by_count).await).await.expect("it is set");
        assert_eq!(ids(&store, "s").await, ["7", "8", "9"]);
        append(&store, "s", Expected::Revision(9), &[draft("10", "t", "")]).await.expect("it is appended");
        assert_eq!(ids(&store, "s").await, ["8", "9", "10"]);
        let truncated = Retention { first_revision: 11, ..Retention::default() };
        store.set_retention(stream("s"), truncated).await.expect("it is set");
        assert_eq!(ids(&store, "s").await, [""; 0]);
        let info = store.stream(&stream("s")).await.expect("it is read").expect("it is known");
        assert_eq!((info.first_revision, info.last_revision), (None, Some(10)));
        // Until the last of them is gone from the disk.
        let until = std::time::Instant::now() + Duration::from_secs(60);
        while !storage.scan(Space::Events, KeyRange::all(), 1).await.expect("it is read").is_empty() {
            assert!(std::time::Instant::now() < until, "it is not removed");
            tokio::time::timeout(Duration::from_millis(20), std::future::pending::<()>()).await.expect_err("it waits");
        }
        store.close().await;
        let store = open_at(&storage, wall).await;
        let next = append(&store, "s", Expected::Revision(10), &[draft("0", "t", "")]).await.expect("it is appended");
        assert_eq!(next.streams[0].events[0].revision, 11, "its id is free again, its revision is not");
        let by_age = Retention { max_age_ms: Some(1), ..Retention::default() };
        store.set_retention(stream("s"), by_age).await.expect("it is set");
        while !ids(&store, "s").await.is_empty() {
            assert!(std::time::Instant::now() < until, "it does not age");
        }
        let streams = store.streams("", None, 10).await.expect("they are read");
        assert_eq!(streams.len(), 1);
        assert_eq!(streams[0].last_revision, Some(11));
    });
}

#[test]
fn streams_are_listed_in_their_order_page_by_page() {
    runtime().block_on(async {
        let store = open(&MemoryStorage::new()).await;
        for name in ["order-2", "order", "order-10", "zebra", "a"] {
            append(&store, name, Expected::Any, &[draft("1", "t", "")]).await.expect("it is appended");
        }
        let names = |infos: Vec<super::super::StreamInfo>| -> Vec<_> {
            infos.into_iter().map(|info| info.stream.to_string()).collect()
        };
        assert_eq!(names(store.streams("order", None, 9).await.expect("read")), ["order", "order-10", "order-2"]);
        let mut after = None;
        let mut all = Vec::new();
        loop {
            let page = names(store.streams("", after.clone(), 2).await.expect("read"));
            let Some(last) = page.last() else { break };
            after = Some(stream(last));
            all.extend(page);
        }
        assert_eq!(all, ["a", "order", "order-10", "order-2", "zebra"]);
    });
}

#[test]
fn what_is_too_much_is_refused_before_anything_is_written() {
    runtime().block_on(async {
        let storage = MemoryStorage::new();
        let store = open(&storage).await;
        let refusal = |refused: Result<Appended, AppendError>| refused.expect_err("it is refused").to_string();
        assert!(refusal(append(&store, "s", Expected::Any, &[]).await).contains("1 to 1000 events, and this one 0"));
        let mut large = draft("1", "t", "");
        large.data = vec![0; DATA_BYTES_MAX + 1].into();
        let told = refusal(append(&store, "s", Expected::Any, &[draft("0", "t", ""), large.clone()]).await);
        assert!(told.contains("event 1 of stream s: data: must be at most 1048576 bytes"), "{told}");
        large.data.truncate(DATA_BYTES_MAX);
        let nine: Vec<_> =
            (0..9).map(|n| Draft { id: n.to_string().parse().expect("an id"), ..large.clone() }).collect();
        let told = refusal(append(&store, "s", Expected::Any, &nine).await);
        assert!(told.contains("at most 8388608 bytes"), "{told}");
        let mut deep = draft("1", "t", "");
        deep.causation.depth = CAUSATION_DEPTH_MAX + 1;
        let deep = Append::to(stream("s"), Expected::Any, vec![deep]);
        assert!(matches!(store.append(deep).await, Err(AppendError::TooDeep { .. })));
        assert_eq!(store.head(), Position::START);
        append(&store, "s", Expected::Any, &nine[..7]).await.expect("that much is taken");
    });
}

#[test]
fn whoever_claims_the_events_later_has_them_alone() {
    runtime().block_on(async {
        let storage = MemoryStorage::new();
        let first = open(&storage).await;
        append(&first, "s", Expected::Any, &[draft("1", "t", "")]).await.expect("it is appended");
        let second = open(&storage).await;
        let refused = append(&first, "s", Expected::Any, &[draft("2", "t", "")]).await;
        assert_eq!(refused, Err(AppendError::TakenOver));
        append(&second, "s", Expected::Revision(0), &[draft("3", "t", "")]).await.expect("it is appended");
        assert_eq!(ids(&second, "s").await, ["1", "3"]);
    });
}
