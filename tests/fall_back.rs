//! What a service cannot answer another one may: one level deep, whatever protocol it speaks.

use std::net::SocketAddr;

use http::{Method, Version};
use sluice_harness::{Origin, RawOrigin, Sluice, service, sluice};

/// An address at which nobody listens: a port that was free a moment ago may be another one's by now, and this one is
/// given to nobody.
fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

/// Where what fails goes.
fn to(name: &str) -> String {
    format!("failover = {{ plugin = \"standard\", settings = {{ fall_back = {name:?} }} }}\n")
}

/// Services by name, endpoint and further lines, and a route to the first.
fn start(services: &[(&str, SocketAddr, String)]) -> Sluice {
    let tables: String = services.iter().map(|(name, address, more)| service(name, &[*address], more)).collect();
    sluice!().config(format!("{tables}[[route]]\npath = \"/\"\nservice = {:?}\n", services[0].0)).start()
}

fn fall_backs(gateway: &Sluice, service: &str) -> f64 {
    gateway.metric("sluice_failover_total", &[&format!("service={service:?}"), "event=\"fall-backs\""])
}

#[test]
fn where_nobody_listens_another_service_answers_whatever_the_method() {
    let other = Origin::start("other");
    let gateway = start(&[("orders", nobody(), to("static")), ("static", other.address(), String::new())]);
    assert_eq!(gateway.client().get("/").expect(200).instance(), "other");
    // Nothing of it was sent.
    let answer = gateway.client().send(Method::POST, "/echo", &[], b"order".to_vec()).expect(200);
    assert_eq!((answer.instance(), answer.text().as_str()), ("other", "order"));
    assert_eq!(fall_backs(&gateway, "orders"), 2.0);
    assert_eq!(gateway.metric("sluice_attempts_total", &["service=\"static\""]), 2.0);
}

#[test]
fn after_the_last_attempt_another_service_answers() {
    let (failing, other) = (Origin::start("failing"), Origin::start("other"));
    failing.set_failures(1000, 503);
    let gateway = start(&[("orders", failing.address(), to("static")), ("static", other.address(), String::new())]);
    let answer = gateway.client().send(Method::PUT, "/echo", &[], b"order".to_vec()).expect(200);
    assert_eq!((answer.instance(), answer.text().as_str()), ("other", "order"));
    assert_eq!((failing.requests(), other.requests()), (3, 1));
    // An answer that blames the client is its answer.
    failing.set_failures(0, 503);
    gateway.client().get("/status/404").expect(404);
    assert_eq!((failing.requests(), other.requests()), (4, 1));
}

#[test]
fn what_may_have_been_done_is_not_done_by_another_service_either() {
    let (resets, other) = (RawOrigin::resets_before_the_answer(), Origin::start("other"));
    let gateway = start(&[("orders", resets.address(), to("static")), ("static", other.address(), String::new())]);
    let answer = gateway.client().send(Method::POST, "/echo", &[], b"order".to_vec());
    assert_eq!(answer.expect_problem(502, "upstream")["request_sent"], true);
    assert_eq!((resets.connections(), other.requests()), (1, 0));
}

#[test]
fn the_other_services_own_fall_back_is_not_used() {
    let third = Origin::start("third");
    let services = [
        ("orders", nobody(), to("second")),
        ("second", nobody(), to("third")),
        ("third", third.address(), String::new()),
    ];
    let gateway = start(&services);
    let problem = gateway.client().get("/").expect_problem(502, "connect");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("second")), "{problem}");
    assert_eq!((fall_backs(&gateway, "orders"), fall_backs(&gateway, "second")), (1.0, 0.0));
    assert_eq!(third.requests(), 0);
}

#[test]
fn the_other_service_may_speak_another_protocol() {
    let other = Origin::start("other");
    for (from, to_protocol, version) in [("http/1.1", "h2", Version::HTTP_2), ("h2", "http/1.1", Version::HTTP_11)] {
        let speaks = |protocol: &str| format!("protocol = {protocol:?}\n");
        let services =
            [("orders", nobody(), speaks(from) + &to("static")), ("static", other.address(), speaks(to_protocol))];
        let gateway = start(&services);
        for len in [0, 5, 50_000] {
            let body = vec![b'x'; len];
            let answer = gateway.client().send(Method::PUT, "/echo?n=1", &[], body.clone()).expect(200);
            assert_eq!((answer.instance(), &answer.body), ("other", &body));
        }
        let seen = other.seen().pop().expect("it was asked");
        assert_eq!((seen.version, seen.uri.path(), seen.uri.query()), (version, "/echo", Some("n=1")));
        let host = match version {
            Version::HTTP_2 => seen.uri.authority().map(|authority| authority.to_string()),
            _ => seen.headers.get("host").and_then(|host| host.to_str().ok()).map(str::to_owned),
        };
        assert_eq!(host, Some(gateway.address().to_string()));
    }
}
