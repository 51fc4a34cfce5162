//! Webhooks: nothing is sent to who has not said that it may, and what is sent comes in order, again where it failed, and no
//! more where the receiver is gone.

use http::Method;
use serde_json::{Value, json};
use sluice_harness::{Client, Delivered, Sluice, WebhookReceiver, control::text, sluice, wait_until};

fn append(client: &Client, stream: &str, number: usize) {
    let event = json!({"specversion": "1.0", "id": format!("{stream}-{number}"), "source": "/test/ü", "type": "t",
        "datacontenttype": "application/json", "data": {"number": number}});
    let headers = [("content-type", "application/cloudevents+json")];
    client.send(Method::POST, &format!("/streams/{stream}"), &headers, event.to_string().into_bytes()).expect(201);
}

fn put(client: &Client, settings: &Value) {
    let headers = [("content-type", "application/json")];
    let answer = client.send(Method::PUT, "/groups/hook", &headers, settings.to_string().into_bytes());
    assert!(answer.status.is_success(), "{answer}");
}

fn shown(client: &Client) -> Value {
    client.get("/groups/hook").expect(200).json()
}

/// A gateway with the receiver as its service `billing`, and as a host that may be called.
fn gateway(receiver: &WebhookReceiver) -> Sluice {
    let address = receiver.address();
    let config = format!(
        "[events]\nallow_hosts = [\"{address}\"]\n[services.billing]\nendpoints = [\"{address}\"]\n\
         [[route]]\npath = \"/\"\nservice = \"billing\"\n"
    );
    sluice!().config(config).start()
}

fn ids(delivered: &[Delivered]) -> Vec<&str> {
    delivered.iter().map(|one| one.id.as_str()).collect()
}

#[test]
fn nothing_is_sent_until_the_receiver_allows_it_and_then_all_of_it_in_order() {
    let receiver = WebhookReceiver::start();
    let gateway = gateway(&receiver);
    let control = gateway.control();
    for number in 0..5 {
        append(&control, "a", number);
        append(&control, "b", number);
    }
    put(&control, &json!({"webhook": {"url": "service://billing/events"}}));
    wait_until("two handshakes", || receiver.handshakes() >= 2);
    assert!(receiver.delivered().is_empty(), "it has allowed nothing");
    let group = shown(&control);
    assert!(text(&group["trouble"]["message"]).contains("405"), "{group}");
    receiver.allow("somebody.else.example");
    let before = receiver.handshakes();
    wait_until("another handshake", || receiver.handshakes() > before + 1);
    assert!(receiver.delivered().is_empty(), "it has allowed another");
    receiver.allow("sluice");
    wait_until("all of it", || shown(&control)["checkpoint"] == shown(&control)["head"]);
    let delivered = receiver.delivered();
    assert_eq!(delivered.len(), 10);
    for stream in ["a", "b"] {
        let of_stream: Vec<_> = delivered.iter().filter(|one| one.stream == stream).cloned().collect();
        let expected: Vec<_> = (0..5).map(|number| format!("{stream}-{number}")).collect();
        assert_eq!(ids(&of_stream), expected);
    }
    let first = delivered.iter().find(|one| one.id == "a-0").expect("it came");
    assert_eq!(first.header("ce-specversion"), Some("1.0"));
    assert_eq!(first.header("ce-source"), Some("/test/%C3%BC"));
    assert_eq!(first.header("content-type"), Some("application/json"));
    assert_eq!(first.header("webhook-request-origin"), Some("sluice"));
    assert_eq!(first.body, "{\"number\":0}");
    // What comes later needs no other handshake.
    let handshakes = receiver.handshakes();
    append(&control, "a", 5);
    wait_until("what came later", || receiver.delivered().len() == 11);
    assert_eq!(receiver.handshakes(), handshakes);
    assert_eq!(control.post("/groups/hook/take", &json!({})).status, 409);
}

#[test]
fn what_fails_is_sent_again_and_what_always_fails_is_parked_while_the_rest_goes_on() {
    let receiver = WebhookReceiver::start();
    receiver.allow("*");
    let gateway = gateway(&receiver);
    let control = gateway.control();
    let url = format!("http://{}/events", receiver.address());
    receiver.answer(&[(500, "")]);
    put(&control, &json!({"backoff": "10ms", "attempts_max": 3, "webhook": {"url": url, "origin": "gw.example"}}));
    append(&control, "a", 0);
    wait_until("it to be taken at the second time", || shown(&control)["acknowledged"] == 1);
    assert_eq!(ids(&receiver.delivered()), ["a-0", "a-0"]);
    assert_eq!(receiver.delivered()[0].header("webhook-request-origin"), Some("gw.example"));
    receiver.answer(&[(400, ""), (400, ""), (400, "")]);
    append(&control, "a", 1);
    append(&control, "a", 2);
    wait_until("one to be parked and the next to be taken", || shown(&control)["acknowledged"] == 2);
    assert_eq!(ids(&receiver.delivered()[2..]), ["a-1", "a-1", "a-1", "a-2"]);
    let parked = control.get("/groups/hook/parked").expect(200).json();
    assert_eq!(parked["parked"][0]["event"]["id"], "a-1");
    assert!(text(&parked["parked"][0]["reason"]).contains("400"), "{parked}");
    control.post("/groups/hook/parked/replay", &json!({})).expect(202);
    wait_until("what was parked to be taken", || shown(&control)["acknowledged"] == 3);
}

#[test]
fn a_receiver_that_wants_a_pause_gets_it() {
    let receiver = WebhookReceiver::start();
    receiver.allow("*");
    let gateway = gateway(&receiver);
    let control = gateway.control();
    receiver.answer(&[(429, "Retry-After: 1")]);
    append(&control, "a", 0);
    let began = std::time::Instant::now();
    put(&control, &json!({"webhook": {"url": "service://billing/events"}}));
    wait_until("it to be taken", || shown(&control)["acknowledged"] == 1);
    assert!(began.elapsed().as_secs_f64() >= 1.0, "{:?}", began.elapsed());
    assert_eq!(receiver.delivered().len(), 2);
}

#[test]
fn a_receiver_that_is_gone_gets_nothing_more_until_somebody_says_so() {
    let receiver = WebhookReceiver::start();
    receiver.allow("*");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = format!(
        "[services.billing]\nendpoints = [\"{}\"]\n[[route]]\npath = \"/\"\nservice = \"billing\"\n",
        receiver.address()
    );
    let settings = json!({"webhook": {"url": "service://billing/events"}});
    let mut gateway = sluice!().config(&config).directory(folder.path()).start();
    let control = gateway.control();
    receiver.answer(&[(410, "")]);
    append(&control, "a", 0);
    append(&control, "a", 1);
    put(&control, &settings);
    wait_until("it to be stopped", || shown(&control)["pushing"] == "stopped");
    assert!(text(&shown(&control)["trouble"]["message"]).contains("410"), "{}", shown(&control));
    assert_eq!(ids(&receiver.delivered()), ["a-0"]);
    gateway.terminate();
    let gateway = sluice!().config(&config).directory(folder.path()).start();
    let control = gateway.control();
    append(&control, "b", 0);
    assert_eq!((shown(&control)["pushing"].clone(), receiver.delivered().len()), (json!("stopped"), 1));
    put(&control, &settings);
    wait_until("all of it", || shown(&control)["lag"] == 0);
    assert_eq!(receiver.delivered().len(), 4);
}
