//! Endpoints given by host name: all addresses of the name, as long as its TTL says, and the last ones known where
//! nobody answers.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
};

use sluice_harness::{NameServer, Origin, Says, Sluice, sluice, wait_until};

const NAME: &str = "orders.test";

/// Origins on one port, at 127.0.0.1, 127.0.0.2 and so on; named by their last number.
fn origins(count: u8) -> Vec<Origin> {
    let first = Origin::start("1");
    let port = first.address().port();
    let others = (2..=count).map(|n| Origin::start_on(&n.to_string(), SocketAddr::from((ip(n), port))));
    std::iter::once(first).chain(others).collect()
}

fn ip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, n)
}

fn addresses(numbers: &[u8], ttl_s: u32) -> Says {
    Says::Addresses(numbers.iter().copied().map(ip).collect(), ttl_s)
}

fn config(server: &NameServer, port: u16) -> String {
    format!(
        "[gateway]\nnameservers = [\"{}\"]\n[services.orders]\nendpoints = [\"{NAME}:{port}\"]\n\
         balancer = {{ plugin = \"round-robin\" }}\n[[route]]\npath = \"/\"\nservice = \"orders\"\n",
        server.address()
    )
}

fn start(server: &NameServer, origins: &[Origin]) -> Sluice {
    let gateway = sluice!().config(config(server, origins[0].address().port())).start();
    await_resolved(&gateway);
    gateway
}

/// It is there at the start, but for a name server that a busy machine keeps from answering for so long.
fn await_resolved(gateway: &Sluice) {
    wait_until("the name to be resolved", || gateway.client().get("/").status == 200);
}

/// Whether the last try to resolve the name failed.
fn is_unresolved(gateway: &Sluice) -> bool {
    !gateway.service("orders")["unresolved"].as_array().expect("a list").is_empty()
}

/// Who answers, of enough requests that everybody in turn would have.
fn answering(gateway: &Sluice) -> BTreeSet<String> {
    let client = gateway.client();
    (0..16).map(|_| client.get("/").expect(200).instance().to_owned()).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
fn every_address_of_a_name_is_an_endpoint_until_its_ttl_brings_others() {
    let origins = origins(3);
    let server = NameServer::start();
    server.set(NAME, addresses(&[1, 2], 1));
    let gateway = start(&server, &origins);
    assert_eq!(answering(&gateway), set(&["1", "2"]));
    let report = gateway.service("orders");
    let configured: Vec<_> = report["endpoints"].as_array().unwrap().iter().map(|one| &one["configured"]).collect();
    assert_eq!(configured, [&format!("{NAME}:{}", origins[0].address().port()); 2], "{report}");

    server.set(NAME, addresses(&[3, 2], 1));
    wait_until("the new address to get traffic, and the old one none", || answering(&gateway) == set(&["2", "3"]));
    assert!(origins[0].requests() > 0);
}

#[test]
fn a_name_is_asked_for_again_when_its_ttl_has_passed_and_not_before() {
    let origins = origins(1);
    let server = NameServer::start();
    server.set(NAME, addresses(&[1], 1));
    server.set("long.test", addresses(&[1], 3_000));
    let port = origins[0].address().port();
    let more = format!("[services.long]\nendpoints = [\"long.test:{port}\"]\n");
    let gateway = sluice!().config(config(&server, port) + &more).start();
    await_resolved(&gateway);
    wait_until("the long one to be resolved too", || {
        gateway.service("long")["endpoints"].as_array().is_some_and(|all| !all.is_empty())
    });
    let connections = origins[0].connections();
    // Maybe more than one each: a question is asked again where its answer is late.
    let (long, short) = (server.asked("long.test"), server.asked(NAME));
    let generation = gateway.metric("sluice_generation", &[]);
    wait_until("the short one to be asked for again", || server.asked(NAME) >= short + 3);
    assert_eq!(server.asked("long.test"), long);
    gateway.client().get("/").expect(200);
    assert!(origins[0].connections() <= connections + 1, "a refresh that changes nothing keeps the pools");
    assert_eq!(gateway.metric("sluice_generation", &[]), generation, "and is no change");
}

#[test]
fn a_refresh_that_fails_keeps_the_last_addresses() {
    let origins = origins(3);
    let server = NameServer::start();
    server.set(NAME, addresses(&[1, 2], 1));
    let gateway = start(&server, &origins);
    for failure in [Says::Fails, Says::NoSuchName, Says::Addresses(Vec::new(), 1)] {
        server.set(NAME, failure.clone());
        wait_until(&format!("{failure:?} to be seen"), || is_unresolved(&gateway));
        let before = server.asked(NAME);
        assert_eq!(answering(&gateway), set(&["1", "2"]), "{failure:?}");
        wait_until("it to be asked for again", || server.asked(NAME) > before);
        assert_eq!(answering(&gateway), set(&["1", "2"]), "{failure:?}");
        server.set(NAME, addresses(&[1, 2], 1));
        wait_until("the name to be resolved again", || !is_unresolved(&gateway));
    }
    gateway.await_log(&[NAME, "last addresses stay in use"]);
    server.set(NAME, addresses(&[3], 1));
    wait_until("the next good answer to be adopted", || answering(&gateway) == set(&["3"]));
    assert!(!is_unresolved(&gateway));
}

#[test]
fn a_name_that_nobody_knows_at_the_start_stops_only_its_own_service() {
    let origins = origins(1);
    let server = NameServer::start();
    server.set(NAME, Says::Silent);
    let port = origins[0].address().port();
    let more = format!(
        "[services.other]\nendpoints = [\"127.0.0.1:{port}\"]\n[[route]]\npath = \"/other\"\nservice = \"other\"\n"
    );
    let gateway = sluice!().config(config(&server, port) + &more).start();
    gateway.client().get("/other").expect(200);
    gateway.client().get("/").expect_problem(503, "pick");
    server.set(NAME, addresses(&[1], 1));
    wait_until("the service to have an endpoint", || gateway.client().get("/").status == 200);
}
