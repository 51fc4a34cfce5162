//! Endpoints that come and go while the gateway serves.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::json;
use sluice_harness::{Origin, wait_until};

use super::{Testbed, guests};
use crate::control::membership::names::tests::{HOST, NameServer, Says};

/// A service behind a host name, on two loopback addresses with one port.
fn behind_a_name(component: &[u8], says: impl FnOnce(IpAddr) -> Says) -> (Testbed, NameServer, IpAddr) {
    let mut bed = Testbed::prepare(component);
    let first = bed.origins[0].address();
    let other = IpAddr::from(Ipv4Addr::new(127, 0, 0, 2));
    bed.origins.push(Origin::start_on("other", SocketAddr::new(other, first.port())));
    let server = bed.runtime.block_on(NameServer::start(says(first.ip())));
    let text = bed.config("");
    let endpoints = text.lines().find(|line| line.contains("endpoints")).expect("the line").trim().to_owned();
    let text = text.replace(&endpoints, &format!("endpoints = [\"{HOST}:{}\"]", first.port()));
    let text = text.replace("workers = 2", &format!("workers = 2\nnameservers = [\"{}\"]", server.address));
    bed.write_config(&text);
    bed.run().expect("the gateway starts");
    (bed, server, other)
}

#[test]
fn a_name_that_means_another_address_moves_the_traffic() {
    let (bed, server, other) = behind_a_name(&guests::first(), |first| Says::Addresses(vec![first]));
    bed.all_go_to("a", 10);
    server.say(Says::Addresses(vec![other]));
    wait_until("the other origin gets the requests", || bed.gateway().get("/").expect(200).instance() == "other");
    bed.all_go_to("other", 10);
    server.say(Says::Fails);
    wait_until("the failure is shown", || bed.service()["unresolved"].as_array().is_some_and(|all| !all.is_empty()));
    bed.all_go_to("other", 10);
    assert!(!bed.history("membership-changed").is_empty());
}

#[test]
fn several_addresses_of_a_name_are_several_endpoints() {
    let (bed, ..) =
        behind_a_name(&guests::second(), |first| Says::Addresses(vec![first, Ipv4Addr::new(127, 0, 0, 2).into()]));
    bed.all_go_to("other", 10);
    let endpoints = bed.service()["endpoints"].clone();
    assert_eq!(endpoints.as_array().map(Vec::len), Some(2), "{endpoints}");
    assert_eq!(endpoints[0]["configured"], endpoints[1]["configured"]);
}

#[test]
fn a_name_that_comes_late_is_served_when_it_comes() {
    let (bed, server, other) = behind_a_name(&guests::first(), |_| Says::NoSuchName);
    bed.gateway().get("/").expect(503);
    server.say(Says::Addresses(vec![other]));
    wait_until("the service has an endpoint", || bed.gateway().get("/").status == 200);
    bed.all_go_to("other", 10);
}

#[test]
fn a_plugin_in_use_that_fails_on_a_new_membership_does_not_stand_in_its_way() {
    let bed = Testbed::start(&guests::traps_on_one_member());
    bed.all_go_to("a", 10);
    let text = bed.config("");
    let endpoints = text.lines().find(|line| line.contains("endpoints")).expect("the line").trim().to_owned();
    bed.write_config(&text.replace(&endpoints, &format!("endpoints = [\"{}\"]", bed.origins[1].address())));
    bed.control().post("/reload", &json!({})).expect(200);
    bed.all_go_to("b", 10);
    // The supervisor is told of each that is gone after the change is in force.
    wait_until("all to be decided for natively", || bed.balancers().iter().all(|one| one["state"] == "fallback"));
    wait_until("it is noted", || {
        bed.history("fault").iter().any(|entry| entry["message"].as_str().is_some_and(|m| m.contains("update")))
    });
    // With the old membership it lives again, by itself.
    bed.write_config(&text);
    bed.control().post("/reload", &json!({})).expect(200);
    bed.all_go_to("a", 10);
}
