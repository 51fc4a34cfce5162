//! Who may use the control listener, through real sockets.

use http::Method;
use serde_json::json;
use sluice_harness::{RawConnection, wait_until};

use super::{Testbed, guests};

/// The status that a raw request gets.
fn status(bed: &Testbed, head: &str) -> u16 {
    let port = bed.control_address().port().to_string();
    let mut connection = RawConnection::to(bed.control_address());
    connection.send(format!("{}\r\n\r\n", head.replace("PORT", &port).replace('\n', "\r\n")));
    connection.read_answer().status
}

#[test]
fn only_this_listeners_own_names_reach_it() {
    let bed = Testbed::start(&guests::first());
    for host in ["127.0.0.1:PORT", "localhost:PORT", "LOCALHOST:PORT", "[::1]:PORT", "127.1.2.3:PORT"] {
        assert_eq!(status(&bed, &format!("GET /services HTTP/1.1\nHost: {host}")), 200, "{host}");
    }
    for host in ["evil.example:PORT", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:PORT", "10.0.0.1:PORT"] {
        assert_eq!(status(&bed, &format!("GET /services HTTP/1.1\nHost: {host}")), 403, "{host}");
    }
    let two = "GET /services HTTP/1.1\nHost: localhost:PORT\nHost: evil.example";
    assert_eq!(status(&bed, two), 400);
    let absolute = "GET http://evil.example/services HTTP/1.1\nHost: localhost:PORT";
    assert_eq!(status(&bed, absolute), 400);
}

#[test]
fn pages_of_other_sites_are_refused() {
    let bed = Testbed::start(&guests::first());
    let get = |origin: &str| status(&bed, &format!("GET /services HTTP/1.1\nHost: localhost:PORT\nOrigin: {origin}"));
    assert_eq!(get("http://localhost:PORT"), 200);
    for origin in ["http://evil.example", "null", "http://localhost:1", "http://127.0.0.1:PORT"] {
        assert_eq!(get(origin), 403, "{origin}");
    }
}

#[test]
fn a_form_of_a_web_page_changes_nothing() {
    let bed = Testbed::start(&guests::first());
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        for (method, path) in
            [(Method::POST, "/reload"), (Method::PUT, "/plugins/own"), (Method::PATCH, "/services/orders")]
        {
            let headers = [("content-type", content_type)];
            bed.control().send(method, path, &headers, b"{}".to_vec()).expect(415);
        }
    }
    assert_eq!(status(&bed, "POST /reload HTTP/1.1\nHost: localhost:PORT\nContent-Length: 0"), 415);
    bed.control()
        .send(Method::POST, "/reload", &[("content-type", "application/json; charset=utf-8")], b"{}".to_vec())
        .expect(200);
}

#[test]
fn with_a_token_figures_and_changes_need_it() {
    let mut bed = Testbed::prepare(&guests::first());
    std::fs::write(bed.path("token"), "open-sesame\n").expect("a writable folder");
    let with_token = format!("[control]\noperator_token_file = {:?}", bed.path("token"));
    bed.write_config(&bed.config("").replace("[control]", &with_token));
    bed.run().expect("the gateway starts");
    let get = |path: &str, token: &str| {
        let headers: &[(&str, &str)] = if token.is_empty() { &[] } else { &[("authorization", token)] };
        bed.control().send(Method::GET, path, headers, Vec::new()).status.as_u16()
    };
    for path in ["/services", "/plugins", "/metrics", "/history", "/openapi.json", "/listeners"] {
        assert_eq!(get(path, ""), 401, "{path}");
        assert_eq!(get(path, "Bearer open-sesam"), 401, "{path}");
        assert_eq!(get(path, "Basic open-sesame"), 401, "{path}");
        assert_eq!(get(path, "bearer open-sesame"), 200, "{path}");
    }
    assert_eq!((get("/healthz", ""), get("/readyz", "")), (200, 200));
    bed.control().post("/reload", &json!({})).expect(401);
}

#[test]
fn an_unknown_path_or_method_is_a_problem_document() {
    let bed = Testbed::start(&guests::first());
    for answer in [bed.control().get("/nothing").expect(404), bed.control().delete("/listeners").expect(405)] {
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert!(answer.json()["detail"].is_string());
    }
    bed.control().get("/plugins/No_Name").expect(404);
    bed.control().get("/services/nothing").expect(404);
}

#[test]
fn every_path_is_documented() {
    let bed = Testbed::start(&guests::first());
    let document = bed.control().get("/openapi.json").expect(200).json();
    let paths = document["paths"].as_object().expect("paths");
    for path in ["/plugins/{name}/canary", "/services/{name}", "/services/{name}/overlay", "/reload", "/readyz"] {
        assert!(paths.contains_key(path), "{path}");
    }
    assert!(document["components"]["schemas"]["Applied"].is_object());
}

#[test]
fn a_client_that_says_nothing_does_not_keep_others_out() {
    let bed = Testbed::start(&guests::first());
    let silent: Vec<_> = (0..50).map(|_| RawConnection::to(bed.control_address())).collect();
    wait_until("others are answered", || bed.control().get("/healthz").status == 200);
    drop(silent);
}
