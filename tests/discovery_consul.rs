//! Endpoints from a catalogue that speaks Consul's API, kept by a second gateway; and from the gateway's own registry.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_harness::{DEADLINE, HeldPort, Load, Origin, Sluice, control::text, sluice, wait_until};
use tempfile::TempDir;

/// With a registry, and nothing that it serves.
fn catalogue(folder: &TempDir, control: &str) -> Sluice {
    sluice!().directory(folder.path()).config(format!("[control]\naddress = {control:?}\n")).start()
}

fn register(gateway: &Sluice, id: &str, origin: &Origin, more: &Value) {
    let address = origin.address();
    let mut body = json!({"ID": id, "Name": "orders", "Address": address.ip().to_string(), "Port": address.port()});
    let fields = body.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    put(gateway, "/v1/agent/service/register", &body);
}

fn put(gateway: &Sluice, path: &str, body: &Value) {
    gateway.control_json(http::Method::PUT, path, &body.to_string()).expect(200);
}

fn await_endpoints(gateway: &Sluice, addresses: &[&Origin]) {
    let mut wanted: Vec<_> = addresses.iter().map(|origin| origin.address().to_string()).collect();
    wanted.sort();
    wait_until(&format!("the endpoints {wanted:?}"), || {
        let service = gateway.service("orders");
        let endpoints = service["endpoints"].as_array().cloned().unwrap_or_default();
        let mut there: Vec<_> = endpoints.iter().map(|endpoint| text(&endpoint["address"])).collect();
        there.sort();
        there == wanted
    });
}

#[test]
fn endpoints_follow_a_consul_catalogue_past_its_restart() {
    let folder = TempDir::new().expect("a temporary folder");
    let mut consul = catalogue(&folder, "127.0.0.1:0");
    let address = consul.control_address();
    let [a, b] = ["a", "b"].map(Origin::start);
    register(&consul, "a", &a, &json!({"Tags": ["v1"], "Meta": {"zone": "z"}}));
    let gateway = sluice!()
        .config(format!(
            r#"
            [plugins.consul]
            allow_hosts = ["{address}"]
            [services.orders]
            discovery = {{ plugin = "consul", settings = {{ address = "{address}" }} }}
            [[route]]
            path = "/"
            service = "orders"
            "#
        ))
        .start();
    await_endpoints(&gateway, &[&a]);
    assert_eq!(gateway.service("orders")["endpoints"][0]["zone"], "z");
    register(&consul, "b", &b, &json!({}));
    await_endpoints(&gateway, &[&a, &b]);
    put(&consul, "/v1/agent/service/deregister/a", &json!({}));
    await_endpoints(&gateway, &[&b]);

    // The catalogue goes away: nothing is lost. It comes back: changes are followed again.
    let load = Load::to(gateway.address()).connections(4).start();
    consul.kill();
    let _held = HeldPort::of(address);
    gateway.await_history("warning", &["orders", "unreachable"]);
    let consul = catalogue(&folder, &address.to_string());
    register(&consul, "a", &a, &json!({}));
    await_endpoints(&gateway, &[&a, &b]);
    load.stop().expect_no_failures();
}

#[test]
fn a_service_without_endpoints_has_those_that_register_themselves() {
    let [a, b] = ["a", "b"].map(Origin::start);
    let gateway = sluice!()
        .config(
            r#"
            [services.orders]
            [services.v2]
            discovery = { plugin = "registry", settings = { service = "orders", tags = ["v2"] } }
            [[route]]
            path = "/"
            service = "orders"
            "#,
        )
        .start();
    assert_eq!(gateway.service("orders")["discovery"]["plugin"], "registry");
    assert_eq!(gateway.client().get("/").status, 503);
    register(&gateway, "a", &a, &json!({"Tags": ["v1"]}));
    await_endpoints(&gateway, &[&a]);
    gateway.client().get("/").expect(200);
    register(&gateway, "b", &b, &json!({"Tags": ["v2"]}));
    await_endpoints(&gateway, &[&a, &b]);
    wait_until("the selection by tag", || {
        let endpoints = gateway.service("v2")["endpoints"].clone();
        endpoints.as_array().is_some_and(|all| all.len() == 1 && text(&all[0]["address"]) == b.address().to_string())
    });
    // One that fails its check stays, out of traffic; all requests go to the other.
    put(&gateway, "/v1/agent/service/maintenance/a?enable=true&reason=test", &json!({}));
    wait_until("maintenance to take it out of traffic", || {
        let endpoints = gateway.service("orders")["endpoints"].clone();
        endpoints.as_array().is_some_and(|all| {
            all.iter().any(|one| text(&one["address"]) == a.address().to_string() && one["available"] == false)
        })
    });
    let report = Load::to(gateway.address()).connections(4).run_count(40);
    report.expect_no_failures();
    assert_eq!(report.share("b"), 1.0, "{report}");
}

/// From the registration's answer to the membership in force on every worker. The bound of 50 ms holds for an optimized
/// build (`make soak` measures it); what is tested here is that nothing waits for a tick or a poll.
#[test]
fn a_registration_reaches_every_worker_at_once() {
    let [a, b] = ["a", "b"].map(Origin::start);
    let gateway = sluice!().config("[services.orders]\n[[route]]\npath = \"/\"\nservice = \"orders\"\n").start();
    register(&gateway, "a", &a, &json!({}));
    await_endpoints(&gateway, &[&a]);
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..50 {
        for join in [true, false] {
            let begun = Instant::now();
            if join {
                register(&gateway, "b", &b, &json!({}));
            } else {
                put(&gateway, "/v1/agent/service/deregister/b", &json!({}));
            }
            let wanted = if join { 2 } else { 1 };
            while gateway.service("orders")["endpoints"].as_array().map_or(0, Vec::len) != wanted {
                assert!(begun.elapsed() < DEADLINE, "not at all");
            }
            took.push(begun.elapsed());
        }
    }
    took.sort();
    let (median, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("from the registration to every worker: median {median:?}, p99 {p99:?}");
    // A tick or a poll would show in most of them; a few may have met a machine that stood still.
    let (told, bound) = match cfg!(debug_assertions) {
        true => (median, Duration::from_millis(500)),
        false => (p99, Duration::from_millis(50)),
    };
    assert!(told <= bound, "median {median:?}, p99 {p99:?}");
}
