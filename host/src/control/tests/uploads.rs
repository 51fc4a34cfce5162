//! What is no component is refused early, and clearly.

use std::io::{Read, Write};

use sluice_harness::RawConnection;

use super::{Testbed, guests};

const NOISE_BYTES: usize = 100 * 1024 * 1024;

fn noise() -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(5);
    let mut noise = vec![0; NOISE_BYTES];
    random.fill(&mut noise);
    noise
}

#[test]
fn noise_of_100_mb_is_refused_and_the_client_reads_why() {
    let bed = Testbed::start(&guests::first());
    let refused = bed.control().put_component("/plugins/own", &noise()).expect(413).json();
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("bytes at most")), "{refused}");
    let mut short = noise();
    short.truncate(1024 * 1024);
    let refused = bed.control().put_component("/plugins/own", &short).expect(422).json();
    assert!(refused["problems"][0]["message"].as_str().is_some_and(|m| m.contains("\\0asm")), "{refused}");
    bed.all_go_to("a", 10);
}

#[test]
fn a_client_that_asks_before_it_sends_sends_nothing() {
    let bed = Testbed::start(&guests::first());
    let mut connection = RawConnection::to(bed.control_address());
    connection.send(format!(
        "PUT /plugins/own HTTP/1.1\r\nHost: {}\r\nContent-Type: application/wasm\r\nContent-Length: {NOISE_BYTES}\r\n\
         Expect: 100-continue\r\n\r\n",
        bed.control_address()
    ));
    assert_eq!(connection.read_answer().status, 413);
}

#[test]
fn a_component_without_announced_length_is_read_no_further_than_it_may_be_long() {
    let bed = Testbed::start(&guests::first());
    let mut stream = std::net::TcpStream::connect(bed.control_address()).expect("it listens");
    let head = format!(
        "PUT /plugins/own HTTP/1.1\r\nHost: {}\r\nContent-Type: application/wasm\r\nTransfer-Encoding: chunked\r\n\r\n",
        bed.control_address()
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    let mut chunk = b"100000\r\n\0asm".to_vec();
    chunk.resize(chunk.len() + 0x100000 - 4, 7);
    chunk.extend(b"\r\n");
    for _ in 0..NOISE_BYTES / 0x100000 {
        stream.write_all(&chunk).expect("what is too much is read and thrown away");
    }
    stream.write_all(b"0\r\n\r\n").expect("it reads");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[test]
fn what_is_webassembly_but_no_plugin_is_told_apart() {
    let bed = Testbed::start(&guests::first());
    let truncated = &guests::second()[..200];
    let module = wat::parse_str("(module)").expect("a module");
    for component in [truncated, &module] {
        let refused = bed.control().put_component("/plugins/own", component).expect(422).json();
        assert_eq!(refused["detail"], "this is no plugin");
        assert!(!refused["problems"][0]["message"].as_str().unwrap_or_default().is_empty(), "{refused}");
    }
    bed.all_go_to("a", 10);
}
