//! Instances are killed and stopped under load, and no client of idempotent requests notices.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sluice_harness::{InstanceProcess, Load, Report, RunningLoad, Sluice, any_route, sluice, wait_for, wait_until};

sluice_harness::instance_process!();

/// Each of these tests takes most of what two cores have in a debug build.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Requests a second, over so many connections.
const RATE_RPS: f64 = 2_000.0;
const CONNECTIONS: usize = 64;
const KILLS: usize = 10;

/// Of the rate, what is asked at the least: a debug build on a busy machine may be late for a while.
const RATE_SHARE_MIN: f64 = 0.8;

/// Connections while one instance hangs: those that wait for it must not hold up the schedule for the others. A third of
/// the requests go to it, and each waits half a second.
const CONNECTIONS_WHILE_STOPPED: usize = 800;
/// The named configuration. Each attempt may take 500 ms, and five that fail in a row put an endpoint out of traffic. Five
/// attempts, as on a machine that stands still for half a second a well instance times out too.
const WHILE_STOPPED: &str = "retry = { per_try_timeout = \"500 ms\", attempts = 5 }\n\
    failover = { plugin = \"breaker\", settings = { consecutive = 5, max_penalty = \"4 s\", attempts = 5 } }";
/// From SIGSTOP until the instance gets no more than single probes: 500 ms for the first attempts to be given up, 100
/// ms for the verdict, and what a machine adds that stands still for seconds.
const SHARE_ZERO_WITHIN: Duration = Duration::from_secs(10);
/// From SIGCONT until it has its share again: the penalty of its last probe, which is 6 s at the most with its jitter, and
/// one probe.
const BACK_WITHIN: Duration = Duration::from_secs(15);

fn gateway(instances: &[InstanceProcess], more: &str) -> Sluice {
    let addresses: Vec<_> = instances.iter().map(InstanceProcess::address).collect();
    sluice!().config(any_route("orders", &addresses, more)).start()
}

fn instances(folder: &tempfile::TempDir) -> Vec<InstanceProcess> {
    ["a", "b", "c"].iter().map(|name| InstanceProcess::start(name, folder.path())).collect()
}

#[test]
fn an_instance_that_is_killed_ten_times_under_load_fails_no_request() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut instances = instances(&folder);
    // Ejections are short, so that what comes back is soon there to be killed again.
    let gateway = gateway(
        &instances,
        "failover = { plugin = \"standard\", settings = { base_ejection = \"200 ms\", max_ejection = \"1 s\" } }",
    );
    let load = Load::to(gateway.address()).connections(CONNECTIONS).rate(RATE_RPS).start();
    let begun = Instant::now();
    load.await_more(2_000);
    for _ in 0..KILLS {
        instances[1].kill();
        load.await_more(1_000);
        instances[1].restart();
        await_share(&instances[1], &load);
    }
    let report = stop(load, begun);
    report.expect_no_failures();
    let retries = gateway.metric("sluice_failover_total", &["service=\"orders\"", "event=\"retries\""]);
    println!("{retries} attempts were repeated");
    assert!(retries > 0.0, "nothing was killed under load");
    no_instance_was_tried_twice(&instances);
}

/// Ends a load that has kept its rate. What is overdue as the machine has stood still is asked as fast as it can be, so
/// that the load may catch up first.
fn stop(load: RunningLoad, begun: Instant) -> Report {
    let rate = || load.done() as f64 / begun.elapsed().as_secs_f64();
    wait_until("the load to keep its rate", || rate() >= RATE_SHARE_MIN * RATE_RPS);
    let rate = rate();
    let report = load.stop();
    println!("{} requests, {rate:.0}/s, by instance {:?}", report.total(), report.by_instance());
    report
}

/// Until the instance takes part in the traffic again.
fn await_share(instance: &InstanceProcess, load: &RunningLoad) {
    let before = instance.request_ids().len();
    wait_until("the instance has its share again", || {
        load.await_more(100);
        instance.request_ids().len() > before + 50
    });
}

fn no_instance_was_tried_twice(instances: &[InstanceProcess]) {
    let mut repeated = 0;
    let mut seen_at: HashMap<String, Vec<&str>> = HashMap::new();
    for instance in instances {
        for id in instance.request_ids() {
            seen_at.entry(id).or_default().push(instance.name());
        }
    }
    for (id, at) in seen_at {
        let distinct: std::collections::HashSet<_> = at.iter().collect();
        assert_eq!(distinct.len(), at.len(), "request {id} came to {at:?}");
        repeated += usize::from(at.len() > 1);
    }
    println!("{repeated} requests are in the logs of two instances, none twice in one");
    assert!(repeated > 0, "none was under way when its instance was killed");
}

#[test]
fn an_instance_that_hangs_fails_no_request_and_is_given_no_more_until_it_goes_on() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let instances = instances(&folder);
    let gateway = gateway(&instances, WHILE_STOPPED);
    let load = Load::to(gateway.address()).connections(CONNECTIONS_WHILE_STOPPED).rate(RATE_RPS).start();
    let begun = Instant::now();
    // The budget is a share of the requests that there were within ten seconds.
    load.await_more(10_000);
    instances[1].stop();
    let stopped = Instant::now();
    wait_for("the hanging instance to be out", SHARE_ZERO_WITHIN, || {
        (standing(&gateway, 1) != "admitted").then_some(())
    });
    println!("out of traffic after {:?}", stopped.elapsed());
    // Those that were on their way when the verdict came are given up, all but a probe.
    wait_until("the last attempts to be given up", || count(&gateway, 1, "in_flight") <= 1);
    let (attempts, probes) = (attempts(&gateway, 1), gateway_probes(&gateway));
    load.await_more(10_000);
    let more = attempts_since(&gateway, 1, attempts);
    let probed = gateway_probes(&gateway) - probes;
    println!("within 10,000 requests it got {more} more, {probed} of them probes");
    // One that begins or ends while they are counted is counted twice, or not yet.
    assert!(more as f64 <= probed + 2.0, "{more} attempts, {probed} probes");
    instances[1].go_on();
    let went_on = Instant::now();
    wait_for("the instance to be back", BACK_WITHIN, || (standing(&gateway, 1) == "admitted").then_some(()));
    println!("back after {:?}", went_on.elapsed());
    await_share(&instances[1], &load);
    stop(load, begun).expect_no_failures();
}

fn endpoint(gateway: &Sluice, nth: usize) -> serde_json::Value {
    gateway.service("orders")["endpoints"][nth].clone()
}

fn standing(gateway: &Sluice, nth: usize) -> String {
    endpoint(gateway, nth)["standing"].as_str().expect("a standing").to_owned()
}

fn count(gateway: &Sluice, nth: usize, key: &str) -> u64 {
    endpoint(gateway, nth)[key].as_u64().expect("a number")
}

/// Begun, whether they have ended or not.
fn attempts(gateway: &Sluice, nth: usize) -> u64 {
    count(gateway, nth, "attempts") + count(gateway, nth, "in_flight")
}

fn attempts_since(gateway: &Sluice, nth: usize, before: u64) -> u64 {
    attempts(gateway, nth).saturating_sub(before)
}

fn gateway_probes(gateway: &Sluice) -> f64 {
    gateway.metric("sluice_failover_total", &["service=\"orders\"", "event=\"probes\""])
}
