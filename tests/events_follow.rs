//! Events as server-sent events: what is there and then what comes, over lost connections and restarts, with neither a gap nor
//! a repetition, and nothing in memory for a client that does not read.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    thread,
};

use http::Method;
use serde_json::{Value, json};
use sluice_harness::{DEADLINE, Sluice, control::text, sluice, wait_until};
use tempfile::TempDir;

/// A client of server-sent events, as plain as it can be.
struct Follower {
    lines: BufReader<TcpStream>,
    last_event_id: Option<String>,
}

impl Follower {
    fn start(address: SocketAddr, path: &str, last_event_id: Option<&str>) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket has a timeout");
        let resumed = last_event_id.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        // HTTP/1.0, so that the body is not in chunks.
        let head = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\naccept: text/event-stream\r\n{resumed}\r\n");
        (&stream).write_all(head.as_bytes()).expect("it is sent");
        let mut lines = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            lines.read_line(&mut line).expect("a head");
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_ascii_lowercase());
        }
        assert!(head[0].contains(" 200 "), "{head:?}");
        assert!(head.contains(&"content-type: text/event-stream".to_owned()), "{head:?}");
        Self { lines, last_event_id: last_event_id.map(str::to_owned) }
    }

    /// None: it has ended.
    fn next(&mut self) -> Option<Value> {
        let (mut data, mut id) = (String::new(), None);
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).ok()?;
            if read == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", given)) => id = Some(given.to_owned()),
                Some(("data", given)) => data.push_str(given),
                _ if line == "\n" => {
                    self.last_event_id = id.take().or(self.last_event_id.take());
                    if !data.is_empty() {
                        return Some(serde_json::from_str(&data).expect("JSON"));
                    }
                }
                _ => {}
            }
        }
    }

    /// The ids of the next events.
    fn ids(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| text(&self.next().expect("it has not ended")["id"])).collect()
    }
}

fn append(gateway: &Sluice, stream: &str, ids: std::ops::Range<usize>) {
    let events: Vec<_> = ids
        .map(|id| json!({"specversion": "1.0", "id": id.to_string(), "source": "/test", "type": format!("t.{}", id % 2)}))
        .collect();
    let headers = [("content-type", "application/cloudevents-batch+json")];
    let body = json!(events).to_string().into_bytes();
    gateway.control().send(Method::POST, &format!("/streams/{stream}"), &headers, body).expect(201);
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[test]
fn what_is_there_comes_first_and_then_what_is_appended() {
    let gateway = sluice!().start();
    append(&gateway, "s", 0..250);
    let mut follower = Follower::start(gateway.control_address(), "/events", None);
    let first = follower.next().expect("it has not ended");
    let place = (&first["id"], &first["position"], &first["revision"], &first["stream"]);
    assert_eq!(place, (&json!("0"), &json!("1"), &json!("0"), &json!("s")));
    assert_eq!(follower.last_event_id.as_deref(), Some("1"), "the id is the position");
    assert_eq!(follower.ids(249), numbers(1..250));
    append(&gateway, "s", 250..252);
    assert_eq!(follower.ids(2), ["250", "251"]);
    assert_eq!(gateway.metric("sluice_event_subscribers", &[]), 1.0);
    drop(follower);
    wait_until("its place to be free", || gateway.metric("sluice_event_subscribers", &[]) == 0.0);
}

#[test]
fn following_begins_where_it_is_asked_to() {
    let gateway = sluice!().start();
    append(&gateway, "a", 0..10);
    append(&gateway, "b", 10..20);
    let address = gateway.control_address();
    let from = |path: &str, resumed: Option<&str>| Follower::start(address, path, resumed);
    assert_eq!(from("/events?after=5", None).ids(3), ["5", "6", "7"]);
    assert_eq!(from("/events?after=5", Some("18")).ids(2), ["18", "19"], "Last-Event-ID goes before");
    assert_eq!(from("/streams/b?type=t.1", None).ids(2), ["11", "13"]);
    assert_eq!(from("/events?stream=b*&type=t.0&after=13", None).ids(2), ["14", "16"]);
    let mut new = from("/events?after=end", None);
    let mut of_one = from("/streams/a", Some("10"));
    append(&gateway, "a", 20..21);
    assert_eq!((new.ids(1), of_one.ids(1)), (numbers(20..21), numbers(20..21)));
}

#[test]
fn a_follower_that_comes_back_misses_nothing_and_sees_nothing_twice() {
    const EVENTS: usize = 2_000;
    let gateway = sluice!().start();
    thread::scope(|scope| {
        scope.spawn(|| {
            for first in (0..EVENTS).step_by(20) {
                append(&gateway, ["a", "b", "c"][first % 3], first..first + 20);
            }
        });
        let (mut seen, mut last_event_id) = (Vec::new(), None::<String>);
        while seen.len() < EVENTS {
            let mut follower = Follower::start(gateway.control_address(), "/events", last_event_id.as_deref());
            let some = (EVENTS - seen.len()).min(97);
            seen.extend(follower.ids(some));
            last_event_id = follower.last_event_id;
        }
        assert_eq!(seen, numbers(0..EVENTS));
    });
}

#[test]
fn a_shutdown_ends_those_who_follow_and_the_next_gateway_goes_on() {
    let folder = TempDir::new().expect("a temporary folder");
    let mut gateway = sluice!().directory(folder.path()).start();
    append(&gateway, "s", 0..5);
    let mut follower = Follower::start(gateway.control_address(), "/events", None);
    assert_eq!(follower.ids(5), numbers(0..5));
    gateway.begin_termination();
    assert_eq!(follower.next(), None, "it is ended, and not waited for");
    assert!(gateway.await_exit().success());
    let gateway = sluice!().directory(folder.path()).start();
    append(&gateway, "s", 5..7);
    let resumed = follower.last_event_id.clone();
    assert_eq!(Follower::start(gateway.control_address(), "/events", resumed.as_deref()).ids(2), ["5", "6"]);
}

#[test]
fn who_does_not_read_takes_no_memory_and_holds_no_writer_back() {
    // Few enough to be appended within the minute after which a connection that takes nothing is cut.
    const EVENTS: usize = 64;
    const FOLLOWERS: usize = 24;
    let gateway = sluice!().start();
    let address = gateway.control_address();
    let mut silent: Vec<_> = (0..FOLLOWERS).map(|_| Follower::start(address, "/events", None)).collect();
    wait_until("all to follow", || gateway.metric("sluice_event_subscribers", &[]) == FOLLOWERS as f64);
    let data = "x".repeat(1024 * 1024 - 16);
    let append = |id: usize| {
        let event = json!({"specversion": "1.0", "id": id.to_string(), "source": "/test", "type": "large",
            "datacontenttype": "text/plain", "data": data});
        let headers = [("content-type", "application/cloudevents+json")];
        let body = event.to_string().into_bytes();
        gateway.control().send(Method::POST, "/events", &headers, body).expect(201);
    };
    (0..EVENTS / 2).for_each(append);
    gateway.reset_peak_rss();
    let before = gateway.rss_bytes();
    (EVENTS / 2..EVENTS).for_each(append);
    let grown = gateway.peak_rss_bytes().saturating_sub(before);
    // Each could hold the half that was appended meanwhile: 24 × 32 MiB.
    assert!(grown < 256 * 1024 * 1024, "{} MiB for events that nobody reads", grown >> 20);
    assert_eq!(silent[0].ids(EVENTS), numbers(0..EVENTS), "one that reads after all has missed nothing");
}
