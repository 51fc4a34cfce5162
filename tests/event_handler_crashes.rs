//! Whatever moment kills the gateway: what handlers have built is what the log says, and what they cause goes out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use fastrand::Rng;
use http::Method;
use serde_json::{Value, json};
use sluice_harness::{Client, Origin, Sluice, process::workspace_root, sluice, wait_until};

/// Before and after everything that must be done in order.
const POINTS: [&str; 5] = ["before-handled", "after-handled", "after-call", "before-called", "after-append-commit"];

/// Kills at random moments.
const KILLS: usize = 20;

const WRITERS: usize = 3;

fn config(receiver: &Origin) -> String {
    format!(
        "[events]\nallow_hosts = [\"{0}\"]\n\
         [events.handlers.counts]\nplugin = \"count-by-type\"\n\
         [events.handlers.latest]\nplugin = \"latest-by-key\"\nsettings = {{ key = \"subject\" }}\n\
         [events.handlers.forward]\nplugin = \"webhook-forwarder\"\nsettings = {{ target = \"http://{0}/taken\", types = [\"told\"] }}\n\
         [services.none]\nendpoints = [\"127.0.0.1:9\"]\n[[route]]\npath = \"/\"\nservice = \"none\"\n",
        receiver.address()
    )
}

/// Appends until the gateway is gone.
fn write(client: &Client, random: &mut Rng, done: &AtomicUsize) {
    loop {
        let event_type = random.choice(["told", "kept", "kept.aside"]).expect("there are some");
        let subject = format!("subject-{}", random.u8(..20));
        let id = format!("{:016x}", random.u64(..));
        let headers = [
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-source", "/crashes"),
            ("ce-type", event_type),
            ("ce-id", &id),
            ("ce-subject", &subject),
        ];
        let body = json!({ "number": random.u32(..) }).to_string().into_bytes();
        let path = format!("/streams/stream-{}", random.u8(..5));
        let Ok(answer) = client.try_send(Method::POST, &path, &headers, body) else { return };
        answer.expect(201);
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writers until the gateway is dead: by itself, or after so many appends.
fn live_until_dead(gateway: Sluice, random: &mut Rng, kill_after: Option<usize>) {
    let (control, done) = (gateway.control_address(), AtomicUsize::new(0));
    let seeds: Vec<_> = (0..WRITERS).map(|_| random.u64(..)).collect();
    thread::scope(|scope| {
        // Within the scope, so that a wait which fails ends the gateway, and with it those who write until then.
        let mut gateway = gateway;
        for seed in seeds {
            let done = &done;
            scope.spawn(move || write(&Client::to(control), &mut Rng::with_seed(seed), done));
        }
        if let Some(kill_after) = kill_after {
            wait_until("enough to be under way", || done.load(Ordering::Relaxed) >= kill_after);
            gateway.kill();
        } else {
            gateway.await_exit();
        }
    });
}

/// Everything there is.
fn log(control: &Client) -> Vec<Value> {
    let mut events = Vec::new();
    let mut path = "/events?limit=1000".to_owned();
    loop {
        let page = control.get(&path).expect(200).json();
        events.extend(page["events"].as_array().expect("events").iter().cloned());
        let Some(next) = page["next"].as_str() else { return events };
        path = next[next.find("/events").expect("a path")..].to_owned();
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn projection(control: &Client, name: &str) -> Value {
    control.get(&format!("/projections/{name}")).expect(200).json()
}

/// All handlers have come to the end of the log, and nothing waits to be called.
fn settled(control: &Client) -> bool {
    ["counts", "latest", "forward"].iter().all(|name| {
        let shown = projection(control, name);
        shown["lag"] == 0 && shown["calls"]["waiting"] == 0 && shown["rebuilding"].is_null()
    })
}

/// Positions that the receiver was called for, by their idempotency keys.
fn called(receiver: &Origin) -> Vec<u64> {
    let key = |seen: &sluice_harness::Seen| {
        let key = seen.headers.get("idempotency-key").and_then(|key| key.to_str().ok()).expect("a key").to_owned();
        let parts: Vec<_> = key.split(':').collect();
        assert_eq!((parts.len(), parts[0], parts[2]), (3, "forward", "0"), "{key}");
        parts[1].parse().expect("a position")
    };
    receiver.seen().iter().map(key).collect()
}

/// Beside a recomputation from the log.
fn check(control: &Client, receiver: &Origin) {
    wait_until("the handlers to have come to the end", || settled(control));
    let events = log(control);
    let mut counts = BTreeMap::<String, u64>::new();
    let mut latest = BTreeMap::<String, Value>::new();
    for event in &events {
        *counts.entry(text(&event["type"]).to_owned()).or_default() += 1;
        latest.insert(text(&event["subject"]).to_owned(), event["data"].clone());
    }
    assert_eq!(control.get("/projections/counts/").expect(200).json()["counts"], json!(counts));
    for (subject, data) in latest {
        let found = control.get(&format!("/projections/latest/{subject}")).expect(200).json();
        assert_eq!(found["data"], data, "the latest of {subject}");
    }
    let told: Vec<_> = events.iter().filter(|event| event["type"] == "told").collect();
    let position = |event: &Value| text(&event["position"]).parse::<u64>().expect("a position");
    let called = called(receiver);
    let first_calls: BTreeSet<_> = called.iter().copied().collect();
    assert_eq!(first_calls, told.iter().map(|event| position(event)).collect(), "each event was told, and no other");
    // Of one stream in its order, repetitions aside.
    for stream in 0..5 {
        let of_stream: Vec<_> = told
            .iter()
            .filter(|event| event["stream"] == format!("stream-{stream}"))
            .map(|event| position(event))
            .collect();
        let mut seen = BTreeSet::new();
        let firsts: Vec<_> = called.iter().filter(|at| of_stream.contains(at) && seen.insert(**at)).copied().collect();
        assert_eq!(firsts, of_stream, "stream-{stream} was told out of order");
    }
    println!("{} events, {} to be told, {} calls", events.len(), told.len(), called.len());
}

/// Nothing of what has gone out goes out again.
fn rebuild(control: &Client, receiver: &Origin) {
    let before = called(receiver).len();
    let built = projection(control, "forward")["generation"].as_u64().expect("a generation");
    control.post("/projections/forward/rebuild", &json!({})).expect(202);
    wait_until("it to be built anew", || {
        let shown = projection(control, "forward");
        shown["generation"].as_u64() > Some(built) && shown["rebuilding"].is_null() && shown["lag"] == 0
    });
    // What comes next is told, so that what was told before it has been.
    let event = json!({"specversion": "1.0", "id": format!("after-{built}"), "source": "/crashes", "type": "told"});
    let headers = [("content-type", "application/cloudevents+json")];
    control.send(Method::POST, "/streams/stream-0", &headers, event.to_string().into_bytes()).expect(201);
    wait_until("the next event to be told", || called(receiver).len() > before);
    wait_until("nothing to wait any more", || settled(control));
    assert_eq!(called(receiver).len(), before + 1, "a rebuild has called again");
}

fn seeded() -> Rng {
    let given = std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("SLUICE_SEED={seed}");
    Rng::with_seed(seed)
}

#[test]
fn whatever_step_of_a_handler_the_gateway_dies_at_its_state_is_what_the_log_says_and_its_calls_go_out() {
    let mut random = seeded();
    let receiver = Origin::start("receiver");
    let config = config(&receiver);
    let directory = tempfile::tempdir().expect("a temporary folder");
    for point in POINTS {
        for time in [1, 4, 15] {
            let at = format!("{point}:{time}");
            let gateway = sluice!().config(&config).directory(directory.path()).env("SLUICE_CRASH_AT", &at).start();
            live_until_dead(gateway, &mut random, None);
        }
    }
    let gateway = sluice!().config(&config).directory(directory.path()).start();
    check(&gateway.control(), &receiver);
    rebuild(&gateway.control(), &receiver);
    check(&gateway.control(), &receiver);
}

/// A handler that does not take events of type `kept`, beside the others.
fn with_one_that_fails(config: &str) -> String {
    let hostile = workspace_root().join("tests/guests/built/event-handler-hostile.wasm");
    format!(
        "[plugins.own]\npath = {hostile:?}\n\
         [events.handlers.fails]\nplugin = \"own\"\nsettings = {{ deed = \"fails\", when = \"kept\" }}\n{config}"
    )
}

#[test]
fn whatever_step_of_a_swap_the_gateway_dies_at_no_call_is_made_again() {
    let mut random = seeded();
    let receiver = Origin::start("receiver");
    let config = config(&receiver);
    let directory = tempfile::tempdir().expect("a temporary folder");
    let gateway = sluice!().config(&config).directory(directory.path()).start();
    live_until_dead(gateway, &mut random, Some(100));
    let gateway = sluice!().config(&config).directory(directory.path()).start();
    check(&gateway.control(), &receiver);
    let made = called(&receiver).len();
    drop(gateway);
    for (point, time) in [("before-takeover", 1), ("before-takeover", 2), ("after-takeover", 1), ("after-takeover", 2)]
    {
        let at = format!("{point}:{time}");
        let mut gateway = sluice!().config(&config).directory(directory.path()).env("SLUICE_CRASH_AT", &at).start();
        let control = gateway.control();
        wait_until("the handlers to have come to the end", || settled(&control));
        let built = projection(&control, "forward")["generation"].as_u64().expect("a generation");
        // Points are counted from the first append on.
        let event =
            json!({"specversion": "1.0", "id": at, "source": "/crashes", "type": "kept", "subject": "subject-0"});
        let headers = [("content-type", "application/cloudevents+json")];
        control.send(Method::POST, "/streams/stream-0", &headers, event.to_string().into_bytes()).expect(201);
        for name in ["counts", "forward"] {
            // The first of them may be the end of it.
            let _ = control.try_send(
                Method::POST,
                &format!("/projections/{name}/rebuild"),
                &[("content-type", "application/json")],
                b"{}".to_vec(),
            );
        }
        gateway.await_exit();
        let gateway = sluice!().config(&config).directory(directory.path()).start();
        check(&gateway.control(), &receiver);
        // What was begun has ended, in one way: with one state, or with the other.
        let now = projection(&gateway.control(), "forward")["generation"].as_u64().expect("a generation");
        assert!(now == built || now == built + 1, "{at}: {built}, and then {now}");
        assert_eq!(called(&receiver).len(), made, "{at}: a rebuild has called again");
    }
}

#[test]
fn a_kill_in_the_middle_of_a_rebuild_repeats_no_call_and_the_rebuild_goes_on() {
    let mut random = seeded();
    let receiver = Origin::start("receiver");
    let config = config(&receiver);
    let directory = tempfile::tempdir().expect("a temporary folder");
    let gateway = sluice!().config(&config).directory(directory.path()).start();
    live_until_dead(gateway, &mut random, Some(300));
    let mut gateway = sluice!().config(&config).directory(directory.path()).start();
    check(&gateway.control(), &receiver);
    let made = called(&receiver).len();
    for kill in 1..=6 {
        let control = gateway.control();
        let built = projection(&control, "forward")["generation"].as_u64().expect("a generation");
        control.post("/projections/forward/rebuild", &json!({})).expect(202);
        control.post("/projections/counts/rebuild", &json!({})).expect(202);
        for _ in 0..random.u8(..4) {
            projection(&control, "forward");
        }
        gateway.kill();
        gateway = sluice!().config(&config).directory(directory.path()).start();
        wait_until("the rebuild to have ended", || {
            projection(&gateway.control(), "forward")["generation"].as_u64() == Some(built + 1)
        });
        check(&gateway.control(), &receiver);
        assert_eq!(called(&receiver).len(), made, "kill {kill}: a rebuild has called again");
    }
}

#[test]
fn an_event_stands_aside_once_whatever_step_of_that_the_gateway_dies_at() {
    let mut random = seeded();
    let receiver = Origin::start("receiver");
    let config = with_one_that_fails(&config(&receiver));
    let directory = tempfile::tempdir().expect("a temporary folder");
    for time in [1, 2, 7] {
        let at = format!("before-parked:{time}");
        let gateway = sluice!().config(&config).directory(directory.path()).env("SLUICE_CRASH_AT", &at).start();
        live_until_dead(gateway, &mut random, None);
    }
    let gateway = sluice!().config(&config).directory(directory.path()).start();
    let control = gateway.control();
    check(&control, &receiver);
    wait_until("it to have come to the end", || projection(&control, "fails")["lag"] == 0);
    let (shown, events) = (projection(&control, "fails"), log(&control));
    let kept = events.iter().filter(|event| event["type"] == "kept").count();
    assert_eq!((&shown["parked"], &shown["handled"]), (&json!(kept), &json!(events.len() - kept)), "{shown}");
    assert!(kept >= 7, "{kept}");
}

#[test]
fn kills_at_random_moments_leave_every_projection_as_the_log_has_it() {
    let mut random = seeded();
    let receiver = Origin::start("receiver");
    // Some calls fail, and are made again.
    receiver.set_failures(50, 503);
    let config = config(&receiver);
    let directory = tempfile::tempdir().expect("a temporary folder");
    for _ in 0..KILLS {
        let gateway = sluice!().config(&config).directory(directory.path()).start();
        let kill_after = random.usize(1..80);
        live_until_dead(gateway, &mut random, Some(kill_after));
    }
    receiver.set_failures(0, 503);
    let gateway = sluice!().config(&config).directory(directory.path()).start();
    check(&gateway.control(), &receiver);
}
