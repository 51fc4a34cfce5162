//! What the registry has acknowledged survives kill -9, wherever it strikes.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use fastrand::Rng;
use http::Method;
use serde_json::json;
use sluice_harness::{Client, sluice};

const ROUNDS: usize = 6;
const REGISTRATIONS: usize = 1000;
const CLIENTS: usize = 8;

#[test]
fn every_acknowledged_registration_survives_kill_9() {
    let seed =
        std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SLUICE_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let directory = tempfile::tempdir().expect("a temporary folder");
    let acknowledged = Mutex::new(Vec::new());
    let mut index = 0;
    for round in 0..ROUNDS {
        let mut gateway = sluice!().config("").directory(directory.path()).start();
        index = check(&gateway.control(), &acknowledged.lock().expect("unpoisoned"), index);
        let kill_after = random.usize(1..REGISTRATIONS * 9 / 10);
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let control = gateway.control_address();
        thread::scope(|scope| {
            let mut clients = Vec::new();
            for _ in 0..CLIENTS {
                clients.push(scope.spawn(|| {
                    let client = Client::to(control);
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= REGISTRATIONS {
                            break;
                        }
                        let id = format!("r{round}-{number}");
                        // An error is that the gateway is gone: it has not acknowledged.
                        let Ok(answer) = register(&client, &id) else { break };
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        acknowledged.lock().expect("unpoisoned").push(id);
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }));
            }
            // Clients that failed end early; their panics come out when the scope ends.
            while done.load(Ordering::Relaxed) < kill_after && !clients.iter().all(|client| client.is_finished()) {
                thread::sleep(Duration::from_millis(1));
            }
            gateway.kill();
        });
        println!("round {round}: killed after {} acknowledged of {REGISTRATIONS}", done.load(Ordering::Relaxed));
    }
    let gateway = sluice!().config("").directory(directory.path()).start();
    check(&gateway.control(), &acknowledged.lock().expect("unpoisoned"), index);
}

fn register(client: &Client, id: &str) -> Result<sluice_harness::Answer, ureq::Error> {
    let body = json!({"ID": id, "Name": "web", "Address": "10.0.0.7", "Port": 8080, "Tags": [id]});
    client.try_send(Method::PUT, "/v1/agent/service/register", &[], body.to_string().into_bytes())
}

/// All of them are there, whole, and the index has not gone backwards; the index.
fn check(client: &Client, acknowledged: &[String], known_index: u64) -> u64 {
    let services = client.get("/v1/agent/services").expect(200).json();
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|id| services[id.as_str()]["Tags"] != json!([id]) || services[id.as_str()]["Port"] != 8080)
        .collect();
    assert!(lost.is_empty(), "{} of {} acknowledged registrations are lost: {lost:?}", lost.len(), acknowledged.len());
    let index = client.get("/registry").expect(200).json()["index"].as_u64().expect("an index");
    assert!(index >= known_index, "the index went back from {known_index} to {index}");
    let newest = services.as_object().into_iter().flatten().filter_map(|(_, it)| it["ModifyIndex"].as_u64()).max();
    assert!(index >= newest.unwrap_or(0), "the index {index} is older than an instance's {newest:?}");
    index
}
