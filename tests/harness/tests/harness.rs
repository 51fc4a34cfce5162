//! The harness measures what it says, without a gateway in between.

use std::{
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use sluice_harness::{Client, Failure, HeldPort, Load, Origin, RawConnection, RawOrigin, capacity_rps, wait_until};

#[test]
fn an_origin_does_what_the_path_says() {
    let origin = Origin::start("a");
    let client = Client::to(origin.address());
    assert_eq!(client.get("/anything").expect(200).text(), "a\n");
    assert_eq!(client.get("/bytes/100000").expect(200).body.len(), 100_000);
    assert_eq!(client.get("/orders/status/404").expect(404).instance(), "a");
    let sent = vec![b'y'; 70_000];
    assert_eq!(client.send(http::Method::POST, "/echo", &[], sent.clone()).expect(200).body, sent);
    assert_eq!(client.send(http::Method::POST, "/count", &[], sent).expect(200).text(), "70000\n");
    assert_eq!(client.get("/headers").expect(200).json()["uri"], "/headers");
    assert!(client.try_send(http::Method::GET, "/break/10", &[], vec![]).is_err());
    assert_eq!(origin.requests(), 7);
    assert_eq!(origin.in_flight(), 0);
}

#[test]
fn a_held_port_refuses_whoever_connects_until_somebody_listens_on_it() {
    let held = HeldPort::any();
    assert!(TcpStream::connect(held.address()).is_err());
    let mut origin = Origin::start_on("a", held.address());
    assert_eq!(Client::to(held.address()).get("/").expect(200).text(), "a\n");
    origin.kill();
    // As a server leaves it, with what is left of its connections.
    let again = HeldPort::of(held.address());
    let _origin = Origin::start_on("b", again.address());
    assert_eq!(Client::to(held.address()).get("/").expect(200).text(), "b\n");
}

#[test]
fn an_origin_fails_the_share_it_is_told_to() {
    let origin = Origin::start("a");
    origin.set_failures(30, 503);
    let report = Load::to(origin.address()).connections(1).run_count(1_000);
    let failed = report.samples.iter().take(1_000).filter(|sample| sample.result.is_err()).count();
    assert_eq!(failed, 30, "{report}");
}

#[test]
fn an_upgraded_connection_echoes_and_trailers_arrive() {
    let origin = Origin::start("a");
    let mut raw = RawConnection::to(origin.address());
    raw.send("GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    assert_eq!(raw.read_answer().status, 101);
    raw.send("hello");
    assert_eq!(raw.read_exactly(5), b"hello");
    let mut raw = RawConnection::to(origin.address());
    raw.send("GET /trailers HTTP/1.1\r\nhost: a\r\nte: trailers\r\n\r\n");
    let text = String::from_utf8(raw.read_until(b"\r\n0\r\n")).unwrap();
    assert!(text.contains("with trailers"), "{text}");
    assert!(String::from_utf8(raw.read_until(b"\r\n\r\n")).unwrap().contains("grpc-status: 0"));
}

#[test]
fn load_keeps_its_rate_and_sees_who_answered() {
    for h2 in [false, true] {
        let origin = Origin::start("a");
        let load = Load::to(origin.address()).rate(500.0).connections(8);
        let begun = Instant::now();
        let report = if h2 { load.h2() } else { load }.run_for(Duration::from_secs(1));
        let took = begun.elapsed();
        report.expect_no_failures();
        // Never more than is due; less only as far as a busy machine stood still at the end.
        assert!(
            report.total() >= 300 && report.total() as f64 <= 500.0 * took.as_secs_f64() + 8.0,
            "{took:?}: {report}"
        );
        assert_eq!(report.share("a"), 1.0);
        assert_eq!(report.reconnects, 0);
        assert_eq!(origin.connections(), 8);
    }
}

#[test]
fn a_stalled_server_cannot_hide_its_delay_from_the_schedule() {
    let origin = Origin::start("a");
    let load = Load::to(origin.address()).rate(200.0).connections(2).start();
    load.await_more(20);
    origin.set_delay(Duration::from_millis(300));
    load.await_more(6);
    origin.set_delay(Duration::ZERO);
    load.await_more(100);
    let report = load.stop();
    // With two connections blocked for 300 ms and more, what was due meanwhile waited.
    let late = report.samples.iter().filter(|sample| sample.latency > Duration::from_millis(100)).count();
    assert!(late > 20, "{late} of {report}");
}

#[test]
fn load_tells_broken_from_refused() {
    let mut origin = Origin::start("a");
    let address = origin.address();
    origin.set_delay(Duration::from_secs(60));
    let load = Load::to(address).rate(200.0).connections(4).start();
    wait_until("all four to be waiting", || origin.in_flight() == 4);
    origin.kill();
    load.await_more(20);
    let failures = load.stop().failures();
    assert!(failures.keys().any(|failure| matches!(failure, Failure::Broken(_))), "{failures:?}");
    assert!(failures.keys().any(|failure| matches!(failure, Failure::Connect(_))), "{failures:?}");
    TcpListener::bind(address).expect("a killed origin lets its port go");
}

#[test]
fn capacity_is_measured_in_a_closed_loop() {
    let origin = Origin::start("a");
    origin.set_delay(Duration::from_millis(10));
    let rps = capacity_rps(Load::to(origin.address()).connections(4), Duration::from_secs(1));
    assert!((80.0..=400.0).contains(&rps), "four connections of at least 10 ms each: {rps}");
}

#[test]
fn a_raw_origin_records_and_misbehaves() {
    let origin = RawOrigin::recording();
    let mut raw = RawConnection::to(origin.address());
    raw.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n");
    assert_eq!(raw.read_answer().text(), "ok");
    raw.send("GET /second HTTP/1.1\r\n\r\n");
    assert_eq!(raw.read_answer().status, 200);
    assert!(origin.received_text().ends_with("0\r\n\r\nGET /second HTTP/1.1\r\n\r\n"));
    assert_eq!(origin.connections(), 1);

    let origin = RawOrigin::dead_on_second_request();
    let mut raw = RawConnection::to(origin.address());
    raw.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(raw.read_answer().status, 200);
    raw.send("GET / HTTP/1.1\r\n\r\n");
    raw.expect_close();

    let origin = RawOrigin::resets_mid_body(100, 10);
    let mut raw = RawConnection::to(origin.address());
    raw.send("GET / HTTP/1.1\r\n\r\n");
    assert!(raw.try_read_answer().is_err());
}
