//! Swaps, policies and reloads: whole or not at all.

use serde_json::json;
use sluice_harness::wait_until;

use super::{Testbed, guests};
use crate::model::VersionId;

#[test]
fn after_the_answer_to_a_push_every_request_is_decided_by_the_new_version() {
    let bed = Testbed::start(&guests::first());
    bed.all_go_to("a", 10);
    let applied = bed.push(&guests::second());
    assert_eq!(applied["version"], VersionId::of(&guests::second()).to_string());
    assert_eq!(applied["workers"].as_array().map(Vec::len), Some(2), "{applied}");
    bed.all_go_to("b", 20);
    let applied = bed.push(&guests::second());
    assert_eq!(applied["changed"], false, "it was in use already");
}

#[test]
fn a_rollback_goes_back_to_the_file_and_there_is_nothing_before_it() {
    let bed = Testbed::start(&guests::first());
    bed.push(&guests::second());
    let applied = bed.control().post("/plugins/own/rollback", &json!({})).expect(200).json();
    assert_eq!(applied["version"], VersionId::of(&guests::first()).to_string());
    bed.all_go_to("a", 10);
    assert_eq!(bed.plugin()["source"], "file");
    bed.control().post("/plugins/own/rollback", &json!({})).expect(409);
}

#[test]
fn a_version_that_one_service_refuses_is_refused_for_all() {
    let mut bed = Testbed::prepare(&guests::first());
    let address = bed.origins[0].address();
    let second = format!(
        "[services.payments]\nendpoints = [\"{address}\"]\nbalancer = {{ plugin = \"own\", settings = {{ choices = 2 }} }}"
    );
    bed.write_config(&bed.config(&second));
    bed.run().expect("the gateway starts");
    let refused = bed.control().put_component("/plugins/own", &guests::choosy()).expect(422).json();
    let problems = json!([{"pointer": "/choices", "message": "there is no such ke", "service": "payments"}]);
    assert_eq!(refused["problems"], problems);
    bed.all_go_to("a", 10);
    assert_eq!(bed.plugin()["active"], VersionId::of(&guests::first()).to_string());
    let id = VersionId::of(&guests::choosy()).to_string();
    let kept = super::files_in(&bed.path("data/plugins/own"));
    assert!(!kept.iter().any(|file| file.contains(&id)), "a refused version leaves nothing behind: {kept:?}");
    assert_eq!(bed.history("refused").len(), 1);
}

#[test]
fn what_an_instance_learned_its_successor_knows_on_each_worker() {
    let bed = Testbed::start(&guests::learner(""));
    // Completions arrive in batches, on the worker that served the request.
    wait_until("both workers have learned", || (0..8).all(|_| bed.gateway().get("/").instance() == "b"));
    let applied = bed.push(&guests::learner("(func)"));
    let restores = applied["restores"].as_array().expect("a list");
    assert_eq!(restores.len(), 3, "one of each worker, the inner one too: {applied}");
    assert!(restores.iter().all(|restore| restore["problem"].is_null() && restore["bytes"] == 1), "{applied}");
    bed.all_go_to("b", 20);
}

#[test]
fn a_state_that_is_not_taken_over_is_reported_and_fails_nothing() {
    let bed = Testbed::start(&guests::learner(""));
    let applied = bed.push(&guests::forgetful());
    let restores = applied["restores"].as_array().expect("a list");
    assert!(restores.iter().all(|restore| restore["problem"].as_str().is_some_and(|why| why.contains("restore"))));
    bed.all_go_to("a", 10);
    assert!(bed.service()["instances"].as_array().is_some_and(|all| all.iter().all(|one| one["state"] == "live")));
}

#[test]
fn a_policy_set_over_the_api_wins_until_it_is_removed() {
    let bed = Testbed::start(&guests::first());
    bed.control().put_component("/plugins/other", &guests::second()).expect(200);
    let policy = json!({"balancer": {"plugin": "other", "settings": {"depth": 1}}});
    bed.control().patch("/services/orders", &policy).expect(200);
    bed.all_go_to("b", 10);
    let balancer = bed.service()["balancer"].clone();
    assert_eq!((&balancer["source"], &balancer["plugin"]), (&json!("overlay"), &json!("other")));
    assert_eq!(balancer["overlaid"]["plugin"], "own");
    bed.control().delete("/services/orders/overlay").expect(200);
    bed.all_go_to("a", 10);
    assert_eq!(bed.service()["balancer"]["source"], "file");
}

#[test]
fn everything_wrong_with_a_policy_is_told_with_its_place() {
    let bed = Testbed::start(&guests::choosy());
    let refused = bed.control().patch("/services/orders", &json!({"balancer": {"plugin": "owm"}, "failover": {}}));
    let refused = refused.expect(422).json();
    let pointers: Vec<_> =
        refused["problems"].as_array().expect("a list").iter().map(|p| p["pointer"].clone()).collect();
    assert_eq!(pointers, ["/balancer/plugin", "/failover"], "{refused}");
    let settings = json!({"balancer": {"plugin": "own", "settings": {"choices": 1}}});
    let refused = bed.control().patch("/services/orders", &settings).expect(422).json();
    assert_eq!(refused["problems"][0]["pointer"], "/balancer/settings/choices", "{refused}");
    bed.control().patch("/services/nothing", &json!({"balancer": {"plugin": "own"}})).expect(404);
    bed.control().patch("/services/orders", &json!({})).expect(422);
    bed.all_go_to("b", 10);
}

#[test]
fn a_reload_is_one_change_and_a_wrong_file_changes_nothing() {
    let bed = Testbed::start(&guests::first());
    let generation = || bed.control().post("/reload", &json!({})).expect(200).json()["generation"].clone();
    assert_eq!(generation(), 1, "the file is as it was");
    let only_b = format!("endpoints = [\"{}\"]", bed.origins[1].address());
    let text = bed.config("") + "strip_prefix = false\n";
    bed.write_config(&text);
    let endpoints = text.lines().find(|line| line.contains("endpoints")).expect("the line").trim().to_owned();
    bed.write_config(&text.replace(&endpoints, &only_b));
    assert_eq!(generation(), 2);
    // The endpoint has kept its slot, so the policy's first slot is empty, and the fallback decides.
    bed.all_go_to("b", 10);
    assert_eq!(bed.service()["endpoints"][0]["slot"], 1);
    bed.write_config(&text.replace("strip_prefix", "strip_perfix"));
    let refused = bed.control().post("/reload", &json!({})).expect(422).json();
    let message = refused["problems"][0]["message"].as_str().expect("a message");
    assert!(message.contains("sluice.toml:") && message.contains("strip_perfix"), "{message}");
    bed.write_config(&text.replace("workers = 2", "workers = 3"));
    let refused = bed.control().post("/reload", &json!({})).expect(422).json();
    assert!(refused["problems"][0]["message"].as_str().is_some_and(|why| why.contains("restart")), "{refused}");
    bed.all_go_to("b", 10);
}

#[test]
fn a_reload_brings_another_file_of_a_plugin() {
    let bed = Testbed::start(&guests::first());
    std::fs::write(bed.path("own.wasm"), guests::second()).expect("a writable folder");
    bed.control().post("/reload", &json!({})).expect(200);
    bed.all_go_to("b", 10);
    assert_eq!(bed.plugin()["source"], "file");
}

#[test]
fn swaps_leave_no_instances_behind() {
    let bed = Testbed::start(&guests::first());
    for n in 0..6 {
        bed.push(&if n % 2 == 0 { guests::second() } else { guests::first_too() });
        bed.all_go_to(if n % 2 == 0 { "b" } else { "a" }, 4);
    }
    wait_until("one instance a worker is left, the inner one too", || {
        let gauges = bed.running().control.gauges();
        let own = gauges.plugins.iter().filter(|plugin| plugin.plugin.as_str() == "own");
        own.map(|plugin| plugin.live_instances).sum::<usize>() == 3
    });
    let metrics = bed.control().get("/metrics").expect(200).text();
    assert!(metrics.contains("sluice_plugin_live_instances"), "{metrics}");
}

#[test]
fn forgetting_a_plugin_follows_the_file_again() {
    let bed = Testbed::start(&guests::first());
    bed.control().delete("/plugins/own").expect(404);
    bed.push(&guests::second());
    bed.control().delete("/plugins/own").expect(200);
    bed.all_go_to("a", 10);
    assert!(super::files_in(&bed.path("data/plugins/own")).is_empty());
    // A plugin that nothing else brings must not be in use.
    bed.control().put_component("/plugins/other", &guests::second()).expect(200);
    bed.control().patch("/services/orders", &json!({"balancer": {"plugin": "other"}})).expect(200);
    let refused = bed.control().delete("/plugins/other").expect(422).json();
    assert_eq!(refused["problems"][0]["service"], "orders", "{refused}");
    bed.control().delete("/services/orders/overlay").expect(200);
    bed.control().delete("/plugins/other").expect(200);
    bed.control().get("/plugins/other").expect(404);
}
