//! Events over HTTP: what is appended is told with its place and read back as it came, and what is wrong is told with its
//! attribute and leaves nothing behind.

use std::fs;

use http::Method;
use serde_json::{Value, json};
use sluice_harness::{Answer, Client, Refused, Sluice, control::text, sluice, wait_until};
use tempfile::TempDir;

const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json");
const BATCH: (&str, &str) = ("content-type", "application/cloudevents-batch+json");

/// Of an event's data (`DATA_BYTES_MAX`).
const DATA_BYTES_MAX: usize = 1024 * 1024;
/// Of a request (`REQUEST_BYTES_MAX`).
const REQUEST_BYTES_MAX: usize = 12 * 1024 * 1024;

fn event(id: &str, event_type: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/test", "type": event_type})
}

fn with(name: &str, value: Value) -> Value {
    let mut event = event("wrong", "t");
    event[name] = value;
    event
}

fn send(gateway: &Sluice, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
    gateway.control().send(Method::POST, path, headers, body.into())
}

fn batch(gateway: &Sluice, path: &str, events: &[Value]) -> Answer {
    send(gateway, path, &[BATCH], json!(events).to_string())
}

fn get(gateway: &Sluice, path: &str) -> Value {
    gateway.control().get(path).expect(200).json()
}

/// Of a page of events.
fn ids(page: &Value) -> Vec<String> {
    page["events"].as_array().expect("a list").iter().map(|event| text(&event["id"])).collect()
}

/// Every page from this one on.
fn all_pages(gateway: &Sluice, first: &str) -> (Vec<String>, usize) {
    let (mut path, mut found, mut pages) = (first.to_owned(), Vec::new(), 0);
    loop {
        let page = get(gateway, &path);
        found.extend(ids(&page));
        pages += 1;
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut path),
            None => return (found, pages),
        }
    }
}

/// Ten events of two types over three streams: a has 0, 3, 6, 9.
fn ten(gateway: &Sluice) {
    let events: Vec<_> = (0..10)
        .map(|nth| {
            let mut event = event(&nth.to_string(), if nth % 2 == 0 { "order.placed" } else { "order.paid" });
            event["stream"] = json!(["a", "b", "c"][nth % 3]);
            event
        })
        .collect();
    batch(gateway, "/events", &events).expect(201);
}

#[test]
fn every_mode_appends_the_same_event() {
    let gateway = sluice!().start();
    let binary = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/test"),
        ("ce-type", "order.placed"),
        ("ce-time", "2026-01-31T12:00:00+01:00"),
        ("ce-subject", "order%20%E2%82%AC"),
        ("ce-trace", "x"),
        ("content-type", "application/json"),
    ];
    let data = r#"{"total": 12.10, "digits": 12345678901234567890123}"#;
    let answer = send(&gateway, "/events", &binary, data).expect(201);
    assert_eq!(answer.header("location"), Some("/streams/order.placed?from=0&limit=1"));
    let place = json!({"id": "1", "stream": "order.placed", "revision": 0, "position": 1, "duplicate": false});
    assert_eq!(answer.json(), json!({"events": [place]}));
    let structured = format!(
        r#"{{"specversion": "1.0", "id": "1", "source": "/test", "type": "order.placed", "time": "2026-01-31T12:00:00+01:00",
            "subject": "order €", "trace": "x", "datacontenttype": "application/json", "data": {data}}}"#
    );
    send(&gateway, "/streams/s", &[STRUCTURED], structured.clone()).expect(201);
    send(&gateway, "/streams/b", &[BATCH], format!("[{structured}]")).expect(201);
    for (stream, position) in [("order.placed", 1), ("s", 2), ("b", 3)] {
        let page = gateway.control().get(&format!("/streams/{stream}")).expect(200).text();
        let wanted = format!(
            r#"{{"specversion":"1.0","id":"1","source":"/test","type":"order.placed","subject":"order €","datacontenttype":"application/json","time":"2026-01-31T12:00:00+01:00","trace":"x","stream":"{stream}","revision":"0","position":"{position}","data":{data}}}"#
        );
        assert_eq!(page, format!(r#"{{"events":[{wanted}],"next":null}}"#), "not a digit is lost");
    }
    assert_eq!(gateway.metric("sluice_events_head", &[]), 3.0);
    assert_eq!(gateway.metric("sluice_events_appended_total", &[]), 3.0);
}

#[test]
fn the_shortest_form_is_an_event_of_its_type() {
    let gateway = sluice!().start();
    let short = json!({"event_type": "order.placed", "event_data": {"n": 1}});
    let place = gateway.control().post("/event", &short).expect(201).json()["events"][0].clone();
    assert_eq!((&place["stream"], &place["revision"]), (&json!("order.placed"), &json!(0)));
    let event = get(&gateway, "/events")["events"][0].clone();
    assert_eq!((&event["id"], &event["data"], &event["source"]), (&place["id"], &json!({"n": 1}), &json!("/event")));
    let named = json!({"event_type": "t", "event_id": "7", "stream": "s", "source": "/x"});
    gateway.control().post("/event", &named).expect(201);
    assert_eq!(gateway.control().post("/event", &named).expect(200).json()["events"][0]["duplicate"], true);
    let wrong = json!({"event_type": "a b", "event_id": 1, "colour": "red"});
    let refused = Refused::of(gateway.control().post("/event", &wrong).expect(422));
    assert_eq!(refused.pointers(), ["/event_type", "/event_id", "/colour"], "{}", refused.words());
    assert_eq!(ids(&get(&gateway, "/events")).len(), 2);
}

#[test]
fn each_wrong_attribute_is_named_and_nothing_is_stored() {
    let gateway = sluice!().start();
    for (event, names) in [
        (with("specversion", json!("0.3")), "specversion"),
        (with("id", json!(null)), "id"),
        (with("source", json!(7)), "source"),
        (with("type", json!("")), "type"),
        (with("time", json!("soon")), "time"),
        (with("datacontenttype", json!("json")), "datacontenttype"),
        (with("dataschema", json!("no scheme")), "dataschema"),
        (with("stream", json!("a b")), "stream"),
        (with("weight", json!(1.5)), "weight"),
        (with("Large", json!("x")), "Large"),
        (with("data_base64", json!("?")), "data_base64"),
    ] {
        let refused = Refused::of(send(&gateway, "/events", &[STRUCTURED], event.to_string()).expect(422));
        assert_eq!(refused.pointers(), [format!("/{names}")], "{event}");
        refused.says(&[&format!("{names}: ")]);
        let two = [event_of_a_stream(), event];
        let refused = Refused::of(batch(&gateway, "/events", &two).expect(422));
        assert_eq!(refused.pointers(), [format!("/1/{names}")], "the first is not stored either");
    }
    for (header, value) in [("ce-id", ""), ("ce-time", "soon"), ("ce-source", "a b"), ("ce-specversion", "2")] {
        let given = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];
        let others = given.into_iter().filter(|(name, _)| *name != header);
        let headers: Vec<_> = others.chain([(header, value)]).collect();
        Refused::of(send(&gateway, "/events", &headers, "").expect(422)).says(&[&format!("{header}: ")]);
    }
    let bare = Refused::of(gateway.control().post("/events", &json!({"id": "1"})).expect(422));
    bare.says(&["ce-specversion: is missing", "ce-id: is missing", "ce-source: is missing", "ce-type: is missing"]);
    for (path, headers, body, status) in [
        ("/events", STRUCTURED, "{", 400),
        ("/events", STRUCTURED, "[]", 400),
        ("/events", BATCH, "{}", 400),
        ("/events", ("content-type", "application/cloudevents+xml"), "<a/>", 415),
        ("/events", ("content-type", "text/plain"), "a", 415),
        ("/event", ("content-type", "application/json"), "[", 400),
        ("/streams/a%20b", STRUCTURED, "{}", 422),
        ("/streams/%24a", STRUCTURED, "{}", 422),
        ("/streams/%ff", STRUCTURED, "{}", 400),
        ("/events?colour=red", STRUCTURED, "{}", 400),
    ] {
        let answer = send(&gateway, path, &[headers], body).expect(status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
    }
    let large = with("data", json!("x".repeat(DATA_BYTES_MAX)));
    Refused::of(send(&gateway, "/events", &[STRUCTURED], large.to_string()).expect(413))
        .says(&["data: must be at most"]);
    send(&gateway, "/events", &[STRUCTURED], vec![b' '; REQUEST_BYTES_MAX + 1]).expect(413);
    let many: Vec<_> = (0..1001).map(|nth| event(&nth.to_string(), "t")).collect();
    Refused::of(batch(&gateway, "/events", &many).expect(413)).says(&["1 to 1000 events"]);
    assert_eq!(get(&gateway, "/events"), json!({"events": [], "next": null}), "something was stored");
    assert_eq!(get(&gateway, "/streams"), json!({"streams": [], "next": null}), "something was stored");
    assert_eq!(batch(&gateway, "/events", &[]).expect(200).json(), json!({"events": []}), "a batch may be empty");
}

fn event_of_a_stream() -> Value {
    let mut event = event("right", "t");
    event["stream"] = json!("s");
    event
}

#[test]
fn the_same_event_once_more_is_there_once() {
    let gateway = sluice!().start();
    let mut first = event("1", "t");
    first["data"] = json!(1);
    batch(&gateway, "/streams/s", &[first.clone()]).expect(201);
    let both = batch(&gateway, "/streams/s", &[first.clone(), event("2", "t")]).expect(201).json();
    assert_eq!((&both["events"][0]["duplicate"], &both["events"][1]["duplicate"]), (&json!(true), &json!(false)));
    let never = [BATCH, ("sluice-expected-revision", "none")];
    let again = send(&gateway, "/streams/s", &never, json!([first]).to_string()).expect(200).json();
    assert_eq!((&again["events"][0]["revision"], &again["events"][0]["position"]), (&json!(0), &json!(1)));
    let mut other = first.clone();
    other["data"] = json!(2);
    Refused::of(batch(&gateway, "/streams/s", &[event("3", "t"), other]).expect(409)).says(&["id \"1\""]);
    assert_eq!(ids(&get(&gateway, "/streams/s")), ["1", "2"]);
    batch(&gateway, "/streams/another", &[first]).expect(201);
}

#[test]
fn an_append_is_refused_where_its_stream_stands_elsewhere_and_says_where() {
    let gateway = sluice!().start();
    let append = |id: &str, expected: &str| {
        send(&gateway, "/streams/s", &[STRUCTURED, ("sluice-expected-revision", expected)], event(id, "t").to_string())
    };
    let conflict = |answer: Answer, actual: Value, expected: &str| {
        let problem = answer.expect(409).json();
        assert_eq!(
            (&problem["actual_revision"], &problem["expected_revision"]),
            (&actual, &json!(expected)),
            "{problem}"
        );
        assert_eq!((&problem["stream"], &problem["status"]), (&json!("s"), &json!(409)));
    };
    conflict(append("1", "exists"), Value::Null, "exists");
    conflict(append("1", "0"), Value::Null, "0");
    append("1", "none").expect(201);
    conflict(append("2", "none"), json!(0), "none");
    append("2", "0").expect(201);
    append("3", "exists").expect(201);
    append("4", "any").expect(201);
    conflict(append("5", "7"), json!(3), "7");
    for wrong in ["last", "-1", "1.5", ""] {
        Refused::of(append("5", wrong).expect(400)).says(&["sluice-expected-revision"]);
    }
    let elsewhere = [STRUCTURED, ("sluice-expected-revision", "any")];
    send(&gateway, "/events", &elsewhere, event("5", "t").to_string()).expect(400);
    assert_eq!(ids(&get(&gateway, "/streams/s")), ["1", "2", "3", "4"]);
}

#[test]
fn a_request_over_several_streams_is_there_whole_or_not_at_all() {
    let gateway = sluice!().start();
    ten(&gateway);
    let mut taken = event("0", "another.type");
    taken["stream"] = json!("a");
    let mut new = event("new", "t");
    new["stream"] = json!("z");
    batch(&gateway, "/events", &[new.clone(), taken]).expect(409);
    gateway.control().get("/streams/z").expect(404);
    let mut other = new.clone();
    other["stream"] = json!("y");
    let places = batch(&gateway, "/events", &[new, other]).expect(201).json();
    let positions: Vec<_> =
        places["events"].as_array().expect("a list").iter().map(|it| it["position"].as_u64()).collect();
    assert_eq!(positions, [Some(11), Some(12)]);
    // What is expected of each must be true of all of them.
    let expecting = |id: &str, expected: &str| {
        let to = |stream: &str| with_stream(event(id, "t"), stream);
        let headers = [BATCH, ("sluice-expected-revision", expected)];
        send(&gateway, "/events", &headers, json!([to("y"), to("new,too")]).to_string())
    };
    let problem = expecting("1", "y=7").expect(409).json();
    assert_eq!((&problem["stream"], &problem["actual_revision"]), (&json!("y"), &json!(0)), "{problem}");
    Refused::of(expecting("1", "y=0, elsewhere=none").expect(400)).says(&["elsewhere"]);
    expecting("1", "y=0, new%2Ctoo=none").expect(201);
    let problem = expecting("2", "y=1, new%2Ctoo=none").expect(409).json();
    assert_eq!((&problem["stream"], &problem["actual_revision"]), (&json!("new,too"), &json!(0)), "{problem}");
}

fn with_stream(mut event: Value, stream: &str) -> Value {
    event["stream"] = json!(stream);
    event
}

#[test]
fn pages_lead_through_everything_in_both_directions() {
    let gateway = sluice!().start();
    ten(&gateway);
    let in_order: Vec<_> = ["0", "3", "6", "9", "1", "4", "7", "2", "5", "8"].map(str::to_owned).into();
    let reversed: Vec<_> = in_order.iter().rev().cloned().collect();
    assert_eq!(all_pages(&gateway, "/events?limit=3"), (in_order, 4));
    assert_eq!(all_pages(&gateway, "/events?limit=3&direction=backward"), (reversed, 4));
    let page = |path: &str| ids(&get(&gateway, path));
    assert_eq!(page("/events?from=9"), ["5", "8"]);
    assert_eq!(page("/events?from=11"), [""; 0], "where the next one will be");
    assert_eq!(page("/streams/a?from=2"), ["6", "9"]);
    assert_eq!(page("/streams/a?from=1&direction=backward"), ["3", "0"]);
    assert_eq!(all_pages(&gateway, "/streams/a?limit=1&type=order.paid").0, ["3", "9"]);
    assert_eq!(page("/events?type=order.paid&stream=b,c"), ["1", "7", "5"]);
    assert_eq!(page("/events?type=order.p*&stream=a*&limit=2"), ["0", "3"]);
    assert_eq!(page("/events?type=order"), [""; 0]);
}

#[test]
fn a_read_that_makes_no_sense_is_refused_with_its_parameter() {
    let gateway = sluice!().start();
    ten(&gateway);
    for (path, names) in [
        ("/events?limit=0", "?limit"),
        ("/events?limit=1001", "?limit"),
        ("/events?from=x", "?from"),
        ("/events?from=12", "?from: 12 is beyond the last position, 10"),
        ("/events?direction=up", "?direction"),
        ("/events?type=a*b", "?type"),
        ("/events?after=3", "?after"),
        ("/events?colour=red", "?colour"),
        ("/streams/a?stream=b", "?stream"),
        ("/streams/a?from=5", "?from: 5 is beyond the end of stream a"),
        ("/streams?limit=0", "?limit"),
        ("/streams?after=$x", "?after"),
    ] {
        Refused::of(gateway.control().get(path).expect(400)).says(&[names]);
    }
    gateway.control().get("/streams/nobody").expect(404);
    gateway.control().get("/streams/a%20b").expect(422);
    for (path, header, names) in [
        ("/events", "11", "Last-Event-ID"),
        ("/events", "x", "Last-Event-ID"),
        ("/events?after=11", "", "?after"),
        ("/events?limit=3", "", "?limit"),
        ("/streams/a?after=last", "", "?after"),
    ] {
        let headers = [("accept", "text/event-stream"), ("last-event-id", header)];
        let headers = if header.is_empty() { &headers[..1] } else { &headers[..] };
        Refused::of(gateway.control().send(Method::GET, path, headers, Vec::new()).expect(400)).says(&[names]);
    }
}

#[test]
fn only_what_is_kept_of_a_stream_is_read() {
    let gateway = sluice!().start();
    let events: Vec<_> = (0..6).map(|nth| event(&nth.to_string(), "t")).collect();
    batch(&gateway, "/streams/s", &events).expect(201);
    let put = |path: &str, body: &Value| {
        gateway.control().send(
            Method::PUT,
            path,
            &[("content-type", "application/json")],
            body.to_string().into_bytes(),
        )
    };
    let kept = put("/streams/s/retention", &json!({"max_count": 4, "max_age": "30days"})).expect(200).json();
    assert_eq!(kept, json!({"max_count": 4, "max_age": "30days", "truncated_before": 0}));
    assert_eq!(ids(&get(&gateway, "/streams/s")), ["2", "3", "4", "5"]);
    gateway.control().post("/streams/s/truncate", &json!({"before": 5})).expect(200);
    assert_eq!(get(&gateway, "/streams/s/retention")["max_count"], 4, "truncation leaves the rest as it is");
    assert_eq!(ids(&get(&gateway, "/streams/s")), ["5"]);
    let back = gateway.control().post("/streams/s/truncate", &json!({"before": 1})).expect(200).json();
    assert_eq!(back["truncated_before"], 5, "what is gone is gone");
    let report = json!({"stream": "s", "first_revision": 5, "last_revision": 5, "max_count": 4, "max_age": "30days", "truncated_before": 5});
    assert_eq!(get(&gateway, "/streams?prefix=s"), json!({"streams": [report], "next": null}));
    gateway.control().post("/streams/s/truncate", &json!({"before": 6})).expect(200);
    assert_eq!(ids(&get(&gateway, "/streams/s")), [""; 0]);
    wait_until("what need not be kept to go from the whole log too", || ids(&get(&gateway, "/events")).is_empty());
    let next = batch(&gateway, "/streams/s", &[event("6", "t")]).expect(201).json();
    assert_eq!(next["events"][0]["revision"], 6, "revisions go on");
    for (body, names) in
        [(json!({"max_count": 0}), "/max_count"), (json!({"max_age": "soon"}), "/max_age"), (json!({"x": 1}), "/x")]
    {
        assert_eq!(Refused::of(put("/streams/s/retention", &body).expect(422)).pointers(), [names]);
    }
    for (body, names) in [(json!({"before": 9}), "/before"), (json!({"before": "x"}), "/before"), (json!({}), "")] {
        assert_eq!(Refused::of(gateway.control().post("/streams/s/truncate", &body).expect(422)).pointers(), [names]);
    }
    gateway.control().post("/streams/nobody/truncate", &json!({"before": 0})).expect(404);
}

#[test]
fn streams_are_listed_by_their_names() {
    let gateway = sluice!().start();
    ten(&gateway);
    batch(&gateway, "/streams/a%2Fb%C3%BC", &[event("1", "t")]).expect(201);
    let names = |page: &Value| -> Vec<String> {
        page["streams"].as_array().expect("a list").iter().map(|it| text(&it["stream"])).collect()
    };
    let first = get(&gateway, "/streams?limit=2");
    assert_eq!(names(&first), ["a", "a/bü"]);
    let second = get(&gateway, first["next"].as_str().expect("more"));
    assert_eq!((names(&second), &second["next"]), (vec!["b".to_owned(), "c".to_owned()], &Value::Null));
    assert_eq!(names(&get(&gateway, "/streams?prefix=a%2F")), ["a/bü"]);
    assert_eq!(ids(&get(&gateway, "/streams/a%2Fb%C3%BC")), ["1"]);
}

#[test]
fn services_append_and_read_and_only_operators_take_away() {
    let folder = TempDir::new().expect("a temporary folder");
    let token = |name: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("{name}-token")).expect("a temporary folder");
        path
    };
    let config = format!(
        "[control]\noperator_token_file = {:?}\nservice_token_file = {:?}\n",
        token("operator"),
        token("service")
    );
    let gateway = sluice!().config(config).start();
    let ask = |method: Method, path: &str, token: &str, body: &Value| {
        let token = format!("Bearer {token}");
        let mut headers = vec![("content-type", "application/json")];
        headers.extend((token != "Bearer ").then_some(("authorization", token.as_str())));
        Client::to(gateway.control_address()).send(method, path, &headers, body.to_string().into_bytes())
    };
    let short = json!({"event_type": "t"});
    ask(Method::POST, "/event", "", &short).expect(401);
    ask(Method::POST, "/event", "service-token", &short).expect(201);
    ask(Method::GET, "/streams/t", "service-token", &json!({})).expect(200);
    ask(Method::POST, "/streams/t/truncate", "service-token", &json!({"before": 1})).expect(403);
    ask(Method::PUT, "/streams/t/retention", "service-token", &json!({})).expect(403);
    ask(Method::POST, "/streams/t/truncate", "operator-token", &json!({"before": 1})).expect(200);
}
