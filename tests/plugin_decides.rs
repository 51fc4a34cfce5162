//! The component really decides: where requests go is what the policy in use says, from the answer of the control API
//! on, and a policy that cannot work is never in use.

use std::time::Instant;

use serde_json::{Value, json};
use sluice_harness::{Load, Origin, Refused, RunningLoad, Sluice, any_route, guest::built, service, sluice};

/// Requests of which each must go where the policy says. More than the connections of the load, so that both workers
/// have served some.
const REQUESTS: u64 = 400;

fn origins() -> [Origin; 3] {
    ["a", "b", "c"].map(Origin::start)
}

fn gateway(origins: &[Origin], more: &str) -> Sluice {
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    sluice!().config(any_route("orders", &addresses, more)).start()
}

/// A load that goes on over all changes.
fn load(gateway: &Sluice) -> RunningLoad {
    Load::to(gateway.address()).rate(400.0).start()
}

#[test]
fn all_traffic_moves_to_the_slot_that_the_pushed_policy_picks() {
    let origins = origins();
    let gateway = gateway(&origins, "balancer = { plugin = \"round-robin\" }");
    let load = load(&gateway);
    load.await_more(REQUESTS);
    let mut moved = Vec::new();
    for guest in ["first-slot", "second-slot", "first-slot"] {
        let answer = gateway.push("round-robin", &built(guest));
        let from = Instant::now();
        assert_eq!(answer["workers"].as_array().map(Vec::len), Some(2), "both workers have adopted it: {answer}");
        load.await_more(REQUESTS);
        moved.push((from, Instant::now()));
    }
    let report = load.stop();
    report.expect_no_failures();
    for instance in ["a", "b", "c"] {
        let before = report
            .samples
            .iter()
            .take(REQUESTS as usize / 2)
            .filter(|sample| sample.result.as_ref().is_ok_and(|(_, answered)| answered == instance));
        assert!(before.count() > 0, "round robin used {instance}: {report}");
    }
    for ((from, to), instance) in moved.into_iter().zip(["a", "b", "a"]) {
        let report = report.within(from, to);
        assert!(report.total() as u64 > REQUESTS / 2, "{report}");
        assert_eq!(report.share(instance), 1.0, "all went to {instance}: {report}");
    }
    assert_eq!(gateway.metric("sluice_plugin_fallbacks_total", &[]), 0.0, "the plugin decided, each time");
    assert_eq!(gateway.metric("sluice_plugin_calls_total", &[]), report.total() as f64, "one pick a request");
}

#[test]
fn all_traffic_moves_with_the_policy_of_the_service() {
    let origins = origins();
    let gateway = gateway(&origins, "balancer = { plugin = \"round-robin\" }");
    // Pushing a plugin that no service uses changes nothing for anybody.
    gateway.push("own", &built("second-slot"));
    assert_eq!(spread(&gateway), [true; 3]);
    gateway.set_balancer("orders", "own", json!({}));
    assert_eq!(spread(&gateway), [false, true, false]);
    let shown = gateway.service("orders")["balancer"].clone();
    assert_eq!([&shown["plugin"], &shown["source"]], ["own", "overlay"], "{shown}");
    assert_eq!(shown["overlaid"], json!({"plugin": "round-robin", "settings": {}}), "what would hold without it");
    // Another version of a plugin concerns those who use it.
    gateway.push("own", &built("first-slot"));
    assert_eq!(spread(&gateway), [true, false, false]);
    gateway.push("round-robin", &built("second-slot"));
    assert_eq!(spread(&gateway), [true, false, false]);
    gateway.control().delete("/services/orders/overlay").expect(200);
    assert_eq!(spread(&gateway), [false, true, false]);
}

#[test]
fn settings_are_the_policys_own_and_take_effect_at_once() {
    let origins = origins();
    let gateway = gateway(&origins, "balancer = { plugin = \"round-robin\" }");
    let address = origins[2].address().to_string();
    gateway.push("own", &built("hostile"));
    gateway.set_balancer("orders", "own", json!({"bad": address, "bad_percent": 100}));
    assert_eq!(spread(&gateway), [false, false, true]);
    // The same version with other settings is another policy.
    gateway.set_balancer("orders", "own", json!({"bad": address, "bad_percent": 0}));
    assert_eq!(spread(&gateway), [true, true, false]);
}

#[test]
fn everything_wrong_with_settings_is_listed_with_its_place_and_changes_nothing() {
    let origins = origins();
    let gateway = gateway(&origins, "balancer = { plugin = \"round-robin\" }");
    gateway.push("own", &built("first-slot"));
    gateway.set_balancer("orders", "own", json!({}));
    let before = gateway.service("orders");
    let patch = |body: Value| Refused::of(gateway.control().patch("/services/orders", &body).expect(422));

    let settings = json!({"choices": 0, "colour": "red", "decay": "ten seconds", "a/b": 1});
    let refused = patch(json!({"balancer": {"plugin": "peak-ewma", "settings": settings}}));
    let mut pointers = refused.pointers();
    pointers.sort();
    let place = |key: &str| format!("/balancer/settings/{key}");
    assert_eq!(pointers, [place("a~1b"), place("choices"), place("colour"), place("decay")], "{}", refused.0);
    refused.says(&["must be a whole number from 1 to", "unknown; the settings are choices", "must be a duration"]);

    let refused = patch(json!({"balancer": {"plugin": "peak-ewna", "setings": {}}, "colour": 1}));
    assert_eq!(refused.pointers(), ["/balancer/plugin", "/balancer/setings", "/colour"], "{}", refused.0);
    refused.says(&["peak-ewma"]);
    patch(json!({"balancer": {"plugin": "own", "settings": {"choices": 2}}})).says(&["this policy has no settings"]);
    patch(json!({"balancer": {"plugin": "own", "settings": []}}));
    patch(json!({"failover": {"plugin": "maglev"}})).says(&["is a balancer, not a failover"]);
    gateway.control().send(http::Method::PATCH, "/services/orders", &JSON, b"{\"balancer\": ".to_vec()).expect(400);
    gateway.control().patch("/services/order", &json!({"balancer": null})).expect(404);

    let after = gateway.service("orders");
    assert_eq!(after["balancer"], before["balancer"]);
    assert_eq!(spread(&gateway), [true, false, false]);
    assert_eq!(gateway.metric("sluice_generation", &[]), 2.0, "a refused change is no change");
    assert!(gateway.history("refused").len() >= 2, "refusals are remembered");
}

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

#[test]
fn a_version_that_one_bound_service_cannot_use_is_refused_for_all_of_them() {
    let origins = origins();
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    let gateway = sluice!().config(any_route("orders", &addresses, "") + &service("payments", &addresses, "")).start();
    gateway.push("tame", &built("tame"));
    gateway.set_balancer("orders", "tame", json!({}));
    gateway.set_balancer("payments", "tame", json!({"trap_every": 7}));
    let before = gateway.active("tame");
    // It takes no settings, so `orders` could use it.
    let refused = gateway.refused_push("tame", &built("first-slot"), 422);
    assert_eq!(refused.problems()[0]["service"], "payments", "{}", refused.0);
    assert_eq!(refused.pointers(), ["/trap_every"]);
    assert_eq!(gateway.active("tame"), before);
    assert_eq!(spread(&gateway), [true; 3]);
    let versions = gateway.plugin("tame")["versions"].as_array().map(Vec::len);
    assert_eq!(versions, Some(1), "what was refused is not kept");
}

#[test]
fn wrong_settings_in_the_file_keep_the_gateway_from_starting_and_say_where() {
    let config = "[gateway]\nworkers = 1\ndata_dir = \"data\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[control]\n\
                  address = \"127.0.0.1:0\"\n[services.orders]\nendpoints = [\"127.0.0.1:9\"]\n\
                  balancer = { plugin = \"least-request\", settings = { choices = 0, colour = 1 } }\n\
                  [[route]]\npath = \"/\"\nservice = \"orders\"\n";
    for command in ["check", "run"] {
        let ended = sluice!().config_verbatim(config).run_to_end(command);
        assert_eq!(ended.code(), Some(2), "{}", ended.stderr);
        for words in ["sluice.toml:10:", "choices", "colour", "a whole number from 1 to"] {
            assert!(ended.stderr.contains(words), "{words:?} is not in {}", ended.stderr);
        }
        assert!(!ended.stderr.contains("listening"), "nothing was bound: {}", ended.stderr);
    }
}

/// Which of the origins a, b and c get requests, over connections to both workers.
fn spread(gateway: &Sluice) -> [bool; 3] {
    let report = Load::to(gateway.address()).connections(8).run_count(120);
    report.expect_no_failures();
    let answered = report.by_instance();
    ["a", "b", "c"].map(|instance| answered.contains_key(instance))
}
