//! Calls that the gateway itself makes, to real sockets.

use std::{
    io::Read,
    net::{SocketAddr, TcpListener},
    pin::pin,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use sluice_harness::{RawOrigin, wait_until};

use super::{Testbed, guests};
use crate::{
    gateway::{Gateway, OWN_CALLS_MAX},
    model::{OwnAnswer, OwnCall, OwnCallError},
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(30);

fn get(path: &str) -> OwnCall {
    OwnCall {
        service: "orders".parse().expect("a name"),
        method: Method::GET,
        path_and_query: path.parse().expect("a path"),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        timeout: LONG,
        repeatable: true,
        answer_bytes_max: 1 << 20,
        cuts_answer: false,
    }
}

/// One that must not run twice.
fn post(path: &str, body: &'static str) -> OwnCall {
    OwnCall { method: Method::POST, body: Bytes::from_static(body.as_bytes()), repeatable: false, ..get(path) }
}

/// A service `orders` at these addresses, which are taken in turn.
fn bed_at(addresses: &[SocketAddr], more: &str) -> Testbed {
    let mut bed = Testbed::prepare(&guests::in_turn());
    let endpoints: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    let text = bed.config(more);
    let at = text.find("endpoints = [").expect("it has endpoints");
    let end = at + text[at..].find(']').expect("the list ends");
    bed.write_config(&format!("{}endpoints = {endpoints:?}{}", &text[..at], &text[end + 1..]));
    bed.run().expect("the gateway starts");
    bed
}

/// Where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// Takes one request, and is gone.
fn leaving() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the gateway connects");
        drop(listener);
        stream.read(&mut [0; 4096]).expect("a request")
    });
    address
}

impl Testbed {
    fn own(&self) -> Arc<Gateway> {
        Arc::clone(&self.running().control.gateway)
    }

    fn call(&self, call: OwnCall) -> Result<OwnAnswer, OwnCallError> {
        self.runtime.block_on(self.own().call(call))
    }

    fn origin_of(&self, answer: &OwnAnswer) -> usize {
        let name = answer.headers.get("x-instance").and_then(|value| value.to_str().ok());
        self.origins.iter().position(|origin| Some(origin.name()) == name).expect("an origin answered")
    }
}

#[test]
fn a_call_is_balanced_and_marked_as_the_gateways_own() {
    let bed = Testbed::start(&guests::in_turn());
    let mut counts = [0; 2];
    for _ in 0..10 {
        let mut call = post("/count?a=b", "hello");
        // None of these is the caller's to say.
        for (name, value) in [("x-forwarded-for", "192.0.2.1"), ("content-length", "70"), ("upgrade", "websocket")] {
            call.headers.insert(name, HeaderValue::from_static(value));
        }
        call.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        call.headers.insert("x-branch", HeaderValue::from_static("01"));
        let answer = bed.call(call).expect("an answer");
        assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"5\n"[..]));
        counts[bed.origin_of(&answer)] += 1;
    }
    assert_eq!(counts, [5, 5], "in turn, as the plugin has it");
    let seen = bed.origins[0].seen().remove(0);
    assert_eq!((seen.method, seen.uri.to_string()), (Method::POST, "/count?a=b".to_owned()));
    let field = |name: &str| seen.headers.get(name).and_then(|value| value.to_str().ok());
    assert_eq!((field("host"), field("via"), field("x-branch")), (Some("orders"), Some("1.1 sluice"), Some("01")));
    assert!(field("x-request-id").is_some() && field("traceparent").is_some());
    assert_eq!((field("content-length"), field("upgrade"), field("connection")), (Some("5"), None, None));
    assert_eq!(field("x-forwarded-for"), None, "there is no client");
    let metrics = bed.control().get("/metrics").expect(200).text();
    assert!(metrics.contains("sluice_requests_total{route=\"(own)\",status_class=\"2xx\"} 10"), "{metrics}");
}

#[test]
fn a_service_that_speaks_http2_is_called_too() {
    let mut bed = Testbed::prepare(&guests::in_turn());
    bed.write_config(&bed.config("protocol = \"h2\""));
    bed.run().expect("the gateway starts");
    let answer = bed.call(post("/echo", "hello")).expect("an answer");
    assert_eq!((answer.status, &answer.body[..]), (StatusCode::OK, &b"hello"[..]));
    assert_eq!(bed.origins[bed.origin_of(&answer)].seen()[0].version, http::Version::HTTP_2);
}

#[test]
fn an_endpoint_that_is_gone_is_hidden_as_nothing_was_sent_to_it() {
    let origin = sluice_harness::Origin::start("a");
    let bed = bed_at(&[nobody(), origin.address()], "");
    for _ in 0..4 {
        let answer = bed.call(post("/echo", "once")).expect("an answer");
        assert_eq!(&answer.body[..], b"once");
    }
    assert_eq!(origin.requests(), 4);
}

#[test]
fn nothing_was_sent_where_no_endpoint_is_there() {
    let bed = bed_at(&[nobody()], "");
    let error = bed.call(post("/", "once")).expect_err("nobody listens");
    assert!(matches!(error, OwnCallError::NotSent(_)) && !error.may_have_run(), "{error}");
}

#[test]
fn what_was_sent_is_not_sent_again_unless_it_may_be() {
    for (call, times) in [(post("/", "once"), 1), (OwnCall { repeatable: false, ..get("/") }, 1), (get("/"), 3)] {
        let origin = RawOrigin::resets_before_the_answer();
        let bed = bed_at(&[origin.address()], "retry = { budget_min = 100 }");
        let error = bed.call(call).expect_err("it is reset");
        assert!(matches!(error, OwnCallError::NoAnswer(_)) && error.may_have_run(), "{error}");
        assert_eq!(origin.connections(), times, "{error}");
    }
}

/// It was sent at first, so the last attempt, of which nothing was, is not what tells.
#[test]
fn a_call_that_was_sent_once_may_have_run_whatever_became_of_it_later() {
    let bed = bed_at(&[leaving()], "");
    let error = bed.call(get("/")).expect_err("it is gone");
    assert!(error.may_have_run(), "{error}");
}

#[test]
fn a_call_ends_with_its_timeout() {
    let bed = Testbed::start(&guests::first());
    let begun = Instant::now();
    // Long enough for the call to be sent, and for the answer that breaks off to come.
    for (path, timeout) in [("/delay/600000", Duration::from_secs(2)), ("/break/1", LONG)] {
        let error = bed.call(OwnCall { timeout, repeatable: false, ..get(path) }).expect_err("no answer");
        assert!(error.may_have_run(), "{error}");
        if path.starts_with("/delay") {
            assert_eq!(error, OwnCallError::TimedOut { after: timeout, sent: true });
        } else {
            assert!(matches!(error, OwnCallError::NoAnswer(_)), "{error}");
        }
    }
    assert!(begun.elapsed() < LONG);
    wait_until("the origin to be left alone", || bed.origins[0].in_flight() == 0);
}

#[test]
fn an_answer_larger_than_the_caller_takes_is_refused() {
    let bed = Testbed::start(&guests::first());
    let call = |path| OwnCall { answer_bytes_max: 100_000, ..get(path) };
    let whole = bed.call(call("/bytes/100000")).expect("it is as large as it may be");
    assert_eq!(whole.body.len(), 100_000);
    let error = bed.call(call("/bytes/100001")).expect_err("one byte more");
    assert_eq!(error, OwnCallError::AnswerTooLarge { bytes_max: 100_000 });
    assert!(error.may_have_run());
    let cut = OwnCall { cuts_answer: true, ..call("/bytes/1000000") };
    let cut = bed.call(cut).expect("it is cut off");
    assert!(cut.status.is_success() && cut.body.len() <= 100_000, "{}", cut.body.len());
}

#[test]
fn a_service_that_there_is_not_and_one_without_room_are_told_apart() {
    let bed = bed_at(&[nobody()], "\n[services.ghost]\n[services.busy]\nendpoints = [\"127.0.0.1:1\"]");
    let of = |service: &str| OwnCall { service: service.parse().expect("a name"), ..get("/") };
    let error = bed.call(of("nowhere")).expect_err("there is none");
    assert_eq!(error, OwnCallError::NoService("nowhere".parse().expect("a name")));
    let error = bed.call(of("ghost")).expect_err("nobody has registered");
    assert!(matches!(error, OwnCallError::Unavailable(_)) && !error.may_have_run(), "{error}");
}

#[test]
fn the_limits_of_a_service_hold_for_the_gateway_too() {
    let mut bed = Testbed::prepare(&guests::first());
    bed.write_config(&bed.config("timeout = \"1 h\"\ncircuit = { requests = 1 }"));
    bed.run().expect("the gateway starts");
    let (own, origin) = (bed.own(), &bed.origins[0]);
    let under_way =
        bed.runtime.spawn(async move { own.call(OwnCall { timeout: 100 * LONG, ..get("/delay/600000") }).await });
    wait_until("one is under way", || origin.in_flight() == 1);
    let error = bed.call(get("/")).expect_err("there is no room");
    assert!(matches!(&error, OwnCallError::Unavailable(why) if why.contains("as many requests")), "{error}");
    under_way.abort();
    wait_until("there is room again", || bed.call(get("/")).is_ok());
}

#[test]
fn who_goes_away_cancels_the_call() {
    let mut bed = Testbed::prepare(&guests::first());
    // Nothing else ends it.
    bed.write_config(&bed.config("timeout = \"1 h\""));
    bed.run().expect("the gateway starts");
    let own = bed.own();
    bed.runtime.block_on(async {
        let mut call = pin!(own.call(OwnCall { timeout: 100 * LONG, ..get("/delay/600000") }));
        let under_way = tokio::time::timeout(Duration::from_millis(1), call.as_mut()).await;
        assert!(under_way.is_err(), "it takes a minute");
        wait_until("it has arrived", || bed.origins[0].in_flight() == 1);
    });
    wait_until("it is cancelled", || bed.origins[0].in_flight() == 0);
}

/// They wait on the worker, where the service lets them, so that no sockets are needed for them.
#[test]
fn no_more_calls_are_under_way_than_may_be() {
    let mut bed = Testbed::prepare(&guests::first());
    bed.write_config(
        &bed.config("timeout = \"1 h\"\ncircuit = { requests = 1, pending = 10000, pending_timeout = \"1 h\" }"),
    );
    bed.run().expect("the gateway starts");
    let call =
        |own: Arc<Gateway>| async move { own.call(OwnCall { timeout: 100 * LONG, ..get("/delay/600000") }).await };
    let mut calls = tokio::task::JoinSet::new();
    bed.runtime.block_on(async {
        for _ in 0..OWN_CALLS_MAX {
            calls.spawn(call(bed.own()));
        }
    });
    let soon = OwnCall { timeout: Duration::from_millis(50), ..get("/") };
    wait_until("all places are taken", || {
        bed.call(soon.clone()) == Err(OwnCallError::TimedOut { after: soon.timeout, sent: false })
    });
    bed.runtime.block_on(calls.shutdown());
    wait_until("there is room again", || bed.call(get("/")).is_ok());
}

#[test]
fn a_call_under_way_ends_before_the_gateway_does_and_later_ones_are_refused() {
    let mut bed = Testbed::start(&guests::first());
    let (own, own_later) = (bed.own(), bed.own());
    let under_way = bed.runtime.spawn(async move { own.call(get("/delay/700")).await });
    wait_until("it is under way", || bed.origins[0].in_flight() == 1);
    bed.stop();
    let answer = bed.runtime.block_on(under_way).expect("no panic").expect("it was let end");
    assert_eq!(answer.status, StatusCode::OK);
    let later = bed.runtime.block_on(own_later.call(get("/")));
    assert_eq!(later.expect_err("it is over"), OwnCallError::ShuttingDown);
}

#[test]
#[ignore = "a measurement; it asserts nothing"]
fn what_a_call_costs() {
    let bed = Testbed::start(&guests::in_turn());
    for at_once in [1_u32, 16, 256] {
        let (own, begun) = (bed.own(), Instant::now());
        let count = 20_000 / at_once;
        bed.runtime.block_on(async {
            let mut calls = tokio::task::JoinSet::new();
            for _ in 0..at_once {
                let own = Arc::clone(&own);
                calls.spawn(async move {
                    for _ in 0..count {
                        own.call(get("/")).await.expect("an answer");
                    }
                });
            }
            calls.join_all().await;
        });
        println!("{at_once} at once: {:.0} calls/s", f64::from(count * at_once) / begun.elapsed().as_secs_f64());
    }
}
