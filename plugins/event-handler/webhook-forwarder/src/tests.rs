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
    let large = format!("\"{}\"", "x".repeat((1 << 20) - 2));
    let (at, failure) = forwarder.handle(&[event("s", "order.placed", &large)]).expect_err("it does not fit");
    assert!(at == 0 && !failure.is_transient());
    assert!(forwarder.state().is_empty());
}

#[test]
fn wrong_settings_are_reported() {
    for (settings, told) in [
        ("{}", "/target: must be given"),
        (r#"{"target": "ftp://a/"}"#, "/target: must begin with service://"),
        (r#"{"target": "http://a/", "headers": {"Host": "b"}}"#, "/headers: Host: is set by the gateway"),
        (r#"{"target": "http://a/", "headers": {"a b": "c"}}"#, "/headers: a b: is no name"),
        (r#"{"target": "http://a/", "headers": {"a": "b\nc"}}"#, "/headers: a: must not have control"),
    ] {
        let problems = Played::<Forwarder>::new(settings).expect_err("they are wrong");
        let line = format!("{}: {}", problems[0].path, problems[0].message);
        assert!(line.starts_with(told), "{line}");
    }
}
