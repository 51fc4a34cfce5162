//! `[services.NAME]`.

use std::path::Path;

use super::{RIGHT, assert_one_problem, problems_with, right_with};
use crate::config::{Known, parse};

fn service(more: &str) -> String {
    format!("[services.x]\n{more}")
}

#[test]
fn a_list_of_endpoints_is_not_empty() {
    assert_one_problem(&service("endpoints = []"), &["is empty"]);
    assert_one_problem(&service("endpoints = \"127.0.0.1:1\""), &["must be a list"]);
}

#[test]
fn an_endpoint_has_host_and_port() {
    for wrong in ["9001", "orders", "orders:0", "orders:65536", ":9001", "http://orders:1", "::1:9001", "1.2.3:80"] {
        assert_one_problem(&service(&format!("endpoints = [\"{wrong}\"]")), &["services.x.endpoints[0]", "host:port"]);
    }
    assert_one_problem(&service("endpoints = [{ weight = 1 }]"), &["\"address\" is missing"]);
    assert_one_problem(&service("endpoints = [5]"), &["endpoints[0]", "not an integer"]);
}

#[test]
fn weights_are_1_to_65535() {
    for wrong in ["0", "-1", "65536", "\"heavy\""] {
        let text = service(&format!("endpoints = [{{ address = \"a:1\", weight = {wrong} }}]"));
        assert_one_problem(&text, &["endpoints[0].weight", "a whole number from 1 to 65535"]);
    }
    assert_one_problem(&service("endpoints = [{ address = \"a:1\", priority = -1 }]"), &["priority", "from 0 to 127"]);
}

#[test]
fn an_address_stands_once_in_a_service_however_it_is_written() {
    let pairs = [("127.0.0.1:1", "127.0.0.1:1"), ("A.internal:1", "a.internal.:1"), ("[::1]:1", "[0:0::1]:1")];
    for (first, second) in pairs {
        let text = service(&format!("endpoints = [\"{first}\", {{ address = \"{second}\" }}]"));
        assert_one_problem(&text, &["endpoints[1]", "is the address of services.x.endpoints[0] already"]);
    }
    right_with(&service("endpoints = [\"127.0.0.1:9001\", \"127.0.0.1:9002\"]"));
}

#[test]
fn metadata_is_text() {
    assert_one_problem(
        &service("endpoints = [{ address = \"a:1\", metadata = { rack = 7 } }]"),
        &["metadata.rack", "a string"],
    );
}

#[test]
fn what_later_versions_bring_is_refused_by_name() {
    assert_one_problem(&service("endpoints = [\"a:1\"]\ntls = {}"), &["is not available in this version"]);
}

#[test]
fn service_names_are_dns_labels() {
    assert_one_problem("[services.Orders]\nendpoints = [\"a:1\"]", &["services.Orders", "a-z"]);
    assert_one_problem("[services.\"\"]\nendpoints = [\"a:1\"]", &["services.\"\""]);
}

#[test]
fn the_protocol_is_one_that_is_spoken() {
    assert_one_problem(&service("endpoints = [\"a:1\"]\nprotocol = \"h3\""), &["\"http/1.1\" or \"h2\"", "not \"h3\""]);
}

#[test]
fn a_binary_without_the_default_policies_says_so() {
    let errors = parse(RIGHT, "sluice.toml", Path::new(""), &Known::default()).unwrap_err();
    assert_eq!(errors.problems().len(), 4, "two of each of two services");
    assert!(errors.problems()[0].message.contains("its default \"least-request\" is not built into this binary"));
    assert!(errors.problems()[1].message.contains("its default \"standard\" is not built into this binary"));
}

#[test]
fn a_problem_in_one_service_hides_none_in_another() {
    let problems = problems_with("[services.x]\ntimeout = 5\n[services.y]\nendpoints = [\"y\"]\nprotocol = 1\n");
    assert_eq!(problems.len(), 4, "{problems:#?}");
}

#[test]
fn endpoints_are_given_or_found() {
    let registry =
        Known::from_iter(["least-request", "standard", "registry", "file"].map(|name| name.parse().unwrap()));
    let read = |more: &str| parse(&format!("{RIGHT}{more}"), "sluice.toml", Path::new(""), &registry);
    let discovery = |more: &str| {
        let config = read(more).unwrap_or_else(|errors| panic!("{errors}"));
        config.services[&"x".parse().unwrap()].discovery.as_ref().map(|policy| policy.plugin.to_string())
    };
    assert_eq!(discovery("[services.x]").as_deref(), Some("registry"));
    assert_eq!(discovery("[services.x]\ndiscovery = { plugin = \"file\" }").as_deref(), Some("file"));
    assert_eq!(discovery("[services.x]\nendpoints = [\"a:1\"]"), None);
    let both = read("[services.x]\nendpoints = [\"a:1\"]\ndiscovery = { plugin = \"file\" }").unwrap_err();
    assert!(both.to_string().contains("services.x.discovery: stands beside \"endpoints\""), "{both}");
    assert_one_problem("[services.x]", &["\"endpoints\" is missing", "\"registry\" is not built into this binary"]);
}
