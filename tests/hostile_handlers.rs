//! Event handlers that trap, spin, grow without end and emit in circles: bounded, reported, and nobody else is harmed.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sluice_harness::{Client, Origin, Sluice, control::text, process::workspace_root, sluice, wait_for, wait_until};

/// Deeds on the event of type `b`, and what is said of it.
const DEEDS: [(&str, &str); 15] = [
    ("traps", "trapped"),
    ("spins", "CPU time"),
    ("allocates", "memory"),
    ("fails", "as the settings say"),
    ("fails-nowhere", ""),
    ("writes-without-end", ""),
    ("writes-large-values", ""),
    ("writes-long-keys", ""),
    ("emits-a-flood", ""),
    ("emits-megabytes", ""),
    ("emits-for-nothing", ""),
    ("emits-nameless", ""),
    ("emits-to-the-store", ""),
    ("emits-large-data", ""),
    ("calls-nowhere", ""),
];

/// What is wrong when something is read.
const READS: [&str; 6] =
    ["traps-in-read", "spins-in-read", "allocates-in-read", "writes-in-read", "answers-hello", "answers-a-flood"];

/// What is refused before anything runs.
const REFUSED: [&str; 6] = [
    "traps-in-subscribe",
    "spins-in-subscribe",
    "writes-in-subscribe",
    "reads-in-subscribe",
    "wants-nonsense",
    "wants-a-flood",
];

fn handler(config: &mut String, name: &str, deed: &str, more: &str) {
    writeln!(config, "[events.handlers.{name}]\nplugin = \"liar\"\nsettings = {{ deed = {deed:?}{more} }}")
        .expect("text");
}

fn config(origin: &Origin) -> String {
    let liar = workspace_root().join("tests/guests/built/event-handler-hostile.wasm");
    format!(
        "[plugins.liar]\npath = {liar:?}\n[events.handlers.counts]\nplugin = \"count-by-type\"\n\
         [services.orders]\nendpoints = [\"{}\"]\n[[route]]\npath = \"/\"\nservice = \"orders\"\n",
        origin.address()
    )
}

fn append(client: &Client, event_type: &str) {
    client.post("/event", &json!({"event_type": event_type, "event_data": {}})).expect(201);
}

fn shown(client: &Client, name: &str) -> Value {
    client.get(&format!("/projections/{name}")).expect(200).json()
}

/// As soon as it has looked at everything there is.
fn settled(gateway: &Sluice, name: &str) -> Value {
    wait_for(&format!("{name} to have come to the end"), std::time::Duration::from_secs(90), || {
        Some(shown(&gateway.control(), name)).filter(|shown| shown["checkpoint"] == shown["head"])
    })
}

#[test]
fn an_event_that_makes_a_handler_misbehave_is_put_aside_and_nobody_else_notices() {
    let origin = Origin::start("orders");
    let mut config = config(&origin);
    DEEDS.iter().for_each(|(deed, _)| handler(&mut config, deed, deed, ", when = \"b\""));
    let gateway = sluice!().config(config).start();
    let control = gateway.control();
    ["a", "b", "a", "c"].iter().for_each(|event_type| append(&control, event_type));
    for (deed, said) in DEEDS {
        let shown = settled(&gateway, deed);
        assert_eq!((&shown["handled"], &shown["parked"]), (&json!(3), &json!(1)), "{deed}: {shown}");
        assert_eq!(shown["parked_events"][0]["position"], 2, "{deed}: {shown}");
        let reason = text(&shown["parked_events"][0]["reason"]);
        assert!(!reason.is_empty() && reason.contains(said), "{deed}: {reason}");
        assert_eq!(control.get(&format!("/projections/{deed}/count")).expect(200).text(), "3", "{deed}");
        gateway.client().get("/anything").expect(200);
    }
    assert!(gateway.metric("sluice_handler_faults_total", &["handler=\"traps\""]) >= 3.0);
    gateway.await_history("fault", &["event handler spins"]);
    gateway.await_history("warning", &["event handler fails", "put aside"]);
    settled(&gateway, "counts");
    assert_eq!(control.get("/projections/counts/a").expect(200).json()["count"], 2);
}

#[test]
fn events_in_circles_end_at_a_depth() {
    let origin = Origin::start("orders");
    let mut config = config(&origin);
    handler(&mut config, "circle", "emits-in-circles", ", when = \"b\"");
    let gateway = sluice!().config(config).start();
    append(&gateway.control(), "b");
    wait_until("the circle to be cut", || shown(&gateway.control(), "circle")["parked"] == 1);
    let circle = settled(&gateway, "circle");
    assert_eq!((&circle["head"], &circle["emitted"]), (&json!(17), &json!(16)), "{circle}");
    settled(&gateway, "counts");
    assert_eq!(gateway.control().get("/projections/counts/b").expect(200).json()["count"], 17);
}

#[test]
fn what_a_handler_asks_for_and_is_not_granted_is_told() {
    let origin = Origin::start("orders");
    let mut config = config(&origin);
    handler(&mut config, "curious", "fetches", ", when = \"b\", target = \"http://127.0.0.2:1/\"");
    let gateway = sluice!().config(config).start();
    append(&gateway.control(), "b");
    settled(&gateway, "curious");
    gateway.await_history("warning", &["event handler curious", "not granted", "127.0.0.2"]);
}

#[test]
fn a_read_that_does_not_come_back_is_a_problem_document_and_the_handler_goes_on() {
    let origin = Origin::start("orders");
    let mut config = config(&origin);
    READS.iter().for_each(|deed| handler(&mut config, deed, deed, ""));
    let gateway = sluice!().config(config).start();
    let control = gateway.control();
    append(&control, "a");
    for deed in READS {
        settled(&gateway, deed);
        let answer = control.get(&format!("/projections/{deed}/count")).expect(502);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{deed}");
        assert!(text(&answer.json()["detail"]).contains(deed), "{}", answer.text());
    }
    append(&control, "a");
    for deed in READS {
        let shown = settled(&gateway, deed);
        assert_eq!((&shown["handled"], &shown["faults"]), (&json!(2), &json!(1)), "{deed}: {shown}");
    }
}

#[test]
fn a_handler_that_cannot_say_what_it_wants_is_refused_with_its_name() {
    let origin = Origin::start("orders");
    let gateway = sluice!().config(config(&origin)).start();
    for deed in REFUSED {
        let mut config = config(&origin);
        handler(&mut config, "h", deed, "");
        gateway.rewrite_config(&config);
        let refused = gateway.control().post("/reload", &json!({})).expect(422).text();
        assert!(refused.contains("events.handlers.h"), "{deed}: {refused}");
    }
    gateway.control().get("/projections/h").expect(404);
    append(&gateway.control(), "a");
    settled(&gateway, "counts");
}
