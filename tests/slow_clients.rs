//! Clients that are slow on purpose are cut off in time; clients that are slow but moving are not.

use std::time::{Duration, Instant};

use sluice_harness::{Origin, RawConnection, Sluice, any_route, sluice, wait_until};

/// A worker's clock for these limits moves so often.
const TICK: Duration = Duration::from_millis(100);

/// A limit is kept to within a tick and what a loaded machine adds.
const CUT_WITHIN: Duration = Duration::from_secs(5);

/// Only what a test is about is short: a client that gets no CPU for a second is late with everything.
fn start(limits: &str) -> (Origin, Sluice) {
    let origin = Origin::start("a");
    let config = format!("[gateway.limits]\n{limits}\n{}", any_route("origin", &[origin.address()], ""));
    (origin, sluice!().config(config).start())
}

#[test]
fn a_head_in_drops_is_cut_off_with_408() {
    let (origin, gateway) = start("header_read_timeout = \"500 ms\"");
    let begun = Instant::now();
    let mut client = RawConnection::to(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: gateway.test\r\n");
    // A field a while, for ever: each is progress, but the head as a whole is late.
    while client.is_silent_for(Duration::from_millis(100)) {
        assert!(begun.elapsed() < CUT_WITHIN, "still open");
        if client.try_send("X-A: b\r\n").is_err() {
            break;
        }
    }
    assert!(begun.elapsed() >= Duration::from_millis(500) - TICK, "cut after {:?}", begun.elapsed());
    let answer = client.read_answer();
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    client.expect_close();
    assert_eq!(origin.requests(), 0);
}

#[test]
fn a_body_that_stops_is_cut_off_with_408() {
    let (origin, gateway) = start("body_read_timeout = \"500 ms\"");
    let mut client = RawConnection::to(gateway.address());
    client.send("POST /count HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 10\r\n\r\nhello");
    let answer = client.read_answer();
    assert_eq!(answer.status, 408, "{}", answer.text());
    client.expect_close();
    wait_until("the endpoint's request has ended too", || origin.in_flight() == 0);
}

#[test]
fn a_body_in_drops_is_served() {
    let (_origin, gateway) = start("body_read_timeout = \"3 s\"");
    let mut client = RawConnection::to(gateway.address());
    client.send("POST /count HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..6 {
        // Together longer than the limit, each wait shorter.
        assert!(client.is_silent_for(Duration::from_millis(700)));
        client.send("1\r\nx\r\n");
    }
    client.send("0\r\n\r\n");
    let answer = client.read_answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "6\n"));
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let (_origin, gateway) = start("keep_alive_timeout = \"800 ms\"");
    let mut client = RawConnection::to(gateway.address());
    let begun = Instant::now();
    client.send("GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    assert_eq!(client.read_answer().status, 200);
    client.expect_close();
    assert!(begun.elapsed() < CUT_WITHIN && begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[test]
fn a_request_that_takes_its_time_is_not_an_idle_connection() {
    let limits = ["header_read", "body_read", "keep_alive", "write"].map(|of| format!("{of}_timeout = \"3 s\"\n"));
    let (origin, gateway) = start(&limits.concat());
    origin.set_delay(Duration::from_millis(4_500));
    let mut client = RawConnection::to(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    assert_eq!(client.read_answer().status, 200);
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_cut_off() {
    let (origin, gateway) = start("write_timeout = \"500 ms\"");
    let mut client = RawConnection::to(gateway.address());
    client.send("GET /bytes/50000000 HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    wait_until("the request is under way", || origin.requests() == 1);
    wait_until("the connection is gone", || gateway.metric("sluice_connections", &[]) == 0.0);
    let read = client.read_to_end().map_or(0, |rest| rest.len());
    assert!(read < 50_000_000, "the whole answer came");
}
