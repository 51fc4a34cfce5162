//! What each kind of check makes of an answer, over real sockets.

use std::{convert::Infallible, future::ready, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{block_on, check, endpoint_at};
use crate::{
    failover::checks::{
        DETAIL_LEN_MAX,
        http::BODY_BYTES_MAX,
        probe::{Look, look},
    },
    model::{HealthCheck, Outcome, Probe, Protocol},
};

fn http(statuses: &[u16], body: &str) -> Probe {
    Probe::Http {
        path: "/health?deep=1".to_owned(),
        headers: vec![(HeaderName::from_static("x-check"), HeaderValue::from_static("1"))],
        statuses: statuses.iter().map(|&code| StatusCode::from_u16(code).expect("a status")).collect(),
        body: body.to_owned(),
    }
}

async fn bound() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

/// What a check finds of a server that answers with these bytes, and then says nothing more without closing; and what
/// the server was asked.
async fn found(answer: Vec<u8>, check: HealthCheck) -> (Look, String) {
    let (listener, address) = bound().await;
    let asked = async {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut head).await.expect("a request") > 0, "the whole head comes");
        }
        // Whoever has seen enough reads no further.
        let _ = stream.write_all(&answer).await;
        (stream, String::from_utf8(head).expect("text"))
    };
    let endpoint = endpoint_at(3, address);
    let (look, (_stream, head)) = tokio::join!(look(&check, Protocol::Http1, &endpoint), asked);
    assert!(look.detail.len() <= DETAIL_LEN_MAX && !look.detail.contains(char::is_control), "{look:?}");
    (look, head)
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[test]
fn a_status_is_one_of_those_expected_or_not() {
    block_on(async {
        for (status, expected, outcome, says) in [
            ("200 OK", &[][..], Outcome::Success, "answered 200 OK"),
            ("302 Found", &[], Outcome::Success, "answered 302"),
            ("404 Not Found", &[], Outcome::ServerError, "answered 404 Not Found where 200 to 399 was expected"),
            ("503 Service Unavailable", &[], Outcome::ServerError, "answered 503"),
            ("204 No Content", &[200, 204], Outcome::Success, "answered 204"),
            ("404 Not Found", &[404], Outcome::Success, "answered 404"),
            ("201 Created", &[200, 204], Outcome::ServerError, "answered 201 Created where 200, 204 was expected"),
        ] {
            let (look, _) = found(answer(status, ""), check(http(expected, ""))).await;
            assert_eq!(look.outcome, outcome, "{status}: {look:?}");
            assert!(look.detail.contains(says), "{look:?}");
        }
    });
}

#[test]
fn a_body_contains_what_is_expected_within_its_first_64_kib() {
    block_on(async {
        let far = |before: usize| format!("{}ready", "x".repeat(before));
        for (body, outcome) in [
            ("status: ready\n".to_owned(), Outcome::Success),
            ("status: starting\n".to_owned(), Outcome::ServerError),
            (String::new(), Outcome::ServerError),
            (far(BODY_BYTES_MAX - 5), Outcome::Success),
            (far(BODY_BYTES_MAX - 4), Outcome::ServerError),
        ] {
            let (look, _) = found(answer("200 OK", &body), check(http(&[], "ready"))).await;
            assert_eq!(look.outcome, outcome, "{} bytes: {look:?}", body.len());
        }
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nrea\r\n2\r\ndy\r\n".to_vec();
        let (look, _) = found(chunked, check(http(&[], "ready"))).await;
        assert_eq!(look.outcome, Outcome::Success, "in two pieces, before the end: {look:?}");
    });
}

#[test]
fn a_check_is_a_request_of_the_gateways_own() {
    block_on(async {
        let (_, head) = found(answer("200 OK", ""), check(http(&[], ""))).await;
        assert!(head.starts_with("GET /health?deep=1 HTTP/1.1\r\n"), "{head}");
        for field in
            ["host: orders-3.internal:", "x-check: 1\r\n", "user-agent: sluice-check/", "connection: close\r\n"]
        {
            assert!(head.contains(field), "{field} is not in {head}");
        }
        let mut named = http(&[], "");
        let Probe::Http { headers, .. } = &mut named else { unreachable!("it is") };
        headers.push((http::header::HOST, HeaderValue::from_static("shop.example")));
        let (_, head) = found(answer("200 OK", ""), check(named)).await;
        assert!(head.contains("host: shop.example\r\n") && !head.contains("orders-3"), "{head}");
    });
}

#[test]
fn an_answer_that_is_none_is_no_success() {
    block_on(async {
        let (look, _) = found(b"nonsense\r\n\r\n".to_vec(), check(http(&[], ""))).await;
        assert_eq!(look.outcome, Outcome::ServerError, "{look:?}");
        assert!(look.detail.starts_with("connected, but gave no answer"), "{look:?}");
        let short = |probe| HealthCheck { timeout: Duration::from_millis(100), ..check(probe) };
        let (look, _) = found(Vec::new(), short(http(&[], ""))).await;
        assert_eq!(look.outcome, Outcome::TimedOut, "{look:?}");
        assert!(look.detail.contains("no answer from 127.0.0.1:") && look.detail.ends_with("within 100ms"), "{look:?}");
        let unfinished = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfine".to_vec();
        let (look, _) = found(unfinished, short(http(&[], "ready"))).await;
        assert_eq!(look.outcome, Outcome::TimedOut, "{look:?}");
    });
}

#[test]
fn a_port_that_takes_connections_passes_and_one_that_refuses_them_does_not() {
    block_on(async {
        let (listener, address) = bound().await;
        let taken = look(&check(Probe::Tcp), Protocol::Http1, &endpoint_at(0, address)).await;
        assert_eq!(taken.outcome, Outcome::Success, "{taken:?}");
        // The checks' own port, if not the endpoint's.
        let elsewhere = HealthCheck { port: Some(address.port()), ..check(Probe::Tcp) };
        let closed = {
            let (listener, address) = bound().await;
            drop(listener);
            address
        };
        assert_eq!(look(&elsewhere, Protocol::Http1, &endpoint_at(0, closed)).await.outcome, Outcome::Success);
        for probe in [Probe::Tcp, http(&[], ""), Probe::Grpc { service: String::new() }] {
            let refused = look(&check(probe), Protocol::Http1, &endpoint_at(0, closed)).await;
            assert_eq!(refused.outcome, Outcome::ConnectFailed, "{refused:?}");
            assert!(refused.detail.contains("no connection to 127.0.0.1:"), "{refused:?}");
        }
        drop(listener);
    });
}

#[test]
fn a_black_hole_times_out_whatever_it_is_asked() {
    block_on(async {
        // Connections are taken by the system and never answered.
        let (_listener, address) = bound().await;
        for (probe, protocol) in [
            (http(&[], ""), Protocol::Http1),
            (http(&[], ""), Protocol::H2),
            (Probe::Grpc { service: String::new() }, Protocol::Http1),
        ] {
            let check = HealthCheck { timeout: Duration::from_millis(100), ..check(probe) };
            let look = look(&check, protocol, &endpoint_at(0, address)).await;
            assert_eq!(look.outcome, Outcome::TimedOut, "{look:?}");
        }
        // No room is left for connections: SYNs are dropped.
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let listener = socket.listen(1).expect("it listens");
        let full = listener.local_addr().expect("it is bound");
        let mut waiting = Vec::new();
        let timeout = Duration::from_millis(200);
        while let Ok(connected) = tokio::time::timeout(timeout, tokio::net::TcpStream::connect(full)).await {
            waiting.push(connected.expect("a place in the queue"));
            assert!(waiting.len() < 100, "the queue is never full");
        }
        let look = look(&HealthCheck { timeout, ..check(Probe::Tcp) }, Protocol::Http1, &endpoint_at(0, full)).await;
        assert_eq!(look.outcome, Outcome::TimedOut, "{look:?}");
        assert!(look.detail.starts_with("no connection from"), "{look:?}");
    });
}

type Body = BoxBody<Bytes, Infallible>;

/// What a check finds of a server that speaks HTTP/2 with prior knowledge.
async fn found_h2(
    check: &HealthCheck,
    answer: impl Fn(Parts, Bytes) -> Response<Body> + Clone + Send + 'static,
) -> Look {
    let (listener, address) = bound().await;
    let serve = async {
        let (stream, _) = listener.accept().await.expect("a connection");
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.expect("it comes whole").to_bytes();
                Ok::<_, Infallible>(answer(head, body))
            }
        });
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
    };
    let endpoint = endpoint_at(0, address);
    tokio::select! {
        biased;
        look = look(check, Protocol::H2, &endpoint) => look,
        () = serve => panic!("the connection ended before the check"),
    }
}

fn with_body(status: u16, body: &'static str) -> Response<Body> {
    Response::builder().status(status).body(Full::from(body).boxed()).expect("a response")
}

#[test]
fn http_2_is_spoken_to_services_that_speak_it() {
    block_on(async {
        let ready = check(http(&[], "ready"));
        let look = found_h2(&ready, |head, _| {
            let authority = head.uri.authority().map(ToString::to_string).unwrap_or_default();
            assert!(authority.starts_with("orders-0.internal:"), "{authority}");
            assert_eq!(head.uri.path_and_query().map(|path| path.as_str()), Some("/health?deep=1"));
            assert_eq!((head.version, head.headers["x-check"].as_bytes()), (http::Version::HTTP_2, &b"1"[..]));
            with_body(200, "ready")
        })
        .await;
        assert_eq!(look.outcome, Outcome::Success, "{look:?}");
        let look = found_h2(&ready, |_, _| with_body(200, "starting")).await;
        assert_eq!(look.outcome, Outcome::ServerError, "{look:?}");
        let look = found_h2(&ready, |_, _| with_body(503, "ready")).await;
        assert_eq!(look.outcome, Outcome::ServerError, "{look:?}");
        // A server that speaks HTTP/1 only.
        let (listener, address) = bound().await;
        let serve = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("it is taken");
        };
        let endpoint = endpoint_at(0, address);
        let (look, ()) = tokio::join!(super::super::probe::look(&ready, Protocol::H2, &endpoint), serve);
        assert_eq!(look.outcome, Outcome::ServerError, "{look:?}");
    });
}

/// A gRPC answer: a message, if any, and trailers.
fn grpc(message: &'static [u8], trailers: &[(&'static str, &'static str)]) -> Response<Body> {
    let field =
        |(name, value): &(&'static str, &'static str)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    let trailers: HeaderMap = trailers.iter().map(field).collect();
    let body = Full::from(message).with_trailers(ready(Some(Ok(trailers)))).boxed();
    Response::builder().header("content-type", "application/grpc").body(body).expect("a response")
}

const SERVING: &[u8] = b"\0\0\0\0\x02\x08\x01";
const NOT_SERVING: &[u8] = b"\0\0\0\0\x02\x08\x02";
const OK: &[(&str, &str)] = &[("grpc-status", "0")];

#[test]
fn a_grpc_service_is_asked_by_its_name_and_serves_or_not() {
    block_on(async {
        let orders = check(Probe::Grpc { service: "orders.Orders".to_owned() });
        let look = found_h2(&orders, |head, body| {
            assert_eq!((head.method.as_str(), head.uri.path()), ("POST", "/grpc.health.v1.Health/Check"));
            assert_eq!(head.headers["content-type"], "application/grpc");
            assert_eq!(head.headers["te"], "trailers");
            assert_eq!(head.headers["grpc-timeout"], "20000m");
            assert_eq!(&body[..], b"\0\0\0\0\x0f\x0a\x0dorders.Orders");
            grpc(SERVING, OK)
        })
        .await;
        assert_eq!((look.outcome, look.detail.as_str()), (Outcome::Success, "answered SERVING"));
        let look = found_h2(&orders, |_, _| grpc(NOT_SERVING, OK)).await;
        assert_eq!(look.outcome, Outcome::ServerError);
        assert_eq!(look.detail, "answered NOT_SERVING where SERVING was expected");
    });
}

#[test]
fn a_grpc_answer_that_is_an_error_or_none_is_no_success() {
    block_on(async {
        let whole = check(Probe::Grpc { service: String::new() });
        type Answer = fn() -> Response<Body>;
        let unimplemented: Answer = || {
            let head = Response::builder().header("grpc-status", "12").header("grpc-message", "unknown service");
            head.body(Full::default().boxed()).expect("a response")
        };
        let cases: [(Answer, &str); 6] = [
            (unimplemented, "gRPC status 12 (UNIMPLEMENTED: it has no grpc.health.v1.Health): unknown service"),
            (|| grpc(SERVING, &[("grpc-status", "13")]), "gRPC status 13: no message"),
            (|| grpc(SERVING, &[]), "without a grpc-status"),
            (|| grpc(b"\x01\0\0\0\x02\x08\x01", OK), "no HealthCheckResponse"),
            (|| grpc(&[0; 5000], OK), "more than 4096 bytes"),
            (|| with_body(404, ""), "answered 404 Not Found where gRPC answers 200"),
        ];
        for (answer, says) in cases {
            let look = found_h2(&whole, move |_, _| answer()).await;
            assert_eq!(look.outcome, Outcome::ServerError, "{look:?}");
            assert!(look.detail.contains(says), "{look:?}");
        }
    });
}
