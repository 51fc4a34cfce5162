use super::*;
use sluice_sdk::{
    Outcome,
    testing::{context, endpoint, failure, traffic},
};

fn policy(settings: &str) -> Standard {
    let mut settings = Settings::parse(settings);
    let mut policy = Standard::configure(&context(), &mut settings);
    assert!(settings.finish().is_empty());
    policy.update(&[endpoint(0), endpoint(1)], 0);
    policy
}

#[test]
fn a_lost_connection_costs_the_client_nothing_and_the_endpoint_its_traffic() {
    let mut policy = policy("{}");
    assert_eq!(policy.decide(&failure(Outcome::ConnectFailed)), Verdict::Retry(0));
    let changes = policy.observe(&[traffic(1, Outcome::ConnectFailed, 5); 5], 10);
    assert!(matches!(&changes[..], [Change::Eject(ejection)] if ejection.slot == 1), "{changes:?}");
}

#[test]
fn the_black_hole_of_a_named_configuration_gets_no_traffic_after_its_fifth_timeout() {
    let mut policy = policy(r#"{"consecutive": 5, "base_ejection": "2 s", "max_ejected": 50}"#);
    assert!(policy.observe(&[traffic(0, Outcome::TimedOut, 500_000); 4], 500_000).is_empty());
    let changes = policy.observe(&[traffic(0, Outcome::TimedOut, 600_000)], 600_000);
    assert!(matches!(&changes[..], [Change::Eject(ejection)] if ejection.duration_ms == 2_000), "{changes:?}");
}

#[test]
fn settings_of_both_halves_are_known_and_others_are_not() {
    let mut settings = Settings::parse(
        r#"{"attempts": 2, "retry_on": ["reset"], "backoff": "5 ms", "backoff_max": "1 s", "fall_back": "static",
            "consecutive": 3, "interval": "5 s", "base_ejection": "10 s", "max_ejection": "1 min", "max_ejected": 50,
            "success_rate_stdevs": 2.5, "success_rate_hosts": 3, "success_rate_requests": 50,
            "failure_percentage": 85, "failure_percentage_hosts": 3, "failure_percentage_requests": 20, "retries": 1}"#,
    );
    Standard::configure(&context(), &mut settings);
    let paths: Vec<_> = settings.finish().into_iter().map(|problem| problem.path).collect();
    assert_eq!(paths, ["/retries"]);
}
