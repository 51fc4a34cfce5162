//! `health_check`, `retry`, `ejection` and `circuit` of a service, and a route's `repeatable`.

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use super::{assert_one_problem, problems_with, right_with};
use crate::model::{CircuitLimits, EjectionLimits, HealthCheck, Percent, Probe, RetryLimits, ServiceConfig};

fn service(more: &str) -> String {
    format!("[services.x]\nendpoints = [\"a:1\"]\n{more}\n")
}

fn read(more: &str) -> ServiceConfig {
    right_with(&service(more)).services.remove(&"x".parse().unwrap()).expect("it is there")
}

fn check(more: &str) -> HealthCheck {
    read(&format!("health_check = {{ {} }}", more.replace('\n', " "))).health_check.expect("it is there")
}

#[test]
fn every_key_of_a_check_over_http_arrives_in_the_model() {
    let found = check(
        r#"path = "/health?deep=1", interval = "5 s", timeout = "250 ms", fall = 4, rise = 1, jitter = 20,
           status = [200, 204], body = "ok", headers = { host = "x", "X-Check" = "1" }, port = 9000"#,
    );
    assert_eq!(
        found,
        HealthCheck {
            probe: Probe::Http {
                path: "/health?deep=1".to_owned(),
                headers: vec![
                    (HeaderName::from_static("x-check"), HeaderValue::from_static("1")),
                    (HeaderName::from_static("host"), HeaderValue::from_static("x")),
                ],
                statuses: vec![StatusCode::OK, StatusCode::NO_CONTENT],
                body: "ok".to_owned(),
            },
            interval: Duration::from_secs(5),
            timeout: Duration::from_millis(250),
            fall: 4,
            rise: 1,
            jitter: Percent::new(20).unwrap(),
            port: Some(9000),
        }
    );
}

#[test]
fn a_check_needs_a_path_or_a_kind_and_has_defaults_for_the_rest() {
    let Probe::Http { path, headers, statuses, body } = check("path = \"/health\"").probe else {
        panic!("a path makes it HTTP");
    };
    assert_eq!((path.as_str(), headers.len(), statuses.len(), body.as_str()), ("/health", 0, 0, ""));
    assert_eq!(check("kind = \"grpc\", service = \"a.B\"").probe, Probe::Grpc { service: "a.B".to_owned() });
    assert_eq!(check("kind = \"grpc\"").probe, Probe::Grpc { service: String::new() });
    let tcp = check("kind = \"tcp\"");
    assert_eq!((tcp.probe, tcp.interval, tcp.timeout), (Probe::Tcp, Duration::from_secs(2), Duration::from_secs(1)));
    assert_eq!((tcp.fall, tcp.rise, tcp.jitter.get(), tcp.port), (3, 2, 10, None));
    assert_eq!(check("kind = \"tcp\", interval = \"300 ms\"").timeout, Duration::from_millis(300));
    assert_eq!(read("").health_check, None);
}

#[test]
fn what_a_check_cannot_be_is_refused_where_it_stands() {
    for (wrong, says) in [
        ("", "health_check: says neither"),
        ("interval = \"2 s\"", "health_check: says neither"),
        ("kind = \"ping\"", "health_check.kind: must be \"http\", \"tcp\" or \"grpc\", not \"ping\""),
        ("kind = 1", "health_check.kind: must be"),
        ("kind = \"ping\", service = 7", "health_check.kind: must be"),
        ("kind = \"http\"", "\"path\" is missing"),
        ("path = \"health\"", "health_check.path: must be a path"),
        ("path = \"/a b\"", "health_check.path: must be a path"),
        ("path = \"/a#b\"", "health_check.path: must be a path"),
        ("path = \"/\", service = \"a.B\"", "health_check.service: is for gRPC checks alone"),
        ("kind = \"tcp\", path = \"/\"", "health_check.path: is for HTTP checks alone"),
        ("kind = \"grpc\", status = [200]", "health_check.status: is for HTTP checks alone"),
        ("path = \"/\", interval = \"50 ms\"", "health_check.interval: must be from 100ms to 1h"),
        ("path = \"/\", interval = 2", "write \"2 s\""),
        ("path = \"/\", timeout = \"0 s\"", "health_check.timeout: must be from 1ms to 1m"),
        ("path = \"/\", timeout = \"3 s\"", "health_check.timeout: must be no longer than the interval, which is 2s"),
        ("path = \"/\", fall = 0", "health_check.fall: must be a whole number from 1 to 100"),
        ("path = \"/\", rise = 101", "health_check.rise: must be a whole number from 1 to 100"),
        ("path = \"/\", jitter = 51", "health_check.jitter: must be a whole number from 0 to 50"),
        ("path = \"/\", port = 0", "health_check.port: must be a whole number from 1 to 65535"),
        ("path = \"/\", status = []", "leave \"status\" out"),
        ("path = \"/\", status = 200", "health_check.status: must be a list"),
        ("path = \"/\", status = [100]", "health_check.status[0]: must be a whole number from 200 to 599"),
        ("path = \"/\", status = [200, 200]", "health_check.status[1]: stands in the list already"),
        ("path = \"/\", body = \"\"", "health_check.body: must have 1 to 1024 bytes, not 0"),
        ("path = \"/\", headers = { te = \"x\" }", "health_check.headers.te: te concerns a single connection"),
        ("path = \"/\", headers = { host = \"a@b\" }", "health_check.headers: has a host that is none"),
        ("path = \"/\", headers = { host = \"a b\" }", "health_check.headers: has a host that is none"),
        ("path = \"/\", raise = 2", "health_check.raise: is no known key; did you mean \"rise\"?"),
    ] {
        assert_one_problem(&service(&format!("health_check = {{ {wrong} }}")), &[says]);
    }
    assert_one_problem(&service("health_check = \"/health\""), &["health_check: must be a table such as"]);
    let long = format!("health_check = {{ kind = \"grpc\", service = \"{}\" }}", "a".repeat(257));
    assert_one_problem(&service(&long), &["health_check.service: must have at most 256 bytes, not 257"]);
    let many: Vec<String> = (0..33).map(|number| format!("x{number} = \"1\"")).collect();
    let many = format!("health_check = {{ path = \"/\", headers = {{ {} }} }}", many.join(", "));
    assert_one_problem(&service(&many), &["has 33 headers; a check may have 32"]);
}

#[test]
fn bounds_of_failover_arrive_in_the_model() {
    let found = read(
        r#"retry = { attempts = 5, per_try_timeout = "500 ms", budget = 30, budget_min = 0, body = "1 MiB", deadline_header = "X-Timeout-Ms" }
ejection = { max_percent = 30, max_duration = "1 min" }
circuit = { requests = 1024, endpoint_requests = 8, endpoint_connections = 64, pending = 100, pending_timeout = "2 s", adaptive = true, retry_after = "3 s" }"#,
    );
    let seconds = Duration::from_secs;
    assert_eq!(
        found.retry,
        RetryLimits {
            attempts_max: 5,
            per_try_timeout: Some(Duration::from_millis(500)),
            budget: Percent::new(30).unwrap(),
            budget_min_per_second: 0,
            body_bytes_max: 1 << 20,
            deadline_header: Some(HeaderName::from_static("x-timeout-ms")),
        }
    );
    assert_eq!(found.ejection, EjectionLimits { percent_max: Percent::new(30).unwrap(), duration_max: seconds(60) });
    assert_eq!(
        found.circuit,
        CircuitLimits {
            requests_max: Some(1024),
            endpoint_requests_max: Some(8),
            endpoint_connections_max: Some(64),
            pending_max: 100,
            pending_timeout: seconds(2),
            adaptive: true,
            retry_after: seconds(3),
        }
    );
}

#[test]
fn bounds_that_are_not_given_have_the_named_defaults() {
    for found in [read(""), read("retry = {}\nejection = {}\ncircuit = {}")] {
        assert_eq!(found.retry, RetryLimits::default());
        assert_eq!(found.ejection, EjectionLimits::default());
        assert_eq!(found.circuit, CircuitLimits::default());
    }
}

#[test]
fn bounds_that_would_bound_nothing_are_refused() {
    for (wrong, says) in [
        ("retry = 3", "retry: must be a table"),
        ("retry = { attempts = 0 }", "retry.attempts: must be a whole number from 1 to 10"),
        ("retry = { attempts = 11 }", "retry.attempts: must be a whole number from 1 to 10"),
        ("retry = { per_try_timeout = \"2 h\" }", "retry.per_try_timeout: must be from 1ms to 1h"),
        ("retry = { budget = 101 }", "retry.budget: must be a whole number from 0 to 100"),
        ("retry = { budget = 0.2 }", "retry.budget: must be a whole number from 0 to 100, not a float"),
        ("retry = { budget_min = -1 }", "retry.budget_min: must be a whole number from 0 to 10000"),
        ("retry = { body = \"17 MiB\" }", "retry.body: must be from 0 B to 16.0 MiB"),
        ("retry = { deadline_header = \"x y\" }", "retry.deadline_header: \"x y\" is no header name"),
        ("retry = { deadline_header = \"host\" }", "retry.deadline_header: host is needed"),
        ("retry = { deadline_header = \"grpc-timeout\" }", "retry.deadline_header: grpc-timeout has units of its own"),
        ("retry = { tries = 3 }", "retry.tries: is no known key"),
        ("ejection = { max_percent = 0 }", "ejection.max_percent: must be a whole number from 1 to 100"),
        ("ejection = { max_duration = \"2 h\" }", "ejection.max_duration: must be from 100ms to 1h"),
        ("ejection = { percent = 3 }", "ejection.percent: is no known key"),
        ("circuit = { requests = 0 }", "circuit.requests: must be a whole number from 1 to 1048576"),
        ("circuit = { endpoint_requests = \"8\" }", "circuit.endpoint_requests: must be a whole number"),
        ("circuit = { endpoint_connections = -1 }", "circuit.endpoint_connections: must be a whole number"),
        ("circuit = { requests = 1, pending = 65537 }", "circuit.pending: must be a whole number from 0 to 65536"),
        ("circuit = { pending = 5 }", "circuit.pending: has nothing to wait for"),
        ("circuit = { pending_timeout = \"0 s\" }", "circuit.pending_timeout: must be from 1ms to 1h"),
        ("circuit = { adaptive = 1 }", "circuit.adaptive: must be true or false"),
        ("circuit = { retry_after = \"1500 ms\" }", "circuit.retry_after: must be whole seconds"),
        ("circuit = { retry_after = \"0 s\" }", "circuit.retry_after: must be from 1s to 1h"),
        ("circuit = { connections = 5 }", "circuit.connections: is no known key"),
    ] {
        assert_one_problem(&service(wrong), &[says]);
    }
}

#[test]
fn each_bound_that_is_wrong_is_a_problem_of_its_own() {
    let text = "health_check = { path = \"x\", fall = 0, rise = 0 }\nretry = { attempts = 0, budget = -1 }\n\
                circuit = { requests = 0, pending = 5, retry_after = 1 }";
    let problems = problems_with(&service(text));
    assert_eq!(problems.len(), 7, "{problems:#?}");
}

#[test]
fn a_route_says_whether_its_requests_may_be_repeated() {
    let route = |more: &str| format!("[[route]]\nservice = \"orders\"\npath = \"/\"\n{more}");
    assert!(!right_with(&route("")).routes[0].repeatable);
    assert!(right_with(&route("repeatable = true")).routes[0].repeatable);
    assert_one_problem(&route("repeatable = \"yes\""), &["route[0].repeatable", "must be true or false"]);
}
