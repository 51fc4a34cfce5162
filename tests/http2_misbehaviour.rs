//! HTTP/2 clients that break the rules: each is answered as RFC 9113 says, in bounded time and memory, and nobody
//! else is disturbed.

#[path = "raw/http2.rs"]
mod http2;
#[path = "raw/http2_cases.rs"]
mod http2_cases;

use std::time::Duration;

use http2::*;
use http2_cases::{Case, GENERAL, connection_errors, malformed_requests};
use sluice_harness::{Origin, RawConnection, RawOrigin, Sluice, any_route, sluice, wait_until};

/// What one hostile connection may make the process grow by.
const GROWTH_BYTES_MAX: u64 = 32 << 20;

fn start(more: &str) -> (Origin, Sluice) {
    let origin = Origin::start("a");
    let gateway = sluice!().config(more.to_owned() + &any_route("origin", &[origin.address()], "")).start();
    (origin, gateway)
}

fn connect(gateway: &Sluice) -> Http2 {
    Http2::greet(RawConnection::to(gateway.address()), &[])
}

#[test]
fn a_connection_that_breaks_the_framing_ends_with_the_error_that_the_rfc_names() {
    let (_origin, gateway) = start("");
    let mut wrong = Vec::new();
    for Case(name, bytes, stream, right) in connection_errors() {
        let mut client = connect(&gateway);
        client.send(bytes);
        let end = client.read_end(stream);
        if end != GENERAL && !right.contains(&end) {
            wrong.push(format!("{name}: {end:?}, not {right:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(connect(&gateway).is_served(1));
}

#[test]
fn a_malformed_request_ends_alone_and_reaches_no_endpoint() {
    let origin = RawOrigin::recording();
    let gateway = sluice!().config(any_route("origin", &[origin.address()], "")).start();
    let (mut wrong, mut already) = (Vec::new(), 0);
    for Case(name, bytes, stream, right) in malformed_requests() {
        let mut client = connect(&gateway);
        client.send(bytes);
        let end = client.read_end(stream);
        if end != GENERAL && !right.contains(&end) {
            wrong.push(format!("{name}: {end:?}, not {right:?}"));
        } else if matches!(end, End::Stream(_) | End::Answered) && !client.is_served(stream + 2) {
            wrong.push(format!("{name}: the connection went with it"));
        }
        // A body that turns out wrong was on its way by then, but never whole.
        let arrived = origin.received_text().matches("/smuggled").count();
        if arrived > already && !name.contains("body") {
            wrong.push(format!("{name}: reached the endpoint"));
        }
        already = arrived;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_bad_preface_is_refused() {
    let (origin, gateway) = start("");
    let mut client = RawConnection::to(gateway.address());
    client.send(b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    assert_eq!(client.read_answer().status, 400);
    client.expect_close();
    assert_eq!(origin.requests(), 0);
}

#[test]
fn what_is_unknown_is_ignored() {
    let (_origin, gateway) = start("");
    let mut client = connect(&gateway);
    client.send(frame(0xbe, 0xff, 0, "a frame of no known type (§4.1)"));
    client.send(settings(&[(0xbeef, 7)]));
    client.send(frame(PRIORITY, 0, 9, [0, 0, 0, 0, 7]));
    assert!(client.is_served(1));
}

/// CVE-2023-44487.
#[test]
fn rapid_resets_end_the_connection_and_leave_nothing_behind() {
    let (origin, gateway) = start("");
    let mut client = connect(&gateway);
    let mut honest = connect(&gateway);
    let mut sent = 0;
    for stream in (1..40_000).step_by(2) {
        let reset = frame(RST_STREAM, 0, stream, 8u32.to_be_bytes());
        if !client.send([get(stream), reset].concat()) {
            break;
        }
        sent += 1;
    }
    let end = client.read_end(0);
    assert!(matches!(end, End::Connection(ENHANCE_YOUR_CALM) | End::Closed), "{end:?} after {sent}");
    assert!(honest.is_served(1), "others are served");
    wait_until("no request is left at the endpoint", || origin.in_flight() == 0);
    wait_until("no request is left in the gateway", || gateway.metric("sluice_endpoint_in_flight", &[]) == 0.0);
}

/// CVE-2024-27316 and its like: header blocks without an end.
#[test]
fn a_flood_of_continuations_is_cut_off() {
    let (_origin, gateway) = start("");
    let before = gateway.rss_bytes();
    let mut client = connect(&gateway);
    client.send(frame(HEADERS, END_STREAM, 1, request("GET", "/", &[])));
    let field = block(&[("x-a", &"b".repeat(8_000))]);
    let flood = frame(CONTINUATION, 0, 1, &field);
    let sent = (0..20_000).take_while(|_| client.send(&flood)).count();
    assert!(sent < 20_000, "160 MB of header block were taken");
    assert!(gateway.rss_bytes().saturating_sub(before) < GROWTH_BYTES_MAX);
    assert!(connect(&gateway).is_served(1), "others are served");
}

/// Empty ones cost the sender 9 bytes each.
#[test]
fn a_flood_of_empty_continuations_is_cut_off() {
    let (_origin, gateway) = start("");
    let mut client = connect(&gateway);
    client.send(frame(HEADERS, END_STREAM, 1, request("GET", "/", &[])));
    let flood = frame(CONTINUATION, 0, 1, []).repeat(1_000);
    let sent = (0..2_000).take_while(|_| client.send(&flood)).count();
    assert!(sent < 2_000, "two million empty frames were taken");
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let (origin, gateway) = start("");
    let mut client = connect(&gateway);
    let field = ("x-a", &*"b".repeat(12_000));
    let head = request("GET", "/", &[field, field, field, field]);
    let (first, rest) = head.split_at(16_000);
    client.send(frame(HEADERS, END_STREAM, 1, first));
    for (index, piece) in rest.chunks(16_000).enumerate() {
        let flags = if (index + 1) * 16_000 >= rest.len() { END_HEADERS } else { 0 };
        client.send(frame(CONTINUATION, flags, 1, piece));
    }
    let end = client.read_end(1);
    assert!(matches!(end, End::Answered | End::Stream(_)), "{end:?}");
    assert_eq!(origin.requests(), 0);
    assert!(client.is_served(3), "the connection goes on");
}

/// HPACK's table turned against us: a few kilobytes sent, megabytes meant.
#[test]
fn a_header_bomb_is_refused() {
    let (origin, gateway) = start("");
    let before = gateway.rss_bytes();
    let mut client = connect(&gateway);
    // One field of 4000 bytes goes into the dynamic table (its index is 62), then is referred to 16,000 times.
    let mut first = request("GET", "/", &[]);
    first.extend(b"\x40\x03x-a\x7f\xa1\x1e");
    first.extend(vec![b'b'; 4_000]);
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, first));
    assert_eq!(client.read_end(1), End::Answered);
    for stream in (3..43).step_by(2) {
        let mut bomb = request("GET", "/", &[]);
        bomb.extend(vec![0x80 | 62; 16_000]);
        if !client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, bomb)) {
            break;
        }
    }
    let end = client.read_end(3);
    assert!(matches!(end, End::Answered | End::Stream(_) | End::Connection(_)), "{end:?}");
    assert!(gateway.rss_bytes().saturating_sub(before) < GROWTH_BYTES_MAX);
    assert_eq!(origin.requests(), 1, "only the first one is a request");
    assert!(connect(&gateway).is_served(1), "others are served");
}

#[test]
fn streams_beyond_the_limit_are_refused() {
    let (origin, gateway) = start("[gateway.limits]\nh2_streams_max = 4\n");
    let mut client = connect(&gateway);
    for stream in [1, 3, 5, 7, 9] {
        client.send(frame(HEADERS, END_HEADERS, stream, request("POST", "/count", &[])));
    }
    assert_eq!(client.read_end(9), End::Stream(REFUSED_STREAM), "§5.1.2");
    client.send(frame(DATA, END_STREAM, 1, b"x"));
    assert_eq!(client.read_end(1), End::Answered, "the others go on");
    assert!(client.is_served(11));
    assert!(origin.requests() <= 5);
}

/// A client that asks for much and opens no window to take it.
#[test]
fn zero_windows_hold_little_and_not_for_ever() {
    let (_origin, gateway) = start("[gateway.limits]\nwrite_timeout = \"1 s\"\n");
    let before = gateway.rss_bytes();
    let raw = RawConnection::to(gateway.address());
    let mut client = Http2::greet(raw, &[(INITIAL_WINDOW_SIZE, 0)]);
    for stream in (1..100).step_by(2) {
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, request("GET", "/bytes/10000000", &[])));
    }
    let mut other = connect(&gateway);
    assert!(other.is_served(1), "others are served meanwhile");
    assert!(gateway.rss_bytes().saturating_sub(before) < GROWTH_BYTES_MAX);
    wait_until(
        "the connection is cut",
        || matches!(client.read(), Err(error) if error.kind() != std::io::ErrorKind::WouldBlock),
    );
    wait_until("its requests are gone", || gateway.metric("sluice_endpoint_in_flight", &[]) == 0.0);
}

/// CVE-2019-9512 and -9515: each ping and each settings wants an answer, and nobody reads them.
#[test]
fn floods_that_want_answers_hold_little() {
    let (_origin, gateway) = start("");
    for flood in [frame(PING, 0, 0, [7; 8]), settings(&[(INITIAL_WINDOW_SIZE, 1000)])] {
        let before = gateway.rss_bytes();
        let mut client = connect(&gateway);
        client.raw.stream().set_write_timeout(Some(Duration::from_secs(2))).expect("not zero");
        let piece = flood.repeat(1_000);
        let _ = (0..3_000).take_while(|_| client.send(&piece)).count();
        assert!(gateway.rss_bytes().saturating_sub(before) < GROWTH_BYTES_MAX);
        assert!(connect(&gateway).is_served(1), "others are served");
    }
}

/// CVE-2019-9518: frames that carry nothing, without end.
#[test]
fn a_flood_of_empty_data_disturbs_nobody() {
    let (_origin, gateway) = start("");
    let mut client = connect(&gateway);
    client.send(frame(HEADERS, END_HEADERS, 1, request("POST", "/count", &[])));
    let flood = frame(DATA, 0, 1, []).repeat(1_000);
    client.raw.stream().set_write_timeout(Some(Duration::from_secs(2))).expect("not zero");
    let _ = (0..500).take_while(|_| client.send(&flood)).count();
    assert!(connect(&gateway).is_served(1));
}

#[test]
fn a_client_that_goes_away_midway_leaves_nothing_behind() {
    let (origin, gateway) = start("");
    for _ in 0..10 {
        let mut client = connect(&gateway);
        for stream in [1, 3, 5] {
            client.send(frame(HEADERS, END_HEADERS, stream, request("POST", "/count", &[])));
            client.send(frame(DATA, 0, stream, b"half"));
        }
        client.raw.reset();
    }
    wait_until("no request is left in the gateway", || gateway.metric("sluice_endpoint_in_flight", &[]) == 0.0);
    wait_until("no request is left at the endpoint", || origin.in_flight() == 0);
}

/// What HTTP/2 can carry and HTTP/1 would read otherwise (§10.3).
#[test]
fn nothing_ambiguous_is_translated_to_http_1() {
    let (origin, gateway) = start("");
    let mut client = connect(&gateway);
    let heads = [
        (request("GET", "/", &[("host", "other.test")]), "400"),
        (request("GET", "/", &[("host", "gateway.test"), ("host", "gateway.test")]), "400"),
        (request("GET", "/", &[("content_length", "5")]), "400"),
        (request("GET", "/a\\..\\b", &[]), "400"),
        (request("GET", "/\u{e9}", &[]), "400"),
        (request("GET", "*", &[]), "400"),
        (request("GET", "/", &[("expect", "x")]), "417"),
        (request("GET", "/", &[("x-a", "b"); 101]), "431"),
    ];
    for (stream, (head, status)) in (1..).step_by(2).zip(heads) {
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, head));
        let answer = client.read_until(|frame| frame.stream == stream && frame.kind == DATA).expect("an answer");
        let problem = String::from_utf8_lossy(&answer.payload).into_owned();
        assert!(problem.contains(&format!("\"status\":{status}")), "stream {stream}: {problem}");
    }
    assert_eq!(origin.requests(), 0);
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 99, request("GET", "/", &[("host", "Gateway.test")])));
    assert_eq!(client.read_end(99), End::Answered, "the same host twice is clear");
    assert_eq!(origin.requests(), 1);
}
