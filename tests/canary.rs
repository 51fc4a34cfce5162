//! A version on trial beside the one in use: what is worse is withdrawn by itself, within a number of requests that
//! stands here; what is as good stays.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use sluice_harness::{
    DEADLINE, Load, Origin, Report, RunningLoad, Sluice, any_route,
    control::text,
    guest::{built, rebuilt},
    sluice, wait_for, wait_until,
};

/// Of the candidate's requests, within which it is withdrawn. What the verdict itself needs stands in
/// host/src/control/canary/verdict.rs (1,500 at 3 % errors, 1,000 at doubled latency); on top of it come those of the
/// 100 ms between two looks at the counters, and of the withdrawal itself on a busy machine.
const ERRORS_REQUESTS_MAX: f64 = 2_500.0;
const LATENCY_REQUESTS_MAX: f64 = 2_000.0;

/// One trap is enough. Each worker's instance traps at its thousandth pick, so two thousand go by at most until then.
const TRAP_REQUESTS_MAX: f64 = 2_500.0;

/// A candidate that has had so many requests and is still there is as good: more than any of the above.
const GOOD_REQUESTS: f64 = 3_000.0;

const RATE_RPS: f64 = 600.0;
const CONNECTIONS: usize = 64;

/// For as many requests as are needed, on a machine that does not take as many a second.
const ENOUGH_WITHIN: Duration = DEADLINE.saturating_mul(4);

/// Origins a and b behind a plugin `own` that sends everything to a. Everything that the candidate of most tests,
/// `second-slot`, does goes to b.
struct Trial {
    origins: [Origin; 2],
    gateway: Sluice,
}

impl Trial {
    fn begin() -> Self {
        let origins = ["a", "b"].map(Origin::start);
        let addresses = [origins[0].address(), origins[1].address()];
        let route = "hash_on = { header = \"x-customer\" }\n";
        let gateway = sluice!().config(any_route("orders", &addresses, "") + route).start();
        gateway.push("own", &built("first-slot"));
        gateway.set_balancer("orders", "own", json!({}));
        Self { origins, gateway }
    }

    /// Requests of many customers, over both workers.
    fn load(&self) -> RunningLoad {
        Load::to(self.gateway.address()).rate(RATE_RPS).connections(CONNECTIONS).start()
    }

    fn calls(&self, version: &str) -> f64 {
        self.gateway.metric("sluice_plugin_calls_total", &[&format!("version=\"{version}\"")])
    }

    fn is_running(&self) -> bool {
        !self.gateway.plugin("own")["canary"].is_null()
    }

    /// Runs the canary under load until it is withdrawn; the reason, and what the load saw.
    fn until_withdrawn(&self, candidate: &[u8], percent: u8, requests_max: f64) -> (String, Report) {
        let version = self.gateway.upload("own", candidate);
        let load = self.load();
        load.await_more(50);
        self.gateway.start_canary("own", &version, percent);
        wait_for("the candidate to be withdrawn", ENOUGH_WITHIN, || {
            let calls = self.calls(&version);
            assert!(calls <= requests_max, "{calls} requests, and it is still there: {}", self.gateway.plugin("own"));
            (!self.is_running()).then_some(())
        });
        let calls = self.calls(&version);
        println!("withdrawn after {calls} of the candidate's requests, bound {requests_max}");
        assert!(calls <= requests_max, "{calls}");
        // Those that were under way, and as many that are sent after it.
        load.await_more(2 * CONNECTIONS as u64);
        assert_eq!(self.calls(&version), calls, "a withdrawn candidate decides nothing");
        // It is told once it is in force.
        let told = || self.gateway.history("canary-withdrawn").into_iter().next();
        let withdrawn = wait_for("the withdrawal to be in the history", DEADLINE, told);
        assert_eq!(withdrawn["version"], version);
        assert_ne!(self.gateway.active("own"), version);
        (text(&withdrawn["message"]), load.stop())
    }
}

#[test]
fn a_canary_with_three_percent_errors_is_withdrawn() {
    let trial = Trial::begin();
    // Beside what a busy machine adds at random, both are equally fast.
    for origin in &trial.origins {
        origin.set_delay(Duration::from_millis(10));
    }
    trial.origins[1].set_failures(30, 500);
    let (reason, report) = trial.until_withdrawn(&built("second-slot"), 30, ERRORS_REQUESTS_MAX);
    assert!(reason.contains("of its attempts failed"), "{reason}");
    // What failed is what the origin failed, and there is an end of it.
    let last = &report.samples[report.total() - 20..];
    assert!(last.iter().all(|sample| sample.result.is_ok()), "{report}");
}

#[test]
fn a_canary_of_doubled_latency_is_withdrawn() {
    let trial = Trial::begin();
    trial.origins[0].set_delay(Duration::from_millis(25));
    trial.origins[1].set_delay(Duration::from_millis(50));
    let (reason, report) = trial.until_withdrawn(&built("second-slot"), 30, LATENCY_REQUESTS_MAX);
    assert!(reason.contains("of its attempts took over"), "{reason}");
    report.expect_no_failures();
}

#[test]
fn a_canary_that_traps_once_in_a_thousand_picks_is_withdrawn_and_fails_no_request() {
    let trial = Trial::begin();
    trial.gateway.push("own", &built("tame"));
    trial.gateway.set_balancer("orders", "own", json!({"trap_every": 1_000}));
    let (reason, report) = trial.until_withdrawn(&built("hostile"), 25, TRAP_REQUESTS_MAX);
    assert!(reason.contains("failed in pick") || reason.contains("it trapped"), "{reason}");
    report.expect_no_failures();
}

#[test]
fn a_canary_that_is_as_good_stays_and_is_promoted_by_activating_it() {
    let trial = Trial::begin();
    // Both have the same share of errors and the same latency: nothing of it is the candidate's doing.
    trial.gateway.push("own", &built("tame"));
    for origin in &trial.origins {
        origin.set_delay(Duration::from_millis(5));
        origin.set_failures(20, 500);
    }
    let incumbent = trial.gateway.active("own");
    let version = trial.gateway.upload("own", &rebuilt(&built("tame"), 1));
    let load = trial.load();
    trial.gateway.start_canary("own", &version, 50);
    let mut seen = BTreeMap::new();
    wait_for("the candidate to have had enough requests", ENOUGH_WITHIN, || {
        assert!(trial.is_running(), "withdrawn: {:?}", trial.gateway.history("canary-withdrawn"));
        let calls = trial.calls(&version);
        seen.insert(calls as u64, ());
        (calls >= GOOD_REQUESTS).then_some(())
    });
    println!("still there after {} requests, looked at {} times", GOOD_REQUESTS, seen.len());
    let activated = trial.gateway.control().post("/plugins/own/activate", &json!({"version": version}));
    assert_eq!(activated.expect(200).json()["version"], version);
    assert!(!trial.is_running(), "a candidate in use is no candidate");
    assert_eq!(trial.gateway.active("own"), version);
    let (before, incumbents) = (trial.calls(&version), trial.calls(&incumbent));
    load.await_more(100);
    assert_eq!(trial.calls(&incumbent), incumbents, "the promoted version decides everything");
    assert!(trial.calls(&version) >= before + 90.0);
    load.stop();
}

#[test]
fn a_canary_is_sticky_by_hash_and_a_larger_share_takes_nobody_away() {
    const CUSTOMERS: usize = 200;
    let trial = Trial::begin();
    let version = trial.gateway.upload("own", &built("second-slot"));
    let client = trial.gateway.client();
    let on_trial = |customer: usize| {
        let name = format!("customer {customer}");
        let answer = client.send(http::Method::GET, "/", &[("x-customer", &name)], Vec::new());
        answer.expect(200).instance() == "b"
    };
    let mut before: Vec<bool> = vec![false; CUSTOMERS];
    for percent in [20, 60] {
        trial.gateway.start_canary("own", &version, percent);
        let chosen: Vec<bool> = (0..CUSTOMERS).map(on_trial).collect();
        for round in 0..3 {
            // Each on another connection, and so maybe on another worker.
            let again: Vec<bool> = (0..CUSTOMERS).map(on_trial).collect();
            assert_eq!(again, chosen, "round {round} at {percent} %");
        }
        let share = chosen.iter().filter(|&&candidate| candidate).count();
        let expected = CUSTOMERS as f64 * f64::from(percent) / 100.0;
        // Five standard deviations of a binomial: the hash is fixed, so this holds always or never.
        let deviation = 5.0 * (expected * (1.0 - f64::from(percent) / 100.0)).sqrt();
        assert!((share as f64 - expected).abs() < deviation, "{share} of {CUSTOMERS} at {percent} %");
        assert!(before.iter().zip(&chosen).all(|(before, now)| !before || *now), "who was on trial stays so");
        before = chosen;
    }
}

#[test]
fn both_versions_are_shown_side_by_side() {
    let trial = Trial::begin();
    let version = trial.gateway.upload("own", &built("second-slot"));
    trial.gateway.start_canary("own", &version, 40);
    let report = Load::to(trial.gateway.address()).rate(RATE_RPS).run_count(600);
    report.expect_no_failures();
    let picks = |arms: &Value, arm: &str| arms[arm]["picks"].as_u64().unwrap_or_default() as usize;
    let by_instance = report.by_instance();
    // Completions arrive within 10 ms.
    wait_until("all attempts to be counted", || {
        let arms = trial.gateway.plugin("own")["canary"]["services"][0].clone();
        let attempts = |arm: &str| arms[arm]["attempts"].as_u64().unwrap_or_default() as usize;
        attempts("incumbent") == by_instance["a"] && attempts("candidate") == by_instance["b"]
    });
    let plugin = trial.gateway.plugin("own");
    let canary = &plugin["canary"];
    assert_eq!((&canary["version"], &canary["percent"]), (&json!(version), &json!(40)));
    let arms = &canary["services"][0];
    assert_eq!(arms["service"], "orders");
    assert_eq!((picks(arms, "incumbent"), picks(arms, "candidate")), (by_instance["a"], by_instance["b"]));
    for arm in ["incumbent", "candidate"] {
        for key in ["error_rate", "failures", "traps", "deadline_overruns", "invalid_answers", "fallbacks"] {
            assert_eq!(arms[arm][key].as_f64(), Some(0.0), "{arm} {key}: {arms}");
        }
        assert!(arms[arm]["latency"]["p99_us"].as_f64().is_some_and(|p99_us| p99_us > 0.0), "{arms}");
    }
    assert_eq!(trial.gateway.service("orders")["canary"]["services"], canary["services"], "the service shows it too");
    let uses: Vec<_> = plugin["versions"].as_array().expect("a list").iter().map(|v| text(&v["use"])).collect();
    assert_eq!(uses, ["active", "candidate"]);
    trial.gateway.control().delete("/plugins/own/canary").expect(200);
    assert!(!trial.is_running());
}
