//! Events in figures (`tests/bench/events.py` runs all of it and writes them down). Each command prints one JSON object.
//!
//! ```text
//! events engine FOLDER SECONDS              the store in process, beside bare fjall and the bare disk
//! events grow FOLDER EVENTS                 the cost of an append as the store grows
//! events reopen FOLDER EVENTS               opening after kill -9
//! events load PROTOCOL ADDRESS CLIENTS SECONDS BATCH   http, redis or nats: appends over a connection a client
//! events deliver ADDRESS SECONDS RATE       from an append's answer being asked for to its arrival at a subscriber
//! events catch-up ADDRESS EVENTS            from the beginning, over server-sent events and by pages
//! ```

mod disk;
mod engine;
mod figures;
mod follow;
mod load;
mod reopen;

use std::{path::Path, time::Duration};

use serde_json::Value;

/// The gateway's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    // cargo's own comes with it.
    let given: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    let figures = match &given[..] {
        ["engine", folder, seconds] => engine::compare(Path::new(folder), duration(seconds)),
        ["grow", folder, events] => engine::grow(Path::new(folder), number(events)),
        ["reopen", folder, events] => reopen::after_kill(Path::new(folder), number(events)),
        ["fill", folder] => reopen::fill(Path::new(folder)),
        ["load", protocol, address, clients, seconds, batch] => {
            let (clients, batch) = (number(clients), number(batch));
            load::run(protocol, address, clients as usize, duration(seconds), batch as usize)
        }
        ["deliver", address, seconds, rate] => follow::deliver(address, duration(seconds), number(rate)),
        ["catch-up", address, events] => follow::catch_up(address, number(events)),
        // So that `cargo bench` as a whole goes on.
        _ => Value::String("events: a command of tests/bench/events.py".to_owned()),
    };
    println!("{figures}");
}

fn duration(seconds: &str) -> Duration {
    Duration::from_secs_f64(seconds.parse().expect("seconds"))
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}
