use sluice_sdk::{
    event_handler::Effect,
    testing::event_handler::{Played, event},
};

use super::Forwarder;

const SETTINGS: &str = r#"{"target": "http://127.0.0.1:9/in", "types": ["order.*"], "headers": {"X-Tenant": "acme"}}"#;

#[test]
fn each_event_is_one_call_with_the_whole_event() {
    let mut forwarder = Played::<Forwarder>::new(SETTINGS).expect("the settings are right");
    let events = [event("o-1", "order.placed", r#"{"n": 1}"#), event("o-2", "order.placed", "")];
    let caused = forwarder.handle(&events).expect("they are sent");
    for ((by, effect), (at, event)) in caused.iter().zip(events.iter().enumerate()) {
        let Effect::Call(call) = effect else { panic!("{effect:?}") };
        assert_eq!((*by, call.method.as_str(), call.target.as_str()), (at, "POST", "http://127.0.0.1:9/in"));
        let fields: Vec<_> = call.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(fields, [("content-type", "application/cloudevents+json"), ("X-Tenant", "acme")]);
        assert_eq!(String::from_utf8_lossy(&call.body), event.structured());
    }
    assert_eq!(caused.len(), 2);
    let position = events[1].position;
    assert_eq!(forwarder.read_text("", &[]).1, format!("{{\"forwarded\":2,\"position\":{position}}}"));
    assert_eq!(forwarder.read_text("x", &[]).0, 404);
}

#[test]
fn an_event_that_is_too_large_as_json_is_refused_for_good() {
    let mut forwarder = Played::<Forwarder>::new(SETTINGS).expect("the settings are right");
    // Each of these characters takes six bytes in JSON.
    let mut large = event("s", "order.placed", &"\u{1}".repeat(1 << 20));
    large.draft.content_type = "text/plain".to_owned();
    let (at, failure) = forwarder.handle(&[large]).expect_err("it does not fit");
    assert!(at == 0 && !failure.is_transient());
    assert!(forwarder.state().is_empty());
}

#[test]
fn the_largest_event_can_be_forwarded_whatever_it_is_of() {
    let mut forwarder = Played::<Forwarder>::new(SETTINGS).expect("the settings are right");
    let mut binary = event("s", "order.placed", "");
    (binary.draft.content_type, binary.draft.data) = ("application/octet-stream".to_owned(), vec![7; 1 << 20]);
    let json = event("s", "order.placed", &format!("\"{}\"", "x".repeat((1 << 20) - 2)));
    assert_eq!(forwarder.handle(&[binary, json]).expect("they are sent").len(), 2);
}

#[test]
fn wrong_settings_are_reported() {
    for (settings, told) in [
        ("{}", "/target: must be given"),
        (r#"{"target": "ftp://a/"}"#, "/target: must begin with service://"),
        (r#"{"target": "service://"}"#, "/target: must name a service"),
        (r#"{"target": "service://Orders_1/"}"#, "/target: must name a service"),
        (r#"{"target": "https:///in"}"#, "/target: must name a host"),
        (r#"{"target": "http://a b"}"#, "/target: must be ASCII without blanks"),
        (r#"{"target": "http://a/", "headers": {"a": "é"}}"#, "/headers: a: must be ASCII"),
        (r#"{"target": "http://a/", "headers": {"Host": "b"}}"#, "/headers: Host: is set by the gateway"),
        (r#"{"target": "http://a/", "headers": {"a b": "c"}}"#, "/headers: a b: is no name"),
        (r#"{"target": "http://a/", "headers": {"a": "b\nc"}}"#, "/headers: a: must not have control"),
    ] {
        let problems = Played::<Forwarder>::new(settings).expect_err("they are wrong");
        let line = format!("{}: {}", problems[0].path, problems[0].message);
        assert!(line.starts_with(told), "{line}");
    }
    let many: Vec<_> = (0..64).map(|n| format!(r#""x-{n}": "v""#)).collect();
    for headers in [many.join(", "), format!(r#""x": "{}""#, "v".repeat(8_200))] {
        let settings = format!(r#"{{"target": "http://a/", "headers": {{{headers}}}}}"#);
        let problems = Played::<Forwarder>::new(&settings).expect_err("they are too many");
        assert!(problems[0].message.starts_with("must be at most 63"), "{problems:?}");
    }
}
