//! Endpoints from DNS: addresses with a port of one's own, or SRV records; an answer that fails takes nothing away.

use std::net::Ipv4Addr;

use sluice_harness::{NameServer, Origin, Says, Service, Sluice, control::text, sluice, wait_until};

fn gateway(server: &NameServer, settings: &str) -> Sluice {
    sluice!()
        .config(format!(
            r#"
            [gateway]
            nameservers = ["{}"]
            [plugins.dns]
            allow_names = ["*.test"]
            [services.orders]
            discovery = {{ plugin = "dns", settings = {{ refresh_min = "100 ms", {settings} }} }}
            [[route]]
            path = "/"
            service = "orders"
            "#,
            server.address()
        ))
        .start()
}

fn await_endpoints(gateway: &Sluice, wanted: &[&str]) {
    wait_until(&format!("the endpoints {wanted:?}"), || shown(gateway) == wanted);
}

/// Address, weight and priority of each.
fn shown(gateway: &Sluice) -> Vec<String> {
    let endpoints = gateway.service("orders")["endpoints"].as_array().cloned().unwrap_or_default();
    let mut shown: Vec<_> = endpoints
        .iter()
        .map(|one| format!("{} {} {}", text(&one["address"]), one["weight"], one["priority"]))
        .collect();
    shown.sort();
    shown
}

fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, n)
}

#[test]
fn addresses_are_followed_by_their_ttl_and_a_failure_takes_none_away() {
    let server = NameServer::start();
    let origin = Origin::start("1");
    let port = origin.address().port();
    let endpoint = |n: u8| format!("{}:{port} 1 0", ip(n));
    server.set("orders.test", Says::Addresses(vec![ip(1)], 0));
    let gateway = gateway(&server, &format!("name = \"orders.test\", port = {port}"));
    await_endpoints(&gateway, &[&endpoint(1)]);
    gateway.client().get("/").expect(200);
    server.set("orders.test", Says::Addresses(vec![ip(2), ip(1)], 0));
    await_endpoints(&gateway, &[&endpoint(1), &endpoint(2)]);
    for (says, said) in [(Says::Fails, "orders.test"), (Says::NoSuchName, "there is no name")] {
        server.set("orders.test", says);
        gateway.await_history("warning", &["orders", said]);
        assert_eq!(shown(&gateway), [endpoint(1), endpoint(2)]);
    }
    server.set("orders.test", Says::Addresses(vec![ip(1)], 0));
    await_endpoints(&gateway, &[&endpoint(1)]);
}

#[test]
fn an_absent_name_has_no_endpoints_where_the_settings_say_so() {
    let server = NameServer::start();
    server.set("orders.test", Says::Addresses(vec![ip(1)], 0));
    let gateway = gateway(&server, "name = \"orders.test\", port = 9, nxdomain = \"empty\"");
    await_endpoints(&gateway, &["127.0.0.1:9 1 0"]);
    server.set("orders.test", Says::NoSuchName);
    await_endpoints(&gateway, &[]);
}

#[test]
fn srv_records_bring_ports_weights_and_priorities() {
    let server = NameServer::start();
    let origin = Origin::start("1");
    let port = origin.address().port();
    let record = |target: &str, port, priority, weight| Service { target: target.to_owned(), port, priority, weight };
    server.set("a.test", Says::Addresses(vec![ip(1)], 60));
    server.set("b.test", Says::Addresses(vec![ip(2)], 60));
    server.set("_http._tcp.orders.test", Says::Services(vec![record("a.test", port, 0, 5)], 0));
    let gateway = gateway(&server, "name = \"_http._tcp.orders.test\"");
    let first = format!("127.0.0.1:{port} 5 0");
    await_endpoints(&gateway, &[&first]);
    gateway.client().get("/").expect(200);
    let both = vec![record("a.test", port, 0, 5), record("b.test", 9, 1, 0)];
    server.set("_http._tcp.orders.test", Says::Services(both, 0));
    await_endpoints(&gateway, &[&first, "127.0.0.2:9 1 1"]);
}
