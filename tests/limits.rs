//! What a client may take: each limit with the answer that its name calls for.

use std::time::Duration;

use http::Method;
use sluice_harness::{
    H2Body, H2Connection, Origin, RawConnection, RawOrigin, Sluice, any_route, service, sluice, wait_until,
};

fn start(origin: &Origin, limits: &str) -> Sluice {
    let limits = format!("[gateway.limits]\n{limits}\n");
    sluice!().config(format!("{limits}{}", any_route("orders", &[origin.address()], ""))).start()
}

fn get(gateway: &Sluice, fields: &str) -> u16 {
    let mut raw = RawConnection::to(gateway.address());
    raw.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n"));
    raw.read_answer().status
}

#[test]
fn a_head_that_is_too_large_or_has_too_many_fields_is_431() {
    let origin = Origin::start("a");
    let gateway = start(&origin, "header_bytes_max = \"8 KiB\"\nheader_count_max = 20");
    assert_eq!(get(&gateway, &format!("x-a: {}\r\n", "b".repeat(7_000))), 200);
    assert_eq!(get(&gateway, &format!("x-a: {}\r\n", "b".repeat(9_000))), 431);
    assert_eq!(get(&gateway, &(0..19).map(|n| format!("x-{n}: 1\r\n")).collect::<String>()), 200);
    assert_eq!(get(&gateway, &(0..20).map(|n| format!("x-{n}: 1\r\n")).collect::<String>()), 431);

    let h2 = H2Connection::to(gateway.address());
    let long = "b".repeat(9_000);
    assert_eq!(h2.begin(Method::GET, "/", &[("x-a", &long)], H2Body::empty()).answer().status, 431);
    let names: Vec<String> = (0..21).map(|n| format!("x-{n}")).collect();
    let fields: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(h2.begin(Method::GET, "/", &fields, H2Body::empty()).answer().status, 431);
    assert_eq!(h2.begin(Method::GET, "/", &fields[..19], H2Body::empty()).answer().status, 200);
    assert_eq!(origin.requests(), 3);
}

#[test]
fn what_the_defaults_allow_passes_and_more_does_not() {
    // Takes the fields that the gateway adds too, which origins with the same limit would not.
    let origin = RawOrigin::recording();
    let gateway = sluice!().config(any_route("orders", &[origin.address()], "")).start();
    assert_eq!(get(&gateway, &format!("x-a: {}\r\n", "b".repeat(31 * 1024))), 200);
    assert_eq!(get(&gateway, &format!("x-a: {}\r\n", "b".repeat(33 * 1024))), 431);
    assert_eq!(get(&gateway, &(0..99).map(|n| format!("x-{n}: 1\r\n")).collect::<String>()), 200);
    assert_eq!(get(&gateway, &(0..100).map(|n| format!("x-{n}: 1\r\n")).collect::<String>()), 431);
    let mut raw = RawConnection::to(gateway.address());
    raw.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4294967297\r\n\r\n");
    assert_eq!(raw.read_answer().status, 413, "4 GiB and one byte");
}

#[test]
fn a_body_that_says_it_is_too_large_is_413_before_a_byte_of_it_is_sent() {
    let origin = Origin::start("a");
    let gateway = start(&origin, "body_bytes_max = \"1000 B\"");
    for expect in ["", "expect: 100-continue\r\n"] {
        let mut raw = RawConnection::to(gateway.address());
        raw.send(format!("POST /count HTTP/1.1\r\nhost: a\r\n{expect}content-length: 1001\r\n\r\n"));
        assert_eq!(raw.read_answer().status, 413);
        raw.finish();
        raw.expect_close();
    }
    assert_eq!(origin.requests(), 0);
    let sent = gateway.client().send(Method::POST, "/count", &[], vec![b'x'; 1_000]);
    assert_eq!(sent.expect(200).text(), "1000\n");
    gateway.client().send(Method::POST, "/count", &[], vec![b'x'; 1_001]).expect_problem(413, "body");

    let h2 = H2Connection::to(gateway.address());
    let declared = [("content-length", "1001")];
    let body = H2Body::of(vec![b'x'; 1_001]);
    h2.begin(Method::POST, "/count", &declared, body).answer().expect_problem(413, "body");
    assert_eq!(origin.requests(), 1);
}

#[test]
fn a_body_that_becomes_too_large_is_413_and_never_whole_at_the_endpoint() {
    let origin = Origin::start("a");
    let gateway = start(&origin, "body_bytes_max = \"1000 B\"");
    let mut raw = RawConnection::to(gateway.address());
    raw.send("POST /count HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    for _ in 0..11 {
        raw.send(format!("64\r\n{}\r\n", "x".repeat(100)));
    }
    assert_eq!(raw.read_answer().status, 413);
    drop(raw);

    let h2 = H2Connection::to(gateway.address());
    let (body, streamed) = H2Body::streamed();
    let exchange = h2.begin(Method::POST, "/count", &[], streamed);
    for _ in 0..11 {
        body.send(vec![b'x'; 100].into()).unwrap();
    }
    exchange.answer().expect_problem(413, "body");
    wait_until("the endpoint to be done with both", || origin.in_flight() == 0);
    assert_eq!(gateway.metric("sluice_attempts_total", &["outcome=\"success\""]), 0.0);
}

#[test]
fn a_connection_beyond_the_limit_waits_and_is_served_when_one_ends() {
    let origin = Origin::start("a");
    let config = format!(
        "[gateway]\nworkers = 1\n[gateway.limits]\nconnections_max = 2\n{}",
        any_route("orders", &[origin.address()], "")
    );
    let gateway = sluice!().config(config).start();
    let mut held: Vec<_> = (0..2)
        .map(|_| {
            let mut raw = RawConnection::to(gateway.address());
            raw.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
            assert_eq!(raw.read_answer().status, 200);
            raw
        })
        .collect();
    let mut waiting = RawConnection::to(gateway.address());
    waiting.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(waiting.is_silent_for(Duration::from_millis(300)), "it waits in the queue");
    assert_eq!(gateway.metric("sluice_connections", &[]), 2.0);
    held.pop();
    assert_eq!(waiting.read_answer().status, 200);
}

#[test]
fn no_more_streams_than_allowed_are_served_at_once() {
    let origin = Origin::start("a");
    let gateway = start(&origin, "h2_streams_max = 4");
    let h2 = H2Connection::to(gateway.address());
    h2.get("/");
    // The client knows the limit now, keeps to it, and all are served in turn. The first ones take long enough to be seen.
    origin.set_delay(Duration::from_secs(3));
    let exchanges: Vec<_> = (0..12).map(|_| h2.begin(Method::GET, "/", &[], H2Body::empty())).collect();
    wait_until("as many as may be", || origin.in_flight() == 4);
    origin.set_delay(Duration::from_millis(300));
    for exchange in exchanges {
        assert!(origin.in_flight() <= 4);
        exchange.answer().expect(200);
    }
    assert_eq!(origin.requests(), 13);
}

#[test]
fn an_answer_that_takes_its_time_is_no_client_that_takes_nothing() {
    let origin = Origin::start("a");
    // Longer than a client takes from its connection to its request.
    let gateway = start(&origin, "write_timeout = \"2 s\"\nkeep_alive_timeout = \"2 s\"\nbody_read_timeout = \"2 s\"");
    let h2 = H2Connection::to(gateway.address());
    h2.get("/delay/6000").expect(200);
    gateway.client().get("/delay/6000").expect(200);
}

#[test]
fn an_idle_http_2_connection_is_ended_with_goaway() {
    let origin = Origin::start("a");
    let gateway = start(&origin, "keep_alive_timeout = \"2 s\"");
    let h2 = H2Connection::to(gateway.address());
    h2.get("/").expect(200);
    h2.await_end().expect("GOAWAY without an error");
    wait_until("its place to be free", || gateway.metric("sluice_connections", &[]) == 0.0);
}

#[test]
fn limits_hold_for_each_service_alike() {
    let (one, other) = (Origin::start("one"), Origin::start("other"));
    let config = format!(
        "[gateway.limits]\nbody_bytes_max = \"10 B\"\n{}{}[[route]]\npath = \"/other\"\nservice = \"other\"\n",
        any_route("one", &[one.address()], ""),
        service("other", &[other.address()], "protocol = \"h2\"")
    );
    let gateway = sluice!().config(config).start();
    for path in ["/count", "/other/count"] {
        gateway.client().send(Method::POST, path, &[], vec![b'x'; 10]).expect(200);
        gateway.client().send(Method::POST, path, &[], vec![b'x'; 11]).expect(413);
    }
}
