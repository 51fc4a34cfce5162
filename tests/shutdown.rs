//! SIGTERM: what is under way ends well, what is queued is still taken, nothing new comes, and the process is gone
//! in time.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{Mutex, mpsc},
    time::{Duration, Instant},
};

use http::Method;
use sluice_harness::{
    H2Body, H2Connection, Load, Origin, RawConnection, RawOrigin, Sluice, any_route, raw_origin, sluice, wait_until,
};

fn start(origin: SocketAddr, gateway: &str) -> Sluice {
    sluice!().config(format!("[gateway]\n{gateway}\n{}", any_route("orders", &[origin], ""))).start()
}

/// Answers what it is asked for at `/held` once the sender is dropped, and everything else at once.
fn holding() -> (RawOrigin, mpsc::Sender<()>) {
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let origin = RawOrigin::start(move |mut exchange| {
        while let Some(request) = exchange.read_request() {
            if request.starts_with(b"GET /held ") {
                // An error is that nothing is held any more.
                let _ = released.lock().expect("no holder panics").recv();
            }
            exchange.write(raw_origin::OK);
        }
    });
    (origin, release)
}

fn asking(gateway: &Sluice, path: &str) -> RawConnection {
    let mut raw = RawConnection::to(gateway.address());
    raw.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
    raw
}

#[test]
fn requests_under_way_end_and_no_new_connection_is_taken() {
    let (origin, release) = holding();
    let mut gateway = start(origin.address(), "");
    let mut idle = asking(&gateway, "/");
    assert_eq!(idle.read_answer().status, 200);
    let mut waiting = asking(&gateway, "/held");
    let h2 = H2Connection::to(gateway.address());
    let stream = h2.begin(Method::GET, "/held", &[], H2Body::empty());
    wait_until("both to be under way", || origin.received_text().matches("GET /held ").count() == 2);

    gateway.begin_termination();
    idle.expect_close();
    wait_until("the listener to be closed", || TcpStream::connect(gateway.address()).is_err());
    gateway.control().get("/readyz").expect(503);
    gateway.control().get("/healthz").expect(200);

    drop(release);
    let answer = waiting.read_answer();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
    waiting.expect_close();
    stream.answer().expect(200);
    h2.await_end().expect("GOAWAY without an error");
    assert_eq!(gateway.await_exit().code(), Some(0));
}

#[test]
fn bodies_under_way_in_both_directions_reach_their_end() {
    let origin = Origin::start("a");
    let mut gateway = start(origin.address(), "");
    let mut raw = RawConnection::to(gateway.address());
    raw.send("POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n");
    raw.read_until(b"one\r\n");
    gateway.begin_termination();
    wait_until("the listener to be closed", || TcpStream::connect(gateway.address()).is_err());
    raw.send("3\r\ntwo\r\n");
    raw.read_until(b"two\r\n");
    raw.send("0\r\n\r\n");
    raw.read_until(b"0\r\n\r\n");
    assert_eq!(gateway.await_exit().code(), Some(0));
}

#[test]
fn what_is_queued_is_served_and_not_reset() {
    let origin = Origin::start("a");
    let mut gateway = start(origin.address(), "workers = 1\nlimits = { connections_max = 1 }");
    let mut first = asking(&gateway, "/delay/5000");
    wait_until("the first to be under way", || origin.in_flight() == 1);
    // These wait in the system's queue: the gateway has as many as it may.
    let mut queued: Vec<_> = (0..8).map(|_| asking(&gateway, "/")).collect();
    assert!(queued[0].is_silent_for(Duration::from_millis(100)));
    gateway.begin_termination();
    assert_eq!(first.read_answer().status, 200);
    for raw in &mut queued {
        let answer = raw.read_answer();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
    }
    assert_eq!(gateway.await_exit().code(), Some(0));
}

#[test]
fn connections_on_which_nothing_comes_hold_nobody_up() {
    let origin = Origin::start("a");
    let mut gateway =
        start(origin.address(), "grace_period = \"10 min\"\nlimits = { header_read_timeout = \"10 min\" }");
    let mut silent = RawConnection::to(gateway.address());
    wait_until("it to be accepted", || gateway.metric("sluice_connections", &[]) == 1.0);
    gateway.begin_termination();
    assert_eq!(gateway.await_exit().code(), Some(0));
    silent.expect_close();
}

#[test]
fn what_goes_on_beyond_the_grace_period_is_cut_off() {
    let origin = Origin::start("a");
    let mut gateway = start(origin.address(), "grace_period = \"4 s\"");
    let mut waiting = asking(&gateway, "/delay/60000");
    let mut tunnel = RawConnection::to(gateway.address());
    tunnel.send("GET /upgrade HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    assert_eq!(tunnel.read_answer().status, 101);
    wait_until("the first to be under way", || origin.in_flight() == 1);
    let begun = Instant::now();
    gateway.begin_termination();
    wait_until("the listener to be closed", || TcpStream::connect(gateway.address()).is_err());
    tunnel.send("still there");
    assert_eq!(tunnel.read_exactly(11), b"still there", "within the grace period it goes on");
    assert_eq!(gateway.await_exit().code(), Some(0));
    assert!((Duration::from_secs(4)..Duration::from_secs(20)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    waiting.try_read_answer().expect_err("cut off");
    tunnel.expect_close();
    gateway.await_log(&["connections=2", "cut off"]);
}

#[test]
fn clients_that_keep_to_the_rules_see_no_failure() {
    let origin = Origin::start("a");
    let mut gateway = start(origin.address(), "");
    let load = Load::to(gateway.address()).connections(16).start();
    load.await_more(200);
    gateway.begin_termination();
    assert_eq!(gateway.await_exit().code(), Some(0));
    let report = load.stop();
    let broken: Vec<_> = report
        .failures()
        .into_keys()
        // Once it is gone nobody answers, which is not the gateway's failure.
        .filter(|failure| !matches!(failure, sluice_harness::Failure::Connect(_)))
        .collect();
    assert!(broken.is_empty(), "{report}");
}
