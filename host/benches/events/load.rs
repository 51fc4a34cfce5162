//! Appends over TCP, in each system's own protocol: a connection a client, an answer before the next request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinSet,
};

use super::figures::{Latencies, STREAMS, kibibyte};

type Connection = BufReader<TcpStream>;

/// One thread: what is measured has the other core.
pub fn run(protocol: &str, address: &str, clients: usize, lasting: Duration, batch: usize) -> Value {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let began = Instant::now();
        for number in 0..clients {
            let (protocol, address, is_over) = (protocol.to_owned(), address.to_owned(), Arc::clone(&is_over));
            tasks.spawn(async move { client(&protocol, &address, number, batch, &is_over).await });
        }
        tokio::time::sleep(lasting).await;
        is_over.store(true, Ordering::Relaxed);
        let mut all = Latencies::default();
        for latencies in tasks.join_all().await {
            all.append(latencies);
        }
        all.figures(began.elapsed(), batch)
    })
}

async fn client(protocol: &str, address: &str, number: usize, batch: usize, is_over: &AtomicBool) -> Latencies {
    let stream = TcpStream::connect(address).await.expect("it is there");
    stream.set_nodelay(true).expect("a socket");
    let mut connection = BufReader::new(stream);
    let mut random = fastrand::Rng::new();
    if protocol == "nats" {
        greet_nats(&mut connection, number).await;
    }
    let mut latencies = Latencies::default();
    while !is_over.load(Ordering::Relaxed) {
        let request = match protocol {
            "http" => http(&mut random, address, batch),
            "redis" => redis(&mut random),
            "nats" => nats(&mut random, number),
            other => panic!("no protocol {other}"),
        };
        let asked = Instant::now();
        connection.get_mut().write_all(&request).await.expect("it is sent");
        match protocol {
            "http" => http_answer(&mut connection).await,
            "redis" => redis_answer(&mut connection).await,
            _ => nats_answer(&mut connection).await,
        }
        latencies.add(asked.elapsed());
    }
    latencies
}

fn stream(random: &mut fastrand::Rng) -> String {
    format!("stream-{}", random.u64(..STREAMS))
}

/// CloudEvents in binary mode, or a batch of them.
pub fn http(random: &mut fastrand::Rng, address: &str, batch: usize) -> Vec<u8> {
    let stream = stream(random);
    let id = |random: &mut fastrand::Rng| format!("{:032x}", random.u128(..));
    let (headers, body) = if batch == 1 {
        let headers = format!(
            "content-type: text/plain\r\nce-specversion: 1.0\r\nce-type: bench.measured\r\nce-source: /bench\r\nce-id: {}\r\n",
            id(random)
        );
        (headers, kibibyte(random))
    } else {
        let events: Vec<_> = std::iter::repeat_with(|| {
            let (id, data) = (id(random), kibibyte(random));
            format!(
                r#"{{"specversion":"1.0","type":"bench.measured","source":"/bench","id":"{id}","datacontenttype":"text/plain","data":"{data}"}}"#
            )
        })
        .take(batch)
        .collect();
        ("content-type: application/cloudevents-batch+json\r\n".to_owned(), format!("[{}]", events.join(",")))
    };
    let length = body.len();
    format!("POST /streams/{stream} HTTP/1.1\r\nhost: {address}\r\n{headers}content-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

pub async fn http_answer(connection: &mut Connection) {
    let mut line = String::new();
    connection.read_line(&mut line).await.expect("it answers");
    assert!(line.starts_with("HTTP/1.1 201"), "{line}");
    let mut length = 0;
    loop {
        line.clear();
        connection.read_line(&mut line).await.expect("it answers");
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await.expect("it answers");
}

fn redis(random: &mut fastrand::Rng) -> Vec<u8> {
    let (stream, data) = (stream(random), kibibyte(random));
    let words = ["XADD", &stream, "*", "data", &data];
    let words: String = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
    format!("*5\r\n{words}").into_bytes()
}

async fn redis_answer(connection: &mut Connection) {
    let mut line = String::new();
    connection.read_line(&mut line).await.expect("it answers");
    assert!(line.starts_with('$'), "{line}");
    line.clear();
    connection.read_line(&mut line).await.expect("it answers");
}

async fn greet_nats(connection: &mut Connection, number: usize) {
    let mut line = String::new();
    connection.read_line(&mut line).await.expect("it greets");
    assert!(line.starts_with("INFO"), "{line}");
    let words = format!("CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB inbox.{number} 1\r\n");
    connection.get_mut().write_all(words.as_bytes()).await.expect("it is sent");
}

fn nats(random: &mut fastrand::Rng, number: usize) -> Vec<u8> {
    let (stream, data) = (stream(random), kibibyte(random));
    format!("PUB events.{stream} inbox.{number} {}\r\n{data}\r\n", data.len()).into_bytes()
}

async fn nats_answer(connection: &mut Connection) {
    let mut line = String::new();
    loop {
        line.clear();
        connection.read_line(&mut line).await.expect("it answers");
        if line.starts_with("PING") {
            connection.get_mut().write_all(b"PONG\r\n").await.expect("it is sent");
        } else if let Some(message) = line.strip_prefix("MSG ") {
            let length: usize =
                message.split_whitespace().last().and_then(|length| length.parse().ok()).expect("a length");
            let mut body = vec![0; length + 2];
            connection.read_exact(&mut body).await.expect("it answers");
            assert!(body.windows(6).any(|six| six == b"\"seq\":"), "{}", String::from_utf8_lossy(&body));
            return;
        }
    }
}
