use sluice_sdk::{
    event_handler::Event,
    testing::event_handler::{Played, event},
};

use super::{LatestByKey, algorithm::Key};

fn by(key: &str) -> Played<LatestByKey> {
    Played::new(&format!("{{\"key\": \"{key}\"}}")).expect("the settings are right")
}

fn keys_of(event: &Event) -> Vec<Option<String>> {
    let keys = ["subject", "stream", "extension:tenant", "/customer/id", "/items/0/n"];
    keys.into_iter().map(|key| Key::parse(key).expect("a key").of(event)).collect()
}

#[test]
fn a_key_is_wherever_the_settings_say() {
    let mut placed = event("orders-1", "placed", r#"{"customer": {"id": "c-7"}, "items": [{"n": 12}]}"#);
    placed.draft.subject = Some("1".to_owned());
    placed.draft.extensions.push(("tenant".to_owned(), "acme".to_owned()));
    let found: Vec<_> = keys_of(&placed).into_iter().flatten().collect();
    assert_eq!(found, ["1", "orders-1", "acme", "c-7", "12"]);
    let bare = event("orders-1", "placed", r#"{"customer": {"id": ""}, "items": [{"n": 1.5}]}"#);
    assert_eq!(keys_of(&bare), [None, Some("orders-1".to_owned()), None, None, None]);
    for wrong in ["", "customer", "extension:", "Subject"] {
        assert_eq!(Key::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn the_last_event_of_a_key_is_what_is_read() {
    let mut latest = by("/id");
    let events = [r#"{"id":"b","n":1}"#, r#"{"id":"a","n":2}"#, r#"{"id":"b","n":3}"#, r#"{"n":4}"#];
    latest.handle(&events.map(|data| event("s", "changed", data))).expect("they are kept");
    let (status, b) = latest.read_text("b", &[]);
    assert!(status == 200 && b.contains(r#""data":{"id":"b","n":3}"#), "{b}");
    assert_eq!(latest.read("b", &[]).content_type, "application/cloudevents+json");
    assert_eq!(latest.read_text("c", &[]).0, 404);
    let (_, all) = latest.read_text("", &[("limit", "1")]);
    assert!(all.starts_with(r#"{"entries":[{"key":"a","event":{"specversion":"1.0""#), "{all}");
    assert!(all.ends_with(r#"],"next":"b"}"#), "{all}");
    let (_, rest) = latest.read_text("", &[("start", "b")]);
    assert!(rest.contains(r#""key":"b""#) && rest.ends_with(r#"],"next":null}"#), "{rest}");
    assert_eq!(latest.read_text("", &[("prefix", "c")]).1, r#"{"entries":[],"next":null}"#);
}

#[test]
fn what_would_not_fit_is_refused_and_leaves_nothing() {
    let mut latest = by("subject");
    let mut long = event("s", "t", "{}");
    long.draft.subject = Some("k".repeat(1_025));
    let (at, failure) = latest.handle(&[event("s", "t", "{}"), long]).expect_err("the key is too long");
    assert!(at == 1 && !failure.is_transient(), "{failure:?}");
    let mut large = event("s", "t", "{}");
    large.draft.subject = Some("large".to_owned());
    large.draft.content_type = "application/octet-stream".to_owned();
    large.draft.data = vec![0; 1 << 20];
    assert!(latest.handle(&[large]).expect_err("base64 makes it larger").1.message().contains("as JSON it has"));
    assert!(latest.state().is_empty());
}

#[test]
fn pages_of_large_events_stay_within_what_is_answered() {
    let mut latest = by("stream");
    for n in 0..8 {
        let data = format!("\"{}\"", "x".repeat(1_000_000));
        latest.handle(&[event(&format!("s-{n}"), "t", &data)]).expect("it is kept");
    }
    let answer = latest.read("", &[]);
    assert!(answer.body.len() < 4 << 20, "{} bytes", answer.body.len());
    assert!(answer.body.ends_with(br#""next":"s-3"}"#));
}

#[test]
fn pages_of_long_keys_stay_within_what_is_answered() {
    let mut latest = by("subject");
    for n in 0..1_000 {
        let mut event = event("s", "t", "{}");
        // As JSON each is six times as long.
        event.draft.subject = Some(format!("{}{n:04}", "\u{1}".repeat(1_000)));
        latest.handle(&[event]).expect("it is kept");
    }
    let answer = latest.read("", &[("limit", "1000")]);
    assert!(answer.body.len() < 4 << 20, "{} bytes", answer.body.len());
}

#[test]
fn wrong_settings_are_reported() {
    for (settings, path) in [("{}", "/key"), (r#"{"key": "customer"}"#, "/key"), (r#"{"key": "stream", "k": 1}"#, "/k")]
    {
        let problems = Played::<LatestByKey>::new(settings).expect_err("they are wrong");
        assert_eq!(problems.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(), [path]);
    }
}
