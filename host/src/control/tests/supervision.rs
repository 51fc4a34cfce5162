//! Instances that fail are replaced, versions that keep failing are taken back, and no request notices.

use std::cell::Cell;

use serde_json::Value;
use sluice_harness::wait_until;

use super::{Testbed, guests};
use crate::model::VersionId;

#[test]
fn an_instance_that_trapped_comes_back() {
    let bed = Testbed::start(&guests::traps_at_twenty());
    for _ in 0..60 {
        bed.gateway().get("/").expect(200);
    }
    // Counted where it happens, and noted once the supervisor has heard of it.
    wait_until("each trap is in the history", || {
        let noted = bed.history("fault").len();
        noted > 0 && bed.service()["plugin"]["traps"] == noted
    });
    wait_until("another instance took its place", || !bed.history("restarted").is_empty());
    wait_until("every instance lives", || {
        let service = bed.service();
        service["instances"].as_array().is_some_and(|all| all.iter().all(|one| one["state"] == "live"))
    });
}

#[test]
fn a_version_that_keeps_trapping_is_rolled_back_by_itself() {
    let bed = Testbed::start(&guests::first());
    bed.push(&guests::traps());
    let requests = Cell::new(0);
    wait_until("it was rolled back", || {
        bed.gateway().get("/").expect(200);
        requests.set(requests.get() + 1);
        bed.plugin()["active"] == VersionId::of(&guests::first()).to_string()
    });
    println!("{} requests, none failed", requests.get());
    bed.all_go_to("a", 10);
    // What is in use is shown before it is noted why.
    wait_until("it is in the history", || !bed.history("rolled-back").is_empty());
    let rolled_back = bed.history("rolled-back").remove(0);
    assert!(rolled_back["message"].as_str().is_some_and(|message| message.contains("failed 5 times")), "{rolled_back}");
}

#[test]
fn a_version_of_nonsense_is_rolled_back_by_itself() {
    let bed = Testbed::start(&guests::second());
    bed.push(&guests::nonsense());
    wait_until("it was rolled back", || {
        (0..50).for_each(|_| drop(bed.gateway().get("/").expect(200)));
        bed.plugin()["active"] == VersionId::of(&guests::second()).to_string()
    });
    bed.all_go_to("b", 10);
}

#[test]
fn a_version_without_predecessor_stays_on_the_fallback_and_says_so() {
    let bed = Testbed::start(&guests::traps());
    wait_until("it has failed on both workers", || {
        bed.gateway().get("/").expect(200);
        let faulted =
            |one: &Value| one["state"] == "fallback" && one["fault"].as_str().is_some_and(|f| f.contains("pick"));
        bed.balancers().iter().all(faulted)
    });
    assert!(bed.history("rolled-back").is_empty());
}
