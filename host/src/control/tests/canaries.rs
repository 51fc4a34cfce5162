//! Candidates beside their incumbent.

use std::{cell::Cell, time::Duration};

use serde_json::json;
use sluice_harness::wait_until;

use super::{Testbed, guests};
use crate::model::VersionId;

/// Sends requests until the candidate is gone; how many it took.
fn until_withdrawn(bed: &Testbed) -> usize {
    let requests = Cell::new(0);
    let client = bed.gateway();
    wait_until("the candidate is withdrawn", || {
        for _ in 0..50 {
            client.get("/");
        }
        requests.set(requests.get() + 50);
        !bed.history("canary-withdrawn").is_empty()
    });
    assert!(bed.plugin()["canary"].is_null());
    println!("withdrawn after {} requests", requests.get());
    requests.get()
}

fn push_candidate(bed: &Testbed, component: &[u8]) -> VersionId {
    // Uploaded first and then taken back, as an operator would who has pushed too early.
    bed.push(component);
    bed.control().post("/plugins/own/rollback", &json!({})).expect(200);
    VersionId::of(component)
}

#[test]
fn a_canary_gets_its_share_and_both_versions_are_shown_side_by_side() {
    let bed = Testbed::start(&guests::first());
    let candidate = push_candidate(&bed, &guests::second());
    bed.start_canary(candidate, 30);
    let client = bed.gateway();
    let to_candidate = (0..1_000).filter(|_| client.get("/").expect(200).instance() == "b").count();
    // 300 ± 5 standard deviations of √(1000 · 0.3 · 0.7).
    assert!((228..=372).contains(&to_candidate), "{to_candidate}");
    let counted = |arm: &str| bed.plugin()["canary"]["services"][0][arm]["picks"].as_u64();
    assert_eq!(counted("candidate"), Some(to_candidate as u64));
    assert_eq!(counted("incumbent"), Some(1_000 - to_candidate as u64));
    assert_eq!(bed.service()["canary"]["percent"], 30);
    let body = json!({"version": candidate});
    bed.control().post("/plugins/own/activate", &body).expect(200);
    bed.all_go_to("b", 10);
    assert!(bed.plugin()["canary"].is_null(), "a candidate in use is no candidate");
}

#[test]
fn a_candidate_that_fails_requests_is_withdrawn() {
    let bed = Testbed::start(&guests::first());
    bed.origins[1].set_failures(200, 500);
    let candidate = push_candidate(&bed, &guests::second());
    bed.start_canary(candidate, 50);
    let requests = until_withdrawn(&bed);
    assert!(requests < 5_000, "{requests}");
    bed.all_go_to("a", 10);
}

#[test]
fn a_candidate_that_is_slower_is_withdrawn() {
    let bed = Testbed::start(&guests::first());
    bed.origins[0].set_delay(Duration::from_millis(2));
    bed.origins[1].set_delay(Duration::from_millis(8));
    let candidate = push_candidate(&bed, &guests::second());
    bed.start_canary(candidate, 50);
    let requests = until_withdrawn(&bed);
    assert!(requests < 5_000, "{requests}");
}

#[test]
fn a_candidate_that_traps_is_withdrawn_at_once_and_no_request_fails() {
    let bed = Testbed::start(&guests::first());
    let candidate = push_candidate(&bed, &guests::traps());
    bed.start_canary(candidate, 50);
    let client = bed.gateway();
    wait_until("the candidate is withdrawn", || {
        client.get("/").expect(200);
        !bed.history("canary-withdrawn").is_empty()
    });
    bed.all_go_to("a", 10);
}

#[test]
fn a_candidate_that_is_as_good_stays() {
    let bed = Testbed::start(&guests::first());
    let candidate = push_candidate(&bed, &guests::first_too());
    bed.start_canary(candidate, 50);
    let client = bed.gateway();
    for _ in 0..3_000 {
        client.get("/").expect(200);
    }
    assert_eq!(bed.plugin()["canary"]["version"], candidate.to_string());
    bed.control().delete("/plugins/own/canary").expect(200);
    assert!(bed.plugin()["canary"].is_null());
    bed.control().delete("/plugins/own/canary").expect(404);
}

#[test]
fn a_canary_that_makes_no_sense_is_refused() {
    let bed = Testbed::start(&guests::first());
    let unknown = json!({"version": "000000000000", "percent": 10});
    bed.control().post("/plugins/own/canary", &unknown).expect(404);
    let active = json!({"version": VersionId::of(&guests::first()), "percent": 10});
    bed.control().post("/plugins/own/canary", &active).expect(409);
    let candidate = push_candidate(&bed, &guests::second());
    for percent in [0, 100, 101, -1] {
        let body = json!({"version": candidate, "percent": percent});
        let refused = bed.control().post("/plugins/own/canary", &body).expect(422).json();
        assert_eq!(refused["problems"][0]["pointer"], "/percent");
    }
    let elsewhere = json!({"version": candidate, "percent": 10, "service": "payments"});
    bed.control().post("/plugins/own/canary", &elsewhere).expect(404);
}

#[test]
fn a_canary_of_the_same_plugin_ends_when_another_version_is_pushed() {
    let bed = Testbed::start(&guests::first());
    let candidate = push_candidate(&bed, &guests::second());
    bed.start_canary(candidate, 50);
    bed.push(&guests::first_too());
    assert!(bed.plugin()["canary"].is_null());
    bed.all_go_to("a", 10);
}
