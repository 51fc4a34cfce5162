//! Followers: how late an event comes, and how fast what is there is read.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{
    figures::Latencies,
    load::{http, http_answer},
};

/// The largest page there is.
const PAGE: usize = 1_000;

async fn connect(address: &str) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).await.expect("it is there");
    stream.set_nodelay(true).expect("a socket");
    BufReader::with_capacity(256 * 1024, stream)
}

async fn subscribe(address: &str, after: &str) -> BufReader<TcpStream> {
    let mut connection = connect(address).await;
    let request = format!("GET /events?after={after} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\r\n");
    connection.get_mut().write_all(request.as_bytes()).await.expect("it is sent");
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        connection.read_line(&mut line).await.expect("it answers");
    }
    connection
}

/// One subscriber, appends at a steady rate: from the moment an append is sent to the event's arrival.
pub fn deliver(address: &str, lasting: Duration, rate: u64) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let mut following = subscribe(address, "end").await;
        let sent: Arc<Mutex<HashMap<String, Instant>>> = Arc::default();
        let (of_reader, wanted) = (Arc::clone(&sent), (lasting.as_secs_f64() * rate as f64) as usize);
        let reader = tokio::spawn(async move {
            let mut latencies = Latencies::default();
            let mut line = String::new();
            while latencies.len() < wanted {
                line.clear();
                following.read_line(&mut line).await.expect("it goes on");
                let Some(data) = line.strip_prefix("data:") else { continue };
                let arrived = Instant::now();
                let event: Value = serde_json::from_str(data).expect("an event");
                let id = event["id"].as_str().expect("an id");
                let asked = of_reader.lock().expect("nobody panicked").remove(id);
                latencies.add(arrived - asked.expect("it was sent"));
            }
            latencies
        });
        let mut random = fastrand::Rng::new();
        let mut connection = connect(address).await;
        let began = Instant::now();
        for nth in 0..wanted {
            tokio::time::sleep_until((began + Duration::from_secs_f64(nth as f64 / rate as f64)).into()).await;
            let request = http(&mut random, address, 1);
            let text = String::from_utf8_lossy(&request);
            let id = text.split("ce-id: ").nth(1).and_then(|rest| rest.lines().next()).expect("an id").to_owned();
            sent.lock().expect("nobody panicked").insert(id, Instant::now());
            connection.get_mut().write_all(&request).await.expect("it is sent");
            http_answer(&mut connection).await;
        }
        reader.await.expect("it ends").figures(began.elapsed(), 1)
    })
}

pub fn catch_up(address: &str, events: u64) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let began = Instant::now();
        let mut following = subscribe(address, "0").await;
        let (mut count, mut line) = (0, Vec::new());
        while count < events {
            line.clear();
            following.read_until(b'\n', &mut line).await.expect("it goes on");
            count += u64::from(line.starts_with(b"id:"));
        }
        let subscribed = count as f64 / began.elapsed().as_secs_f64();
        drop(following);
        json!({ "subscribed": subscribed, "pages": pages(address, events).await })
    })
}

async fn pages(address: &str, events: u64) -> f64 {
    let began = Instant::now();
    let mut connection = connect(address).await;
    let mut path = format!("/events?limit={PAGE}");
    let mut count = 0;
    while count < events {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
        connection.get_mut().write_all(request.as_bytes()).await.expect("it is sent");
        let (mut length, mut line) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            connection.read_line(&mut line).await.expect("it answers");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        connection.read_exact(&mut body).await.expect("it answers");
        let page: Value = serde_json::from_slice(&body).expect("a page");
        count += page["events"].as_array().map_or(0, Vec::len) as u64;
        match page["next"].as_str() {
            Some(next) => path = next.split_once(address).map_or(next, |(_, path)| path).to_owned(),
            None => break,
        }
    }
    count as f64 / began.elapsed().as_secs_f64()
}
