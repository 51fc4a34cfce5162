//! Calls of the host's own to the outside: to whom they go, what an error says was sent, and that connections are kept.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use sluice_harness::{Origin, RawOrigin, wait_until};
use tokio::task::JoinSet;

use super::waiting::outside;
use crate::{
    model::{HostGrant, OwnAnswer},
    plugin::{Outside, OutsideCall, OutsideError},
};

fn post(url: impl Into<String>) -> OutsideCall {
    OutsideCall {
        method: Method::POST,
        url: url.into(),
        headers: HeaderMap::new(),
        body: Bytes::from_static(b"hello"),
        timeout: Duration::from_secs(20),
        answer_bytes_max: 1 << 20,
        cuts_answer: false,
    }
}

fn at(address: SocketAddr, path: &str) -> OutsideCall {
    post(format!("http://{address}{path}"))
}

/// With everything on this machine granted.
async fn fetch(call: OutsideCall) -> Result<OwnAnswer, OutsideError> {
    fetch_granted(&outside(), "127.0.0.1", call).await
}

async fn fetch_granted(outside: &Outside, grant: &str, call: OutsideCall) -> Result<OwnAnswer, OutsideError> {
    outside.fetch(&[grant.parse::<HostGrant>().expect("a grant")], call).await
}

#[tokio::test]
async fn a_call_brings_the_whole_answer() {
    let origin = Origin::start("a");
    let mut call = at(origin.address(), "/echo?gid=1");
    call.headers.insert("x-branch", HeaderValue::from_static("01"));
    let answer = fetch(call).await.expect("an answer");
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"hello"[..]));
    assert_eq!(answer.headers["x-instance"], "a");
    let seen = origin.seen().remove(0);
    assert_eq!((seen.method, seen.uri.to_string()), (Method::POST, "/echo?gid=1".to_owned()));
    assert_eq!(
        (&seen.headers["x-branch"], &seen.headers["content-length"]),
        (&"01".parse().unwrap(), &"5".parse().unwrap())
    );
    let refused = fetch(at(origin.address(), "/status/409")).await.expect("an answer, whatever its status");
    assert_eq!(refused.status.as_u16(), 409);
}

#[tokio::test]
async fn only_what_is_granted_and_right_is_reached() {
    let origin = Origin::start("a");
    let port = origin.address().port();
    for (grant, url, why) in [
        ("127.0.0.2", format!("http://127.0.0.1:{port}/"), "not among allow_hosts"),
        ("127.0.0.1:1", format!("http://127.0.0.1:{port}/"), "not among allow_hosts"),
        ("127.0.0.1", "file:///etc/passwd".to_owned(), "must begin with http"),
        ("127.0.0.1", "service://orders/".to_owned(), "must begin with http"),
        ("127.0.0.1", "no url".to_owned(), "is no URL"),
        ("169.254.169.254", "http://169.254.169.254/latest".to_owned(), "link-local"),
        ("127.0.0.1", "http://127.0.0.1:9180/plugins".to_owned(), "control listener"),
    ] {
        let error = fetch_granted(&outside(), grant, post(&url)).await.expect_err(&url);
        assert!(matches!(&error, OutsideError::NotAllowed(said) if said.contains(why)), "{url}: {error}");
        assert!(!error.may_have_run());
    }
    assert_eq!(origin.connections(), 0);
}

/// The connection is let go by another task than the one that waits for that.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_tells_whether_anything_was_sent() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let error = fetch(at(nobody, "/")).await.expect_err("nobody listens");
    assert!(matches!(error, OutsideError::NotConnected(_)) && !error.may_have_run(), "{error}");

    let resetting = RawOrigin::resets_before_the_answer();
    let error = fetch(at(resetting.address(), "/")).await.expect_err("it is reset");
    assert!(matches!(error, OutsideError::NoAnswer(_)) && error.may_have_run(), "{error}");
    assert_eq!(resetting.connections(), 1, "it was not sent again");

    let breaking = RawOrigin::resets_mid_body(10, 5);
    let error = fetch(at(breaking.address(), "/")).await.expect_err("half an answer");
    assert!(matches!(error, OutsideError::NoAnswer(_)) && error.may_have_run(), "{error}");

    let origin = Origin::start("a");
    let timeout = Duration::from_millis(100);
    let error = fetch(OutsideCall { timeout, ..at(origin.address(), "/delay/60000") }).await.expect_err("too late");
    assert_eq!(error, OutsideError::TimedOut { after: timeout });
    wait_until("the origin to be left alone", || origin.in_flight() == 0);

    let small = |path: &str| OutsideCall { answer_bytes_max: 1_000, ..at(origin.address(), path) };
    assert_eq!(fetch(small("/bytes/1000")).await.expect("as large as it may be").body.len(), 1_000);
    let error = fetch(small("/bytes/1001")).await.expect_err("one byte more");
    assert_eq!(error, OutsideError::AnswerTooLarge { bytes_max: 1_000 });
    let cut = fetch(OutsideCall { cuts_answer: true, ..small("/bytes/100000") }).await.expect("it is cut off");
    assert!(cut.status.is_success() && cut.body.len() <= 1_000, "{cut:?}");
}

#[tokio::test]
async fn hundreds_of_calls_at_once_use_their_connections_again() {
    const AT_ONCE: usize = 200;
    let origin = Origin::start("a");
    let outside = outside();
    for _ in 0..5 {
        let mut calls = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (outside, call) = (Arc::clone(&outside), at(origin.address(), "/delay/5"));
            calls.spawn(async move { fetch_granted(&outside, "127.0.0.1", call).await.map(|answer| answer.status) });
        }
        assert!(calls.join_all().await.iter().all(|status| status.as_ref().is_ok_and(|status| status.is_success())));
    }
    assert!(origin.connections() <= AT_ONCE, "{} connections for {} calls", origin.connections(), 5 * AT_ONCE);
}
