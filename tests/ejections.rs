//! An ejection, and its end, are told wherever an operator looks: each with its reason.

use std::time::Duration;

use serde_json::Value;
use sluice_harness::{Load, Origin, any_route, control::text, sluice, wait_for, wait_until};

const POLICY: &str = "failover = { plugin = \"standard\", settings = { consecutive = 5, base_ejection = \"3 s\", max_ejection = \"3 s\" } }";

/// For three seconds to pass, and to be looked at, on a busy machine.
const READMITTED_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn an_ejection_and_a_readmission_are_in_the_log_the_metrics_and_the_history_with_their_reasons() {
    let origins = ["a", "b", "c"].map(Origin::start);
    let addresses = origins.each_ref().map(Origin::address);
    let gateway = sluice!().config(any_route("orders", &addresses, POLICY)).start();
    let victim = addresses[1].to_string();
    let label = format!("endpoint=\"{victim}\"");
    let sum = |metric: &str| gateway.metric(metric, &["service=\"orders\"", &label]);
    // Newest first, of the one endpoint.
    let told = |what: &str| -> Option<Value> {
        let history = gateway.health_history("orders");
        history.into_iter().find(|entry| entry["endpoint"] == victim && entry["what"] == what)
    };
    let load = Load::to(gateway.address()).rate(100.0).start();
    load.await_more(50);
    assert_eq!((sum("sluice_endpoint_ejections_total"), sum("sluice_endpoint_available")), (0.0, 1.0));
    origins[1].set_failures(1000, 503);

    // Whoever looks in between finds it out of traffic, and the reason not yet noted.
    let (seen, ejected) = wait_for("the endpoint to be ejected", READMITTED_WITHIN, || {
        let ejected = told("ejected")?;
        let metrics = gateway.control().get("/metrics").expect(200).text();
        let is_it = |line: &&str| line.starts_with("sluice_endpoint_ejected{") && line.contains(&label);
        Some((metrics.lines().find(is_it)?.to_owned(), ejected))
    });
    let reason = text(&ejected["reason"]);
    println!("{seen}");
    assert!(
        !reason.is_empty() && seen.contains(&format!("reason=\"{reason}\"")) && seen.ends_with(" 1.0"),
        "{ejected}"
    );
    assert_eq!(ejected["for_ms"], 3_000, "{ejected}");
    gateway.await_log(&["an endpoint is ejected", "service=orders", &victim, &reason]);
    assert!(sum("sluice_endpoint_ejections_total") >= 1.0);

    origins[1].set_failures(0, 503);
    let readmitted = wait_for("the endpoint to be readmitted", READMITTED_WITHIN, || told("readmitted"));
    let reason = text(&readmitted["reason"]);
    println!("{readmitted}");
    assert!(!reason.is_empty(), "{readmitted}");
    gateway.await_log(&["an endpoint's standing has changed", "service=orders", &victim, "readmitted", &reason]);
    wait_until("the metrics to say so", || sum("sluice_endpoint_available") == 1.0);
    assert_eq!(sum("sluice_endpoint_ejected"), 0.0);
    assert!(gateway.failover_events("orders", "ejections") >= 1.0);
    assert!(gateway.failover_events("orders", "readmissions") >= 1.0);
    let before = origins[1].requests();
    wait_until("it has its share again", || origins[1].requests() > before + 10);
    load.stop().expect_no_failures();
}
