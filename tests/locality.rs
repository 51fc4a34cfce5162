//! Endpoints of the gateway's own zone get the traffic, as long as they can take it.

use sluice_harness::{Origin, Sluice, sluice, wait_until};

fn gateway(origins: &[Origin; 2], zone: &str, more: &str) -> Sluice {
    let endpoint = |origin: &Origin| format!("{{ address = \"{}\", zone = \"{}\" }}", origin.address(), origin.name());
    let endpoints = origins.each_ref().map(endpoint).join(", ");
    let config = format!(
        "{zone}\n[services.orders]\nendpoints = [{endpoints}]\nbalancer = {{ plugin = \"round-robin\" }}\n{more}\n\
         [[route]]\npath = \"/\"\nservice = \"orders\"\n"
    );
    sluice!().config(config).start()
}

/// How many of 40 requests each of them answered.
fn answered(gateway: &Sluice, origins: &[Origin; 2]) -> [u64; 2] {
    let before = origins.each_ref().map(Origin::requests);
    for _ in 0..40 {
        gateway.client().get("/").expect(200);
    }
    let after = origins.each_ref().map(Origin::requests);
    [after[0] - before[0], after[1] - before[1]]
}

#[test]
fn the_own_zone_is_preferred_and_others_take_what_it_cannot() {
    let mut origins = ["a", "b"].map(Origin::start);
    let gateway = gateway(&origins, "[gateway]\nzone = \"b\"", "");
    assert_eq!(answered(&gateway, &origins), [0, 40]);
    assert_eq!(gateway.service("orders")["limits"]["prefer_zone"]["value"], "b");
    origins[1].kill();
    // Those that find nobody there are tried in the other zone, until the endpoint is out of traffic.
    assert_eq!(answered(&gateway, &origins)[0], 40);
    wait_until("it is out of traffic", || gateway.service("orders")["endpoints"][1]["available"] == false);
    assert_eq!(answered(&gateway, &origins), [40, 0]);
}

#[test]
fn a_service_may_prefer_another_zone_or_none() {
    let origins = ["a", "b"].map(Origin::start);
    let other = gateway(&origins, "[gateway]\nzone = \"b\"", "prefer_zone = \"a\"");
    assert_eq!(answered(&other, &origins), [40, 0]);
    let none = gateway(&origins, "[gateway]\nzone = \"b\"", "prefer_zone = \"\"");
    assert!(answered(&none, &origins).iter().all(|&requests| requests > 0));
    let unsaid = gateway(&origins, "", "");
    assert!(answered(&unsaid, &origins).iter().all(|&requests| requests > 0));
}
