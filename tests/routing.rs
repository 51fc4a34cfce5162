//! Which service a request goes to, and what a route changes on its way.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use sluice_harness::{
    Answer, Guest, H2Body, H2Connection, Origin, RawConnection, RawOrigin, Sluice, any_route, service, sluice,
};

/// A route's table.
fn route(path: &str, service: &str, more: &str) -> String {
    format!("[[route]]\npath = {path:?}\nservice = {service:?}\n{more}\n")
}

fn start(parts: &[String]) -> Sluice {
    sluice!().config(parts.concat()).start()
}

fn get_from(gateway: &Sluice, host: &str, path: &str) -> Answer {
    gateway.client().send(Method::GET, path, &[("host", host)], Vec::new())
}

/// Sends the target exactly as it is; what the origin's request line then says.
fn target_seen(gateway: &Sluice, target: &str) -> Result<String, u16> {
    let mut raw = RawConnection::to(gateway.address());
    raw.send(format!("GET {target} HTTP/1.1\r\nhost: gateway.test\r\n\r\n"));
    let answer = raw.read_answer();
    match answer.status {
        200 => Ok(answer.text()),
        status => Err(status),
    }
}

/// Answers with the target that it was asked for.
fn target_origin() -> RawOrigin {
    RawOrigin::start(|mut exchange| {
        while let Some(request) = exchange.read_request() {
            let head = String::from_utf8_lossy(&request).into_owned();
            let target = head.split(' ').nth(1).unwrap_or_default();
            exchange.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{target}", target.len()).as_bytes());
        }
    })
}

#[test]
fn the_most_exact_host_and_then_the_longest_path_wins_over_both_protocols() {
    let names = ["root", "orders", "special", "shop", "wild"];
    let origins = names.map(Origin::start);
    let mut parts: Vec<String> = origins.iter().map(|origin| service(origin.name(), &[origin.address()], "")).collect();
    parts.extend([
        route("/", "root", ""),
        route("/orders/", "orders", ""),
        route("/orders/special", "special", ""),
        route("/", "shop", "host = \"shop.example\""),
        route("/orders", "wild", "host = \"*.example\""),
    ]);
    let gateway = start(&parts);
    let h2 = H2Connection::to(gateway.address());
    for (host, path, expected) in [
        ("x.test", "/", "root"),
        ("x.test", "/orders", "orders"),
        ("x.test", "/orders/7?a=/orders/special", "orders"),
        ("x.test", "/ordersx", "root"),
        ("x.test", "/orders/special/1", "special"),
        ("x.test", "/orders/specials", "orders"),
        ("SHOP.example", "/orders/7", "shop"),
        ("shop.example:8080", "/", "shop"),
        ("shop.example.", "/", "shop"),
        ("a.example", "/orders/7", "wild"),
        ("a.b.example", "/orders/7", "wild"),
        ("a.example", "/other", "root"),
        ("example", "/orders", "orders"),
    ] {
        assert_eq!(get_from(&gateway, host, path).expect(200).instance(), expected, "HTTP/1.1 {host}{path}");
        let answer = h2.begin_for(host, Method::GET, path, &[], H2Body::empty()).answer();
        assert_eq!(answer.expect(200).instance(), expected, "HTTP/2 {host}{path}");
    }
}

#[test]
fn no_route_is_404_and_a_path_without_this_method_is_405_with_those_it_has() {
    let [reader, writer] = ["reader", "writer"].map(Origin::start);
    let gateway = start(&[
        service("reader", &[reader.address()], ""),
        service("writer", &[writer.address()], ""),
        route("/orders", "reader", "methods = [\"GET\", \"HEAD\"]"),
        route("/orders", "writer", "methods = [\"POST\"]"),
        route("/orders/7", "writer", "methods = [\"DELETE\", \"GET\"]"),
    ]);
    let send = |method: Method, path: &str| gateway.client().send(method, path, &[], Vec::new());
    assert_eq!(send(Method::GET, "/orders/1").expect(200).instance(), "reader");
    assert_eq!(send(Method::POST, "/orders/1").expect(200).instance(), "writer");
    assert_eq!(send(Method::GET, "/orders/7").expect(200).instance(), "writer");

    send(Method::GET, "/nothing").expect_problem(404, "route");

    // RFC 9110 §15.5.6: the answer must have Allow.
    let refused = send(Method::PATCH, "/orders/1");
    refused.expect_problem(405, "route");
    assert_eq!(refused.header("allow"), Some("GET, HEAD, POST"));
    let refused = send(Method::PATCH, "/orders/7");
    assert_eq!(refused.header("allow"), Some("DELETE, GET, HEAD, POST"));
    let elsewhere = send(Method::GET, "/nothing");
    assert_eq!(elsewhere.header("allow"), None);
}

#[test]
fn weighted_targets_get_their_shares() {
    let [old, new] = ["orders", "orders-next"].map(Origin::start);
    let gateway = start(&[
        service("orders", &[old.address()], ""),
        service("orders-next", &[new.address()], ""),
        "[[route]]\npath = \"/\"\nservices = [{ name = \"orders\", weight = 90 }, { name = \"orders-next\", weight = 10 }]\n"
            .to_owned(),
    ]);
    let client = gateway.client();
    let requests = 1_000;
    let to_new = (0..requests).filter(|_| client.get("/").expect(200).instance() == "orders-next").count();
    // Six standard deviations of a binomial share (9.5 each).
    assert!((43..=157).contains(&to_new), "{to_new} of {requests}");
}

#[test]
fn a_prefix_is_taken_off_where_the_route_says_so() {
    let origin = target_origin();
    let gateway = start(&[
        service("orders", &[origin.address()], ""),
        route("/orders/", "orders", "strip_prefix = true"),
        route("/kept/", "orders", ""),
    ]);
    for (sent, arrived) in [
        ("/orders/7?x=1", "/7?x=1"),
        ("/orders/", "/"),
        ("/orders", "/"),
        ("/orders?x=1", "/?x=1"),
        ("/orders//7", "/7"),
        ("/kept/7", "/kept/7"),
    ] {
        assert_eq!(target_seen(&gateway, sent), Ok(arrived.to_owned()), "{sent}");
    }
}

#[test]
fn every_spelling_of_a_path_takes_the_same_route_and_arrives_in_one_form() {
    let (public, private) = (target_origin(), target_origin());
    let gateway = start(&[
        service("public", &[public.address()], ""),
        service("private", &[private.address()], ""),
        route("/", "public", ""),
        route("/private/", "private", ""),
    ]);
    for (sent, arrived) in [
        ("/a/./b", "/a/b"),
        ("/a//b///c", "/a/b/c"),
        ("/a/x/../b", "/a/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/%61?q=%61//..", "/a?q=%61//.."),
        ("/a%2Fb", "/a%2Fb"),
        ("/a%2fprivate%2fb", "/a%2Fprivate%2Fb"),
    ] {
        assert_eq!(target_seen(&gateway, sent), Ok(arrived.to_owned()), "{sent}");
    }
    for sent in ["/private/x", "//private/x", "/./private/x", "/a/../private/x", "/a/%2e%2e/private/x", "/%70rivate/x"]
    {
        let before = public.received_text().len();
        assert_eq!(target_seen(&gateway, sent), Ok("/private/x".to_owned()), "{sent}");
        assert_eq!(public.received_text().len(), before, "{sent} reached the other service");
    }
    for sent in ["/..", "/a/../../b", "/%2e%2e/etc", "/%", "/%4", "/%zz", "/%00"] {
        assert_eq!(target_seen(&gateway, sent), Err(400), "{sent}");
    }
}

#[test]
fn an_encoded_slash_separates_only_where_the_route_says_so() {
    let (plain, decoding) = (target_origin(), target_origin());
    let gateway = start(&[
        service("plain", &[plain.address()], ""),
        service("decoding", &[decoding.address()], ""),
        route("/", "plain", ""),
        route("/files/", "decoding", "decode_slash = true"),
    ]);
    assert_eq!(target_seen(&gateway, "/x%2fy"), Ok("/x%2Fy".to_owned()));
    assert_eq!(target_seen(&gateway, "/files/a%2fb"), Ok("/files/a/b".to_owned()));
    assert_eq!(target_seen(&gateway, "/files/a%2f..%2fb"), Ok("/files/b".to_owned()));
    // What it means once decoded lies outside of the route.
    assert_eq!(target_seen(&gateway, "/files/..%2fsecret"), Err(404));
    assert!(!plain.received_text().contains("secret") && !decoding.received_text().contains("secret"));
}

#[test]
fn a_route_sets_and_removes_headers_in_both_directions() {
    let origin = RawOrigin::start(|mut exchange| {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nserver: secret/1.0\r\nx-old: 1\r\nx-old: 2\r\n\r\n";
        while exchange.answer(answer).is_some() {}
    });
    let gateway = start(&[
        service("orders", &[origin.address()], ""),
        route(
            "/",
            "orders",
            "request_headers = { set = { \"x-env\" = \"prod\" }, remove = [\"x-internal\"] }\n\
             response_headers = { set = { \"x-old\" = \"new\", \"x-frame-options\" = \"DENY\" }, remove = [\"server\"] }",
        ),
    ]);
    let sent = [("x-env", "mine"), ("x-internal", "1"), ("x-other", "kept")];
    let answer = gateway.client().send(Method::GET, "/", &sent, Vec::new()).expect(200);
    let request = origin.received_text().to_ascii_lowercase();
    assert!(request.contains("\r\nx-env: prod\r\n") && !request.contains("mine"), "{request}");
    assert!(!request.contains("x-internal"), "{request}");
    assert!(request.contains("\r\nx-other: kept\r\n"), "{request}");
    assert_eq!(answer.header("server"), None, "{answer}");
    assert_eq!(answer.headers.get_all("x-old").iter().collect::<Vec<_>>(), ["new"], "{answer}");
    assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{answer}");
}

#[test]
fn requests_with_one_key_stay_with_one_endpoint_whatever_is_hashed() {
    let names = ["a", "b", "c", "d"];
    let origins = names.map(Origin::start);
    let addresses = origins.each_ref().map(Origin::address);
    let mut parts = vec![
        "[gateway]\ntrusted_proxies = [\"127.0.0.1\"]\n".to_owned(),
        service("orders", &addresses, "balancer = { plugin = \"ring-hash\" }"),
    ];
    parts.extend([
        route("/header/", "orders", "hash_on = { header = \"x-customer\" }"),
        route("/cookie/", "orders", "hash_on = { cookie = \"session\" }"),
        route("/query/", "orders", "hash_on = { query = \"user\" }"),
        route("/path/", "orders", "hash_on = \"path\""),
        route("/client/", "orders", "hash_on = \"client-address\""),
    ]);
    let gateway = start(&parts);
    let client = gateway.client();
    type Ask<'a> = (&'a str, Box<dyn Fn(u32, u32) -> Answer + 'a>);
    let get = |path: &str, name: &str, value: String| {
        client.send(Method::GET, path, &[(name, value.as_str())], Vec::new()).expect(200)
    };
    let kinds: [Ask; 5] = [
        ("header", Box::new(|key, _| get("/header/", "x-customer", format!("customer-{key}")))),
        ("cookie", Box::new(|key, n| get("/cookie/", "cookie", format!("other={n}; session=s{key}; sessions={n}")))),
        ("query", Box::new(|key, n| get(&format!("/query/?a={n}&user=u{key}&user2={n}"), "x-n", n.to_string()))),
        ("path", Box::new(|key, n| get(&format!("/path/item-{key}?n={n}"), "x-n", n.to_string()))),
        ("client", Box::new(|key, n| get("/client/", "x-forwarded-for", format!("10.9.9.{n}, 192.0.2.{key}")))),
    ];
    for (kind, ask) in kinds {
        let mut by_key: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        for key in 0..12 {
            for n in 0..4 {
                by_key.entry(key).or_default().insert(ask(key, n).instance().to_owned());
            }
        }
        assert!(by_key.values().all(|instances| instances.len() == 1), "{kind}: {by_key:?}");
        let used: BTreeSet<_> = by_key.values().flatten().collect();
        // All twelve keys on one of four endpoints: once in 4^11.
        assert!(used.len() > 1, "{kind}: {by_key:?}");
    }
}

#[test]
fn without_what_is_hashed_requests_are_spread() {
    let origins = ["a", "b"].map(Origin::start);
    let addresses = origins.each_ref().map(Origin::address);
    let gateway = start(&[
        service("orders", &addresses, "balancer = { plugin = \"ring-hash\" }"),
        route("/", "orders", "hash_on = { header = \"x-customer\" }"),
    ]);
    let client = gateway.client();
    let answered: BTreeSet<_> = (0..64).map(|_| client.get("/").expect(200).instance().to_owned()).collect();
    assert_eq!(answered.len(), 2, "64 requests without the header all went to {answered:?}");
}

#[test]
fn a_policy_sees_the_headers_that_its_route_exposes_and_no_others() {
    let origins = ["a", "b"].map(Origin::start);
    let gateway = start(&[
        service("orders", &origins.each_ref().map(Origin::address), "balancer = { plugin = \"round-robin\" }"),
        route("/", "orders", ""),
        route("/exposed/", "orders", "expose = [\"x-place\"]\nrequest_headers = { remove = [\"x-place\"] }"),
    ]);
    // Picks the slot that the header says; without it, the first.
    let told = Guest {
        items: r#"
            (import "sluice:plugin/incoming@0.1.0" "header" (func $header (param i32 i32 i32)))
            (data (i32.const 100) "x-place")"#,
        pick: "
            (call $header (i32.const 100) (i32.const 7) (i32.const 200))
            (call $free_all)
            (call $answer (if (result i32) (i32.load8_u (i32.const 200))
              (then (i32.sub (i32.load8_u (i32.load (i32.const 204))) (i32.const 48)))
              (else (i32.const 0))))",
        ..Guest::default()
    };
    gateway.push("round-robin", &told.component());
    let ask = |path: &str, place: &str| {
        let answer = gateway.client().send(Method::GET, path, &[("x-place", place)], Vec::new());
        answer.expect(200).instance().to_owned()
    };
    for _ in 0..4 {
        assert_eq!([ask("/exposed/", "0"), ask("/exposed/", "1")], ["a", "b"]);
        assert_eq!([ask("/", "0"), ask("/", "1")], ["a", "a"]);
    }
    assert_eq!(gateway.metric("sluice_plugin_fallbacks_total", &[]), 0.0);
    // Exposed as the client sent it, and taken off on the way to the endpoint all the same.
    assert!(origins[1].seen().iter().all(|seen| !seen.headers.contains_key("x-place")));
}

#[test]
fn a_request_for_the_server_as_a_whole_is_for_no_route() {
    let origin = Origin::start("a");
    let gateway = start(&[any_route("orders", &[origin.address()], "")]);
    let mut raw = RawConnection::to(gateway.address());
    raw.send("OPTIONS * HTTP/1.1\r\nhost: gateway.test\r\n\r\n");
    assert_eq!(raw.read_answer().status, 404);
    assert_eq!(origin.requests(), 0);
}
