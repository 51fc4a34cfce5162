//! Bad input to the registry is refused with an error that names the field, and good input of every client is taken.

use http::Method;
use serde_json::{Value, json};
use sluice_harness::{Answer, Origin, Refused, Sluice, sluice, wait_until};

fn put(gateway: &Sluice, path: &str, body: &str) -> Answer {
    gateway.control().send(Method::PUT, path, &[], body.as_bytes().to_vec())
}

fn register(gateway: &Sluice, body: &Value) -> Answer {
    put(gateway, "/v1/agent/service/register", &body.to_string())
}

/// A registration on which only this is wrong.
fn with(field: &str, value: Value) -> Value {
    let mut body = json!({"ID": "web-1", "Name": "web", "Address": "10.0.0.7", "Port": 80});
    body[field] = value;
    body
}

#[test]
fn each_wrong_field_of_a_registration_is_named() {
    let gateway = sluice!().config("").start();
    let long = "x".repeat(300);
    for (field, value, named) in [
        ("Name", json!(""), "Name: must be 1 to 128 characters"),
        ("Name", json!("a b"), "Name: must be"),
        ("Name", json!(null), "Name: must be"),
        ("Name", json!("-web"), "begin with a letter or digit"),
        ("Name", json!(7), "Name: must be a string, not 7"),
        ("ID", json!(long), "ID: must have 1 to 256 characters, not 300"),
        ("ID", json!("a\u{0}b"), "ID: must have no control characters"),
        ("Port", json!(65536), "Port: must be a whole number from 0 to 65535, not 65536"),
        ("Port", json!(-1), "Port: must be"),
        ("Port", json!(1.5), "Port: must be"),
        ("Port", json!("80"), "Port: must be a whole number from 0 to 65535, not \"80\""),
        ("Address", json!("256.0.0.1"), "Address: must be a host name or IP address"),
        ("Address", json!("0.0.0.0"), "is no address of a host"),
        ("Address", json!("224.0.0.1"), "is a multicast address"),
        ("Address", json!("a b"), "Address: must be"),
        ("Address", json!("10.0.0.7:80"), "Address: must be"),
        ("Tags", json!("blue"), "Tags: must be a list"),
        ("Tags", json!(["blue", 7]), "Tags[1]: must be a string"),
        ("Tags", json!(["blue", long]), "Tags[1]: must have 1 to 256 characters"),
        ("Tags", json!(vec!["t"; 65]), "Tags: must be at most 64 tags, not 65"),
        ("Meta", json!({"version": 2}), "Meta.version: must be a string"),
        ("Meta", json!({"a b": ""}), "Meta.a b: a key must be"),
        ("Meta", json!({"key": "x".repeat(513)}), "Meta.key: must have 0 to 512 characters"),
        ("Weights", json!({"Passing": 65536}), "Weights.Passing: must be a whole number from 0 to 65535"),
        ("Weights", json!({"Failing": 1}), "Weights.Failing: there is no such field"),
        ("Check", json!([]), "Check: must be an object, not a list"),
        ("Check", json!({"TTL": "10"}), "Check.TTL: must be a duration such as \"10s\""),
        ("Check", json!({"TTL": "10ms"}), "Check.TTL: must be from 100ms to 1day"),
        ("Check", json!({"TTL": "-1s"}), "Check.TTL: must be a duration"),
        ("Check", json!({"TTL": "10s", "HTTP": "http://a/"}), "Check.TTL: a check must have one of TTL, HTTP and TCP"),
        ("Check", json!({"Name": "none"}), "Check.TTL: a check must have one of"),
        ("Check", json!({"TTL": "10s", "Status": "fine"}), "Check.Status: must be \"passing\""),
        ("Check", json!({"HTTP": "http://a/"}), "Check.Interval: is missing"),
        ("Check", json!({"HTTP": "ftp://a/", "Interval": "1s"}), "Check.HTTP: must be an http:// or https:// URL"),
        (
            "Check",
            json!({"HTTP": "http://a/", "Interval": "1s", "Method": "G T"}),
            "Check.Method: must be an HTTP method",
        ),
        (
            "Check",
            json!({"HTTP": "http://a/", "Interval": "1s", "Header": {"a b": ["c"]}}),
            "Check.Header.a b: must be",
        ),
        ("Check", json!({"TCP": "10.0.0.7", "Interval": "1s"}), "Check.TCP: must be a host and port"),
        ("Check", json!({"TCP": "10.0.0.7:0", "Interval": "1s"}), "Check.TCP: must be a host and port"),
        ("Check", json!({"TCP": "a:1", "Interval": "1ms"}), "Check.Interval: must be from 100ms"),
        ("Check", json!({"TCP": "a:1", "Interval": "1s", "Timeout": "1h"}), "Check.Timeout: must be from 1ms to 10m"),
        ("Check", json!({"Args": ["sh"], "Interval": "1s"}), "Check.Args: is not supported"),
        ("Check", json!({"GRPC": "a:1", "Interval": "1s"}), "Check.GRPC: is not supported"),
        ("Check", json!({"TTL": "10s", "FailuresBeforeCritical": 1001}), "Check.FailuresBeforeCritical: must be"),
        ("Checks", json!([{"TTL": "10s"}, {"TTL": "0s"}]), "Checks[1].TTL: must be from 100ms"),
        (
            "Checks",
            json!([{"TTL": "10s", "CheckID": "a"}, {"TTL": "10s", "CheckID": "a"}]),
            "Checks[1].CheckID: another",
        ),
        ("Checks", json!(vec![json!({"TTL": "10s"}); 17]), "Checks: must be at most 16 checks, not 17"),
        ("Sidecars", json!(1), "Sidecars: there is no such field"),
        ("", json!(1), "\"\": there is no such field"),
        ("a\nb", json!(1), "a\\nb: there is no such field"),
        ("NAME", json!("web"), "in another spelling"),
    ] {
        let answer = register(&gateway, &with(field, value.clone()));
        assert_eq!(answer.status, 400, "{field} {value}: {}", answer.text());
        assert!(answer.text().contains(named), "{named:?} is not in: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    }
    let all = register(&gateway, &json!({"Name": "a b", "Port": -1, "Colour": "red", "Check": {"TTL": "x"}})).text();
    for named in ["Name: ", "Port: ", "Colour: ", "Check.TTL: "] {
        assert!(all.contains(named), "{named:?} is not in: {all}");
    }
    assert_eq!(gateway.control().get("/v1/agent/services").expect(200).json(), json!({}), "nothing was registered");
}

#[test]
fn what_is_no_registration_at_all_is_refused_as_such() {
    let gateway = sluice!().config("").start();
    let register = "/v1/agent/service/register";
    for (body, says) in [
        ("", "Request decode failed"),
        ("{", "Request decode failed"),
        ("[]", "must be a JSON object"),
        ("\u{fffd}", "Request decode failed"),
        (&"[".repeat(10_000), "Request decode failed"),
    ] {
        let answer = put(&gateway, register, body);
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().contains(says), "{}", answer.text());
    }
    let huge = format!("{{\"Name\": \"{}\"}}", "x".repeat(200 * 1024));
    assert_eq!(put(&gateway, register, &huge).status, 413);
    let wrong = gateway.control().post(register, &json!({}));
    assert_eq!((wrong.status.as_u16(), wrong.header("allow")), (405, Some("PUT")));
    assert_eq!(gateway.control().get("/v1/kv/key").status, 404);
}

#[test]
fn what_does_not_exist_is_said_with_consuls_status() {
    let gateway = sluice!().config("").start();
    for path in
        ["check/pass/none", "check/deregister/none", "service/deregister/none", "service/maintenance/none?enable=true"]
    {
        let answer = put(&gateway, &format!("/v1/agent/{path}"), "");
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
    for (path, status) in [
        ("/v1/agent/service/none", 404),
        ("/v1/health/state/fine", 400),
        ("/v1/health/service/none?index=x", 400),
        ("/v1/health/service/none?index=1&wait=x", 400),
        ("/v1/health/service/none?filter=a%20=%20b", 400),
        ("/v1/health/service/none?dc=elsewhere", 500),
        ("/v1/health/service/none?passing=maybe", 400),
    ] {
        assert_eq!(gateway.control().get(path).status, status, "{path}");
    }
    assert_eq!(put(&gateway, "/v1/agent/maintenance", "").status, 400, "enable is missing");
    let orphan = json!({"Name": "disk", "TTL": "10s", "ServiceID": "none"}).to_string();
    let answer = put(&gateway, "/v1/agent/check/register", &orphan);
    assert!(answer.status == 400 && answer.text().contains("ServiceID: no service"), "{}", answer.text());
    let answer = put(&gateway, "/v1/agent/check/update/none", &json!({"Status": "fine", "Colour": "red"}).to_string());
    assert!(answer.status == 400 && answer.text().contains("Status: ") && answer.text().contains("Colour: "));
    let none = gateway.control().get("/v1/health/service/none?pretty").expect(200);
    assert_eq!(none.text(), "[]\n", "an empty list, not null");
    assert!(none.header("x-consul-index").is_some_and(|index| index.parse::<u64>().is_ok_and(|index| index > 0)));
    assert_eq!(none.header("x-consul-knownleader"), Some("true"));
    assert_eq!(none.header("x-consul-lastcontact"), Some("0"));
    assert_eq!(none.header("content-type"), Some("application/json"));
}

#[test]
fn everything_that_consuls_clients_send_is_taken() {
    let gateway = sluice!().config("").start();
    let full = json!({
        "Kind": "", "ID": "web-1", "Name": "web", "Tags": ["blue"], "Address": "web.internal", "Port": 8080,
        "Meta": {"version": "2"}, "EnableTagOverride": true, "Weights": {"Passing": 5, "Warning": 1},
        "TaggedAddresses": {"wan": {"Address": "192.0.2.7", "Port": 80}}, "Proxy": null, "Connect": {"Native": false},
        "Namespace": "default", "Partition": "default", "Locality": {"Region": "eu", "Zone": "b"}, "SocketPath": "",
        "Check": {},
        "Checks": [
            {"CheckID": "beat", "name": "beat", "ttl": "1m30s", "Status": "passing"},
            {"HTTP": "https://web.internal/health", "method": "HEAD", "header": {"x-a": ["b", "c"]}, "tls_skip_verify": true,
             "Interval": "1h", "Timeout": 5_000_000_000_u64, "Status": "passing", "FailuresBeforeCritical": 3,
             "DockerContainerID": "", "Args": null, "deregister_critical_service_after": "1s"},
        ],
    });
    assert_eq!(register(&gateway, &full).status, 200);
    let shown = gateway.control().get("/v1/agent/service/web-1").expect(200).json();
    assert_eq!(shown["TaggedAddresses"]["wan"], json!({"Address": "192.0.2.7", "Port": 80}));
    assert_eq!((&shown["Weights"]["Passing"], &shown["EnableTagOverride"]), (&json!(5), &json!(true)));
    let entries =
        gateway.control().get("/v1/health/service/web?filter=Service.Meta.version%20==%20%222%22").expect(200);
    let checks = &entries.json()[0]["Checks"];
    let beat = checks.as_array().into_iter().flatten().find(|check| check["CheckID"] == "beat").cloned();
    assert_eq!(beat.expect("it is among them")["Status"], "passing");
    let other = gateway.control().get("/v1/health/service/web?filter=Service.Meta.version%20==%203").expect(200);
    assert_eq!(other.json(), json!([]));
    assert_eq!(gateway.control().get("/registry").expect(200).json()["instances"][0]["zone"], "b");
}

#[test]
fn ids_with_a_slash_are_taken_by_every_path() {
    let gateway = sluice!().config("").start();
    let check = json!({"CheckID": "team/beat", "TTL": "1h"});
    let body = json!({"ID": "team/web-1", "Name": "web", "Port": 80, "Check": check});
    assert_eq!(register(&gateway, &body).status, 200);
    for id in ["team/web-1", "team%2Fweb-1"] {
        let shown = gateway.control().get(&format!("/v1/agent/service/{id}")).expect(200);
        assert_eq!(shown.json()["ID"], "team/web-1");
    }
    let update = json!({"Status": "passing"}).to_string();
    for (path, body, status) in [
        ("check/pass/team/beat", "", "passing"),
        ("check/warn/team/beat", "", "warning"),
        ("check/fail/team/beat", "", "critical"),
        ("check/update/team/beat", update.as_str(), "passing"),
        ("service/maintenance/team/web-1?enable=true", "", "critical"),
        ("service/maintenance/team/web-1?enable=false", "", "passing"),
    ] {
        let answer = put(&gateway, &format!("/v1/agent/{path}"), body);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        assert_eq!(gateway.control().get("/registry").expect(200).json()["instances"][0]["status"], status, "{path}");
    }
    assert_eq!(put(&gateway, "/v1/agent/check/deregister/team/beat", "").status, 200);
    assert_eq!(put(&gateway, "/v1/agent/service/deregister/team/web-1", "").status, 200);
    assert_eq!(gateway.control().get("/v1/agent/service/team/web-1").status, 404);
    assert_eq!(register(&gateway, &body).status, 200);
    gateway.control().delete("/register/team/web-1").expect(200);
}

#[test]
fn who_knows_a_services_content_by_its_hash_waits_for_another() {
    let gateway = sluice!().config("").start();
    let body = json!({"ID": "web-1", "Name": "web", "Port": 80});
    assert_eq!(register(&gateway, &body).status, 200);
    let first = gateway.control().get("/v1/agent/service/web-1?hash=other&wait=5m").expect(200);
    let hash = first.header("x-consul-contenthash").expect("a hash").to_owned();
    let begin = std::time::Instant::now();
    let same = gateway.control().get(&format!("/v1/agent/service/web-1?hash={hash}&wait=200ms")).expect(200);
    assert!(begin.elapsed() >= std::time::Duration::from_millis(200), "it waits as long as it was told");
    assert_eq!(same.header("x-consul-contenthash"), Some(hash.as_str()));
    let changed = std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| gateway.control().get(&format!("/v1/agent/service/web-1?hash={hash}&wait=5m")).expect(200));
        assert_eq!(register(&gateway, &with("Port", json!(81))).status, 200);
        waiting.join().expect("an answer")
    });
    assert_eq!(changed.json()["Port"], 81);
}

#[test]
fn the_short_form_names_its_fields_too_and_its_instances_are_looked_after() {
    let gateway = sluice!().config("").start();
    let control = gateway.control();
    let refused =
        Refused::of(control.post("/register", &json!({"service_name": "a b", "service_port": 0, "colour": 1})));
    assert_eq!(refused.0.status, 422);
    let mut pointers = refused.pointers();
    pointers.sort();
    assert_eq!(
        pointers,
        ["", "/colour", "/service_name", "/service_port"],
        "the empty one: service_address is missing"
    );
    assert!(refused.words().contains("\"service_address\" is missing"));

    let origin = Origin::start("a");
    let body = json!({"service_name": "web", "service_address": "127.0.0.1", "service_port": origin.address().port()});
    let id = control.post("/register", &body).expect(201).json()["id"].clone();
    control.post("/register", &body).expect(200);
    wait_until("the gateway to have looked", || {
        control.get("/v1/health/service/web?passing").expect(200).json()[0]["Service"]["ID"] == id
    });
    let gone = json!({"service_name": "web", "service_address": "127.0.0.1", "service_port": 1});
    control.post("/register", &gone).expect(201);
    wait_until("the gateway to have looked in vain", || {
        let state = control.get("/registry").expect(200).json();
        state["instances"].to_string().contains("refused")
    });
    assert_eq!(control.get("/v1/health/service/web?passing").expect(200).json().as_array().map(Vec::len), Some(1));
    let answer = gateway.control_json(Method::DELETE, "/register", &body.to_string()).expect(200);
    assert_eq!(answer.json()["id"], id);
    gateway.control_json(Method::DELETE, "/register", &body.to_string()).expect(404);
    control.delete("/register/web:127.0.0.1:1").expect(200);
    assert_eq!(control.get("/v1/catalog/services").expect(200).json(), json!({}));
}

#[test]
fn services_have_a_token_of_their_own_that_changes_no_plugins() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("operator"), "o-secret").expect("writable");
    std::fs::write(folder.path().join("service"), "s-secret").expect("writable");
    let tokens = "[control]\noperator_token_file = \"operator\"\nservice_token_file = \"service\"\n";
    let gateway = sluice!().config(tokens).directory(folder.path()).start();
    let body = json!({"Name": "web", "Port": 80}).to_string();
    let status = |method: Method, path: &str, header: (&str, &str), body: &str| {
        let headers = [("content-type", "application/json"), header];
        gateway.control().send(method, path, &headers, body.as_bytes().to_vec()).status
    };
    let register = "/v1/agent/service/register";
    assert_eq!(status(Method::PUT, register, ("x-a", ""), &body), 403);
    assert_eq!(status(Method::PUT, register, ("x-consul-token", "wrong"), &body), 403);
    assert_eq!(status(Method::PUT, register, ("x-consul-token", ""), &body), 403);
    for header in
        [("x-consul-token", "s-secret"), ("authorization", "Bearer s-secret"), ("authorization", "Bearer o-secret")]
    {
        assert_eq!(status(Method::PUT, register, header, &body), 200, "{header:?}");
        assert_eq!(status(Method::GET, "/v1/catalog/services", header, ""), 200, "{header:?}");
    }
    let short = json!({"service_name": "web", "service_address": "127.0.0.1", "service_port": 1}).to_string();
    assert_eq!(status(Method::POST, "/register", ("authorization", "Bearer s-secret"), &short), 201);
    for (method, path) in [
        (Method::GET, "/plugins"),
        (Method::PUT, "/plugins/least-request"),
        (Method::POST, "/reload"),
        (Method::GET, "/v1"),
        (Method::GET, "/registerx"),
    ] {
        assert_eq!(status(method, path, ("authorization", "Bearer s-secret"), "{}"), 401, "{path}");
    }
    assert_eq!(
        status(Method::GET, "/plugins", ("x-consul-token", "o-secret"), ""),
        401,
        "only services' paths take it"
    );
}

#[test]
fn a_services_token_changes_nothing_that_holds_for_the_node() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("operator"), "o-secret").expect("writable");
    std::fs::write(folder.path().join("service"), "s-secret").expect("writable");
    let tokens = "[control]\noperator_token_file = \"operator\"\nservice_token_file = \"service\"\n";
    let gateway = sluice!().config(tokens).directory(folder.path()).start();
    let put = |token: &str, path: &str, body: &str| {
        let headers = [("x-consul-token", token)];
        gateway.control().send(Method::PUT, &format!("/v1/agent/{path}"), &headers, body.as_bytes().to_vec())
    };
    let web = json!({"Name": "web", "Port": 80, "Check": {"CheckID": "beat", "TTL": "1h"}}).to_string();
    assert_eq!(put("s-secret", "service/register", &web).status, 200);
    let own = json!({"Name": "own", "TTL": "1h", "ServiceID": "web"}).to_string();
    for (path, body) in [
        ("check/register", own.as_str()),
        ("check/pass/beat", ""),
        ("check/deregister/own", ""),
        ("service/maintenance/web?enable=true", ""),
    ] {
        assert_eq!(put("s-secret", path, body).status, 200, "{path}");
    }
    let disk = json!({"Name": "disk", "TTL": "1h"}).to_string();
    let paths = [
        ("check/register", disk.as_str()),
        ("check/pass/disk", ""),
        ("check/warn/disk", ""),
        ("check/fail/disk", ""),
        ("check/update/disk", "{\"Status\": \"critical\"}"),
        ("check/deregister/disk", ""),
        ("maintenance?enable=true", ""),
    ];
    assert_eq!(put("o-secret", "check/register", &disk).status, 200);
    for (path, body) in paths {
        let answer = put("s-secret", path, body);
        assert_eq!(answer.status, 403, "{path}: {}", answer.text());
        assert!(answer.text().starts_with("Permission denied"), "{}", answer.text());
    }
    for (path, body) in paths {
        assert_eq!(put("o-secret", path, body).status, 200, "{path}");
    }
}

#[test]
fn a_web_page_registers_nothing() {
    let gateway = sluice!().config("").start();
    let body = json!({"Name": "web", "Port": 80}).to_string().into_bytes();
    let own = format!("http://{}", gateway.control_address());
    for (headers, status) in [
        (vec![("origin", "http://evil.example")], 403),
        (vec![("origin", "null"), ("content-type", "text/plain")], 403),
        (vec![("host", "evil.example")], 403),
        (vec![("origin", own.as_str())], 200),
        (vec![("content-type", "application/x-www-form-urlencoded")], 200),
    ] {
        let answer = gateway.control().send(Method::PUT, "/v1/agent/service/register", &headers, body.clone());
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
    }
    // What a page may send without being asked first, it sends in vain.
    let form = [("content-type", "text/plain")];
    let short = br#"{"service_name": "a", "service_address": "127.0.0.1", "service_port": 1}"#.to_vec();
    assert_eq!(gateway.control().send(Method::POST, "/register", &form, short).status, 415);
    let preflight = gateway.control().send(Method::OPTIONS, "/v1/agent/service/register", &[], Vec::new());
    assert_ne!(preflight.status, 200);
    assert!(preflight.header("access-control-allow-origin").is_none());
}
