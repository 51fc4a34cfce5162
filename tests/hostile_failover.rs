//! Failover policies that misbehave: refused with clear words, replaced by the gateway's own choice while they serve, and
//! held within the host's bounds whatever they want. No request fails for it.

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};
use sluice_harness::{
    DEADLINE, Failure, Load, Origin, Report, RunningLoad, Sluice, any_route,
    control::text,
    guest::{built, rebuilt, tame_failover},
    service, sluice, wait_until,
};

/// What the hostile ones are versions of.
const OWN: &str = "none";

/// Of four endpoints, so many percent may be out at once: two.
const EJECTED_PERCENT_MAX: u8 = 50;
const EJECTED_MAX: usize = 2;
/// `ejection.max_duration`.
const EJECTION_MAX: Duration = Duration::from_secs(1);
/// An ejection ends at a tick of the watch over health, each 50 ms; and what a busy machine adds.
const EJECTION_SLACK: Duration = Duration::from_secs(5);

const RATE_RPS: f64 = 150.0;

/// `orders` with four origins and the policy [`OWN`], of which a tame version is in use.
struct Bed {
    origins: Vec<Origin>,
    gateway: Sluice,
    load: RunningLoad,
}

impl Bed {
    /// With a budget that allows each request to be repeated.
    fn begin() -> Self {
        Self::with_budget(100)
    }

    fn with_budget(percent: u8) -> Self {
        let origins: Vec<_> = ["a", "b", "c", "d"].into_iter().map(Origin::start).collect();
        let addresses: Vec<_> = origins.iter().map(Origin::address).collect();
        let more = format!(
            "failover = {{ plugin = \"none\" }}\nretry = {{ budget = {percent}, budget_min = 0 }}\n\
             ejection = {{ max_percent = {EJECTED_PERCENT_MAX}, max_duration = \"{} ms\" }}",
            EJECTION_MAX.as_millis()
        );
        let config = any_route("orders", &addresses, &more)
            + &service("backup", &addresses[..1], "")
            + "[plugins.none]\nmemory_max = \"2 MiB\"\n";
        let gateway = sluice!().config(config).start();
        gateway.push(OWN, &tame_failover());
        let load = Load::to(gateway.address()).rate(RATE_RPS).start();
        load.await_more(50);
        Self { origins, gateway, load }
    }

    /// One of four does not listen any more.
    fn lose_one(&mut self) {
        self.origins[3].kill();
    }

    fn end(self) -> Sluice {
        let report = self.load.stop();
        println!("{report}");
        report.expect_no_failures();
        let faults = self.gateway.history("fault");
        assert!(faults.iter().all(|fault| fault["service"] == "orders"), "{faults:?}");
        self.gateway
    }

    fn counted(&self, metric: &str, version: &str) -> f64 {
        self.gateway.metric(metric, &["service=\"orders\"", &format!("version=\"{version}\"")])
    }

    /// The addresses of those that get no ordinary traffic.
    fn out(&self) -> Vec<String> {
        let service = self.gateway.service("orders");
        let endpoints = service["endpoints"].as_array().expect("a list");
        assert_eq!(endpoints.len(), 4, "{service}");
        let out = endpoints.iter().filter(|endpoint| endpoint["standing"] != "admitted");
        out.map(|endpoint| text(&endpoint["address"])).collect()
    }

    /// What the hostile guest is told to do, without anything to go back to.
    fn misbehave(&self, settings: Value) {
        self.gateway.set_failover("orders", "hostile", settings);
    }
}

#[test]
fn what_fails_while_it_is_prepared_is_refused_with_the_call_and_the_reason() {
    let bed = Bed::begin();
    let before = bed.gateway.active(OWN);
    for (call, cpu) in [("configure", "1s"), ("update", "100ms")] {
        for (misdeed, words) in [
            ("trap_in", "trapped".to_owned()),
            ("spin_in", format!("took more than {cpu} of CPU time")),
            ("allocate_in", "2 MiB".to_owned()),
        ] {
            bed.gateway.set_failover("orders", OWN, json!({misdeed: call}));
            let refused = bed.gateway.refused_push(OWN, &built("failover-hostile"), 422);
            assert_eq!(refused.problems()[0]["service"], "orders", "{}", refused.0);
            refused.says(&[&format!("failed in {call}: "), &words]);
            assert_eq!(bed.gateway.active(OWN), before);
        }
    }
    bed.end();
}

#[test]
fn what_fails_in_service_is_replaced_by_the_host_shown_and_rolled_back_by_itself() {
    const TRAPS: &str = "sluice_plugin_traps_total";
    const OVERRUNS: &str = "sluice_plugin_deadline_overruns_total";
    const MEMORY: &str = "sluice_plugin_memory_overruns_total";
    let mut bed = Bed::begin();
    bed.lose_one();
    let mut build = 0;
    for call in ["decide", "complete", "observe"] {
        for (misdeed, metric, words) in
            [("trap_in", TRAPS, "trapped"), ("spin_in", OVERRUNS, "took more than"), ("allocate_in", MEMORY, "")]
        {
            bed.gateway.set_failover("orders", OWN, json!({misdeed: call, "decide": "retries-at-once"}));
            let good = bed.gateway.active(OWN);
            build += 1;
            let bad = text(&bed.gateway.push(OWN, &rebuilt(&built("failover-hostile"), build))["version"]);
            wait_until("the version to be rolled back", || bed.gateway.active(OWN) == good);
            let traps = bed.counted(metric, &bad);
            println!("{misdeed} {call}: {metric} {traps}");
            // Memory that cannot be had is the guest's own trap, or the host's refusal.
            assert!(traps + if metric == MEMORY { bed.counted(TRAPS, &bad) } else { 0.0 } >= 5.0, "{misdeed} {call}");
            let rolled_back = bed.gateway.await_history("rolled-back", &[&bad, &good]);
            assert!(rolled_back.contains("failed 5 times within"), "{rolled_back}");
            let place = if call == "observe" { "the watch over health" } else { "worker " };
            let fault = format!("failed in {call}: {words}");
            bed.gateway.await_history("fault", &["service orders, ", place, &bad, &fault]);
            bed.gateway.await_history("restarted", &[&bad, place]);
            bed.gateway.await_live_instances("orders");
            bed.load.await_more(20);
        }
    }
    bed.end();
}

#[test]
fn what_fails_when_state_is_handed_over_costs_the_state_and_nothing_else() {
    let bed = Bed::begin();
    for (n, misdeed) in (0..).zip(["trap_in", "spin_in", "allocate_in"]) {
        bed.gateway.set_failover("orders", OWN, json!({misdeed: "restore"}));
        let answer = bed.gateway.push(OWN, &rebuilt(&built("failover-hostile"), n));
        let restores = answer["restores"].as_array().expect("a list");
        assert_eq!(restores.len(), 4, "of both workers, the inner one and the watch over health: {answer}");
        for restore in restores {
            assert!(text(&restore["problem"]).contains("failed in restore"), "{answer}");
        }
        bed.gateway.await_live_instances("orders");
        bed.gateway.push(OWN, &tame_failover());
        bed.gateway.set_failover("orders", OWN, json!({misdeed: "save"}));
        bed.gateway.push(OWN, &rebuilt(&built("failover-hostile"), n));
        let answer = bed.gateway.push(OWN, &tame_failover());
        assert_eq!(answer["restores"], json!([]), "there was no state to hand over");
        bed.gateway.await_history("fault", &["failed in save"]);
        bed.gateway.await_live_instances("orders");
    }
    for state in ["huge", "noise"] {
        bed.gateway.set_failover("orders", OWN, json!({"state": state}));
        bed.gateway.push(OWN, &built("failover-hostile"));
        bed.gateway.push(OWN, &tame_failover());
        bed.gateway.await_live_instances("orders");
    }
    bed.end();
}

#[test]
fn a_policy_without_predecessor_comes_back_ever_more_slowly_and_the_host_decides() {
    let mut bed = Bed::begin();
    let version = text(&bed.gateway.push("hostile", &built("failover-hostile"))["version"]);
    bed.lose_one();
    for call in ["decide", "observe"] {
        bed.misbehave(json!({"trap_in": call, "decide": "retries-at-once"}));
        let decides = if call == "observe" { "health" } else { "failover" };
        wait_until("an instance to have failed five times", || {
            let instances = bed.gateway.service("orders")["instances"].as_array().cloned().unwrap_or_default();
            let gone = instances.iter().filter(|instance| instance["state"] == "fallback");
            let mut five = false;
            for instance in gone {
                assert_eq!(instance["decides"], decides, "nothing else is gone: {instance}");
                assert_eq!(instance["worker"].is_null(), decides == "health", "{instance}");
                assert!(text(&instance["fault"]).starts_with(&format!("{call}: trapped")), "{instance}");
                let faults = instance["faults"].as_u64().expect("a number");
                let restart_in_ms = instance["restart_in_ms"].as_u64().expect("a number");
                assert!(restart_in_ms <= 100 << (faults - 1).min(16), "{instance}");
                five |= faults >= 5;
            }
            five
        });
        if call == "decide" {
            assert!(bed.counted("sluice_plugin_fallbacks_total", &version) > 0.0, "meanwhile the host decides");
        }
    }
    assert!(bed.gateway.history("rolled-back").is_empty(), "there is nothing to go back to");
    // Other settings are another instance, which owes nothing.
    bed.misbehave(json!({"decide": "retries-at-once"}));
    bed.gateway.await_live_instances("orders");
    bed.end();
}

#[test]
fn whatever_is_ejected_the_bounds_hold_and_no_request_fails() {
    for lost in [false, true] {
        // How often an endpoint was taken out is remembered over policies.
        let mut bed = Bed::begin();
        bed.gateway.push("hostile", &built("failover-hostile"));
        if lost {
            bed.lose_one();
        }
        for (deed, overruled) in [
            ("ejects-all", true),
            ("ejects-all-for-ever", true),
            ("ejects-all-for-nothing", true),
            ("never-admits", true),
            ("probes-all", true),
            ("unknown-slots", false),
            ("floods", true),
            ("flaps", true),
        ] {
            // What the one before has done is over.
            bed.misbehave(json!({"decide": "retries-at-once"}));
            wait_until("all to be back", || bed.out().is_empty());
            let before = bed.gateway.failover_events("orders", "overruled");
            bed.misbehave(json!({"observe": deed, "decide": "retries-at-once"}));
            let (mut most, mut samples, mut after) = (0, 0, before);
            // A duration that no ejection may have makes none.
            let takes_out = matches!(deed, "ejects-all" | "never-admits" | "probes-all" | "floods");
            let begun = Instant::now();
            loop {
                let out = bed.out();
                assert!(out.len() <= EJECTED_MAX, "{deed}: {out:?} are out at once");
                most = most.max(out.len());
                samples += 1;
                bed.load.await_more(5);
                after = bed.gateway.failover_events("orders", "overruled").max(after);
                // What it does it may do late.
                let is_owed = overruled && after == before || takes_out && most < EJECTED_MAX;
                let time = if is_owed { DEADLINE } else { 3 * EJECTION_MAX };
                if begun.elapsed() >= time {
                    break;
                }
            }
            println!("{deed}: at most {most} of 4 out in {samples} looks, overruled {}", after - before);
            assert_eq!(after > before, overruled, "{deed}");
            assert!(!takes_out || most == EJECTED_MAX, "{deed} did nothing");
            assert!(takes_out || deed == "flaps" || most == 0, "{deed} took somebody out");
        }
        // Nothing of it is left when another policy decides.
        bed.misbehave(json!({"decide": "retries-at-once"}));
        wait_until("all to be back", || bed.out().is_empty());
        bed.end();
    }
}

#[test]
fn an_ejection_ends_by_itself_however_long_it_was_meant_to_be() {
    let bed = Bed::begin();
    bed.gateway.push("hostile", &built("failover-hostile"));
    for deed in ["ejects-all", "never-admits", "probes-all"] {
        bed.misbehave(json!({"observe": deed}));
        wait_until("those that are out to be let back", || {
            let history = bed.gateway.health_history("orders");
            history.iter().filter(|entry| entry["what"] == "readmitted").count() >= 4
        });
        // And after the policy that never would has gone.
        bed.misbehave(json!({}));
        wait_until("all to be back", || bed.out().is_empty());
    }
    let longest = longest_time_out(&bed.gateway.health_history("orders"));
    println!("the longest time out of traffic: {longest:?}, bound {EJECTION_MAX:?}");
    assert!(longest <= EJECTION_MAX + EJECTION_SLACK, "{longest:?}");
    let gateway = bed.end();
    let ejections = gateway.metric("sluice_endpoint_ejections_total", &["service=\"orders\""]);
    assert!(ejections >= 4.0, "{ejections}");
}

#[test]
fn ejections_end_in_time_should_their_policy_fall_silent() {
    let bed = Bed::begin();
    bed.gateway.push("hostile", &built("failover-hostile"));
    bed.misbehave(json!({"observe": "never-admits"}));
    wait_until("two to be out", || bed.out().len() == EJECTED_MAX);
    // Whoever would admit them traps at each call.
    bed.misbehave(json!({"trap_in": "observe"}));
    let silent = Instant::now();
    wait_until("all to be back", || bed.out().is_empty());
    println!("back {:?} after the policy fell silent", silent.elapsed());
    assert!(silent.elapsed() <= EJECTION_MAX + EJECTION_SLACK);
    let readmitted = bed.gateway.health_history("orders").into_iter().find(|entry| entry["what"] == "readmitted");
    assert_eq!(readmitted.expect("they were let back")["reason"], "its time is over");
    bed.end();
}

#[test]
fn the_last_endpoint_stays_in_traffic() {
    let origins = ["a", "b"].map(Origin::start);
    let addresses = [origins[0].address(), origins[1].address()];
    let gateway = sluice!().config(any_route("orders", &addresses, "ejection = { max_percent = 100 }")).start();
    gateway.push("hostile", &built("failover-hostile"));
    let load = Load::to(gateway.address()).rate(RATE_RPS).start();
    for deed in ["never-admits", "probes-all"] {
        gateway.set_failover("orders", "hostile", json!({"observe": deed}));
        wait_until("one to be out", || {
            let service = gateway.service("orders");
            let endpoints = service["endpoints"].as_array().expect("a list");
            let out = endpoints.iter().filter(|endpoint| endpoint["standing"] != "admitted").count();
            assert!(out < 2, "nobody is left: {service}");
            out == 1
        });
        load.await_more(150);
    }
    load.stop().expect_no_failures();
    assert!(gateway.failover_events("orders", "overruled") > 0.0);
}

#[test]
fn retrying_for_ever_makes_no_storm() {
    const BUDGET_PERCENT: u8 = 20;
    let bed = Bed::with_budget(BUDGET_PERCENT);
    bed.gateway.push("hostile", &built("failover-hostile"));
    bed.misbehave(json!({"decide": "retries-at-once"}));
    // The budget is a share of the requests that there were.
    bed.load.await_more(300);
    for origin in &bed.origins {
        origin.set_failures(1_000, 503);
    }
    let before = Look::at(&bed);
    bed.load.await_more(1_500);
    let seen = Look::at(&bed).since(before);
    let allowed = seen.allowed(BUDGET_PERCENT, before);
    println!("{seen:?}, {allowed:.0} upstream allowed");
    assert!(seen.upstream as f64 > 1.05 * seen.offered_min as f64, "it did not try: {seen:?}");
    assert!((seen.upstream as f64) <= allowed, "{seen:?}");
    assert!(
        bed.gateway.failover_events("orders", "invalid-verdicts") > 0.0,
        "what is not repeatable was to be repeated"
    );
    // All of them failed anyway: only that it ended is of interest.
    bed.load.stop();
}

#[test]
fn retrying_at_once_within_the_budget_hides_a_failing_endpoint() {
    let bed = Bed::begin();
    bed.gateway.push("hostile", &built("failover-hostile"));
    bed.misbehave(json!({"decide": "retries-at-once"}));
    bed.load.await_more(100);
    bed.origins[3].set_failures(1_000, 500);
    bed.load.await_more(400);
    assert!(bed.gateway.failover_events("orders", "retries") > 0.0);
    bed.end();
}

#[test]
fn a_verdict_that_cannot_be_carried_out_passes_the_endpoints_own_answer_on_at_once() {
    for (settings, invalid) in [
        (json!({"decide": "retries-never"}), false),
        (json!({"decide": "falls-back", "to": "nowhere"}), true),
        (json!({"decide": "falls-back", "to": "orders"}), true),
        (json!({"decide": "falls-back", "to": "no name at all"}), true),
    ] {
        let bed = Bed::begin();
        bed.gateway.push("hostile", &built("failover-hostile"));
        bed.misbehave(settings.clone());
        bed.load.await_more(100);
        bed.origins[3].set_failures(1_000, 500);
        bed.load.await_more(300);
        let events = bed.gateway.failover_events("orders", "invalid-verdicts");
        assert_eq!(events > 0.0, invalid, "{settings}: {events}");
        let report = bed.load.stop();
        println!("{settings}: {events} invalid verdicts; {report}");
        only_its_own_failures(&report);
    }
}

#[test]
fn falling_back_goes_one_level_deep_and_fails_no_request() {
    let bed = Bed::begin();
    bed.gateway.push("hostile", &built("failover-hostile"));
    // Each falls back to the other.
    bed.misbehave(json!({"decide": "falls-back", "to": "backup"}));
    bed.gateway.set_failover("backup", "hostile", json!({"decide": "falls-back", "to": "orders"}));
    bed.load.await_more(100);
    for origin in &bed.origins[1..] {
        origin.set_failures(1_000, 500);
    }
    bed.load.await_more(300);
    assert!(bed.gateway.failover_events("orders", "fall-backs") > 0.0);
    bed.end();
}

#[test]
fn where_both_services_fail_and_fall_back_to_each_other_there_is_an_end_of_it() {
    let bed = Bed::begin();
    bed.gateway.push("hostile", &built("failover-hostile"));
    bed.misbehave(json!({"decide": "falls-back", "to": "backup"}));
    bed.gateway.set_failover("backup", "hostile", json!({"decide": "falls-back", "to": "orders"}));
    bed.origins.iter().for_each(|origin| origin.set_failures(1_000, 500));
    bed.load.await_more(50);
    let before = Look::at(&bed);
    bed.load.await_more(300);
    let seen = Look::at(&bed).since(before);
    println!("{seen:?}");
    assert!(seen.upstream <= 2 * (seen.offered_max + 50), "one level deep: {seen:?}");
    assert!(bed.gateway.failover_events("backup", "invalid-verdicts") > 0.0);
    bed.load.stop();
}

#[test]
fn hedging_at_once_stays_within_the_budget_and_fails_no_request() {
    const BUDGET_PERCENT: u8 = 20;
    let bed = Bed::with_budget(BUDGET_PERCENT);
    bed.gateway.push("hostile", &built("failover-hostile"));
    bed.origins.iter().for_each(|origin| origin.set_delay(Duration::from_millis(5)));
    bed.misbehave(json!({"complete": "hedges-at-once"}));
    let before = Look::at(&bed);
    bed.load.await_more(1_500);
    let seen = Look::at(&bed).since(before);
    let allowed = seen.allowed(BUDGET_PERCENT, before);
    println!("{seen:?}, {allowed:.0} upstream allowed");
    assert!(seen.upstream as f64 > 1.05 * seen.offered_min as f64, "it did not hedge: {seen:?}");
    assert!((seen.upstream as f64) <= allowed, "{seen:?}");
    let hedges = bed.gateway.failover_events("orders", "hedges");
    assert!(hedges > 0.0 && bed.gateway.failover_events("orders", "over-budget") > 0.0);
    // And a copy that is never sent is none.
    bed.misbehave(json!({"complete": "hedges-late"}));
    bed.load.await_more(100);
    let hedges = bed.gateway.failover_events("orders", "hedges");
    bed.load.await_more(100);
    assert_eq!(bed.gateway.failover_events("orders", "hedges"), hedges);
    bed.end();
}

/// How many requests were done just before and just after the origins were asked how many they had: a machine may stand
/// still in between.
#[derive(Clone, Copy)]
struct Look {
    done_before: u64,
    upstream: u64,
    done_after: u64,
}

/// What happened between two looks.
#[derive(Debug)]
struct Seen {
    offered_min: u64,
    offered_max: u64,
    upstream: u64,
}

impl Look {
    fn at(bed: &Bed) -> Self {
        let done_before = bed.load.done();
        let upstream = bed.origins.iter().map(Origin::requests).sum();
        Self { done_before, upstream, done_after: bed.load.done() }
    }

    fn since(self, then: Self) -> Seen {
        Seen {
            offered_min: self.done_before - then.done_after,
            offered_max: self.done_after - then.done_before,
            upstream: self.upstream - then.upstream,
        }
    }
}

impl Seen {
    /// Upstream, within a budget. All that there was before may have been within its window of 10 s, and a second is for its
    /// edges.
    fn allowed(&self, budget_percent: u8, before: Look) -> f64 {
        let offered = self.offered_max as f64;
        offered + f64::from(budget_percent) / 100.0 * (offered + before.done_after as f64 + RATE_RPS)
    }
}

/// What failed is what the endpoint answered, and nobody waited for it.
#[track_caller]
fn only_its_own_failures(report: &Report) {
    let failures = report.failures();
    assert!(!failures.is_empty(), "the endpoint failed, and the policy gave up");
    assert!(failures.keys().all(|failure| *failure == Failure::Status(500)), "{failures:?}");
    let failed = report.samples.iter().filter(|sample| sample.result.is_err());
    let mut took: Vec<_> = failed.map(|sample| sample.ended - sample.sent).collect();
    took.sort_unstable();
    // Not of each: those under way while the machine stood still took as long as that.
    assert!(took[took.len() / 2] < Duration::from_secs(3), "{took:?} of {report}");
}

/// Of any endpoint, from its ejection or probing to its readmission, by a history with the latest first.
fn longest_time_out(history: &[Value]) -> Duration {
    let at = |entry: &Value| humantime::parse_rfc3339(&text(&entry["at"])).expect("RFC 3339");
    let mut out: HashMap<String, SystemTime> = HashMap::new();
    let mut longest = Duration::ZERO;
    for entry in history.iter().rev() {
        let endpoint = text(&entry["endpoint"]);
        if entry["what"] == "readmitted" {
            let since = out.remove(&endpoint);
            longest = since.map_or(longest, |since| longest.max(at(entry).duration_since(since).unwrap_or_default()));
        } else {
            assert!(entry["for_ms"].as_u64().is_none_or(|ms| u128::from(ms) <= EJECTION_MAX.as_millis()), "{entry}");
            out.entry(endpoint).or_insert_with(|| at(entry));
        }
    }
    longest
}

#[test]
fn where_the_well_one_of_two_is_taken_out_requests_that_the_other_fails_are_repeated_there() {
    let mut origins = ["a", "b"].map(Origin::start);
    let addresses = [origins[0].address(), origins[1].address()];
    let more = "retry = { budget = 100, budget_min = 0 }\nejection = { max_duration = \"1 s\" }";
    let gateway = sluice!().config(any_route("orders", &addresses, more)).start();
    gateway.push("hostile", &built("failover-hostile"));
    gateway.set_failover("orders", "hostile", json!({"decide": "retries-at-once"}));
    let load = Load::to(gateway.address()).rate(RATE_RPS).start();
    load.await_more(100);
    origins[1].kill();
    for (deed, standing) in [("never-admits", "ejected"), ("probes-all", "probed")] {
        // The first in its list is the one that is well.
        gateway.set_failover("orders", "hostile", json!({"decide": "retries-at-once", "observe": deed}));
        wait_until("the well one to be out", || gateway.service("orders")["endpoints"][0]["standing"] == standing);
        load.await_more(300);
    }
    let report = load.stop();
    println!("{report}");
    report.expect_no_failures();
}
