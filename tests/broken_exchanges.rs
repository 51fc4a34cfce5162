//! Exchanges that break midway, at either end: nobody is told that they were whole, and nothing leaks.

use std::sync::mpsc;

use http::Method;
use sluice_harness::{
    DEADLINE, HeldPort, Origin, RawConnection, RawOrigin, Sluice, Version, any_route, raw_origin, sluice, transfer,
    wait_until,
};

#[test]
fn a_client_that_leaves_during_the_answer_is_counted_out() {
    for (version, upstream) in all_versions() {
        let (origin, gateway) = start(upstream);
        let mut exchange = transfer::begin(version, gateway.address(), "/bytes/1000000000000", 0).unwrap();
        exchange.read(1_000_000).unwrap();
        assert_eq!(gateway.in_flight("service"), 1);
        drop(exchange);
        wait_until("nothing to be in flight", || gateway.in_flight("service") == 0);
        still_serves(&gateway, &origin);
    }
}

#[test]
fn a_client_that_leaves_before_the_answer_is_counted_out_and_the_origin_is_told() {
    for (_, upstream) in all_versions() {
        let (origin, gateway) = start(upstream);
        let mut raw = RawConnection::to(gateway.address());
        raw.send("GET /delay/3600000 HTTP/1.1\r\nhost: a\r\n\r\n");
        wait_until("the request to arrive", || origin.in_flight() == 1);
        assert_eq!(gateway.in_flight("service"), 1);
        raw.reset();
        wait_until("nothing to be in flight", || gateway.in_flight("service") == 0);
        wait_until("the origin to hear of it", || origin.in_flight() == 0);
        still_serves(&gateway, &origin);
    }
}

#[test]
fn a_client_that_leaves_while_it_sends_is_counted_out() {
    for (_, upstream) in all_versions() {
        let (origin, gateway) = start(upstream);
        let mut raw = RawConnection::to(gateway.address());
        raw.send("POST /count HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n");
        raw.send(vec![b'x'; 1_000]);
        wait_until("the request to arrive", || origin.requests() == 1);
        raw.reset();
        wait_until("nothing to be in flight", || gateway.in_flight("service") == 0);
        wait_until("the origin to hear of it", || origin.in_flight() == 0);
        still_serves(&gateway, &origin);
    }
}

#[test]
fn a_hundred_clients_that_leave_at_once_leave_nothing_behind() {
    let (origin, gateway) = start("http/1.1");
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let mut raw = RawConnection::to(gateway.address());
            raw.send("GET /delay/3600000 HTTP/1.1\r\nhost: a\r\n\r\n");
            raw
        })
        .collect();
    wait_until("all requests to arrive", || origin.in_flight() == 100);
    waiting.into_iter().for_each(RawConnection::reset);
    wait_until("nothing to be in flight", || gateway.in_flight("service") == 0);
    wait_until("the origin to hear of all", || origin.in_flight() == 0);
    still_serves(&gateway, &origin);
}

#[test]
fn an_answer_that_the_origin_ends_early_never_looks_whole() {
    let origin = RawOrigin::start(|mut exchange| {
        exchange.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nonly this");
    });
    let gateway = sluice!().config(any_route("service", &[origin.address()], "")).start();
    for version in [Version::H1, Version::H2] {
        let mut exchange = transfer::begin(version, gateway.address(), "/", 0).unwrap();
        assert_eq!(exchange.status(), 200);
        assert!(exchange.read_to_end().is_err(), "{version:?}");
    }
    wait_until("nothing to be in flight", || gateway.in_flight("service") == 0);
}

#[test]
fn an_answer_that_the_origin_resets_midway_never_looks_whole() {
    let origin = RawOrigin::resets_mid_body(100_000, 50_000);
    let gateway = sluice!().config(any_route("service", &[origin.address()], "")).start();
    for version in [Version::H1, Version::H2] {
        // A reset discards what the gateway has not read yet, so not even the head need arrive.
        if let Ok(mut exchange) = transfer::begin(version, gateway.address(), "/", 0) {
            let (status, read) = (exchange.status(), exchange.read_to_end());
            assert!(status == 502 || read.is_err(), "{version:?}: {status} {read:?}");
        }
    }
    wait_until("nothing to be in flight", || gateway.in_flight("service") == 0);
}

#[test]
fn a_chunked_answer_that_breaks_off_is_not_ended_by_the_gateway() {
    let origin = RawOrigin::start(|mut exchange| {
        if exchange.read_request().is_some() {
            exchange.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
            exchange.reset();
        }
    });
    let gateway = sluice!().config(any_route("service", &[origin.address()], "")).start();
    let mut raw = RawConnection::to(gateway.address());
    raw.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    // A reset is as clear an end as a close without the last chunk.
    let text = String::from_utf8_lossy(&raw.read_to_end().unwrap_or_default()).into_owned();
    assert!(!text.contains("\r\n0\r\n"), "{text}");
}

#[test]
fn an_origin_that_resets_before_the_answer_is_a_502_that_says_so() {
    let origin = RawOrigin::resets_before_the_answer();
    let gateway = sluice!().config(any_route("service", &[origin.address()], "")).start();
    let answer = gateway.client().send(Method::POST, "/", &[], b"body".to_vec()).expect(502);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["status"], 502, "{problem}");
    assert_eq!(problem["stage"], "upstream", "{problem}");
    assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"), "{problem}");
    assert_eq!(origin.connections(), 1, "what was sent is not sent again");
    wait_until("nothing to be in flight", || gateway.in_flight("service") == 0);
}

#[test]
fn a_client_whose_body_was_not_taken_whole_is_told_that_its_connection_ends() {
    let origin = RawOrigin::start(|mut exchange| {
        exchange.read_some();
        exchange.reset();
    });
    let gateway = sluice!().config(any_route("service", &[origin.address()], "")).start();
    for framing in ["content-length: 10\r\n\r\nhello", "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"] {
        let mut raw = RawConnection::to(gateway.address());
        raw.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}"));
        let answer = raw.read_answer();
        assert_eq!((answer.status, answer.header("connection")), (502, Some("close")), "{answer:?}");
        raw.expect_close();
        // Where all of it was, the connection goes on.
        let mut raw = RawConnection::to(gateway.address());
        for _ in 0..2 {
            raw.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
            let answer = raw.read_answer();
            assert_eq!((answer.status, answer.header("connection")), (502, None), "{answer:?}");
        }
    }
}

#[test]
fn an_origin_that_refuses_connections_is_a_502_that_names_the_stage() {
    let held = HeldPort::any();
    let gateway = sluice!().config(any_route("service", &[held.address()], "")).start();
    let problem = gateway.client().get("/").expect(502).json();
    assert_eq!(problem["stage"], "connect", "{problem}");
    let _origin = Origin::start_on("a", held.address());
    assert_eq!(gateway.client().get("/").expect(200).instance(), "a");
}

#[test]
fn a_kept_connection_that_the_origin_has_closed_is_replaced() {
    let (closed, closes) = mpsc::channel();
    // One answer a connection, and no word that it will end.
    let origin = RawOrigin::start(move |mut exchange| {
        exchange.answer(raw_origin::OK);
        drop(exchange);
        closed.send(()).expect("the test outlives its origin");
    });
    let gateway = sluice!().config(any_route("service", &[origin.address()], "")).start();
    let client = gateway.client();
    for number in 1..=500 {
        let sent = client.send(Method::POST, "/", &[], b"body".to_vec());
        assert!(sent.status == 200, "request {number}: {sent}");
        closes.recv_timeout(DEADLINE).expect("the origin closes");
    }
    assert_eq!(origin.connections(), 500);
}

#[test]
fn an_origin_that_answers_too_late_is_a_504() {
    let origin = RawOrigin::silent();
    // Long enough to have connected by then.
    let gateway = sluice!().config(any_route("service", &[origin.address()], "timeout = \"2 s\"")).start();
    let problem = gateway.client().get("/").expect(504).json();
    assert_eq!(problem["stage"], "upstream", "{problem}");
    wait_until("nothing to be in flight", || gateway.in_flight("service") == 0);
}

#[test]
fn an_upload_that_the_origin_does_not_want_is_answered_at_once() {
    let origin = RawOrigin::start(|mut exchange| {
        exchange.read_some();
        exchange.write(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        while exchange.read_some() {}
    });
    let gateway = sluice!().config(any_route("service", &[origin.address()], "")).start();
    let mut raw = RawConnection::to(gateway.address());
    raw.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\nonly this");
    assert_eq!(raw.read_answer().status, 413);
    drop(raw);
    wait_until("nothing to be in flight", || gateway.in_flight("service") == 0);
}

/// What a client speaks, and what the gateway speaks to the origin.
fn all_versions() -> [(Version, &'static str); 4] {
    [(Version::H1, "http/1.1"), (Version::H2, "http/1.1"), (Version::H1, "h2"), (Version::H2, "h2")]
}

fn start(upstream: &str) -> (Origin, Sluice) {
    let origin = Origin::start("a");
    let more = format!("protocol = {upstream:?}\ntimeout = \"1 h\"");
    let gateway = sluice!().config(any_route("service", &[origin.address()], &more)).start();
    (origin, gateway)
}

fn still_serves(gateway: &Sluice, origin: &Origin) {
    assert_eq!(gateway.client().get("/").expect(200).instance(), origin.name());
    wait_until("nothing to be in flight", || origin.in_flight() == 0);
}
