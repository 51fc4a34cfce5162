//! What of a message is passed on, what is added and what is taken off, in both directions and over both protocols.

use http::{HeaderMap, Method, Version};
use serde_json::json;
use sluice_harness::{Answer, H2Body, H2Connection, Origin, RawConnection, RawOrigin, Seen, Sluice, any_route, sluice};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn start(origin: &Origin, more: &str) -> Sluice {
    sluice!().config(format!("{more}\n{}", any_route("orders", &[origin.address()], ""))).start()
}

fn start_raw(origin: &RawOrigin) -> Sluice {
    sluice!().config(any_route("orders", &[origin.address()], "")).start()
}

/// Sends a GET with these headers; what arrived at the origin, and the answer.
fn pass(gateway: &Sluice, origin: &Origin, headers: &[(&str, &str)]) -> (Seen, Answer) {
    let before = origin.seen().len();
    let answer = gateway.client().send(Method::GET, "/", headers, Vec::new()).expect(200);
    (origin.seen().swap_remove(before), answer)
}

#[track_caller]
fn text<'h>(headers: &'h HeaderMap, name: &str) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_else(|| panic!("no {name} in {headers:?}"))
}

/// All values of a field as one, as a recipient may read them (RFC 9110 §5.3).
fn joined(headers: &HeaderMap, name: &str) -> String {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
    values.join(", ")
}

#[test]
fn what_strangers_say_of_their_way_is_overwritten() {
    let origin = Origin::start("a");
    let gateway = start(&origin, "");
    let (seen, _) = pass(
        &gateway,
        &origin,
        &[
            ("host", "shop.example"),
            ("x-forwarded-for", "192.0.2.9"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "bank.example"),
            ("x-forwarded-port", "443"),
            ("x-real-ip", "192.0.2.9"),
            ("forwarded", "for=192.0.2.9;proto=https"),
        ],
    );
    assert_eq!(joined(&seen.headers, "x-forwarded-for"), "127.0.0.1");
    assert_eq!(joined(&seen.headers, "x-forwarded-proto"), "http");
    assert_eq!(joined(&seen.headers, "x-forwarded-host"), "shop.example");
    assert_eq!(text(&seen.headers, "host"), "shop.example");
    // Nothing overwrites these, so a claim in them must not pass.
    for claim in ["x-forwarded-port", "x-real-ip", "forwarded"] {
        assert_eq!(seen.headers.get(claim), None, "{claim}");
    }
}

#[test]
fn what_a_trusted_proxy_says_is_kept_and_continued() {
    let origin = Origin::start("a");
    let gateway = start(&origin, "[gateway]\ntrusted_proxies = [\"127.0.0.0/8\"]");
    let mut raw = RawConnection::to(gateway.address());
    raw.send(
        "GET / HTTP/1.1\r\nhost: internal.test\r\nx-forwarded-for: 192.0.2.9\r\nx-forwarded-for: 198.51.100.7\r\n\
         x-forwarded-proto: https\r\nx-forwarded-host: shop.example\r\nx-forwarded-port: 443\r\n\
         forwarded: for=192.0.2.9\r\n\r\n",
    );
    assert_eq!(raw.read_answer().status, 200);
    let seen = &origin.seen()[0].headers;
    assert_eq!(joined(seen, "x-forwarded-for"), "192.0.2.9, 198.51.100.7, 127.0.0.1");
    assert_eq!(joined(seen, "x-forwarded-proto"), "https");
    assert_eq!(joined(seen, "x-forwarded-host"), "shop.example");
    assert_eq!(joined(seen, "x-forwarded-port"), "443");
    assert_eq!(joined(seen, "forwarded"), "for=192.0.2.9");
}

#[test]
fn via_names_the_protocol_that_was_received_behind_what_was_there() {
    let origin = Origin::start("a");
    let gateway = start(&origin, "");
    let (seen, _) = pass(&gateway, &origin, &[]);
    assert_eq!(joined(&seen.headers, "via"), "1.1 sluice");
    H2Connection::to(gateway.address()).get("/").expect(200);
    assert_eq!(joined(&origin.seen()[1].headers, "via"), "2 sluice");
    let mut raw = RawConnection::to(gateway.address());
    raw.send("GET / HTTP/1.1\r\nhost: a\r\nvia: 1.0 fred\r\nvia: 1.1 p.example, 2 q.example\r\n\r\n");
    assert_eq!(raw.read_answer().status, 200);
    assert_eq!(joined(&origin.seen()[2].headers, "via"), "1.0 fred, 1.1 p.example, 2 q.example, 1.1 sluice");
}

#[test]
fn a_request_that_goes_in_a_circle_is_ended() {
    let origin = Origin::start("a");
    let gateway = start(&origin, "");
    let hops = ["1.1 sluice"; 8].join(", ");
    let answer = gateway.client().send(Method::GET, "/", &[("via", &hops)], Vec::new());
    answer.expect_problem(508, "request");
    assert_eq!(origin.requests(), 0);
    // A real one: the route leads back to the gateway itself, whose port is known when it has started.
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let gateway = sluice!().config(any_route("itself", &[nowhere], "")).start();
    gateway.rewrite_config(&any_route("itself", &[gateway.address()], ""));
    gateway.control().post("/reload", &json!({})).expect(200);
    gateway.client().get("/").expect(508);
}

#[test]
fn a_trace_is_continued_or_begun() {
    let origin = Origin::start("a");
    let gateway = start(&origin, "");
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let (seen, _) = pass(&gateway, &origin, &[("traceparent", &parent), ("tracestate", "vendor=1")]);
    let continued = text(&seen.headers, "traceparent");
    assert_eq!(&continued[..36], &parent[..36]);
    assert_ne!(&continued[36..52], &parent[36..52], "the gateway is a hop of its own");
    assert_eq!(text(&seen.headers, "tracestate"), "vendor=1");

    let (one, _) = pass(&gateway, &origin, &[("tracestate", "vendor=1")]);
    let (other, _) = pass(&gateway, &origin, &[]);
    let trace_id = |seen: &Seen| text(&seen.headers, "traceparent")[3..35].to_owned();
    assert_ne!(trace_id(&one), trace_id(&other));
    assert_eq!(one.headers.get("tracestate"), None, "it belongs to a trace that is not there");
}

#[test]
fn a_request_id_is_kept_or_made_and_comes_back() {
    let origin = Origin::start("a");
    let gateway = start(&origin, "");
    let (seen, answer) = pass(&gateway, &origin, &[("x-request-id", "7b3f9c1e-2a54")]);
    assert_eq!(text(&seen.headers, "x-request-id"), "7b3f9c1e-2a54");
    assert_eq!(answer.header("x-request-id"), Some("7b3f9c1e-2a54"));
    let (seen, answer) = pass(&gateway, &origin, &[]);
    assert_eq!(answer.header("x-request-id"), Some(text(&seen.headers, "x-request-id")));
    let (seen, answer) = pass(&gateway, &origin, &[("x-request-id", "not fit for \"logs\"")]);
    assert!(!text(&seen.headers, "x-request-id").contains("logs"));
    assert_eq!(answer.header("x-request-id"), Some(text(&seen.headers, "x-request-id")));
}

#[test]
fn what_is_meant_for_one_connection_stays_on_it() {
    let origin = RawOrigin::start(|mut exchange| {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: x-hop, keep-alive\r\nx-hop: 1\r\n\
            keep-alive: timeout=5\r\nproxy-connection: keep-alive\r\nx-end: 2\r\n\r\n";
        while exchange.answer(answer).is_some() {}
    });
    let gateway = start_raw(&origin);
    let mut raw = RawConnection::to(gateway.address());
    raw.send(
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, X-Hop\r\nconnection: x-hop-two\r\nx-hop: 1\r\n\
         x-hop-two: 2\r\nkeep-alive: timeout=9\r\nproxy-connection: keep-alive\r\nte: gzip\r\nx-end: 3\r\n\r\n",
    );
    let answer = raw.read_answer();
    for name in ["x-hop", "keep-alive", "proxy-connection"] {
        assert_eq!(answer.header(name), None, "{answer:?}");
    }
    assert_eq!(answer.header("x-end"), Some("2"));
    let request = origin.received_text().to_ascii_lowercase();
    for name in ["x-hop", "keep-alive", "proxy-connection", "\r\nte:", "\r\nconnection:"] {
        assert!(!request.contains(name), "{name} in {request}");
    }
    assert!(request.contains("\r\nx-end: 3\r\n"), "{request}");

    // Nor may a client have taken off what the gateway adds, or what frames the message.
    raw.send(
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: x-forwarded-for, x-request-id, via, host, content-length\r\n\
         content-length: 2\r\n\r\nhi",
    );
    assert_eq!(raw.read_answer().status, 200);
    let request = origin.received_text().to_ascii_lowercase().split_off(request.len());
    for name in ["x-forwarded-for: 127.0.0.1", "x-request-id: ", "via: 1.1 sluice", "host: a", "content-length: 2"] {
        assert!(request.contains(&format!("\r\n{name}")), "{name} not in {request}");
    }
}

#[test]
fn te_passes_only_as_trailers_and_is_marked_as_meant_for_the_next_hop() {
    let origin = RawOrigin::recording();
    let gateway = start_raw(&origin);
    let mut raw = RawConnection::to(gateway.address());
    raw.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: te\r\nte: gzip;q=0.5\r\nte: trailers\r\n\r\n");
    assert_eq!(raw.read_answer().status, 200);
    let request = origin.received_text().to_ascii_lowercase();
    assert!(request.contains("\r\nte: trailers\r\n"), "{request}");
    // RFC 9110 §10.1.4.
    assert!(request.contains("\r\nconnection: te\r\n"), "{request}");
    assert!(!request.contains("gzip"), "{request}");
}

#[test]
fn a_cookie_that_came_in_pieces_is_one_field_in_http_1() {
    let origin = Origin::start("a");
    let gateway = start(&origin, "");
    let h2 = H2Connection::to(gateway.address());
    let pieces = [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")];
    h2.begin(Method::GET, "/", &pieces, H2Body::empty()).answer().expect(200);
    let seen = &origin.seen()[0];
    let cookies: Vec<_> = seen.headers.get_all("cookie").iter().collect();
    assert_eq!(cookies, ["a=1; b=2; c=3"]);
    assert_eq!(seen.version, Version::HTTP_11);
}

#[test]
fn the_authority_becomes_the_host_and_the_target_its_path() {
    let origin = RawOrigin::recording();
    let gateway = start_raw(&origin);
    let mut raw = RawConnection::to(gateway.address());
    raw.send("GET http://shop.example:81/a/../b?q=1 HTTP/1.1\r\nhost: shop.example:81\r\n\r\n");
    assert_eq!(raw.read_answer().status, 200);
    let request = origin.received_text();
    assert!(request.starts_with("GET /b?q=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.to_ascii_lowercase().contains("\r\nhost: shop.example:81\r\n"), "{request}");

    let h2 = H2Connection::to(gateway.address());
    h2.begin_for("shop.example", Method::GET, "/two", &[], H2Body::empty()).answer().expect(200);
    let request = origin.received_text().split_off(request.len()).to_ascii_lowercase();
    assert!(request.starts_with("get /two http/1.1\r\n"), "{request}");
    assert_eq!(request.matches("\r\nhost: shop.example\r\n").count(), 1, "{request}");
}

#[test]
fn an_http_1_0_client_is_served_and_its_connection_ended() {
    let origin = RawOrigin::start(|mut exchange| {
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        while exchange.answer(chunked).is_some() {}
    });
    let gateway = start_raw(&origin);
    let mut raw = RawConnection::to(gateway.address());
    // Host is not required of it (RFC 9112 §3.2).
    raw.send("GET /a HTTP/1.0\r\n\r\n");
    let answer = raw.read_to_end().unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.0 200 ") || answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello"), "no chunks for HTTP/1.0: {answer}");
    let request = origin.received_text();
    assert!(request.starts_with("GET /a HTTP/1.1\r\n"), "{request}");
    assert!(request.to_ascii_lowercase().contains("\r\nhost: orders\r\n"), "HTTP/1.1 needs one: {request}");
    assert!(request.contains("1.0 sluice"), "{request}");

    // Nor can it upgrade (RFC 9110 §7.8).
    let mut raw = RawConnection::to(gateway.address());
    raw.send("GET /b HTTP/1.0\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    raw.read_to_end().unwrap();
    assert!(!origin.received_text().to_ascii_lowercase().contains("upgrade"));

    let mut raw = RawConnection::to(gateway.address());
    for _ in 0..2 {
        raw.send("HEAD /c HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n");
        assert_eq!(raw.try_read_head().unwrap().status, 200);
    }
}

#[test]
fn an_upgrade_to_another_http_is_not_passed_on() {
    // Whoever grants it would speak HTTP past every route of the gateway.
    let origin = RawOrigin::recording();
    let gateway = start_raw(&origin);
    let mut raw = RawConnection::to(gateway.address());
    raw.send(
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\n\
         http2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    );
    assert_eq!(raw.read_answer().status, 200);
    raw.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c, echo\r\n\r\n");
    assert_eq!(raw.read_answer().status, 200);
    let requests = origin.received_text().to_ascii_lowercase();
    assert!(!requests.contains("h2c") && !requests.contains("http2-settings"), "{requests}");
    assert!(requests.contains("\r\nupgrade: echo\r\n"), "{requests}");
}

#[test]
fn answers_without_a_body_keep_their_head_and_the_connection() {
    let origin = RawOrigin::start(|mut exchange| {
        while let Some(request) = exchange.read_request() {
            let request = String::from_utf8_lossy(&request).into_owned();
            let answer: &[u8] = match request.split(' ').nth(1) {
                Some("/sized") => b"HTTP/1.1 200 OK\r\ncontent-length: 1234\r\netag: \"x\"\r\n\r\n",
                Some("/chunked") => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\netag: \"x\"\r\n\r\n",
                Some("/304") => b"HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n",
                Some("/304-sized") => b"HTTP/1.1 304 Not Modified\r\ncontent-length: 1234\r\netag: \"x\"\r\n\r\n",
                Some("/204") => b"HTTP/1.1 204 No Content\r\netag: \"x\"\r\n\r\n",
                _ => b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\netag: \"x\"\r\n\r\n",
            };
            exchange.write(answer);
        }
    });
    let gateway =
        sluice!().config(format!("[gateway]\nworkers = 1\n{}", any_route("orders", &[origin.address()], ""))).start();
    let mut raw = RawConnection::to(gateway.address());
    for (method, path, status, length) in [
        ("HEAD", "/sized", 200, Some("1234")),
        ("HEAD", "/chunked", 200, None),
        ("GET", "/304", 304, None),
        // RFC 9110 §8.6: may be left out.
        ("GET", "/304-sized", 304, None),
        ("GET", "/204", 204, None),
        ("HEAD", "/204", 204, None),
        ("GET", "/empty", 200, Some("0")),
        ("POST", "/empty", 200, Some("0")),
    ] {
        raw.send(format!("{method} {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
        let head = raw.try_read_head().unwrap();
        assert_eq!(head.status, status, "{method} {path}");
        assert_eq!(head.header("content-length"), length, "{method} {path}: {head:?}");
        assert_eq!(head.header("etag"), Some("\"x\""), "{method} {path}");
    }
    assert_eq!(origin.connections(), 1, "the connection to the endpoint is used again");
    let h2 = H2Connection::to(gateway.address());
    for path in ["/304", "/204", "/empty"] {
        assert!(h2.get(path).body.is_empty());
    }
    let head = h2.begin(Method::HEAD, "/sized", &[], H2Body::empty()).answer().expect(200);
    assert_eq!(head.header("content-length"), Some("1234"));
}

#[test]
fn a_response_with_both_framings_goes_on_with_one() {
    let origin = RawOrigin::start(|mut exchange| {
        let both = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        while exchange.answer(both).is_some() {}
    });
    let gateway = start_raw(&origin);
    let mut raw = RawConnection::to(gateway.address());
    for _ in 0..2 {
        raw.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let answer = raw.read_answer();
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "{answer:?}");
        assert_eq!(answer.header("content-length"), None, "{answer:?}");
    }
    let answer = H2Connection::to(gateway.address()).get("/").expect(200);
    assert_eq!(answer.text(), "hello");
}

#[test]
fn a_response_in_a_coding_that_nobody_asked_for_is_a_bad_gateway() {
    let origin = RawOrigin::start(|mut exchange| {
        exchange.answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n\x1f\x8bgarbage");
    });
    let gateway = start_raw(&origin);
    gateway.client().get("/").expect_problem(502, "upstream");
}

#[test]
fn continue_is_said_when_forwarding_begins_and_not_before() {
    let origin = RawOrigin::start(|mut exchange| while exchange.answer(sluice_harness::raw_origin::OK).is_some() {});
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let gateway = sluice!()
        .config(format!(
            "{}{}[[route]]\npath = \"/dead\"\nservice = \"dead\"\n",
            any_route("orders", &[origin.address()], "").replace("path = \"/\"", "path = \"/orders\""),
            sluice_harness::service("dead", &[nowhere], ""),
        ))
        .start();
    let ask = |path: &str| {
        let mut raw = RawConnection::to(gateway.address());
        raw.send(format!("POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"));
        raw
    };
    let mut raw = ask("/orders");
    assert_eq!(raw.read_answer().status, 100);
    raw.send("hello");
    assert_eq!(raw.read_answer().status, 200);
    assert!(origin.received_text().ends_with("\r\n\r\nhello"));
    assert!(!origin.received_text().to_ascii_lowercase().contains("expect"), "the gateway has met it");
    raw.send("GET /orders HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(raw.read_answer().status, 200, "the connection goes on");

    // Final answers without a body having been asked for.
    assert_eq!(ask("/nothing").read_answer().status, 404);
    assert_eq!(ask("/dead").read_answer().status, 502);

    // The body that was not asked for may come all the same, or not: the connection must not take it for a request.
    let mut raw = ask("/nothing");
    let answer = raw.read_answer();
    assert_eq!(answer.status, 404);
    if raw.try_send("GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n").is_ok() {
        let rest = raw.read_to_end().unwrap_or_default();
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"), "{}", String::from_utf8_lossy(&rest));
    }
    assert!(!origin.received_text().contains("smuggled"));
}

#[test]
fn trailers_pass_in_every_direction_and_protocol() {
    let origin = Origin::start("a");
    for protocol in ["http/1.1", "h2"] {
        let config = any_route("orders", &[origin.address()], &format!("protocol = {protocol:?}"));
        let gateway = sluice!().config(config).start();

        let mut raw = RawConnection::to(gateway.address());
        raw.send("GET /trailers HTTP/1.1\r\nhost: a\r\nconnection: te\r\nte: trailers\r\n\r\n");
        raw.read_until(b"\r\n0\r\n");
        let trailers = String::from_utf8(raw.read_until(b"\r\n\r\n")).unwrap();
        assert!(trailers.contains("x-checksum: 7"), "h1 → {protocol}: {trailers}");

        let h2 = H2Connection::to(gateway.address());
        let te = [("te", "trailers")];
        let (answer, trailers) = h2.begin(Method::GET, "/trailers", &te, H2Body::empty()).with_trailers();
        answer.expect(200);
        let trailers = trailers.unwrap_or_else(|| panic!("h2 → {protocol}"));
        assert_eq!(text(&trailers, "grpc-status"), "0", "h2 → {protocol}");

        // And back again, by way of an echo.
        let mut raw = RawConnection::to(gateway.address());
        raw.send(
            "POST /echo HTTP/1.1\r\nhost: a\r\nconnection: te\r\nte: trailers\r\ntrailer: x-sum\r\n\
             transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n",
        );
        let answer = raw.read_answer();
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"), "h1 → {protocol}");
        let body = H2Body::with_trailers("hello", &[("x-sum", "1")]);
        let (answer, trailers) =
            h2.begin(Method::POST, "/echo", &[("te", "trailers"), ("trailer", "x-sum")], body).with_trailers();
        assert_eq!(answer.expect(200).text(), "hello", "h2 → {protocol}");
        let trailers = trailers.unwrap_or_else(|| panic!("h2 → {protocol}: the request's trailers are lost"));
        assert_eq!(text(&trailers, "x-sum"), "1", "h2 → {protocol}");
    }
}

#[test]
fn an_answer_that_comes_while_the_client_still_sends_is_passed_on_at_once() {
    let origin = RawOrigin::start(|mut exchange| {
        // The head is enough to say no.
        if exchange.read_some() {
            exchange.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno");
        }
        while exchange.read_some() {}
    });
    let gateway = start_raw(&origin);
    let mut raw = RawConnection::to(gateway.address());
    raw.send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
    let answer = raw.read_answer();
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));

    let h2 = H2Connection::to(gateway.address());
    let (body, streamed) = H2Body::streamed();
    body.send("hello".into()).unwrap();
    let exchange = h2.begin(Method::POST, "/", &[], streamed);
    exchange.answer().expect(403);
    drop(body);
    h2.get("/").expect(403);
}

#[test]
fn an_echo_streams_both_ways_at_once_over_every_pair_of_protocols() {
    let origin = Origin::start("a");
    for protocol in ["http/1.1", "h2"] {
        let config = any_route("orders", &[origin.address()], &format!("protocol = {protocol:?}"));
        let gateway = sluice!().config(config).start();
        let mut raw = RawConnection::to(gateway.address());
        raw.send("POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!(raw.try_read_head().unwrap().status, 200, "before the first byte of the body");
        for piece in ["one", "two"] {
            raw.send(format!("3\r\n{piece}\r\n"));
            let echoed = String::from_utf8(raw.read_until(format!("{piece}\r\n").as_bytes())).unwrap();
            assert!(echoed.starts_with("3\r\n"), "{protocol}: {echoed}");
        }
        raw.send("0\r\n\r\n");
        raw.read_until(b"0\r\n\r\n");
    }
}
