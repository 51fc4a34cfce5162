//! Plugins that are none, and plugins that misbehave: refused with clear words, or replaced by the gateway's own choice
//! while they serve. Whatever they do, no request fails and no other service notices.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Instant,
};

use serde_json::{Value, json};
use sluice_harness::{
    Load, Origin, RunningLoad, Sluice, any_route,
    control::text,
    guest::{built, rebuilt},
    guests::{fills_pages, noise, of_kind, remembers_by_living, wat, works_hard},
    process, service, sluice, wait_until,
};

/// What the hostile ones are versions of.
const OWN: &str = "round-robin";

/// What a refused component of any size may add to the gateway's memory while it is refused.
const REFUSAL_GROWTH_MAX: u64 = 24 << 20;

/// Each instance of `payments` has lived for so many picks before anything happens to `orders`.
const PICKS_LIVED: u32 = 20;

/// `orders` with the plugin [`OWN`], and `payments` with one whose instances tell whether they have lived all the time.
struct Bed {
    origins: [Origin; 2],
    gateway: Sluice,
    orders: RunningLoad,
    payments: RunningLoad,
    begun: Instant,
}

impl Bed {
    fn begin() -> Self {
        let origins = ["a", "b"].map(Origin::start);
        let addresses = [origins[0].address(), origins[1].address()];
        let config = any_route(
            "orders",
            &addresses,
            "balancer = { plugin = \"round-robin\" }\nretry = { budget = 100 }",
        ) + &service("payments", &addresses, "")
            + "[[route]]\npath = \"/payments/\"\nservice = \"payments\"\n[plugins.round-robin]\nmemory_max = \"2 MiB\"\n";
        let gateway = sluice!().config(config).start();
        gateway.push("living", &remembers_by_living(PICKS_LIVED));
        gateway.set_balancer("payments", "living", json!({}));
        gateway.push(OWN, &built("tame"));
        let payments = Load::to(gateway.address()).path("/payments/x").connections(8).rate(100.0).start();
        let lived = origins[0].requests();
        wait_until("the instances of payments to have lived", || {
            origins[0].requests() >= lived + 2 * (u64::from(PICKS_LIVED) - 1)
        });
        // Those that were answered by then were picked for before.
        payments.await_more(8);
        let orders = Load::to(gateway.address()).rate(150.0).start();
        Self { origins, gateway, orders, payments, begun: Instant::now() }
    }

    /// Ends the load: nothing failed, and the instances of payments are those of the beginning.
    fn end(self) {
        let report = self.orders.stop();
        println!("orders: {report}");
        report.expect_no_failures();
        let report = self.payments.stop();
        report.expect_no_failures();
        let since = report.within(self.begun, Instant::now());
        assert!(since.total() > 0 && since.share("b") == 1.0, "an instance of another service was replaced: {since}");
        let faults = self.gateway.history("fault");
        assert!(faults.iter().all(|fault| fault["service"] == "orders"), "{faults:?}");
    }

    fn counted(&self, metric: &str, version: &str) -> f64 {
        self.gateway.metric(metric, &["service=\"orders\"", &format!("version=\"{version}\"")])
    }
}

#[test]
fn what_is_no_plugin_is_refused_with_clear_words_and_changes_nothing() {
    let bed = Bed::begin();
    let good = built("first-slot");
    let with_header = |len| [&b"\0asm\x0d\0\x01\0"[..], &noise(2, len)].concat();
    let seed = 1;
    println!("noise from seed {seed}");
    let cases: Vec<(&str, Vec<u8>, u16, &[&str])> = vec![
        ("nothing", Vec::new(), 422, &["is empty"]),
        ("text", b"fn main() {}".to_vec(), 422, &["begins with \\0asm"]),
        ("a core module", wat("core-module"), 422, &["is a core module, not a component", "sluice plugin build"]),
        ("the wrong world", wat("wrong-world"), 422, &["is no plugin: it exports none of sluice:plugin/{balancer"]),
        ("half a balancer", wat("half-a-balancer"), 422, &["lacks exports", "sluice:plugin/policy@0.1", "pick"]),
        (
            "half an event handler",
            of_kind("event-handler"),
            422,
            &["lacks exports", "subscribe of sluice:plugin/event-handler", "sluice:plugin/read-model@0.1"],
        ),
        ("an import of the shell", built("imports-unknown"), 422, &["intruder:host/shell", "it may import"]),
        ("cut in the first bytes", good[..6].to_vec(), 422, &["is cut short"]),
        ("cut in the middle", good[..good.len() / 2].to_vec(), 422, &["is damaged, or cut short"]),
        ("cut near the end", good[..good.len() * 3 / 4].to_vec(), 422, &["is damaged, or cut short"]),
        ("damaged", with_header(100_000), 422, &["is damaged, or cut short"]),
        ("100 MB of noise", noise(seed, 100_000_000), 413, &["may have 67108864 bytes at most"]),
        ("60 MB of noise", noise(seed, 60_000_000), 422, &["begins with \\0asm"]),
        ("100 MB behind a header", with_header(100_000_000), 413, &["may have 67108864 bytes at most"]),
    ];
    let generation = bed.gateway.metric("sluice_generation", &[]);
    let before = bed.gateway.plugin(OWN);
    for (what, component, status, words) in &cases {
        bed.gateway.reset_peak_rss();
        let rss = bed.gateway.rss_bytes();
        bed.gateway.refused_push(OWN, component, *status).says(words);
        let growth = bed.gateway.peak_rss_bytes().saturating_sub(rss);
        assert!(growth < REFUSAL_GROWTH_MAX, "{what}: {growth} bytes more");
        let path = "/plugins/round-robin?activate=false";
        bed.gateway.control().put_component(path, component).expect(*status);
    }
    assert_eq!(bed.gateway.plugin(OWN), before, "the version in use and those kept are as before");
    assert_eq!(bed.gateway.metric("sluice_generation", &[]), generation);
    assert!(bed.gateway.history("refused").len() >= 10, "refusals are remembered");
    bed.end();
}

#[test]
fn what_fails_while_it_is_prepared_is_refused_with_the_call_and_the_reason() {
    let bed = Bed::begin();
    let before = bed.gateway.active(OWN);
    for call in ["configure", "update"] {
        for (misdeed, words) in [
            ("trap_in", &["trapped"][..]),
            ("spin_in", &["took more than 1s of CPU time"]),
            ("allocate_in", &["memory", "2 MiB"]),
        ] {
            bed.gateway.set_balancer("orders", OWN, json!({misdeed: call}));
            let refused = bed.gateway.refused_push(OWN, &built("hostile"), 422);
            assert_eq!(refused.problems()[0]["service"], "orders", "{}", refused.0);
            refused.says(&[&format!("failed in {call}: ")]).says(words);
            assert_eq!(bed.gateway.active(OWN), before);
        }
    }
    bed.end();
}

#[test]
fn what_fails_in_service_is_replaced_by_the_fallback_shown_and_rolled_back_by_itself() {
    let bed = Bed::begin();
    let cases: [(Value, &str, &str); 8] = [
        (json!({"trap_in": "pick"}), "sluice_plugin_traps_total", "failed in pick: trapped"),
        (json!({"trap_in": "complete"}), "sluice_plugin_traps_total", "failed in complete: trapped"),
        (json!({"trap_every": 10}), "sluice_plugin_traps_total", "failed in pick: trapped"),
        (json!({"spin_in": "pick"}), "sluice_plugin_deadline_overruns_total", "failed in pick: took more than"),
        (json!({"spin_in": "complete"}), "sluice_plugin_deadline_overruns_total", "failed in complete: took more than"),
        (json!({"allocate_in": "pick"}), "sluice_plugin_memory_overruns_total", "failed in pick: "),
        (json!({"answer": "missing"}), "sluice_plugin_invalid_answers_total", ""),
        (json!({"answer": "none"}), "sluice_plugin_invalid_answers_total", ""),
    ];
    for (n, (settings, metric, words)) in (0..).zip(cases) {
        bed.gateway.set_balancer("orders", OWN, settings.clone());
        let good = bed.gateway.active(OWN);
        let answer = bed.gateway.push(OWN, &rebuilt(&built("hostile"), n));
        let bad = text(&answer["version"]);
        wait_until("the version to be rolled back", || bed.gateway.active(OWN) == good);
        assert!(bed.counted(metric, &bad) > 0.0, "{settings}: {metric}");
        if settings.get("trap_in").is_none_or(|call| call != "complete") && settings.get("spin_in").is_none() {
            assert!(bed.counted("sluice_plugin_fallbacks_total", &bad) > 0.0, "{settings}");
        }
        let rolled_back = bed.gateway.await_history("rolled-back", &[&bad, &good]);
        if words.is_empty() {
            assert!(rolled_back.contains("invalid answers in"), "{rolled_back}");
        } else {
            assert!(rolled_back.contains("failed 5 times within"), "{rolled_back}");
            bed.gateway.await_history("fault", &["service orders, worker ", &bad, words]);
            bed.gateway.await_history("restarted", &[&bad]);
        }
        bed.gateway.await_live_instances("orders");
        let before = bed.counted("sluice_plugin_calls_total", &good);
        bed.orders.await_more(20);
        assert!(bed.counted("sluice_plugin_calls_total", &good) > before, "the version before decides again");
    }
    bed.end();
}

#[test]
fn what_fails_when_state_is_handed_over_costs_the_state_and_nothing_else() {
    let bed = Bed::begin();
    for (n, misdeed) in (0..).zip(["trap_in", "spin_in", "allocate_in"]) {
        bed.gateway.set_balancer("orders", OWN, json!({misdeed: "restore"}));
        let answer = bed.gateway.push(OWN, &rebuilt(&built("hostile"), n));
        let restores = answer["restores"].as_array().expect("a list");
        assert_eq!(restores.len(), 3, "of both workers and the inner one: {answer}");
        for restore in restores {
            assert!(text(&restore["problem"]).contains("failed in restore"), "{answer}");
        }
        bed.gateway.await_live_instances("orders");
        bed.gateway.push(OWN, &built("tame"));
        bed.gateway.set_balancer("orders", OWN, json!({misdeed: "save"}));
        bed.gateway.push(OWN, &rebuilt(&built("hostile"), n));
        // Its predecessor fails when it is asked for its state: the successor starts fresh.
        let answer = bed.gateway.push(OWN, &built("tame"));
        assert_eq!(answer["restores"], json!([]), "there was no state to hand over");
        bed.gateway.await_history("fault", &["failed in save"]);
        bed.gateway.await_live_instances("orders");
    }
    for state in ["huge", "noise"] {
        bed.gateway.set_balancer("orders", OWN, json!({"state": state}));
        bed.gateway.push(OWN, &built("hostile"));
        bed.gateway.push(OWN, &built("tame"));
        bed.gateway.await_live_instances("orders");
    }
    bed.end();
}

#[test]
fn a_version_without_predecessor_comes_back_ever_more_slowly_and_the_fallback_decides() {
    let bed = Bed::begin();
    let version = text(&bed.gateway.push("alone", &built("hostile"))["version"]);
    bed.gateway.set_balancer("orders", "alone", json!({"trap_in": "pick"}));
    let instances = || {
        let mut instances = bed.gateway.service("orders")["instances"].as_array().cloned().unwrap_or_default();
        // The inner worker's has nothing to decide here.
        instances.retain(|instance| instance["decides"] == "balancer" && instance["worker"].as_u64() < Some(2));
        instances
    };
    let mut longest_wait_ms = [0; 2];
    // After six faults in a row it stays away for 1.6 to 3.2 s, and after more for longer: who looks late sees it then.
    wait_until("each instance to have failed six times, and to stay away for long", || {
        let instances = instances();
        for instance in instances.iter().filter(|instance| instance["state"] == "fallback") {
            let faults = instance["faults"].as_u64().expect("a number");
            let restart_in_ms = instance["restart_in_ms"].as_u64().expect("a number");
            assert!(restart_in_ms <= 100 << (faults - 1).min(16), "{instance}");
            assert!(text(&instance["fault"]).starts_with("pick: trapped"), "{instance}");
            let longest = &mut longest_wait_ms[instance["worker"].as_u64().expect("a number") as usize];
            *longest = restart_in_ms.max(*longest);
        }
        instances.iter().all(|instance| instance["faults"].as_u64() >= Some(6))
            && longest_wait_ms.iter().all(|&longest| longest > 800)
    });
    assert!(bed.counted("sluice_plugin_fallbacks_total", &version) > 0.0, "meanwhile the fallback decides");
    assert!(bed.gateway.history("rolled-back").is_empty(), "there is nothing to go back to");
    // Other settings are another instance, which owes nothing.
    bed.gateway.set_balancer("orders", "alone", json!({}));
    bed.gateway.await_live_instances("orders");
    let traps = bed.counted("sluice_plugin_traps_total", &version);
    bed.orders.await_more(50);
    assert_eq!(bed.counted("sluice_plugin_traps_total", &version), traps);
    bed.end();
}

#[test]
fn a_policy_that_insists_on_a_dead_endpoint_fails_no_request() {
    let mut bed = Bed::begin();
    bed.gateway.set_balancer("orders", OWN, json!({"answer": "tried"}));
    let good = bed.gateway.active(OWN);
    // Nothing takes the dead endpoint out of its sight.
    bed.gateway.set_failover("orders", "standard", json!({"consecutive": 0, "success_rate_stdevs": 0}));
    // Only orders may meet the dead endpoint: payments would be retried too, which is another test's matter.
    let bad = text(&bed.gateway.push(OWN, &built("hostile"))["version"]);
    bed.orders.await_more(20);
    bed.origins[0].kill();
    wait_until("the version to be rolled back", || bed.gateway.active(OWN) == good);
    assert!(bed.counted("sluice_plugin_invalid_answers_total", &bad) > 0.0);
    bed.end();
}

#[test]
fn memory_beyond_the_limit_is_refused_and_within_it_is_counted() {
    let bed = Bed::begin();
    // One page is the guest's own: 31 more are within 2 MiB, 32 are not.
    bed.gateway.refused_push(OWN, &fills_pages(32), 422).says(&["failed in configure", "memory", "2 MiB"]);
    let answer = bed.gateway.push(OWN, &fills_pages(31));
    let label = format!("version=\"{}\"", text(&answer["version"]));
    assert_eq!(bed.gateway.metric("sluice_plugin_live_instances", &[&label]), 3.0, "the inner worker's too");
    assert_eq!(bed.gateway.metric("sluice_plugin_memory_bytes", &[&label]), f64::from(3 * 32 * 65_536));
    assert_eq!(bed.gateway.plugin(OWN)["memory_bytes_max"], 2 << 20);
    bed.orders.await_more(50);
    bed.end();
}

#[test]
fn a_worker_starved_by_other_load_is_not_taken_for_a_spinning_plugin() {
    /// CPU time that a pick shall take: within the deadline of 1 ms, and long enough to be interrupted now and then.
    const PICK_US: f64 = 300.0;
    const REQUESTS: u64 = 300;
    const INTERRUPTED_MIN: u64 = 30;
    let origin = Origin::start("a");
    let gateway = sluice!().config(any_route("orders", &[origin.address()], "")).start();
    let rounds = calibrate(&gateway, PICK_US);
    let busy = Busy::threads(2 * thread::available_parallelism().map_or(2, usize::from));
    let version = text(&gateway.push(OWN, &works_hard(rounds))["version"]);
    gateway.set_balancer("orders", OWN, json!({}));
    process::renice(gateway.pid(), 5);
    let interrupted = process::involuntary_switches(gateway.pid());
    let load = Load::to(gateway.address()).connections(4).start();
    // Or the machine was not busy enough for all this to mean anything.
    wait_until("the gateway to be interrupted now and then", || {
        load.await_more(REQUESTS);
        process::involuntary_switches(gateway.pid()) - interrupted > INTERRUPTED_MIN
    });
    drop(busy);
    let report = load.stop();
    report.expect_no_failures();
    println!("{rounds} rounds a pick, {report}");
    let counted = |metric: &str| gateway.metric(metric, &[&format!("version=\"{version}\"")]);
    assert_eq!(counted("sluice_plugin_deadline_overruns_total"), 0.0);
    assert_eq!(counted("sluice_plugin_fallbacks_total"), 0.0);
    assert!(counted("sluice_plugin_calls_total") >= REQUESTS as f64);
}

/// How many rounds take a pick so long.
fn calibrate(gateway: &Sluice, pick_us: f64) -> u32 {
    const ROUNDS: u32 = 20_000;
    let version = text(&gateway.push(OWN, &works_hard(ROUNDS))["version"]);
    gateway.set_balancer("orders", OWN, json!({}));
    Load::to(gateway.address()).connections(2).run_count(640).expect_no_failures();
    let label = format!("version=\"{version}\"");
    let sum_s = gateway.metric("sluice_plugin_call_duration_seconds_sum", &[&label]);
    let count = gateway.metric("sluice_plugin_call_duration_seconds_count", &[&label]);
    let round_us = sum_s * 1e6 / count / f64::from(ROUNDS);
    (pick_us / round_us) as u32
}

/// Threads that do nothing but take up the machine.
struct Busy {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Busy {
    fn threads(count: usize) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let spin = |stop: Arc<AtomicBool>| move || while !stop.load(Ordering::Relaxed) {};
        let threads = (0..count).map(|_| thread::spawn(spin(Arc::clone(&stop)))).collect();
        Self { stop, threads }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("spinning does not panic"));
    }
}
