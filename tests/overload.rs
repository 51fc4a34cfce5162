//! Too much for the instances: failures are not multiplied by retries, and what exceeds the capacity is refused at
//! once while the rest is served.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use sluice_harness::{
    Failure, Load, Origin, RawOrigin, Report, SlotOrigin, Sluice, any_route, capacity_rps, load::Sample, process,
    raw_origin::OK, sluice, wait_for, wait_until,
};

/// Each of these tests takes all that the machine has.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The default budget is a fifth of the requests, and 10 a second over its window of 10 s.
const STORM_SHARE: f64 = 0.2;
const STORM_MINIMUM: f64 = 100.0;

/// What failing instances get of `offered` requests.
fn expect_no_storm(offered: f64, upstream: f64) {
    println!("{offered} requests offered, {upstream} attempts at the instances: {:.3} ×", upstream / offered);
    assert!(upstream <= (1.0 + STORM_SHARE) * offered + STORM_MINIMUM, "{upstream} of {offered}");
    assert!(upstream >= (1.0 + STORM_SHARE / 2.0) * offered, "nothing was tried again: {upstream} of {offered}");
}

#[test]
fn failing_instances_are_asked_hardly_more_often_than_their_clients_ask() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let origins = ["a", "b", "c"].map(Origin::start);
    origins.iter().for_each(|origin| origin.set_failures(1000, 503));
    let addresses = origins.each_ref().map(Origin::address);
    let gateway = sluice!().config(any_route("orders", &addresses, "")).start();
    let report = Load::to(gateway.address()).connections(64).run_count(10_000);
    // Each client has its instance's answer.
    assert_eq!(report.failures().into_keys().collect::<Vec<_>>(), [Failure::Status(503)], "{report}");
    assert_eq!(gateway.metric("sluice_gateway_errors_total", &[]), 0.0);
    let upstream: u64 = origins.iter().map(Origin::requests).sum();
    expect_no_storm(report.total() as f64, upstream as f64);
}

#[test]
fn instances_that_reset_are_asked_hardly_more_often_than_their_clients_ask() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = Arc::<AtomicU64>::default();
    let instances = [(); 3].map(|()| {
        let asked = Arc::clone(&asked);
        RawOrigin::start(move |mut exchange| {
            if exchange.read_request().is_some() {
                asked.fetch_add(1, Ordering::AcqRel);
                exchange.reset();
            }
        })
    });
    let addresses = instances.each_ref().map(RawOrigin::address);
    let gateway = sluice!().config(any_route("orders", &addresses, "")).start();
    let report = Load::to(gateway.address()).connections(32).run_count(5_000);
    assert_eq!(report.failures().into_keys().collect::<Vec<_>>(), [Failure::Status(502)], "{report}");
    expect_no_storm(report.total() as f64, asked.load(Ordering::Acquire) as f64);
}

/// A debug build on two cores that are busy otherwise has no room for the load of two instances of eight slots each: it is
/// asked less, in the same proportions. `make bench` runs these tests in release, and writes down what they print.
const INSTANCES: usize = if cfg!(debug_assertions) { 1 } else { 2 };
const SLOTS: usize = if cfg!(debug_assertions) { 4 } else { 8 };
const SERVICE_TIME: Duration = Duration::from_millis(10);
/// What all slots together could do if nothing took time but the service.
const NOMINAL_RPS: f64 = (INSTANCES * SLOTS) as f64 / 0.010;
const OFFERED_RPS: f64 = 3.0 * NOMINAL_RPS;

/// Goodput, of the capacity. Where no request waits at an instance a slot is empty for a round trip; in a debug build, on a
/// machine that does other things too, that is long.
const GOODPUT_MIN: f64 = if cfg!(debug_assertions) { 0.8 } else { 0.9 };
/// p99 of a refusal. The same holds for it: 3 to 14 ms were seen in debug, and 70 ms beside a compiler.
const REFUSED_WITHIN: Duration = Duration::from_millis(if cfg!(debug_assertions) { 250 } else { 20 });
/// What else a machine does makes goodput lower and refusals later, never better: of so many runs one must hold the bars. In
/// release each run is a figure.
const ATTEMPTS: usize = if cfg!(debug_assertions) { 3 } else { 1 };
/// Of a limit that finds itself: four times the slots of the whole.
const FOUND_MAX: usize = 32;
/// Beyond what it had when the load began, at 64 connections.
const MEMORY_BYTES_MAX: u64 = 32 * 1024 * 1024;

const MEASURED: Duration = Duration::from_secs(5);
/// Clients; more than are ever under way at once, so that the schedule is kept.
const CONNECTIONS: usize = 96;

#[test]
fn an_endpoints_limit_sheds_what_exceeds_it() {
    let most = overload(&format!("endpoint_requests = {SLOTS}"), Duration::from_secs(1));
    assert!(most <= SLOTS, "an instance had {most} requests at once");
}

#[test]
fn requests_that_may_wait_for_a_place_do_and_the_others_are_refused() {
    let circuit = format!("endpoint_requests = {SLOTS}, pending = {SLOTS}, pending_timeout = \"10 ms\"");
    let most = overload(&circuit, Duration::from_secs(1));
    assert!(most <= SLOTS, "an instance had {most} requests at once");
}

#[test]
fn a_limit_that_finds_itself_sheds_what_exceeds_the_capacity() {
    let most = overload("adaptive = true", Duration::from_secs(5));
    assert!(most <= FOUND_MAX, "an instance had {most} requests at once");
}

#[test]
fn a_request_that_waits_for_a_place_takes_no_cpu() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let origin = Origin::start("a");
    for limit in ["endpoint_requests = 1", "endpoint_requests = 1, requests = 2", "requests = 1"] {
        let circuit = format!("circuit = {{ {limit}, pending = 8, pending_timeout = \"10 s\" }}");
        let gateway = sluice!().config(any_route("orders", &[origin.address()], &circuit)).start();
        let before = process::cpu_ticks(gateway.pid());
        thread::scope(|scope| {
            let clients: Vec<_> =
                (0..4).map(|_| scope.spawn(|| gateway.client().get("/delay/300").expect(200))).collect();
            clients.into_iter().for_each(|client| drop(client.join().expect("each is answered in its turn")));
        });
        let ticks = process::cpu_ticks(gateway.pid()) - before;
        println!("{limit}: four requests in turn, 1.2 s in all, took {ticks} ticks of 10 ms");
        assert!(ticks < 40, "{limit}: {ticks} ticks");
    }
}

#[test]
fn connections_beyond_an_endpoints_limit_are_not_opened_and_their_requests_are_refused_at_once() {
    const CONNECTIONS_MAX: usize = 2;
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (released, held) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let (lets_go, holds) = (Arc::clone(&released), Arc::clone(&held));
    let origin = RawOrigin::start(move |mut exchange| {
        while exchange.read_request().is_some() {
            holds.fetch_add(1, Ordering::AcqRel);
            wait_until("the test to let go", || lets_go.load(Ordering::Acquire));
            exchange.write(OK);
            holds.fetch_sub(1, Ordering::AcqRel);
        }
    });
    // Each worker may always have one.
    let config = format!("circuit = {{ endpoint_connections = {CONNECTIONS_MAX}, retry_after = \"7 s\" }}");
    let config = any_route("orders", &[origin.address()], &config) + "[gateway]\nworkers = 1\n";
    let gateway = sluice!().config(config).start();
    thread::scope(|scope| {
        // Within the scope, so that a failure lets the clients go.
        let _lets_go = SetWhenDropped(&released);
        for _ in 0..CONNECTIONS_MAX {
            scope.spawn(|| gateway.client().get("/").expect(200));
        }
        wait_until("all connections to be taken", || held.load(Ordering::Acquire) == CONNECTIONS_MAX);
        for _ in 0..5 {
            let refused = gateway.client().get("/");
            refused.expect_problem(503, "pick");
            assert_eq!(refused.header("retry-after"), Some("7"), "{refused}");
        }
        assert_eq!(origin.connections(), CONNECTIONS_MAX);
    });
    wait_until("nothing to be held", || held.load(Ordering::Acquire) == 0);
    gateway.client().get("/").expect(200);
    assert_eq!(origin.connections(), CONNECTIONS_MAX, "those that are free are used again");
}

/// However the test goes on.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Three times what the instances can do, within the bars; the most requests that one of them had at once.
fn overload(circuit: &str, warm_up: Duration) -> usize {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut runs = Vec::new();
    while runs.len() < ATTEMPTS && !runs.last().is_some_and(Run::is_within_the_bars) {
        runs.push(run(circuit, warm_up));
    }
    assert!(runs.last().is_some_and(Run::is_within_the_bars), "{runs:?}");
    runs.iter().map(|run| run.most).max().unwrap_or(0)
}

/// What a machine that is busy otherwise makes worse.
#[derive(Debug)]
struct Run {
    /// Of the capacity.
    goodput: f64,
    /// Of a refusal.
    p99: Duration,
    most: usize,
}

impl Run {
    fn is_within_the_bars(&self) -> bool {
        self.goodput >= GOODPUT_MIN && self.p99 < REFUSED_WITHIN
    }
}

fn run(circuit: &str, warm_up: Duration) -> Run {
    let instances = [(); INSTANCES].map(|()| SlotOrigin::start(SLOTS, SERVICE_TIME));
    let addresses = instances.each_ref().map(SlotOrigin::address);
    // On this machine, as busy as it is, asked without a gateway.
    let alone = Load::to(addresses[0]).connections(2 * SLOTS);
    let capacity = capacity_rps(alone, Duration::from_secs(1)) * INSTANCES as f64;
    for instance in &instances {
        instance.take_most();
    }
    let gateway = sluice!().config(any_route("orders", &addresses, &format!("circuit = {{ {circuit} }}"))).start();
    let load = Load::to(gateway.address()).connections(CONNECTIONS).rate(OFFERED_RPS).start();
    load.await_more(500);
    gateway.reset_peak_rss();
    let rss = gateway.rss_bytes();
    expect_retry_after(&gateway);
    let from = Instant::now() + warm_up;
    wait_for("the end of the measurement", 2 * (warm_up + MEASURED), || {
        (Instant::now() >= from + MEASURED).then_some(())
    });
    let more = gateway.peak_rss_bytes().saturating_sub(rss);
    let report = load.stop().between(from, from + MEASURED);
    let goodput = report.by_instance().values().sum::<usize>() as f64 / MEASURED.as_secs_f64();
    let refusals = refusals(&report);
    let most = instances.iter().map(SlotOrigin::take_most).max().unwrap_or(0);
    let (p50, p99) = (refusals.latency(0.5), refusals.latency(0.99));
    // Read by tests/bench/overload.py.
    println!(
        "overload: circuit {{ {circuit} }}, offered {:.0}/s, capacity {capacity:.0}/s, goodput {goodput:.0}/s, refused \
         {:.0}/s, p50 {} us, p99 {} us, at once {most}, memory {} KiB",
        report.total() as f64 / MEASURED.as_secs_f64(),
        refusals.total() as f64 / MEASURED.as_secs_f64(),
        p50.as_micros(),
        p99.as_micros(),
        more / 1024,
    );
    assert_eq!(report.failures().into_keys().collect::<Vec<_>>(), [Failure::Status(503)], "{report}");
    assert!(more <= MEMORY_BYTES_MAX, "{more} bytes more than at the beginning");
    wait_until("nothing to be in flight", || gateway.in_flight("orders") == 0);
    Run { goodput: goodput / capacity, p99, most }
}

/// With the time from the moment each was sent: how late a busy machine's generator sent it is not the gateway's doing.
fn refusals(report: &Report) -> Report {
    let is_refusal = |sample: &&Sample| sample.result == Err(Failure::Status(503));
    let taken = |sample: &Sample| Sample { latency: sample.ended - sample.sent, ..sample.clone() };
    Report { samples: report.samples.iter().filter(is_refusal).map(taken).collect(), reconnects: 0 }
}

/// A refusal says when to come back.
fn expect_retry_after(gateway: &Sluice) {
    let client = gateway.client();
    let refused =
        wait_for("a refusal", Duration::from_secs(10), || Some(client.get("/")).filter(|answer| answer.status == 503));
    refused.expect_problem(503, "pick");
    assert_eq!(refused.header("retry-after"), Some("1"));
}
