//! Whatever moment kills the gateway: a group delivers each event at least once and in the order of its stream, what was
//! acknowledged comes no more, and what was parked is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use fastrand::Rng;
use http::Method;
use serde_json::{Value, json};
use sluice_harness::{Client, Sluice, control::text, sluice, wait_until};

/// Before and after what makes a settlement durable.
const POINTS: [&str; 2] = ["before-settle-commit", "after-settle-commit"];

/// Kills at random moments.
const KILLS: usize = 25;

const CONSUMERS: usize = 3;

const CONFIG: &str = "[services.none]\nendpoints = [\"127.0.0.1:9\"]\n[[route]]\npath = \"/\"\nservice = \"none\"\n";

/// What clients know, over all lives of the gateway.
#[derive(Default)]
struct Known {
    /// By stream, how many were acknowledged or may be there.
    appended: BTreeMap<String, u64>,
    /// By position: stream and revision of what was delivered.
    delivered: BTreeMap<u64, (String, u64)>,
    acknowledged: BTreeSet<u64>,
    parked: BTreeSet<u64>,
    /// Asked to be settled, and not answered.
    in_doubt: BTreeSet<u64>,
}

impl Known {
    fn deliver(&mut self, event: &Value) -> u64 {
        let number = |name: &str| text(&event[name]).parse::<u64>().expect("a number");
        let (position, stream, revision) = (number("position"), text(&event["stream"]), number("revision"));
        assert!(!self.acknowledged.contains(&position), "{position} was acknowledged, and is delivered");
        assert!(!self.parked.contains(&position), "{position} was parked, and is delivered");
        let unsettled = self.delivered.iter().find(|(at, (of, earlier))| {
            let is_settled = [&self.acknowledged, &self.parked, &self.in_doubt].iter().any(|known| known.contains(at));
            *of == stream && *earlier < revision && !is_settled
        });
        assert_eq!(unsettled, None, "{stream}@{revision} is delivered before it");
        let before = self.delivered.iter().filter(|(_, (of, earlier))| *of == stream && *earlier < revision).count();
        assert_eq!(before as u64, revision, "one before {stream}@{revision} was never delivered");
        self.delivered.insert(position, (stream, revision));
        position
    }
}

/// Takes and settles until the gateway is gone, or `more` says that it is enough.
fn consume(client: &Client, known: &Mutex<Known>, random: &mut Rng, consumer: usize, mut more: impl FnMut() -> bool) {
    let headers = [("content-type", "application/json")];
    while more() {
        let path = format!("/groups/g/take?consumer=c{consumer}&limit=4&wait=50ms");
        // Held until it is settled: what others are delivered meanwhile is of other streams.
        let Ok(taken) = client.try_send(Method::POST, &path, &headers, b"{}".to_vec()) else { return };
        let taken = taken.expect(200).json();
        let mut body = BTreeMap::<&str, Vec<Value>>::new();
        let mut settled = Vec::new();
        {
            let mut known = known.lock().expect("unpoisoned");
            for delivery in taken["deliveries"].as_array().expect("a list") {
                let position = known.deliver(&delivery["event"]);
                let how = ["ack", "ack", "ack", "ack", "retry", "park"][random.usize(0..6)];
                body.entry(how).or_default().push(delivery["token"].clone());
                if how != "retry" {
                    known.in_doubt.insert(position);
                    settled.push((position, how));
                }
            }
        }
        if body.is_empty() {
            continue;
        }
        let body = json!(body).to_string().into_bytes();
        let Ok(answer) = client.try_send(Method::POST, "/groups/g/settle", &headers, body) else { return };
        let answer = answer.expect(200).json();
        assert_eq!(answer["refused"], json!([]), "the lease is long");
        let mut known = known.lock().expect("unpoisoned");
        for (position, how) in settled {
            known.in_doubt.remove(&position);
            if how == "ack" {
                known.acknowledged.insert(position)
            } else {
                known.parked.insert(position)
            };
        }
    }
}

/// Appends until the gateway is gone.
fn write(client: &Client, known: &Mutex<Known>, random: &mut Rng, done: &AtomicUsize) {
    loop {
        let stream = format!("s{}", random.u8(0..6));
        let event =
            json!({"specversion": "1.0", "id": format!("{:016x}", random.u64(..)), "source": "/c", "type": "t"});
        let headers = [("content-type", "application/cloudevents+json")];
        let path = format!("/streams/{stream}");
        let Ok(answer) = client.try_send(Method::POST, &path, &headers, event.to_string().into_bytes()) else { return };
        answer.expect(201);
        *known.lock().expect("unpoisoned").appended.entry(stream).or_default() += 1;
        done.fetch_add(1, Ordering::Relaxed);
    }
}

fn live_until_dead(gateway: Sluice, known: &Mutex<Known>, random: &mut Rng, kill_after: Option<usize>) {
    let (control, done) = (gateway.control_address(), AtomicUsize::new(0));
    let seeds: Vec<_> = (0..=CONSUMERS).map(|_| random.u64(..)).collect();
    thread::scope(|scope| {
        // Within the scope, so that a wait which fails ends the gateway, and with it those who ask it until then.
        let mut gateway = gateway;
        for (consumer, seed) in seeds[1..].iter().enumerate() {
            scope.spawn(move || consume(&Client::to(control), known, &mut Rng::with_seed(*seed), consumer, || true));
        }
        scope.spawn(|| write(&Client::to(control), known, &mut Rng::with_seed(seeds[0]), &done));
        if let Some(kill_after) = kill_after {
            wait_until("enough to be under way", || done.load(Ordering::Relaxed) >= kill_after);
            gateway.kill();
        } else {
            gateway.await_exit();
        }
    });
}

/// What is left is delivered, and what was settled is.
fn check(client: &Client, known: &Mutex<Known>, random: &mut Rng) {
    let parked = client.get("/groups/g/parked").expect(200).json();
    let mut there = BTreeSet::new();
    let mut page = parked;
    loop {
        let of_page = page["parked"].as_array().expect("a list");
        there.extend(of_page.iter().map(|one| one["position"].as_u64().expect("a position")));
        let Some(next) = page["next"].as_str() else { break };
        page = client.get(next).expect(200).json();
    }
    {
        let mut known = known.lock().expect("unpoisoned");
        assert!(known.parked.is_subset(&there), "what was parked is gone");
        assert_eq!(client.get("/groups/g").expect(200).json()["parked"], there.len());
        known.parked = there;
    }
    consume(client, known, random, 9, || client.get("/groups/g").expect(200).json()["lag"] != 0);
    let known = known.lock().expect("unpoisoned");
    let mut delivered = BTreeMap::<&str, u64>::new();
    known.delivered.values().for_each(|(stream, _)| *delivered.entry(stream).or_default() += 1);
    for (stream, count) in &known.appended {
        assert!(delivered.get(stream.as_str()).is_some_and(|of| of >= count), "not all of {stream} was delivered");
    }
}

fn begin(directory: &std::path::Path) {
    let gateway = sluice!().config(CONFIG).directory(directory).start();
    let settings = json!({"backoff": "10ms", "ack_timeout": "10m"}).to_string().into_bytes();
    let headers = [("content-type", "application/json")];
    gateway.control().send(Method::PUT, "/groups/g", &headers, settings).expect(201);
}

#[test]
fn whatever_step_of_a_settlement_the_gateway_dies_at_nothing_settled_comes_again_and_nothing_is_left_out() {
    let mut random = seeded();
    let directory = tempfile::tempdir().expect("a temporary folder");
    begin(directory.path());
    let known = Mutex::new(Known::default());
    for point in POINTS {
        for time in [1, 2, 9, 50] {
            let at = format!("{point}:{time}");
            let gateway = sluice!().config(CONFIG).directory(directory.path()).env("SLUICE_CRASH_AT", &at).start();
            live_until_dead(gateway, &known, &mut random, None);
        }
        let gateway = sluice!().config(CONFIG).directory(directory.path()).start();
        check(&gateway.control(), &known, &mut random);
        println!("{point}: {} acknowledged", known.lock().expect("unpoisoned").acknowledged.len());
    }
    assert!(known.lock().expect("unpoisoned").acknowledged.len() > 20, "the consumers got nowhere");
}

#[test]
fn kills_at_random_moments_lose_and_repeat_no_settlement() {
    let mut random = seeded();
    let directory = tempfile::tempdir().expect("a temporary folder");
    begin(directory.path());
    let known = Mutex::new(Known::default());
    for _ in 0..KILLS {
        let gateway = sluice!().config(CONFIG).directory(directory.path()).start();
        let kill_after = random.usize(1..60);
        live_until_dead(gateway, &known, &mut random, Some(kill_after));
    }
    let gateway = sluice!().config(CONFIG).directory(directory.path()).start();
    check(&gateway.control(), &known, &mut random);
    println!("{} acknowledged over {KILLS} kills", known.lock().expect("unpoisoned").acknowledged.len());
}

fn seeded() -> Rng {
    let given = std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("SLUICE_SEED={seed}");
    Rng::with_seed(seed)
}
