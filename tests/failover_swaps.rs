//! A failover policy is swapped under load: its binary, its settings, its plugin. What it has found out of the endpoints
//! holds on, and nobody notices.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use http::Method;
use serde_json::{Value, json};
use sluice_harness::{
    Load, Origin, Refused, Sluice, SluiceBuilder, any_route,
    control::text,
    guest::{built, rebuilt, stock_failover, tame_failover},
    sluice, wait_for, wait_until,
};

const RATE_RPS: f64 = 200.0;

/// Of an endpoint's first ejection: longer than all the swaps of a test take, in a debug build too. At the least, and so many
/// times what one swap takes on this machine, and at the most.
const EJECTION_MIN: Duration = Duration::from_secs(40);
const EJECTION_SWAPS: u32 = 40;
const EJECTION_MAX: Duration = Duration::from_secs(240);
/// An ejection ends at a tick of the watch over health, each 50 ms; and what a busy machine adds.
const LATE_MAX: Duration = Duration::from_secs(5);

fn gateway(origins: &[Origin], more: &str) -> Sluice {
    let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
    sluice!().config(any_route("orders", &addresses, more)).start()
}

fn standings(gateway: &Sluice) -> Vec<String> {
    let service = gateway.service("orders");
    let endpoints = service["endpoints"].as_array().expect("a list");
    endpoints.iter().map(|endpoint| text(&endpoint["standing"])).collect()
}

#[test]
fn a_swap_of_any_kind_keeps_an_ejection_for_the_rest_of_its_time_and_fails_no_request() {
    let mut origins = ["a", "b", "c"].map(Origin::start);
    // Its verdict may be late on a busy machine, and what fails until then may be more than the default budget has.
    let gateway = gateway(&origins, "failover = { plugin = \"standard\" }\nretry = { budget = 100 }");
    let load = Load::to(gateway.address()).rate(RATE_RPS).start();
    load.await_more(200);
    let begun = Instant::now();
    gateway.push("standard", &rebuilt(&stock_failover("standard"), 0));
    let ejection = (begun.elapsed() * EJECTION_SWAPS).clamp(EJECTION_MIN, EJECTION_MAX).as_secs();
    let (base, ejection) = (format!("{ejection} s"), Duration::from_secs(ejection));
    gateway.set_failover("orders", "standard", json!({"base_ejection": base}));
    origins[1].kill();
    wait_until("the dead endpoint to be ejected", || standings(&gateway)[1] == "ejected");
    let ejected = Instant::now();
    // It is well again, and nobody knows it.
    origins[1] = Origin::start_on("b", origins[1].address());
    let same = json!({"base_ejection": base});
    let swaps: [(&str, &dyn Fn() -> Value); 8] = [
        ("another binary", &|| gateway.push("standard", &built("standard-next"))),
        ("other settings", &|| {
            gateway.set_failover("orders", "standard", json!({"base_ejection": base, "consecutive": 4}))
        }),
        ("the stock binary", &|| gateway.push("standard", &rebuilt(&stock_failover("standard"), 1))),
        ("breaker", &|| gateway.set_failover("orders", "breaker", json!({}))),
        ("hedge", &|| gateway.set_failover("orders", "hedge", same.clone())),
        ("another build of hedge", &|| gateway.push("hedge", &rebuilt(&stock_failover("hedge"), 2))),
        ("breaker again", &|| gateway.set_failover("orders", "breaker", json!({"min_penalty": "100 ms"}))),
        ("standard again", &|| gateway.set_failover("orders", "standard", same.clone())),
    ];
    for (what, swap) in swaps {
        let answer = swap();
        let restores = answer["restores"].as_array().expect("a list");
        let problems: Vec<_> = restores.iter().filter(|restore| !restore["problem"].is_null()).collect();
        load.await_more(50);
        println!("{what}, {:?} after the ejection: {} states handed over", ejected.elapsed(), restores.len());
        assert!(restores.iter().any(|restore| restore["worker"].is_null()), "what is known of endpoints: {answer}");
        assert!(problems.iter().all(|problem| !problem["worker"].is_null()), "{problems:?}");
        assert!(ejected.elapsed() < ejection - LATE_MAX, "too slow a machine for this test");
        assert_eq!(standings(&gateway), ["admitted", "ejected", "admitted"], "after {what}");
        assert_eq!(origins[1].requests(), 0, "after {what}");
    }
    wait_for("the endpoint to be back", ejection + LATE_MAX, || {
        let back = standings(&gateway)[1] == "admitted";
        (back || origins[1].requests() > 0).then_some(())
    });
    let out = ejected.elapsed();
    println!("back {out:?} after the ejection");
    // What the ejection was seen later than it was.
    assert!(out >= ejection - LATE_MAX && out <= ejection + LATE_MAX, "{out:?}");
    wait_until("the endpoint to get its share", || origins[1].requests() > 20);
    let report = load.stop();
    println!("{report}");
    report.expect_no_failures();
}

#[test]
fn a_hundred_swaps_of_a_failover_policy_under_load_fail_no_request_and_leave_nothing_behind() {
    const SWAPS: u32 = 100;
    let origins = ["a", "b", "c"].map(Origin::start);
    let policy = "failover = { plugin = \"standard\", settings = { consecutive = 0, success_rate_stdevs = 0 } }";
    let gateway = gateway(&origins, policy);
    // So that every version has something to decide.
    origins[2].set_failures(100, 503);
    let load = Load::to(gateway.address()).rate(RATE_RPS).start();
    load.await_more(100);
    let versions = [built("standard-next"), stock_failover("standard")];
    let mut pushed = BTreeSet::new();
    for n in 0..SWAPS {
        let answer = gateway.push("standard", &rebuilt(&versions[n as usize % 2], n));
        assert_eq!(answer["workers"].as_array().map(Vec::len), Some(2), "{answer}");
        pushed.insert(text(&answer["version"]));
        load.await_more(12);
    }
    let report = load.stop();
    println!("{report}");
    report.expect_no_failures();
    assert_eq!(pushed.len(), SWAPS as usize);
    let retries = gateway.failover_events("orders", "retries");
    println!("{retries} attempts were repeated meanwhile");
    assert!(retries > 0.0, "nobody had anything to decide");
    assert_eq!(gateway.metric("sluice_plugin_traps_total", &["plugin=\"standard\""]), 0.0);
    // One a worker, the inner one too, and the one that judges over health.
    wait_until("four live instances", || {
        gateway.metric("sluice_plugin_live_instances", &["plugin=\"standard\""]) == 4.0
    });
    let versions = gateway.plugin("standard")["versions"].as_array().cloned().unwrap_or_default();
    let live: Vec<_> = versions.iter().filter(|version| version["live_instances"] != 0).collect();
    assert_eq!(live.len(), 1, "only the version in use has instances: {live:?}");
}

/// Two origins of which one is gone, and the plugin `none` in a tame version that takes the settings of a hostile one.
struct Trial {
    origins: [Origin; 2],
    gateway: Sluice,
    incumbent: String,
}

impl Trial {
    fn begin(settings: Value) -> Self {
        let mut origins = ["a", "b"].map(Origin::start);
        let policy = "failover = { plugin = \"none\" }\nretry = { budget = 100, budget_min = 100 }\n";
        let addresses = [origins[0].address(), origins[1].address()];
        let route = "hash_on = { header = \"x-customer\" }\n";
        let gateway = sluice!().config(any_route("orders", &addresses, policy) + route).start();
        let incumbent = text(&gateway.push("none", &tame_failover())["version"]);
        gateway.set_failover("orders", "none", settings);
        origins[1].kill();
        Self { origins, gateway, incumbent }
    }

    fn decisions(&self, version: &str) -> f64 {
        self.gateway.metric("sluice_plugin_decisions_total", &[&format!("version=\"{version}\"")])
    }
}

#[test]
fn a_candidate_decides_its_share_of_the_failed_attempts_by_hash() {
    const PERCENT: u8 = 30;
    const CUSTOMERS: usize = 200;
    let trial = Trial::begin(json!({"decide": "retries-at-once"}));
    let candidate = trial.gateway.upload("none", &built("failover-hostile"));
    trial.gateway.start_canary("none", &candidate, PERCENT);
    let client = trial.gateway.client();
    let mut on_trial = 0;
    for customer in 0..CUSTOMERS {
        let name = format!("customer {customer}");
        let (incumbents, candidates) = (trial.decisions(&trial.incumbent), trial.decisions(&candidate));
        // Until an attempt at the dead endpoint was to be decided on, thrice.
        for _ in 0..3 {
            wait_until("a failed attempt", || {
                let before = trial.decisions(&trial.incumbent) + trial.decisions(&candidate);
                let answer = client.send(Method::GET, "/", &[("x-customer", &name)], Vec::new());
                assert_eq!(answer.expect(200).instance(), "a");
                trial.decisions(&trial.incumbent) + trial.decisions(&candidate) > before
            });
        }
        let incumbents = trial.decisions(&trial.incumbent) - incumbents;
        let candidates = trial.decisions(&candidate) - candidates;
        assert!(incumbents == 0.0 || candidates == 0.0, "{name} has both: {incumbents} and {candidates}");
        on_trial += usize::from(candidates > 0.0);
    }
    let expected = CUSTOMERS as f64 * f64::from(PERCENT) / 100.0;
    // Five standard deviations of a binomial: the hash is fixed, so this holds always or never.
    let deviation = 5.0 * (expected * (1.0 - f64::from(PERCENT) / 100.0)).sqrt();
    println!("{on_trial} of {CUSTOMERS} customers are on trial, {expected} expected");
    assert!((on_trial as f64 - expected).abs() < deviation, "{on_trial}");
    assert!(trial.origins[0].requests() >= 3 * CUSTOMERS as u64);
}

#[test]
fn a_candidates_verdicts_are_shown_where_they_differ_and_nothing_of_them_is_in_force() {
    let trial = Trial::begin(json!({"observe": "ejects-all", "decide": "retries-at-once"}));
    let load = Load::to(trial.gateway.address()).rate(RATE_RPS).start();
    let candidate = trial.gateway.upload("none", &built("failover-hostile"));
    trial.gateway.start_canary("none", &candidate, 50);
    wait_until("both endpoints to be judged otherwise", || {
        let differences = differences(&trial.gateway);
        let endpoints: BTreeSet<_> = differences.iter().map(|entry| text(&entry["endpoint"])).collect();
        endpoints.len() == 2
    });
    for difference in differences(&trial.gateway) {
        assert_eq!(difference["what"], "would-eject", "{difference}");
        assert_eq!(difference["reason"], "as the settings say", "{difference}");
    }
    println!("{:?}", differences(&trial.gateway));
    load.await_more(300);
    assert_eq!(standings(&trial.gateway), ["admitted", "admitted"]);
    assert!(trial.gateway.health_history("orders").is_empty(), "nothing became of anybody");
    assert_eq!(trial.gateway.metric("sluice_endpoint_ejections_total", &[]), 0.0);
    let report = trial.gateway.service("orders");
    assert_eq!(report["failover"]["canary"]["version"], candidate);
    assert_eq!(report["failover"]["version"], trial.incumbent);
    // Activated, it decides, and the host's bounds hold.
    trial.gateway.control().post("/plugins/none/activate", &json!({"version": candidate})).expect(200);
    wait_until("one to be ejected", || standings(&trial.gateway).contains(&"ejected".to_owned()));
    assert!(differences(&trial.gateway).is_empty(), "there is no candidate any more");
    load.stop();
}

#[test]
fn a_candidate_that_traps_in_the_shadow_is_withdrawn_and_nobody_notices() {
    let trial = Trial::begin(json!({"trap_in": "observe", "decide": "retries-at-once"}));
    let load = Load::to(trial.gateway.address()).rate(RATE_RPS).start();
    let candidate = trial.gateway.upload("none", &built("failover-hostile"));
    trial.gateway.start_canary("none", &candidate, 50);
    trial.gateway.await_history("canary-withdrawn", &[&candidate, "failed in observe"]);
    wait_until("no candidate to be there", || trial.gateway.plugin("none")["canary"].is_null());
    assert_eq!(trial.gateway.active("none"), trial.incumbent);
    trial.gateway.await_live_instances("orders");
    load.await_more(50);
    load.stop().expect_no_failures();
}

fn differences(gateway: &Sluice) -> Vec<Value> {
    gateway.service("orders")["failover"]["differences"].as_array().cloned().unwrap_or_default()
}

/// A gateway whose folder outlives it.
struct Home {
    folder: tempfile::TempDir,
    origin: Origin,
}

impl Home {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), origin: Origin::start("a") }
    }

    fn builder(&self) -> SluiceBuilder {
        let policy = "failover = { plugin = \"standard\", settings = { consecutive = 9 } }";
        sluice!().directory(self.folder.path()).config(any_route("orders", &[self.origin.address()], policy))
    }
}

/// The failover policy that holds: its plugin, its settings, and where it comes from.
fn policy(gateway: &Sluice) -> (String, Value, String) {
    let failover = gateway.service("orders")["failover"].clone();
    (text(&failover["plugin"]), failover["settings"].clone(), text(&failover["source"]))
}

#[test]
fn wrong_settings_are_refused_with_their_places_and_change_nothing() {
    let home = Home::new();
    let gateway = home.builder().start();
    let before = gateway.service("orders")["failover"].clone();
    let cases = [
        (json!({"plugin": "standard", "settings": {"consecutive": -1}}), vec!["/failover/settings/consecutive"]),
        (
            json!({"plugin": "standard", "settings": {"base_ejection": "soon", "unheard_of": 1}}),
            vec!["/failover/settings/base_ejection", "/failover/settings/unheard_of"],
        ),
        (json!({"plugin": "breaker", "settings": {"min_penalty": "2 min"}}), vec!["/failover/settings/max_penalty"]),
        (json!({"plugin": "hedge", "settings": {"quantile": 2}}), vec!["/failover/settings/quantile"]),
    ];
    for (failover, pointers) in cases {
        let answer = gateway.control().patch("/services/orders", &json!({"failover": failover}));
        let refused = Refused::of(answer.expect(422));
        let mut said = refused.pointers();
        said.sort_unstable();
        assert_eq!(said, pointers, "{}", refused.0);
    }
    // A balancer is no failover policy, and what is not there is none either.
    for plugin in ["round-robin", "unheard-of"] {
        let answer = gateway.control().patch("/services/orders", &json!({"failover": {"plugin": plugin}}));
        let refused = Refused::of(answer.expect(422));
        assert!(refused.words().contains(plugin), "{}", refused.0);
    }
    assert_eq!(gateway.service("orders")["failover"], before);
}

#[test]
fn a_policy_given_over_the_api_survives_a_restart_and_goes_with_the_overlay() {
    let home = Home::new();
    let mut gateway = home.builder().start();
    let of_file = ("standard".to_owned(), json!({"consecutive": 9}), "file".to_owned());
    assert_eq!(policy(&gateway), of_file);
    gateway.set_failover("orders", "breaker", json!({"consecutive": 3}));
    let overlay = ("breaker".to_owned(), json!({"consecutive": 3}), "overlay".to_owned());
    assert_eq!(policy(&gateway), overlay);
    let overlaid = json!({"plugin": "standard", "settings": {"consecutive": 9}});
    assert_eq!(gateway.service("orders")["failover"]["overlaid"], overlaid);
    gateway.push("breaker", &rebuilt(&stock_failover("breaker"), 3));
    let version = gateway.active("breaker");
    gateway.kill();
    drop(gateway);
    let gateway = home.builder().start();
    assert_eq!(policy(&gateway), overlay);
    assert_eq!(gateway.active("breaker"), version);
    gateway.control().delete("/services/orders/overlay").expect(200);
    assert_eq!(policy(&gateway), of_file);
    gateway.client().get("/").expect(200);
}
