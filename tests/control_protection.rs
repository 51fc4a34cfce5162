//! Who can change the gateway: whoever may, and no web page in anybody's browser.

use std::net::{Ipv4Addr, SocketAddr};

use http::Method;
use serde_json::json;
use sluice_harness::{
    Answer, Client, Origin, RawConnection, Sluice, any_route,
    guest::{built, rebuilt},
    sluice, wait_until,
};
use tempfile::TempDir;

/// The control API's own limits.
const JSON_BYTES_MAX: usize = 1 << 20;
const COMPONENT_BYTES_MAX: usize = 64 << 20;

const TOKEN: &str = "open-sesame-0123456789";

fn gateway() -> (Origin, Sluice) {
    let origin = Origin::start("a");
    let gateway = sluice!().config(any_route("orders", &[origin.address()], "")).start();
    (origin, gateway)
}

/// A request as it stands, but for the port; the answer's status.
fn raw(gateway: &Sluice, head: &str, body: &str) -> u16 {
    let address = gateway.control_address();
    let head = head.replace("PORT", &address.port().to_string()).replace('\n', "\r\n");
    let mut connection = RawConnection::to(SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())));
    connection.send(format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    connection.read_answer().status
}

/// Every way to change something, with a body that would do it.
fn changes() -> Vec<(Method, &'static str, String)> {
    vec![
        (Method::PUT, "/plugins/round-robin", "\0asm".to_owned()),
        (Method::POST, "/plugins/round-robin/activate", json!({"version": "0123456789ab"}).to_string()),
        (Method::POST, "/plugins/round-robin/rollback", "{}".to_owned()),
        (Method::POST, "/plugins/round-robin/canary", json!({"version": "0123456789ab", "percent": 5}).to_string()),
        (Method::PATCH, "/services/orders", json!({"balancer": {"plugin": "random"}}).to_string()),
        (Method::POST, "/reload", "{}".to_owned()),
        (Method::POST, "/transaction", json!({"service_a": "orders"}).to_string()),
        (Method::POST, "/transactions", json!({"trans_type": "tcc"}).to_string()),
        (Method::POST, "/api/dtmsvr/prepare", json!({"gid": "g", "trans_type": "tcc"}).to_string()),
    ]
}

/// Nothing has been changed since the start.
fn expect_untouched(gateway: &Sluice, control: &Client, headers: &[(&str, &str)]) {
    let get = |path: &str| control.send(Method::GET, path, headers, Vec::new()).expect(200);
    assert_eq!(get("/services/orders").json()["balancer"]["plugin"], "least-request");
    let kinds: Vec<_> = get("/history").json()["entries"].as_array().expect("a list").clone();
    let only_started = kinds.iter().all(|entry| entry["kind"] == "started" || entry["kind"] == "refused");
    assert!(only_started, "{kinds:?}");
    assert_eq!(get("/transactions").json()["transactions"], json!([]));
    gateway.client().get("/").expect(200);
}

#[test]
fn a_page_of_another_site_can_neither_change_nor_read_anything() {
    let (_origin, gateway) = gateway();
    for (method, path, body) in changes() {
        // A form, or a fetch() without preflight: any content type that such may have, and the page's origin.
        for content_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"] {
            let head = format!("{method} {path} HTTP/1.1\nhost: 127.0.0.1:PORT\ncontent-type: {content_type}");
            assert_eq!(raw(&gateway, &head, &body), 415, "{head}");
            assert_eq!(raw(&gateway, &format!("{head}\norigin: http://evil.example"), &body), 403, "{head}");
        }
        // Without any.
        let head = format!("{method} {path} HTTP/1.1\nhost: 127.0.0.1:PORT");
        assert_eq!(raw(&gateway, &head, &body), 415, "{head}");
        // With the right one, which needs a preflight that nobody grants, but the origin of the page all the same.
        for origin in ["http://evil.example", "null", "http://127.0.0.1:1", "https://127.0.0.1:PORT.evil.example"] {
            let head = format!("{head}\ncontent-type: application/json\norigin: {origin}");
            assert_eq!(raw(&gateway, &head, &body), 403, "{head}");
        }
        // A name that the page's owner points to 127.0.0.1 after the page was loaded (DNS rebinding).
        for host in ["evil.example", "evil.example:PORT", "127.0.0.1:1", "localhost.evil.example:PORT"] {
            let head = format!("{method} {path} HTTP/1.1\nhost: {host}\ncontent-type: application/json");
            assert_eq!(raw(&gateway, &head, &body), 403, "{head}");
        }
    }
    let preflight = "OPTIONS /plugins/round-robin HTTP/1.1\nhost: 127.0.0.1:PORT\norigin: http://evil.example\n\
                     access-control-request-method: PUT\naccess-control-request-headers: content-type";
    assert_eq!(raw(&gateway, preflight, ""), 403);
    for path in ["/", "/services", "/metrics", "/history", "/openapi.json"] {
        assert_eq!(raw(&gateway, &format!("GET {path} HTTP/1.1\nhost: evil.example:PORT"), ""), 403, "{path}");
        let with_origin = format!("GET {path} HTTP/1.1\nhost: localhost:PORT\norigin: http://evil.example");
        assert_eq!(raw(&gateway, &with_origin, ""), 403, "{path}");
    }
    let answer = gateway.control().get("/services").expect(200);
    assert_eq!(answer.header("access-control-allow-origin"), None, "no answer invites other sites");
    expect_untouched(&gateway, &gateway.control(), &[]);
}

#[test]
fn the_gateways_own_page_and_command_line_tools_may() {
    let (_origin, gateway) = gateway();
    let body = json!({"balancer": {"plugin": "random"}}).to_string();
    for host in ["127.0.0.1:PORT", "localhost:PORT", "[::1]:PORT"] {
        let head = format!(
            "PATCH /services/orders HTTP/1.1\nhost: {host}\norigin: http://{host}\ncontent-type: application/json"
        );
        assert_eq!(raw(&gateway, &head, &body), 200, "{host}");
    }
    gateway.push("own", &built("first-slot"));
    gateway.control_json(Method::POST, "/reload", "").expect(200);
    gateway.control().send(Method::DELETE, "/services/orders/overlay", &[], Vec::new()).expect(200);
}

#[test]
fn an_address_that_others_can_reach_needs_a_token() {
    let origin = Origin::start("a");
    let route = any_route("orders", &[origin.address()], "");
    let open = format!("[control]\naddress = \"0.0.0.0:0\"\n{route}");
    for command in ["check", "run"] {
        let ended = sluice!().config(open.clone()).run_to_end(command);
        assert_eq!(ended.code(), Some(2), "{command}: {}", ended.stderr);
        assert!(ended.stderr.contains("operator_token_file"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("listening"), "nothing was bound: {}", ended.stderr);
    }
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("token");
    for (content, words) in [("", "one token of visible ASCII"), ("two words", "one token of visible ASCII")] {
        std::fs::write(&file, content).expect("a writable folder");
        let config = format!("[control]\naddress = \"0.0.0.0:0\"\noperator_token_file = {file:?}\n{route}");
        let ended = sluice!().config(config).run_to_end("run");
        assert!(!ended.status.success() && ended.stderr.contains(words), "{}", ended.stderr);
    }
}

#[test]
fn with_a_token_nothing_is_told_or_changed_without_it() {
    let origin = Origin::start("a");
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("a writable folder");
    let config = format!(
        "[control]\naddress = \"0.0.0.0:0\"\noperator_token_file = {file:?}\n{}",
        any_route("orders", &[origin.address()], "")
    );
    let gateway = sluice!().config(config).start();
    let control = Client::to(SocketAddr::from((Ipv4Addr::LOCALHOST, gateway.control_address().port())));
    let bearer = format!("Bearer {TOKEN}");
    let ask = |method: &Method, path: &str, token: Option<&str>, body: &str| -> Answer {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(token.map(|token| ("authorization", token)));
        control.send(method.clone(), path, &headers, body.as_bytes().to_vec())
    };
    let wrong = [None, Some("Bearer "), Some("Bearer open-sesame"), Some("Basic b3Blbi1zZXNhbWU6"), Some(TOKEN)];
    for token in wrong {
        for path in ["/services", "/plugins", "/metrics", "/history", "/listeners", "/openapi.json", "/nothing"] {
            let answer = ask(&Method::GET, path, token, "").expect(401);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{path}");
            assert!(!answer.text().contains(TOKEN), "{answer}");
        }
        for (method, path, body) in changes() {
            ask(&method, path, token, &body).expect(401);
        }
    }
    for path in ["/healthz", "/readyz", "/"] {
        ask(&Method::GET, path, None, "").expect(200);
    }
    let authorised = [("authorization", &bearer[..])];
    expect_untouched(&gateway, &control, &authorised);
    ask(&Method::PATCH, "/services/orders", Some(&bearer), &changes()[4].2).expect(200);
    // A token does not make another site's page a friend: its browser may have been given one.
    let headers = [("authorization", &bearer[..]), ("origin", "http://evil.example")];
    control.send(Method::GET, "/services", &headers, Vec::new()).expect(403);
    assert!(gateway.log().iter().all(|line| !line.contains(TOKEN)), "the token is not logged");
}

#[test]
fn bodies_are_bounded_and_wrong_ones_are_problem_documents() {
    let (_origin, gateway) = gateway();
    let patch = |body: String| gateway.control_json(Method::PATCH, "/services/orders", &body);
    let spaces = |len: usize| format!("{}{{}}", " ".repeat(len - 2));
    patch(spaces(JSON_BYTES_MAX)).expect(422);
    patch(spaces(JSON_BYTES_MAX + 1)).expect(413);
    for (body, status) in [("", 422), ("{", 400), ("[]", 400), ("\"text\"", 400), ("{\"a\": NaN}", 400)] {
        let answer = patch(body.to_owned()).expect(status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer}");
        let document = answer.json();
        assert_eq!(document["status"], status, "{answer}");
        assert!(document["title"].is_string() && document["detail"].is_string(), "{answer}");
    }
    // Deeper than any settings, and deeper than a stack.
    patch(format!("{}{}", "{\"balancer\":".repeat(100_000), "}".repeat(100_000))).expect(413);
    patch(format!("{}1{}", "{\"a\":".repeat(50_000), "}".repeat(50_000))).expect(400);
    // A client that sends everything before it reads gets its answer all the same, whoever refuses and why.
    for (method, path, status) in [
        (Method::PATCH, "/services/orders", 413),
        (Method::PATCH, "/services/nobody", 413),
        (Method::POST, "/nothing", 404),
        (Method::POST, "/services", 405),
        (Method::PUT, "/plugins/own", 415),
    ] {
        let content_type = if status == 415 { "text/plain" } else { "application/json" };
        let headers = [("content-type", content_type)];
        let answer = gateway.control().send(method.clone(), path, &headers, vec![b' '; 32 * JSON_BYTES_MAX]);
        assert_eq!(answer.status, status, "{method} {path}: {answer}");
    }
    // Announced to be too large: refused before it is sent.
    let mut connection = RawConnection::to(gateway.control_address());
    connection.send(format!(
        "PUT /plugins/own HTTP/1.1\r\nhost: {}\r\ncontent-type: application/wasm\r\ncontent-length: {}\r\n\
         expect: 100-continue\r\n\r\n",
        gateway.control_address(),
        COMPONENT_BYTES_MAX + 1
    ));
    assert_eq!(connection.read_answer().status, 413);
    // The way that a component is sent does not matter for what is wrong with its name.
    for name in ["Round-Robin", "a%20b", "..", "%2e%2e%2fx", &"x".repeat(300)] {
        let path = format!("/plugins/{name}");
        let status = gateway.control().put_component(&path, &rebuilt(&built("first-slot"), 1)).status;
        assert!(status == 404 || status == 405, "{name}: {status}");
    }
    gateway.control().put_component("/plugins/own?activate=maybe", &built("first-slot")).expect(400);
    gateway.control().put_component("/plugins/own?actvate=false", &built("first-slot")).expect(400);
    expect_untouched(&gateway, &gateway.control(), &[]);
}

#[test]
fn silent_and_slow_clients_do_not_keep_operators_out() {
    let (_origin, gateway) = gateway();
    let mut slow: Vec<_> = (0..100).map(|_| RawConnection::to(gateway.control_address())).collect();
    for (n, connection) in slow.iter_mut().enumerate() {
        if n % 2 == 0 {
            connection.send("PUT /plugins/own HTTP/1.1\r\nhost: 127");
        }
    }
    wait_until("an operator to be served", || gateway.control().get("/readyz").status == 200);
    gateway.push("own", &built("first-slot"));
    gateway.client().get("/").expect(200);
    drop(slow);
}
