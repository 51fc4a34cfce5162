//! What can be seen of the gateway: figures that add up, an access log that tells what happened, and an API that says
//! what it answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use http::Method;
use sluice_harness::{Origin, RawConnection, RawOrigin, Sluice, any_route, service, sluice, wait_until};

/// So that a request is one attempt, and each attempt is counted where the test expects it.
const NEVER_AGAIN: &str = "failover = { plugin = \"none\" }";

/// A service that answers, one at which nobody listens, and a path that no route has.
fn start(origin: &Origin, more: &str) -> Sluice {
    // A port that was free a moment ago may be another one's by now; this one is given to nobody.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let config = format!(
        "{more}\n{}{}[[route]]\npath = \"/orders/\"\nservice = \"orders\"\n[[route]]\npath = \"/dead/\"\nservice = \"dead\"\n",
        service("orders", &[origin.address()], NEVER_AGAIN),
        service("dead", &[nobody], ""),
    );
    sluice!().config(config).start()
}

fn traffic(gateway: &Sluice) {
    let client = gateway.client();
    for _ in 0..10 {
        client.get("/orders/7?secret=1").expect(200);
    }
    for _ in 0..5 {
        client.get("/orders/status/404").expect(404);
    }
    for _ in 0..2 {
        client.get("/orders/status/503").expect(503);
    }
    for _ in 0..3 {
        client.get("/nowhere").expect(404);
    }
    for _ in 0..4 {
        client.get("/dead/").expect(502);
    }
    let mut raw = RawConnection::to(gateway.address());
    raw.send("GET / HTTP/1.1\r\nnocolon\r\n\r\n");
    assert_eq!(raw.read_answer().status, 400);
}

#[test]
fn the_figures_are_those_of_the_traffic() {
    let origin = Origin::start("a");
    let gateway = start(&origin, "");
    traffic(&gateway);
    let requests = |route: &str, class: &str| {
        gateway.metric("sluice_requests_total", &[&format!("route={route:?}"), &format!("status_class={class:?}")])
    };
    assert_eq!(requests("/orders/", "2xx"), 10.0);
    assert_eq!(requests("/orders/", "4xx"), 5.0);
    assert_eq!(requests("/orders/", "5xx"), 2.0);
    assert_eq!(requests("/dead/", "5xx"), 4.0);
    assert_eq!(requests("(unrouted)", "4xx"), 4.0);
    assert_eq!(gateway.metric("sluice_requests_total", &[]), 25.0);
    assert_eq!(gateway.metric("sluice_request_duration_seconds_count", &[]), 25.0);
    assert_eq!(gateway.metric("sluice_gateway_errors_total", &["route=\"/orders/\""]), 0.0);
    assert_eq!(gateway.metric("sluice_gateway_errors_total", &["route=\"/dead/\""]), 4.0);
    assert_eq!(gateway.metric("sluice_gateway_errors_total", &["route=\"(unrouted)\""]), 4.0);
    assert_eq!(gateway.metric("sluice_requests_refused_total", &["reason=\"no-colon\""]), 1.0);

    let orders = ["service=\"orders\"", &format!("endpoint=\"{}\"", origin.address())].map(str::to_owned);
    let attempts = |outcome: &str| {
        let outcome = format!("outcome={outcome:?}");
        gateway.metric("sluice_attempts_total", &[&orders[0], &orders[1], &outcome])
    };
    wait_until("the last completion", || gateway.metric("sluice_attempts_total", &["service=\"orders\""]) == 17.0);
    assert_eq!([attempts("success"), attempts("client-error"), attempts("gateway-error")], [10.0, 5.0, 2.0]);
    let refused = gateway.metric("sluice_attempts_total", &["service=\"dead\"", "outcome=\"connect-failed\""]);
    assert_eq!(refused, 12.0, "three attempts each");
    assert_eq!(gateway.metric("sluice_request_retries_total", &["route=\"/dead/\""]), 8.0);
    assert_eq!(gateway.metric("sluice_attempt_first_byte_seconds_count", &["service=\"orders\""]), 17.0);

    // The component decided every time.
    assert_eq!(gateway.metric("sluice_plugin_calls_total", &[]), 29.0);
    assert_eq!(gateway.metric("sluice_plugin_attempts_total", &[]), 29.0);
    assert_eq!(gateway.metric("sluice_plugin_attempt_failures_total", &[]), 14.0);
    for none in ["fallbacks", "traps", "deadline_overruns", "memory_overruns", "invalid_answers"] {
        assert_eq!(gateway.metric(&format!("sluice_plugin_{none}_total"), &[]), 0.0, "{none}");
    }
    let live = |plugin: &str| gateway.metric("sluice_plugin_live_instances", &[&format!("plugin={plugin:?}")]);
    assert_eq!(live("least-request"), 6.0, "two services on two workers and the inner one");
    assert_eq!(live("none"), 4.0, "one service, on these and beside them");
    assert!(gateway.metric("sluice_plugin_memory_bytes", &["plugin=\"least-request\""]) > 6.0 * 65_536.0);
    assert_eq!(gateway.metric("sluice_endpoint_in_flight", &[]), 0.0);
    assert_eq!(gateway.metric("sluice_endpoint_available", &[]), 2.0);
    assert_eq!(gateway.metric("sluice_endpoint_connects_total", &["service=\"orders\""]), origin.connections() as f64);
    assert_eq!(gateway.metric("sluice_adoption_gap_seconds_count", &[]), 2.0, "one adoption on each worker");
    assert!(gateway.metric("process_resident_memory_bytes", &[]) > 1e6);
}

#[test]
fn requests_in_flight_are_counted_while_they_last() {
    let origin = Origin::start("a");
    let gateway = start(&origin, "");
    let mut raw = RawConnection::to(gateway.address());
    raw.send("GET /orders/delay/60000 HTTP/1.1\r\nhost: a\r\n\r\n");
    wait_until("it to be in flight", || gateway.metric("sluice_endpoint_in_flight", &["service=\"orders\""]) == 1.0);
    drop(raw);
    wait_until("it to be gone", || gateway.metric("sluice_endpoint_in_flight", &["service=\"orders\""]) == 0.0);
    wait_until("it to be counted", || gateway.metric("sluice_attempts_total", &["outcome=\"cancelled\""]) == 1.0);
}

#[test]
fn the_exposition_is_what_prometheus_reads() {
    let origin = Origin::start("a");
    let gateway = start(&origin, "");
    traffic(&gateway);
    let answer = gateway.control().get("/metrics").expect(200);
    let content_type = answer.header("content-type").unwrap();
    assert!(content_type.starts_with("application/openmetrics-text; version=1.0.0"), "{content_type}");
    let text = answer.text();
    assert!(text.ends_with("\n# EOF\n"));
    let exposition = Exposition::parse(&text);
    assert!(exposition.families.len() > 25, "{:?}", exposition.families.keys());
    exposition.check_histograms();
}

/// As the OpenMetrics specification has it, as far as the gateway uses it.
#[derive(Default)]
struct Exposition {
    /// Type by name.
    families: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Exposition {
    fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        let mut current = String::new();
        for line in text.lines() {
            if line == "# EOF" {
                continue;
            }
            if let Some(meta) = line.strip_prefix("# ") {
                let mut words = meta.splitn(3, ' ');
                let (keyword, name) = (words.next().unwrap(), words.next().expect("a metric's name").to_owned());
                let value = words.next().expect("a value").to_owned();
                assert!(["HELP", "TYPE", "UNIT"].contains(&keyword), "{line}");
                if name != current {
                    assert!(!parsed.families.contains_key(&name), "{name} is interrupted");
                    current.clone_from(&name);
                }
                match keyword {
                    "UNIT" => assert!(name.ends_with(&format!("_{value}")), "{line}"),
                    "TYPE" => assert!(parsed.families.insert(name, value).is_none(), "{line} twice"),
                    _ => {}
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("open labels: {line}"));
            check_labels(labels, line);
            let kind = &parsed.families[&current];
            let suffix = name.strip_prefix(&current).unwrap_or_else(|| panic!("{line} belongs to no family"));
            let right: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                "gauge" => &[""],
                other => panic!("type {other}"),
            };
            assert!(right.contains(&suffix), "{line} in a {kind}");
            assert!(value.is_finite() && (kind == "gauge" || value >= 0.0), "{line}");
            assert!(parsed.samples.insert(series.to_owned(), value).is_none(), "{series} twice");
        }
        parsed
    }

    /// Buckets never shrink, and the last is the count.
    fn check_histograms(&self) {
        let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        for (series, value) in self.samples.iter().filter(|(series, _)| series.contains("_bucket{")) {
            let (before, rest) = series.split_once("le=\"").expect("a bucket has a bound");
            let (bound, after) = rest.split_once('"').expect("a bound is quoted");
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect("a bound is a number") };
            let rest = format!("{}{}", before, after.trim_start_matches(','));
            buckets.entry(rest).or_default().push((bound, *value));
        }
        assert!(buckets.len() > 5);
        for (series, mut buckets) in buckets {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{series}: {buckets:?}");
            let count = series.replace("_bucket{", "_count{").replace(",}", "}").replace("{}", "");
            let last = buckets.last().expect("a bucket");
            assert_eq!(Some(&last.1), self.samples.get(&count), "{count}");
            assert_eq!(last.0, f64::INFINITY);
        }
    }
}

fn check_labels(labels: &str, line: &str) {
    let mut names = BTreeSet::new();
    let mut rest = labels;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
        assert!(!name.is_empty() && name.chars().all(letters), "{name} in {line}");
        assert!(names.insert(name), "{name} twice in {line}");
        let mut escaped = false;
        let end = after.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let end = end.unwrap_or_else(|| panic!("an open value in {line}"));
        rest = after[end + 1..].strip_prefix(',').unwrap_or(&after[end + 1..]);
    }
}

#[test]
fn the_access_log_tells_what_became_of_each_request() {
    let origin = Origin::start("a");
    let gateway = start(&origin, "[gateway]\naccess_log = \"on\"");
    let headers = [("x-request-id", "id-1"), ("user-agent", "test/1"), ("host", "shop.example")];
    gateway.client().send(Method::POST, "/orders/echo?secret=1", &headers, b"hello".to_vec()).expect(200);
    gateway.client().send(Method::GET, "/dead/", &[("x-request-id", "id-2")], Vec::new()).expect(502);
    gateway.client().send(Method::GET, "/nowhere", &[("x-request-id", "id-3")], Vec::new()).expect(404);
    let mut raw = RawConnection::to(gateway.address());
    raw.send("GET /orders/delay/60000 HTTP/1.1\r\nhost: a\r\nx-request-id: id-4\r\n\r\n");
    wait_until("it to be under way", || origin.in_flight() == 1);
    drop(raw);
    wait_until("four lines", || gateway.access_log().len() == 4);

    let log = gateway.access_log();
    let line =
        |id: &str| log.iter().find(|line| line["request_id"] == id).unwrap_or_else(|| panic!("no {id}: {log:?}"));
    let first = line("id-1");
    let version = gateway.service("orders")["balancer"]["version"].clone();
    for (field, value) in [
        ("client", "127.0.0.1".into()),
        ("method", "POST".into()),
        ("host", "shop.example".into()),
        ("path", "/orders/echo".into()),
        ("protocol", "HTTP/1.1".into()),
        ("route", "/orders/".into()),
        ("service", "orders".into()),
        ("endpoint", origin.address().to_string().into()),
        ("picked_by", version),
        ("attempts", 1.into()),
        ("status", 200.into()),
        ("bytes_in", 5.into()),
        ("bytes_out", 5.into()),
        ("user_agent", "test/1".into()),
    ] {
        assert_eq!(first[field], value, "{field}: {first}");
    }
    assert!(first["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{first}");
    assert!(first["duration_us"].as_u64() >= first["first_byte_us"].as_u64(), "{first}");
    assert_eq!(first.get("error"), None, "{first}");
    assert!(!first.to_string().contains("secret"), "queries may hold secrets: {first}");

    let dead = line("id-2");
    assert_eq!((&dead["error"], &dead["status"], &dead["attempts"]), (&"connect".into(), &502.into(), &3.into()));
    assert!(dead["bytes_out"].as_u64() > Some(100), "the problem document: {dead}");
    let nowhere = line("id-3");
    assert_eq!((&nowhere["error"], &nowhere["status"]), (&"route".into(), &404.into()));
    assert_eq!((nowhere.get("route"), nowhere.get("endpoint")), (None, None));
    let gone = line("id-4");
    assert_eq!((&gone["error"], &gone["status"]), (&"client".into(), &0.into()), "{gone}");
    // They are counted when they have been written.
    wait_until("four lines to be counted", || {
        gateway.metric("sluice_access_log_lines_total", &["result=\"written\""]) == 4.0
    });
}

#[test]
fn the_access_log_can_be_off_or_a_sample_with_every_error_in_it() {
    let origin = Origin::start("a");
    let mut gateway = start(&origin, "");
    traffic(&gateway);
    gateway.terminate();
    assert!(gateway.access_log().is_empty(), "it is off where nobody asks for it");

    let mut gateway = start(&origin, "[gateway]\naccess_log = { sample = 0.25 }");
    let client = gateway.client();
    for _ in 0..800 {
        client.get("/orders/").expect(200);
    }
    for _ in 0..20 {
        client.get("/nowhere").expect(404);
    }
    gateway.terminate();
    let (errors, sampled): (Vec<_>, Vec<_>) =
        gateway.access_log().into_iter().partition(|line| line.get("error").is_some());
    assert_eq!(errors.len(), 20, "what the gateway itself answers with an error is always in it");
    // Six standard deviations of a binomial share (12.2 each).
    assert!((127..=273).contains(&sampled.len()), "{} of 800", sampled.len());
}

#[test]
fn every_route_of_the_api_is_described_and_every_description_answers() {
    let gateway = sluice!().start();
    let control = gateway.control();
    control.get("/healthz").expect(200);
    control.get("/readyz").expect(200);
    let document = control.get("/openapi.json").expect(200).json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.")), "{document}");
    let described = document["paths"].as_object().expect("paths");

    // What the routers have, from their own text.
    let sources = [
        include_str!("../host/src/control/api/mod.rs"),
        include_str!("../host/src/control/api/events/mod.rs"),
        include_str!("../host/src/control/api/groups/mod.rs"),
        include_str!("../host/src/control/api/projections/mod.rs"),
        include_str!("../host/src/control/api/transactions/mod.rs"),
    ];
    // Older names of DTM's for what is described under its name of today, and the root of the read models below it.
    let unsaid =
        ["/openapi.json", "/api/dtmsvr/registerTccBranch", "/api/dtmsvr/registerXaBranch", "/projections/{name}/"];
    let routes: BTreeSet<String> = sources
        .into_iter()
        .flat_map(|source| source.split(".route(\"").skip(1))
        .filter_map(|rest| rest.split_once('"').map(|(path, _)| path))
        .filter(|path| !unsaid.contains(path))
        // A document has no word for "the rest of the path".
        .map(|path| path.replace("{*", "{"))
        .collect();
    assert_eq!(described.keys().cloned().collect::<BTreeSet<_>>(), routes);

    for (path, operations) in described {
        let methods = ["get", "put", "post", "delete", "patch"];
        for method in methods {
            if method == "get" && path.starts_with("/projections/{name}/") {
                // The read model's, whatever else the path is for.
                continue;
            }
            let upper = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
            let path = path.replace("{name}", "nothing-of-this-name").replace("{gid}", "nothing-of-this-id");
            // Nobody reads the body of a GET, and a connection with bytes unread is not kept.
            let body = if method == "get" { Vec::new() } else { b"{}".to_vec() };
            let answer = control.send(upper, &path, &[("content-type", "application/json")], body);
            let answers = answer.status != 405;
            assert_eq!(answers, operations.get(method).is_some(), "{method} {path}: {answer}");
        }
        for operation in operations.as_object().expect("operations").values() {
            assert!(operation["responses"].as_object().is_some_and(|some| !some.is_empty()), "{path}: {operation}");
        }
    }
    resolve_references(&document, &document);
}

/// Every `$ref` leads somewhere.
fn resolve_references(document: &serde_json::Value, part: &serde_json::Value) {
    match part {
        serde_json::Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(serde_json::Value::as_str) {
                let pointer = reference.strip_prefix('#').expect("a reference within the document");
                assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            fields.values().for_each(|field| resolve_references(document, field));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| resolve_references(document, item)),
        _ => {}
    }
}

#[test]
fn a_bad_answer_of_an_endpoint_is_told_from_one_of_the_gateway() {
    let origin = RawOrigin::resets_before_the_answer();
    let gateway = sluice!()
        .config(format!("[gateway]\naccess_log = \"on\"\n{}", any_route("orders", &[origin.address()], "")))
        .start();
    let problem = gateway.client().get("/").expect_problem(502, "upstream");
    assert!(
        problem["detail"].as_str().is_some_and(|detail| detail.contains(&origin.address().to_string())),
        "{problem}"
    );
    wait_until("its line", || gateway.access_log().len() == 1);
    assert_eq!(gateway.access_log()[0]["error"], "upstream");
}
