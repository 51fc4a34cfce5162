//! Clients that are slow on purpose are cut off in time; clients that are slow but moving are not.

use std::time::{Duration, Instant};

use sluice_harness::{Origin, RawConnection, Sluice, any_route, sluice, wait_until};

const LIMITS: &str = r#"
[gateway.limits]
header_read_timeout = "500 ms"
body_read_timeout = "500 ms"
keep_alive_timeout = "800 ms"
write_timeout = "500 ms"
"#;

/// A worker's clock for these limits moves so often.
const TICK: Duration = Duration::from_millis(100);

/// A limit is kept to within a tick and what a loaded machine adds.
const CUT_WITHIN: Duration = Duration::from_secs(5);

fn start() -> (Origin, Sluice) {
    let origin = Origin::start("a");
    let gateway = sluice!().config(LIMITS.to_owned() + &any_route("origin", &[origin.address()], "")).start();
    (origin, gateway)
}

#[test]
fn a_head_in_drops_is_cut_off_with_408() {
    let (origin, gateway) = start();
    let mut client = RawConnection::to(gateway.address());
    let begun = Instant::now();
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
    let (origin, gateway) = start();
    let mut client = RawConnection::to(gateway.address());
    client.send("POST /count HTTP/1.1\r\nHost: gateway.test\r\nContent-Length: 10\r\n\r\nhello");
    let answer = client.read_answer();
    assert_eq!(answer.status, 408, "{}", answer.text());
    client.expect_close();
    wait_until("the endpoint's request has ended too", || origin.in_flight() == 0);
}

#[test]
fn a_body_in_drops_is_served() {
    let (_origin, gateway) = start();
    let mut client = RawConnection::to(gateway.address());
    client.send("POST /count HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..6 {
        // Together longer than the limit, each wait shorter.
        assert!(client.is_silent_for(Duration::from_millis(150)));
        client.send("1\r\nx\r\n");
    }
    client.send("0\r\n\r\n");
    let answer = client.read_answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "6\n"));
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let (_origin, gateway) = start();
    let mut client = RawConnection::to(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    assert_eq!(client.read_answer().status, 200);
    let begun = Instant::now();
    client.expect_close();
    assert!(begun.elapsed() < CUT_WITHIN && begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[test]
fn a_request_that_takes_its_time_is_not_an_idle_connection() {
    let (origin, gateway) = start();
    origin.set_delay(Duration::from_millis(1500));
    let mut client = RawConnection::to(gateway.address());
    client.send("GET / HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    assert_eq!(client.read_answer().status, 200);
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_cut_off() {
    let (origin, gateway) = start();
    let mut client = RawConnection::to(gateway.address());
    client.send("GET /bytes/50000000 HTTP/1.1\r\nHost: gateway.test\r\n\r\n");
    wait_until("the request is under way", || origin.requests() == 1);
    wait_until("the connection is gone", || gateway.metric("sluice_connections", &[]) == 0.0);
    let read = client.read_to_end().map_or(0, |rest| rest.len());
    assert!(read < 50_000_000, "the whole answer came");
}
