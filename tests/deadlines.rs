//! A request has one deadline over all its attempts, and whoever works for it is told how much is left.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    ops::Range,
    time::{Duration, Instant},
};

use http::Method;
use sluice_harness::{FirstSlot, H2Body, H2Connection, Origin, RawOrigin, Sluice, sluice, wait_until};

/// Of one try, where an endpoint that answers must get it done on a machine that stands still for a while.
const TRY: Duration = Duration::from_secs(3);

fn start(addresses: &[SocketAddr], more: &str) -> (Sluice, FirstSlot) {
    let first_slot = FirstSlot::written();
    (sluice!().config(first_slot.any_route("orders", addresses, more)).start(), first_slot)
}

fn seconds(range: Range<u64>) -> Range<Duration> {
    Duration::from_secs(range.start)..Duration::from_secs(range.end)
}

/// What each endpoint was told in this header, in the order in which they were asked.
fn told(origins: &[Origin], header: &str) -> Vec<String> {
    let heads = origins.iter().flat_map(Origin::seen);
    heads.map(|seen| seen.headers[header].to_str().expect("ASCII").to_owned()).collect()
}

#[test]
fn an_endpoint_that_takes_too_long_for_one_try_is_left_for_another() {
    let (silent, second) = (RawOrigin::silent(), Origin::start("second"));
    let (gateway, _plugin) = start(&[silent.address(), second.address()], "retry = { per_try_timeout = \"3 s\" }");
    let begun = Instant::now();
    assert_eq!(gateway.client().get("/").expect(200).instance(), "second");
    println!("answered by another endpoint after {:?}", begun.elapsed());
    assert!((TRY..4 * TRY).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    // It may be under way.
    let answer = gateway.client().send(Method::POST, "/", &[], b"order".to_vec());
    assert_eq!(answer.expect_problem(504, "upstream")["request_sent"], true);
    assert_eq!(second.requests(), 1);
}

#[test]
fn all_attempts_together_take_no_longer_than_the_timeout() {
    let silent = [RawOrigin::silent(), RawOrigin::silent(), RawOrigin::silent()];
    let addresses = silent.each_ref().map(RawOrigin::address);
    let more = "timeout = \"5500 ms\"\nretry = { per_try_timeout = \"3 s\", attempts = 10 }\n\
                failover = { plugin = \"standard\", settings = { attempts = 10 } }";
    let (gateway, _plugin) = start(&addresses, more);
    let begun = Instant::now();
    let problem = gateway.client().get("/").expect_problem(504, "upstream");
    println!("given up after {:?}: {}", begun.elapsed(), problem["detail"]);
    assert!((Duration::from_millis(5_500)..4 * TRY).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("5.5s")), "{problem}");
    let asked = || silent.iter().map(RawOrigin::connections).sum::<usize>();
    wait_until("two connections to be accepted", || asked() >= 2);
    assert_eq!(asked(), 2, "the second attempt had what was left");
}

#[test]
fn what_is_left_travels_upstream_and_is_less_at_the_second_attempt() {
    let origins = ["a", "b"].map(Origin::start);
    origins[0].set_failures(1000, 503);
    origins[0].set_delay(Duration::from_millis(200));
    let addresses = origins.each_ref().map(Origin::address);
    let (gateway, _plugin) = start(&addresses, "timeout = \"60 s\"\nretry = { deadline_header = \"x-deadline-ms\" }");
    gateway.client().get("/").expect(200);
    let left: Vec<u64> = told(&origins, "x-deadline-ms").iter().map(|ms| ms.parse().expect("a number")).collect();
    println!("told in x-deadline-ms: {left:?}");
    assert!((50_000..=60_000).contains(&left[0]) && left[1] + 200 <= left[0], "{left:?}");
}

#[test]
fn a_client_may_have_less_time_and_not_more() {
    let origins = [Origin::start("a")];
    let more = "timeout = \"20 s\"\nretry = { deadline_header = \"x-deadline-ms\" }";
    let (gateway, _plugin) = start(&[origins[0].address()], more);
    let get = |path: &str, ms: &str| gateway.client().send(Method::GET, path, &[("x-deadline-ms", ms)], Vec::new());
    get("/", "60000").expect(200);
    get("/", "soon").expect(200);
    let begun = Instant::now();
    get("/delay/60000", "3000").expect_problem(504, "upstream");
    assert!(seconds(3..12).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    let left: Vec<u64> = told(&origins, "x-deadline-ms").iter().map(|ms| ms.parse().expect("a number")).collect();
    assert!(left[0] <= 20_000 && left[0] > 10_000 && left[1] <= 20_000 && left[2] <= 3_000, "{left:?}");
}

#[test]
fn grpcs_timeout_holds_and_travels_in_its_own_header() {
    let origins = ["a", "b"].map(Origin::start);
    origins[0].set_failures(1000, 503);
    origins[0].set_delay(Duration::from_millis(200));
    let addresses = origins.each_ref().map(Origin::address);
    let (gateway, _plugin) = start(&addresses, "protocol = \"h2\"\ntimeout = \"60 s\"");
    let h2 = H2Connection::to(gateway.address());
    let grpc = |path: &str, timeout: &str| {
        let headers = [("content-type", "application/grpc"), ("grpc-timeout", timeout), ("te", "trailers")];
        h2.begin(Method::PUT, path, &headers, H2Body::of("12345")).answer()
    };
    grpc("/a.B/C", "20S").expect(200);
    let told = told(&origins, "grpc-timeout");
    let left: Vec<u64> = told
        .iter()
        .map(|value| value.strip_suffix('u').and_then(|micros| micros.parse().ok()).expect("microseconds"))
        .collect();
    println!("told in grpc-timeout: {told:?}");
    assert!((10_000_000..=20_000_000).contains(&left[0]) && left[1] + 200_000 <= left[0], "{left:?}");
    let begun = Instant::now();
    grpc("/delay/60000", "3S").expect(504);
    assert!(seconds(3..12).contains(&begun.elapsed()), "{:?}", begun.elapsed());
}

#[test]
fn what_was_not_sent_for_want_of_a_connection_is_sent_elsewhere_whatever_the_method() {
    let (full, second) = (FullListener::new(), Origin::start("second"));
    // Connecting may take longer than one try.
    let more = "connect_timeout = \"12 s\"\nretry = { per_try_timeout = \"3 s\" }";
    let (gateway, _plugin) = start(&[full.address, second.address()], more);
    let answer = gateway.client().send(Method::POST, "/echo", &[], b"order".to_vec()).expect(200);
    assert_eq!((answer.instance(), answer.text().as_str()), ("second", "order"));
}

/// It accepts no connection, and refuses none: the kernel drops what asks for one.
struct FullListener {
    address: SocketAddr,
    _listener: socket2::Socket,
    _waiting: Vec<TcpStream>,
}

impl FullListener {
    fn new() -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        listener.listen(0).expect("bound");
        let address = listener.local_addr().expect("bound").as_socket().expect("IPv4");
        let mut waiting = Vec::new();
        // As many as the queue takes, which is a matter of the kernel.
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
            waiting.push(stream);
        }
        Self { address, _listener: listener, _waiting: waiting }
    }
}

#[test]
fn a_client_that_allows_no_time_has_no_endpoint_ejected() {
    let (slow, second) = (Origin::start("slow"), Origin::start("second"));
    slow.set_delay(Duration::from_millis(20));
    second.set_delay(Duration::from_millis(20));
    let (gateway, _plugin) = start(&[slow.address(), second.address()], "");
    let headers = [("content-type", "application/grpc"), ("grpc-timeout", "1n")];
    for _ in 0..20 {
        let status = gateway.client().send(Method::POST, "/", &headers, Vec::new()).status;
        assert!(status == 502 || status == 504, "{status}");
    }
    wait_until("every attempt is accounted for", || {
        gateway.metric("sluice_attempts_total", &["outcome=\"cancelled\""]) == 20.0
    });
    gateway.client().get("/").expect(200);
    assert_eq!(gateway.metric("sluice_endpoint_ejections_total", &[]), 0.0);
}
