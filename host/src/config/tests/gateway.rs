//! `[gateway]`, `[[listener]]` and `[control]`.

use std::time::Duration;

use super::{assert_one_problem, problems, problems_with, right_with};

#[test]
fn durations_need_a_unit() {
    assert_one_problem("[gateway]\ngrace_period = 15", &["gateway.grace_period", "write \"15 s\" or \"15 ms\""]);
    assert_one_problem("[gateway]\ngrace_period = \"15\"", &["with its unit", "not \"15\""]);
    assert_one_problem("[gateway]\ngrace_period = \"2 h\"", &["from 0s to 1h"]);
    assert_one_problem("[gateway]\ngrace_period = true", &["not a boolean"]);
}

#[test]
fn sizes_need_a_unit_and_a_range() {
    assert_one_problem("[gateway.limits]\nheader_bytes_max = 8192", &["write \"8192 B\""]);
    assert_one_problem("[gateway.limits]\nheader_bytes_max = \"8192\"", &["with its unit"]);
    assert_one_problem("[gateway.limits]\nheader_bytes_max = \"1 KiB\"", &["from 8.0 KiB to 1.0 MiB"]);
    assert_one_problem("[gateway.limits]\nbody_bytes_max = \"lots\"", &["such as \"16 MiB\"", "not \"lots\""]);
}

#[test]
fn numbers_have_a_range() {
    assert_one_problem("[gateway]\nworkers = 0", &["gateway.workers", "a whole number from 1 to 1024, not 0"]);
    assert_one_problem("[gateway]\nworkers = 99999999999999999999", &["not 99999999999999999999"]);
    assert_one_problem("[gateway]\nworkers = 2.5", &["a whole number", "not a float"]);
    assert_one_problem("[gateway]\nworkers = \"2\"", &["not a string"]);
    assert_eq!(right_with("[gateway]\nworkers = 0x10").gateway.workers.get(), 16);
}

#[test]
fn a_network_is_written_from_its_first_address() {
    assert_one_problem("[gateway]\ntrusted_proxies = [\"10.1.2.3/8\"]", &["did you mean \"10.0.0.0/8\"?"]);
    assert_one_problem("[gateway]\ntrusted_proxies = [\"proxy\"]", &["trusted_proxies[0]", "not \"proxy\""]);
    assert_one_problem("[gateway]\ntrusted_proxies = [\"10.0.0.1\", \"10.0.0.1/32\"]", &["stands in the list already"]);
    assert_one_problem("[gateway]\nnameservers = [\"dns.internal\"]", &["the IP address of a name server"]);
}

#[test]
fn the_access_log_is_off_on_or_a_share() {
    for wrong in
        ["\"sometimes\"", "true", "{ sample = 0 }", "{ sample = 1.5 }", "{ sample = nan }", "{}", "{ sample = \"1\" }"]
    {
        let problems = problems_with(&format!("[gateway]\naccess_log = {wrong}"));
        assert_eq!(problems.len(), 1, "{wrong}: {problems:?}");
    }
    right_with("[gateway]\naccess_log = { sample = 1 }");
}

#[test]
fn a_listener_is_needed() {
    assert_eq!(
        problems(""),
        [": no [[listener]] is given; at least one is needed, such as address = \"127.0.0.1:8080\""]
    );
    assert!(problems("listener = []")[0].contains("at least one listener is needed"));
    assert!(problems("[[listener]]")[0].contains("\"address\" is missing"));
}

#[test]
fn no_two_listeners_share_an_address() {
    assert_one_problem(
        "[[listener]]\naddress = \"127.0.0.1:8080\"",
        &["listener[1].address", "another listener already"],
    );
    assert_one_problem("[[listener]]\naddress = \"127.0.0.1:9180\"", &["the control listener already"]);
    assert_one_problem(
        "[control]\naddress = \"127.0.0.1:8080\"",
        &["listener[0].address", "the control listener already"],
    );
    right_with("[[listener]]\naddress = \"127.0.0.1:0\"\n[[listener]]\naddress = \"127.0.0.1:0\"");
}

#[test]
fn a_listener_binds_an_address_not_a_name() {
    assert_one_problem("[[listener]]\naddress = \"localhost:8081\"", &["did you mean \"127.0.0.1:8081\"?"]);
    assert_one_problem("[[listener]]\naddress = \":8081\"", &["did you mean \"127.0.0.1:8081\"?"]);
    assert_one_problem("[[listener]]\naddress = 8081", &["not an integer"]);
}

#[test]
fn a_control_listener_that_others_reach_needs_a_token() {
    assert_one_problem("[control]\naddress = \"0.0.0.0:9180\"", &["control.address", "operator_token_file"]);
    right_with("[control]\naddress = \"[::1]:9180\"");
    right_with("[control]\naddress = \"10.0.0.1:9180\"\noperator_token_file = \"token\"");
}

#[test]
fn dns_is_off_unless_it_has_an_address() {
    assert_eq!(right_with("").dns, None);
    let dns = right_with("[dns]\naddress = \"127.0.0.1:8600\"").dns.expect("it is on");
    assert_eq!((dns.domain.as_str(), dns.ttl), ("consul", Duration::ZERO));
    let dns = right_with("[dns]\naddress = \"[::]:0\"\ndomain = \"Services.Example.\"\nttl = \"5 s\"").dns;
    let dns = dns.expect("it is on");
    assert_eq!((dns.domain.as_str(), dns.ttl), ("services.example", Duration::from_secs(5)));

    assert_one_problem("[dns]\nttl = \"5 s\"", &["dns", "\"address\" is missing", "127.0.0.1:8600"]);
    let with = |more: &str| format!("[dns]\naddress = \"127.0.0.1:8600\"\n{more}");
    assert_one_problem(&with("ttl = \"1500 ms\""), &["dns.ttl", "must be whole seconds"]);
    assert_one_problem(&with("ttl = \"2 days\""), &["dns.ttl", "from 0s to 1day"]);
    assert_one_problem(&with("ttl = 5"), &["dns.ttl", "write \"5 s\""]);
    for domain in ["", ".", "a..b", "-a", "a_b", "é", &"a".repeat(64), &"a.".repeat(60)] {
        assert_one_problem(&with(&format!("domain = \"{domain}\"")), &["dns.domain", "must be a domain"]);
    }
    assert_one_problem(&with("zone = \"a\""), &["dns.zone", "is no known key"]);
    assert_one_problem("[dns]\naddress = \"127.0.0.1:8080\"", &["is the address of a listener already"]);
    assert_one_problem("[dns]\naddress = \"127.0.0.1:9180\"", &["is the address of the control listener already"]);
}

#[test]
fn the_registrys_keys_have_ranges() {
    let config = right_with("[registry]\nmass_expiry_percent = 15\nmass_expiry_hold = \"1 h\"\n");
    assert_eq!(config.registry.mass_expiry.percent.get(), 15);
    assert_eq!(config.registry.mass_expiry.hold, Duration::from_secs(3600));
    assert_one_problem("[registry]\nmass_expiry_percent = 0", &["registry.mass_expiry_percent", "from 1 to 100"]);
    assert_one_problem("[registry]\nmass_expiry_hold = \"1 ms\"", &["registry.mass_expiry_hold", "must be from 1s"]);
    assert_one_problem("[registry]\nttl = 1", &["registry.ttl"]);
}

#[test]
fn a_services_token_alone_would_let_everybody_in_as_an_operator() {
    assert_one_problem(
        "[control]\nservice_token_file = \"Cargo.toml\"",
        &["control.service_token_file", "operator_token_file"],
    );
}

#[test]
fn what_later_versions_bring_is_refused_by_name() {
    for later in ["[control]\ntls = {}", "[[listener]]\naddress = \"127.0.0.1:1\"\ntls = {}"] {
        assert_one_problem(later, &["is not available in this version"]);
    }
}

#[test]
fn sections_of_another_type_are_refused() {
    let problems = problems("gateway = 1\ncontrol = []\nlistener = {}\nplugins = \"x\"\nservices = 2\nroute = true");
    assert_eq!(problems.len(), 6, "{problems:#?}");
}
