//! What may be repeated is, at another endpoint and byte for byte; what may not is not.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http::Method;
use sluice_harness::{
    FirstSlot, Origin, RawConnection, RawExchange, RawOrigin, Sluice, raw_origin, sluice, wait_until,
};

const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 5\r\nx-instance: first\r\n\r\nfull\n";

/// Each request goes to the first of the endpoints first. `more` are lines of the service, `route` of the route.
fn start(addresses: &[SocketAddr], more: &str, route: &str) -> (Sluice, FirstSlot) {
    let first_slot = FirstSlot::written();
    let config = first_slot.any_route("orders", addresses, more) + route;
    (sluice!().config(config).start(), first_slot)
}

/// Takes a whole request and resets the connection.
fn resets() -> RawOrigin {
    RawOrigin::resets_before_the_answer()
}

/// Answers every request with a 503.
fn refuses() -> RawOrigin {
    RawOrigin::start(|mut exchange| while exchange.answer(REFUSAL).is_some() {})
}

/// Bytes that differ from place to place.
fn body_of(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn retries(gateway: &Sluice) -> f64 {
    gateway.metric("sluice_failover_total", &["service=\"orders\"", "event=\"retries\""])
}

#[test]
fn a_body_is_sent_again_byte_for_byte_after_a_reset_and_after_a_503() {
    for first in [resets(), refuses()] {
        let second = Origin::start("second");
        let (gateway, _plugin) = start(&[first.address(), second.address()], "", "");
        for len in [1, 10_000, 60_000] {
            let answer = gateway.client().send(Method::PUT, "/echo", &[], body_of(len)).expect(200);
            assert_eq!((answer.instance(), &answer.body), ("second", &body_of(len)));
        }
        // Of no stated length, in pieces.
        let mut raw = RawConnection::to(gateway.address());
        raw.send("PUT /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        let body = body_of(3_000);
        for piece in body.chunks(1_000) {
            raw.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
        }
        raw.send("0\r\n\r\n");
        let answer = raw.read_answer();
        assert_eq!((answer.status, answer.body), (200, body));
        assert_eq!(first.received_text().matches("PUT /echo ").count(), 4);
        assert_eq!(second.requests(), 4);
        assert_eq!(retries(&gateway), 4.0);
    }
}

#[test]
fn a_body_that_is_still_arriving_goes_on_at_the_other_endpoint() {
    type Breaks = fn(RawExchange);
    let in_the_body: [Breaks; 2] = [
        |mut exchange| {
            exchange.read_some();
            exchange.reset();
        },
        |mut exchange| {
            exchange.read_some();
            exchange.write(REFUSAL);
            while exchange.read_some() {}
        },
    ];
    for breaks in in_the_body {
        let first = RawOrigin::start(breaks);
        let second = Origin::start("second");
        let (gateway, _plugin) = start(&[first.address(), second.address()], "", "");
        let body = body_of(2_000);
        let mut raw = RawConnection::to(gateway.address());
        raw.send("PUT /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 2000\r\n\r\n");
        raw.send(&body[..500]);
        wait_until("the second endpoint to be asked", || second.requests() == 1);
        raw.send(&body[500..1_500]);
        raw.send(&body[1_500..]);
        let answer = raw.read_answer();
        assert_eq!((answer.status, answer.body), (200, body));
        assert_eq!(first.connections(), 1);
    }
}

#[test]
fn a_body_beyond_the_bound_is_not_kept() {
    for first in [resets(), refuses()] {
        let second = Origin::start("second");
        let (gateway, _plugin) = start(&[first.address(), second.address()], "retry = { body = \"1000 B\" }", "");
        gateway.client().send(Method::PUT, "/echo", &[], body_of(1_000)).expect(200);
        let answer = gateway.client().send(Method::PUT, "/echo", &[], body_of(1_001));
        if answer.status == 502 {
            assert_eq!(answer.expect_problem(502, "upstream")["request_sent"], true);
        } else {
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (503, "full\n"));
        }
        // Nobody knows beforehand that it will be longer.
        let mut raw = RawConnection::to(gateway.address());
        raw.send("PUT /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        for _ in 0..3 {
            raw.send([b"258\r\n", &[b'x'; 600][..], b"\r\n"].concat());
        }
        raw.send("0\r\n\r\n");
        assert_eq!(raw.read_answer().status, answer.status.as_u16());
        assert_eq!(second.requests(), 1);
    }
}

#[test]
fn a_post_is_repeated_only_where_its_route_says_that_this_does_no_harm() {
    for first in [resets(), refuses()] {
        let second = Origin::start("second");
        let (gateway, _plugin) = start(&[first.address(), second.address()], "", "");
        let answer = gateway.client().send(Method::POST, "/echo", &[], b"order".to_vec());
        assert!(matches!(answer.status.as_u16(), 502 | 503), "{answer}");
        assert_eq!(second.requests(), 0);

        let (gateway, _plugin) = start(&[first.address(), second.address()], "", "repeatable = true\n");
        let answer = gateway.client().send(Method::POST, "/echo", &[], b"order".to_vec()).expect(200);
        assert_eq!((answer.instance(), answer.text().as_str()), ("second", "order"));
        assert_eq!(first.received_text().matches("POST /echo ").count(), 2);
    }
}

#[test]
fn the_last_attempts_answer_is_passed_on_as_it_is() {
    let origins = ["a", "b", "c"].map(Origin::start);
    let addresses = origins.each_ref().map(Origin::address);
    let (gateway, _plugin) = start(&addresses, "", "");
    for (n, status) in (1..).zip([502, 503, 504]) {
        let answer = gateway.client().get(&format!("/status/{status}")).expect(status);
        assert_eq!((answer.text().as_str(), answer.header("content-type")), ("as asked\n", None));
        assert_eq!(origins.each_ref().map(Origin::requests), [n; 3], "each endpoint was asked once");
    }
    // Another endpoint would say the same.
    for status in [500, 501, 429] {
        gateway.client().get(&format!("/status/{status}")).expect(status);
    }
    assert_eq!(origins.iter().map(Origin::requests).sum::<u64>(), 9 + 3);
    assert_eq!(retries(&gateway), 6.0);
}

#[test]
fn an_answer_that_comes_before_the_whole_body_did_is_passed_on_whole() {
    let origin = RawOrigin::start(|mut exchange| {
        exchange.read_some();
        exchange.write(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 10\r\n\r\nhello");
        exchange.read_request();
        exchange.write(b"world");
        while exchange.read_some() {}
    });
    let (gateway, _plugin) = start(&[origin.address()], "retry = { attempts = 1 }", "");
    let mut raw = RawConnection::to(gateway.address());
    raw.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nfirst");
    assert_eq!(raw.try_read_head().unwrap().status, 503);
    assert_eq!(raw.read_exactly(5), b"hello");
    raw.send("again");
    assert_eq!(raw.read_exactly(5), b"world");
    assert_eq!(origin.connections(), 1);
}

/// Answers `bytes` and notes when each request came.
fn noting(bytes: &'static str) -> (RawOrigin, Arc<Mutex<Vec<Instant>>>) {
    let times = Arc::<Mutex<Vec<Instant>>>::default();
    let noted = Arc::clone(&times);
    let origin = RawOrigin::start(move |mut exchange| {
        while exchange.read_request().is_some() {
            noted.lock().expect("no holder panics").push(Instant::now());
            exchange.write(bytes.as_bytes());
        }
    });
    (origin, times)
}

/// How long after the first attempt the second one came.
fn between(first: &Mutex<Vec<Instant>>, second: &Mutex<Vec<Instant>>) -> Duration {
    let last = |times: &Mutex<Vec<Instant>>| *times.lock().expect("no holder panics").last().expect("it was asked");
    last(second) - last(first)
}

#[test]
fn an_endpoint_that_says_when_to_come_back_is_taken_at_its_word() {
    const LATER: &str = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 6\r\n\r\nlater\n";
    let (first, asked) = noting(LATER);
    let (second, answered) = noting(std::str::from_utf8(raw_origin::OK).expect("ASCII"));
    let (gateway, _plugin) = start(&[first.address(), second.address()], "", "");
    gateway.client().get("/").expect(200);
    let waited = between(&asked, &answered);
    println!("Retry-After: 1 was waited for {waited:?}");
    assert!((Duration::from_secs(1)..Duration::from_secs(6)).contains(&waited), "{waited:?}");

    // It would come too late, so nobody waits for it.
    const TOO_LATE: &str = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 21\r\ncontent-length: 6\r\n\r\nlater\n";
    let (first, _) = noting(TOO_LATE);
    let (gateway, _plugin) = start(&[first.address(), second.address()], "timeout = \"20 s\"", "");
    let begun = Instant::now();
    assert_eq!(gateway.client().get("/").expect(503).text(), "later\n");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(second.received_text().matches("GET / ").count(), 1);
}

#[test]
fn grpcs_push_back_says_when_and_whether() {
    let unavailable = |ms: &str| {
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\ngrpc-retry-pushback-ms: {ms}\r\n\
             content-length: 0\r\n\r\n"
        );
        noting(Box::leak(answer.into_boxed_str()))
    };
    for (ms, tried_again) in [("300", true), ("-1", false), ("soon", false)] {
        let (first, asked) = unavailable(ms);
        let (second, answered) = noting(std::str::from_utf8(raw_origin::OK).expect("ASCII"));
        let (gateway, _plugin) = start(&[first.address(), second.address()], "", "repeatable = true\n");
        let headers = [("content-type", "application/grpc")];
        let answer = gateway.client().send(Method::POST, "/a.B/C", &headers, b"12345".to_vec()).expect(200);
        assert_eq!(second.connections(), usize::from(tried_again), "{ms}");
        if tried_again {
            let waited = between(&asked, &answered);
            assert!((Duration::from_millis(300)..Duration::from_secs(5)).contains(&waited), "{waited:?}");
        } else {
            assert_eq!(answer.header("grpc-status"), Some("14"));
        }
    }
}
