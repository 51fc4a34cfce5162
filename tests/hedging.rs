//! A request that takes longer than nearly all others gets a second copy; whichever answers first is taken, and the
//! other one is cancelled and costs its endpoint nothing.

use std::time::{Duration, Instant};

use http::Method;
use sluice_harness::{Load, Origin, Sluice, any_route, sluice, wait_for, wait_until};

/// So long is a slow request under way, unless it is cancelled.
const SLOW: Duration = Duration::from_secs(20);
/// The hedge's delay is at most 50 ms here; the rest is what a busy machine takes. Far less than what is slow.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
const HEDGE: &str = "failover = { plugin = \"hedge\", settings = { min_samples = 20, max_delay = \"50 ms\" } }\n\
                     balancer = { plugin = \"round-robin\" }\n";

fn event(gateway: &Sluice, event: &str) -> f64 {
    gateway.metric("sluice_failover_total", &["service=\"orders\"", &format!("event={event:?}")])
}

fn attempts(gateway: &Sluice, outcome: &str) -> f64 {
    gateway.metric("sluice_attempts_total", &["service=\"orders\"", &format!("outcome=\"{outcome}")])
}

/// A gateway whose workers know how long requests take.
fn start(origins: &[Origin; 2], more: &str) -> Sluice {
    let addresses = origins.each_ref().map(Origin::address);
    let gateway = sluice!().config(any_route("orders", &addresses, &format!("{HEDGE}{more}"))).start();
    Load::to(gateway.address()).connections(8).run_count(400).expect_no_failures();
    wait_until("nothing to be in flight", || gateway.in_flight("orders") == 0);
    gateway
}

#[test]
fn a_slow_endpoints_requests_are_answered_by_another_and_cancelled_there() {
    for protocol in ["http/1.1", "h2"] {
        let origins = ["slow", "quick"].map(Origin::start);
        // Each may have its second copy, whatever a busy machine has spent on those of the beginning.
        let gateway = start(&origins, &format!("protocol = {protocol:?}\nretry = {{ budget = 100 }}"));
        let before = (attempts(&gateway, ""), event(&gateway, "hedges"), event(&gateway, "hedges-won"));
        let cancelled_before = attempts(&gateway, "cancelled");
        origins[0].set_delay(SLOW);
        let requests = 20;
        let mut longest = Duration::ZERO;
        for n in 0..requests {
            let begun = Instant::now();
            // A body that has come whole may be sent twice, too.
            let answer = match n % 2 {
                0 => gateway.client().get("/"),
                _ => gateway.client().send(Method::PUT, "/echo", &[], b"order".to_vec()),
            };
            assert_eq!(answer.expect(200).instance(), "quick");
            longest = longest.max(begun.elapsed());
            assert!(begun.elapsed() < ANSWERED_WITHIN, "{:?}", begun.elapsed());
        }
        wait_for("the slow endpoint to be rid of all", ANSWERED_WITHIN, || (origins[0].in_flight() == 0).then_some(()));
        wait_until("nothing to be in flight", || gateway.in_flight("orders") == 0);
        let hedges = event(&gateway, "hedges") - before.1;
        let won = event(&gateway, "hedges-won") - before.2;
        let more = attempts(&gateway, "") - before.0 - f64::from(requests);
        let cancelled = attempts(&gateway, "cancelled") - cancelled_before;
        println!("{protocol}: {hedges} second copies, {won} won, {cancelled} cancelled; at most {longest:?}");
        assert!(won >= 5.0, "round-robin begins half of them at the slow one");
        assert_eq!(more, hedges, "each second copy is one attempt more");
        assert_eq!(cancelled, hedges, "of two attempts one is cancelled");
        assert_eq!(event(&gateway, "retries"), 0.0);
        assert_eq!(event(&gateway, "ejections"), 0.0, "the loser says nothing against its endpoint");
    }
}

#[test]
fn what_may_not_be_repeated_is_not_sent_twice() {
    let origins = ["slow", "quick"].map(Origin::start);
    let gateway = start(&origins, "");
    let hedges = event(&gateway, "hedges");
    origins.iter().for_each(|origin| origin.set_delay(Duration::from_millis(300)));
    for _ in 0..4 {
        gateway.client().send(Method::POST, "/", &[], b"order".to_vec()).expect(200);
    }
    // Of the GETs of the beginning, copies that were cancelled may arrive at any time.
    let posts = origins.iter().flat_map(Origin::seen).filter(|seen| seen.method == Method::POST);
    assert_eq!(posts.count(), 4);
    assert_eq!(event(&gateway, "hedges"), hedges);
}

#[test]
fn no_more_second_copies_are_sent_than_the_budget_allows() {
    let origins = ["a", "b"].map(Origin::start);
    let gateway = start(&origins, "retry = { budget = 10, budget_min = 0 }");
    // Both are slow now, so that each request would have a second copy.
    origins.iter().for_each(|origin| origin.set_delay(Duration::from_millis(200)));
    let report = Load::to(gateway.address()).connections(50).run_count(1_000);
    report.expect_no_failures();
    let offered = report.total() as f64 + 400.0;
    let (hedges, refused) = (event(&gateway, "hedges"), event(&gateway, "over-budget"));
    println!("{offered} requests, {hedges} second copies, {refused} not within the budget");
    assert!(hedges <= 0.1 * offered + 8.0, "{hedges} of {offered}");
    assert!(hedges > 20.0 && refused > 100.0, "{hedges} sent, {refused} not");
}
