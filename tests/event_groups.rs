//! Consumer groups over HTTP: consumers share events and keep the order of each stream, what one of them lets lie another gets,
//! and what nobody takes is put aside, shown, and brought back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
    sync::Mutex,
    thread,
};

use http::Method;
use serde_json::{Value, json};
use sluice_harness::{Client, Refused, Sluice, control::text, sluice, wait_until};
use tempfile::TempDir;

fn append(client: &Client, stream: &str, number: usize) {
    let event = json!({"specversion": "1.0", "id": format!("{stream}-{number}"), "source": "/test", "type": "t",
        "data": {"number": number}});
    let headers = [("content-type", "application/cloudevents+json")];
    client.send(Method::POST, &format!("/streams/{stream}"), &headers, event.to_string().into_bytes()).expect(201);
}

fn put(client: &Client, group: &str, settings: &Value) -> sluice_harness::Answer {
    let headers = [("content-type", "application/json")];
    client.send(Method::PUT, &format!("/groups/{group}"), &headers, settings.to_string().into_bytes())
}

fn take(client: &Client, group: &str, query: &str) -> Vec<Value> {
    let answer = client.post(&format!("/groups/{group}/take?{query}"), &json!({})).expect(200).json();
    answer["deliveries"].as_array().expect("a list").clone()
}

fn settle(client: &Client, group: &str, how: &str, deliveries: &[Value]) -> Value {
    let tokens: Vec<_> = deliveries.iter().map(|delivery| delivery["token"].clone()).collect();
    client.post(&format!("/groups/{group}/settle"), &json!({ how: tokens })).expect(200).json()
}

fn shown(client: &Client, group: &str) -> Value {
    client.get(&format!("/groups/{group}")).expect(200).json()
}

fn ids(deliveries: &[Value]) -> Vec<String> {
    deliveries.iter().map(|delivery| text(&delivery["event"]["id"])).collect()
}

#[test]
fn consumers_compete_for_events_and_each_stream_stays_in_order() {
    const STREAMS: usize = 8;
    const EVENTS: usize = 25;
    let gateway = sluice!().start();
    let control = gateway.control();
    put(&control, "billing", &json!({})).expect(201);
    let seen = Mutex::new(Vec::<(String, String)>::new());
    let consumers = |seen: &Mutex<Vec<(String, String)>>| -> BTreeSet<String> {
        seen.lock().expect("unpoisoned").iter().map(|(_, consumer)| consumer.clone()).collect()
    };
    thread::scope(|scope| {
        for consumer in ["one", "two", "three"] {
            let (seen, control) = (&seen, gateway.control());
            scope.spawn(move || {
                while seen.lock().expect("unpoisoned").len() < STREAMS * EVENTS {
                    let taken = take(&control, "billing", &format!("consumer={consumer}&limit=3&wait=100ms"));
                    // Before it is acknowledged: from then on the next of its stream may be with another.
                    seen.lock()
                        .expect("unpoisoned")
                        .extend(ids(&taken).into_iter().map(|id| (id, consumer.to_owned())));
                    if !taken.is_empty() {
                        // Whoever got no CPU for a while would find nothing left.
                        wait_until("each consumer to have got some", || consumers(seen).len() == 3);
                        assert_eq!(settle(&control, "billing", "ack", &taken)["settled"], taken.len());
                    }
                }
            });
        }
        for number in 0..EVENTS {
            (0..STREAMS).for_each(|stream| append(&control, &format!("s{stream}"), number));
        }
    });
    assert_eq!(consumers(&seen).len(), 3, "one consumer got nothing");
    let seen = seen.into_inner().expect("unpoisoned");
    let mut next = BTreeMap::<String, usize>::new();
    for (id, _) in &seen {
        let (stream, number) = id.split_once('-').expect("as appended");
        let next = next.entry(stream.to_owned()).or_default();
        assert_eq!(number, next.to_string(), "{id}: {seen:?}");
        *next += 1;
    }
    assert_eq!(seen.len(), STREAMS * EVENTS, "an event was delivered twice");
    let group = shown(&control, "billing");
    assert_eq!((&group["lag"], &group["checkpoint"]), (&json!(0), &group["head"]));
    assert_eq!(gateway.metric("sluice_group_settled_total", &["group=\"billing\"", "how=\"acknowledged\""]), 200.0);
    assert_eq!(gateway.metric("sluice_group_lag_events", &["group=\"billing\""]), 0.0);
}

#[test]
fn what_a_consumer_that_is_gone_had_goes_to_another_and_its_late_word_is_refused() {
    let gateway = sluice!().start();
    let control = gateway.control();
    put(&control, "g", &json!({"ack_timeout": "2s"})).expect(201);
    append(&control, "a", 0);
    append(&control, "a", 1);
    let first = take(&control, "g", "consumer=one");
    assert_eq!((ids(&first), &first[0]["attempt"]), (vec!["a-0".to_owned()], &json!(1)));
    assert_eq!(shown(&control, "g")["consumers"][0]["consumer"], "one");
    let again = take(&control, "g", "consumer=two&wait=20s");
    assert_eq!((ids(&again), &again[0]["attempt"]), (vec!["a-0".to_owned()], &json!(2)));
    let late = settle(&control, "g", "ack", &first);
    assert_eq!((&late["settled"], &late["refused"][0]["code"]), (&json!(0), &json!("lease-over")), "{late}");
    let mut again = again;
    while settle(&control, "g", "ack", &again)["settled"] != 1 {
        // A busy machine had it time out once more.
        again = take(&control, "g", "consumer=two&wait=20s");
    }
    assert_eq!(ids(&take(&control, "g", "consumer=two")), ["a-1"]);
    // Who says that it goes leaves nothing lying.
    put(&control, "g", &json!({"ack_timeout": "1h"})).expect(200);
    wait_until("the lease of before to be over", || shown(&control, "g")["in_flight"] == 0);
    assert_eq!(take(&control, "g", "consumer=two").len(), 1);
    assert_eq!(control.delete("/groups/g/consumers/two").expect(200).json()["released"], 1);
    assert_eq!(ids(&take(&control, "g", "consumer=one")), ["a-1"]);
}

#[test]
fn what_fails_ten_times_is_parked_with_its_reason_and_comes_back_when_it_is_replayed() {
    let gateway = sluice!().start();
    let control = gateway.control();
    put(&control, "g", &json!({"backoff": "10ms"})).expect(201);
    append(&control, "a", 0);
    append(&control, "a", 1);
    append(&control, "b", 0);
    let others = take(&control, "g", "limit=10");
    let (bad, good): (Vec<_>, Vec<_>) = others.into_iter().partition(|of| of["event"]["stream"] == "a");
    settle(&control, "g", "ack", &good);
    let mut last = bad;
    for attempt in 1..=10 {
        assert_eq!((ids(&last), &last[0]["attempt"]), (vec!["a-0".to_owned()], &json!(attempt)));
        let body = json!({"retry": [{"token": last[0]["token"], "reason": "the till is shut"}]});
        control.post("/groups/g/settle", &body).expect(200);
        last = take(&control, "g", "wait=30s");
    }
    assert_eq!(ids(&last), ["a-1"]);
    settle(&control, "g", "ack", &last);
    let parked = control.get("/groups/g/parked").expect(200).json();
    let one = &parked["parked"][0];
    assert_eq!((&one["attempts"], &one["event"]["id"], &parked["next"]), (&json!(10), &json!("a-0"), &Value::Null));
    assert!(text(&one["reason"]).contains("the till is shut"), "{one}");
    assert_eq!(shown(&control, "g")["parked"], 1);
    let position = one["position"].as_u64().expect("a position");
    assert_eq!(control.post("/groups/g/parked/replay", &json!({"position": position + 1})).status, 404);
    let replayed = control.post("/groups/g/parked/replay", &json!({})).expect(202).json();
    assert_eq!(replayed["replayed"], 1);
    let back = take(&control, "g", "wait=30s");
    assert_eq!((ids(&back), &back[0]["attempt"]), (vec!["a-0".to_owned()], &json!(1)));
    let body = json!({"park": [{"token": back[0]["token"], "reason": "never"}]});
    assert_eq!(control.post("/groups/g/settle", &body).expect(200).json()["settled"], 1);
    control.post("/groups/g/parked/replay", &json!({"position": position})).expect(202);
    assert_eq!(settle(&control, "g", "ack", &take(&control, "g", "wait=30s"))["settled"], 1);
    assert_eq!((shown(&control, "g")["parked"].clone(), shown(&control, "g")["lag"].clone()), (json!(0), json!(0)));
}

#[test]
fn a_group_survives_a_restart_with_all_that_was_settled() {
    let folder = TempDir::new().expect("a temporary folder");
    let mut gateway = sluice!().directory(folder.path()).start();
    let control = gateway.control();
    put(&control, "g", &json!({"types": ["t*"], "batch": 7})).expect(201);
    (0..6).for_each(|nth| append(&control, &format!("s{nth}"), 0));
    let taken = take(&control, "g", "");
    settle(&control, "g", "ack", &taken[1..4]);
    settle(&control, "g", "park", &taken[4..5]);
    gateway.terminate();
    let gateway = sluice!().directory(folder.path()).start();
    let control = gateway.control();
    let group = shown(&control, "g");
    assert_eq!((&group["checkpoint"], &group["parked"], &group["acknowledged"]), (&json!(0), &json!(1), &json!(3)));
    assert_eq!((&group["settings"]["batch"], &group["settings"]["types"]), (&json!(7), &json!(["t*"])));
    let left = take(&control, "g", "limit=10");
    assert_eq!(ids(&left), ["s0-0", "s5-0"]);
    // A token of before the restart is none any more.
    assert_eq!(settle(&control, "g", "ack", &taken[..1])["refused"][0]["code"], "lease-over");
    assert_eq!(settle(&control, "g", "ack", &left)["settled"], 2);
}

#[test]
fn a_checkpoint_is_moved_and_none_from_the_future_is_taken() {
    let gateway = sluice!().start();
    let control = gateway.control();
    put(&control, "g", &json!({"from": "now"})).expect(201);
    (0..3).for_each(|nth| append(&control, "a", nth));
    let head = shown(&control, "g")["head"].as_u64().expect("a position");
    let refused = Refused::of(control.post("/groups/g/reset", &json!({"to": head + 1})).expect(422));
    assert_eq!(refused.pointers(), ["/to"]);
    let refused = Refused::of(put(&control, "other", &json!({"from": head + 1})).expect(422));
    assert_eq!(refused.pointers(), ["/from"]);
    control.get("/groups/other").expect(404);
    let taken = take(&control, "g", "");
    settle(&control, "g", "ack", &taken);
    assert_eq!(control.post("/groups/g/reset", &json!({"to": 0})).expect(200).json()["checkpoint"], 0);
    assert_eq!(ids(&take(&control, "g", "")), ["a-0"]);
    assert_eq!(control.post("/groups/g/reset", &json!({"to": head})).expect(200).json()["lag"], 0);
    assert_eq!(take(&control, "g", "").len(), 0);
    control.delete("/groups/g").expect(204);
    control.delete("/groups/g").expect(404);
}

#[test]
fn what_is_wrong_is_named_and_changes_nothing() {
    let gateway = sluice!().start();
    let control = gateway.control();
    let wrong = [
        (json!({"types": "t"}), "/types"),
        (json!({"streams": [1]}), "/streams"),
        (json!({"streams": ["a*b"]}), "/streams"),
        (json!({"from": -1}), "/from"),
        (json!({"ack_timeout": "1us"}), "/ack_timeout"),
        (json!({"attempts_max": 0}), "/attempts_max"),
        (json!({"batch": 501}), "/batch"),
        (json!({"backoff": "1h"}), "/backoff"),
        (json!({"webhook": "http://127.0.0.1:9/"}), "/webhook"),
        (json!({"webhook": {}}), ""),
        (json!({"webhook": {"url": "http://elsewhere.example/"}}), "/webhook/url"),
        (json!({"webhook": {"url": "service://nobody/"}}), "/webhook/url"),
        (json!({"colour": "red"}), "/colour"),
    ];
    for (settings, pointer) in wrong {
        let refused = Refused::of(put(&control, "g", &settings).expect(422));
        assert!(refused.pointers().iter().any(|of| of.starts_with(pointer)), "{settings}: {:?}", refused.pointers());
        control.get("/groups/g").expect(404);
    }
    put(&control, "No_Name", &json!({})).expect(422);
    put(&control, "g", &json!({})).expect(201);
    let group = shown(&control, "g");
    put(&control, "g", &json!({})).expect(200);
    assert_eq!(shown(&control, "g"), group);
    append(&control, "a", 0);
    let taken = take(&control, "g", "");
    for (body, pointer) in [
        (json!({}), ""),
        (json!({"ack": "1-1-1"}), "/ack"),
        (json!({"ack": [taken[0]["token"], "x"]}), "/ack/1"),
        (json!({"park": [{"token": taken[0]["token"], "reason": 1}]}), "/park/0/reason"),
        (json!({"nack": [taken[0]["token"]]}), "/nack"),
    ] {
        let refused = Refused::of(control.post("/groups/g/settle", &body).expect(422));
        assert!(refused.pointers().contains(&pointer.to_owned()), "{body}: {:?}", refused.pointers());
    }
    for query in ["limit=0", "limit=501", "wait=2m", "consumer=", "colour=red"] {
        control.post(&format!("/groups/g/take?{query}"), &json!({})).expect(400);
    }
    for (method, path) in [(Method::POST, "take"), (Method::POST, "settle"), (Method::GET, "parked")] {
        let headers = [("content-type", "application/json")];
        let body = json!({"ack": ["1-1-1"]}).to_string().into_bytes();
        let body = if path == "take" { b"{}".to_vec() } else { body };
        control.send(method, &format!("/groups/nobody/{path}"), &headers, body).expect(404);
    }
    assert_eq!(settle(&control, "g", "ack", &taken)["settled"], 1);
}

#[test]
fn services_take_and_settle_and_only_operators_set_move_and_remove() {
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
        let headers = [("content-type", "application/json"), ("authorization", token.as_str())];
        Client::to(gateway.control_address()).send(method, path, &headers, body.to_string().into_bytes())
    };
    let nothing = json!({});
    ask(Method::PUT, "/groups/g", "service-token", &nothing).expect(403);
    ask(Method::PUT, "/groups/g", "operator-token", &nothing).expect(201);
    ask(Method::POST, "/event", "service-token", &json!({"event_type": "t"})).expect(201);
    ask(Method::POST, "/groups/g/take", "nobodys-token", &nothing).expect(401);
    let taken = ask(Method::POST, "/groups/g/take", "service-token", &nothing).expect(200).json();
    let acknowledged = json!({"ack": [taken["deliveries"][0]["token"]]});
    ask(Method::POST, "/groups/g/settle", "service-token", &acknowledged).expect(200);
    ask(Method::GET, "/groups/g", "service-token", &nothing).expect(200);
    ask(Method::GET, "/groups/g/parked", "service-token", &nothing).expect(200);
    ask(Method::POST, "/groups/g/parked/replay", "service-token", &nothing).expect(403);
    ask(Method::POST, "/groups/g/reset", "service-token", &json!({"to": 0})).expect(403);
    ask(Method::DELETE, "/groups/g", "service-token", &nothing).expect(403);
    ask(Method::POST, "/groups/g/reset", "operator-token", &json!({"to": 0})).expect(200);
    ask(Method::DELETE, "/groups/g", "operator-token", &nothing).expect(204);
}

/// What the command prints; `code` is how it ends.
#[track_caller]
fn command(gateway: &Sluice, args: &[&str], code: i32) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["events", "groups"]).args(args).arg("--control").arg(gateway.control_address().to_string());
    let output = command.output().expect("the binary is built");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    said
}

#[test]
fn the_command_line_does_all_of_it() {
    let gateway = sluice!().start();
    let control = gateway.control();
    let said = command(&gateway, &["create", "billing", "--type", "t*", "--backoff", "10ms", "--ack-timeout", "1m"], 0);
    assert_eq!(said.trim(), "group billing is set, at position 0");
    append(&control, "a", 0);
    append(&control, "b", 0);
    assert!(command(&gateway, &[], 0).contains("billing  0           2"), "{}", command(&gateway, &[], 0));
    let taken = command(&gateway, &["take", "billing", "--wait", "10s"], 0);
    let tokens: Vec<_> = taken.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(tokens.len(), 2, "{taken}");
    assert!(taken.contains("{\"number\":0}"), "{taken}");
    assert_eq!(command(&gateway, &["ack", "billing", tokens[0]], 0).trim(), "1 settled");
    assert!(command(&gateway, &["ack", "billing", tokens[0]], 1).contains("acknowledged or parked already"));
    command(&gateway, &["retry", "billing", tokens[1], "--reason", "later"], 0);
    let again = command(&gateway, &["--json", "take", "billing", "--wait", "10s"], 0);
    let again: Value = serde_json::from_str(&again).expect("JSON");
    command(&gateway, &["park", "billing", &text(&again["deliveries"][0]["token"]), "--reason", "never"], 0);
    let parked = command(&gateway, &["parked", "billing"], 0);
    assert!(parked.contains("b@0") && parked.contains("never"), "{parked}");
    let shown = command(&gateway, &["show", "billing"], 0);
    assert!(shown.contains("1 parked") && shown.contains("consumer command-line"), "{shown}");
    assert_eq!(command(&gateway, &["replay", "billing"], 0).trim(), "1 are delivered again");
    assert!(command(&gateway, &["reset", "billing", "--to", "9"], 4).contains("/to"));
    assert_eq!(command(&gateway, &["reset", "billing", "--to", "1"], 0).trim(), "group billing is at position 1");
    command(&gateway, &["delete", "billing"], 0);
    command(&gateway, &["show", "billing"], 4);
}
