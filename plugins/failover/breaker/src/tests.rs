use super::*;
use sluice_sdk::{
    Outcome,
    failover::Outliers,
    testing::{context, endpoint, failure, traffic},
};

const SECOND: u64 = 1_000_000;

fn policy(settings: &str) -> Breaker {
    let mut settings = Settings::parse(settings);
    let mut policy = Breaker::configure(&context(), &mut settings);
    assert!(settings.finish().is_empty());
    policy.update(&members(&[]), 0);
    policy
}

fn members(unavailable: &[Slot]) -> Vec<Endpoint> {
    (0..3).map(|slot| Endpoint { available: !unavailable.contains(&slot), ..endpoint(slot) }).collect()
}

fn failures(slot: Slot, at: InstantUs) -> Vec<Observation> {
    vec![traffic(slot, Outcome::Reset, at); 7]
}

#[test]
fn an_endpoint_goes_through_ejection_and_probation_back_into_service() {
    let mut policy = policy(r#"{"jitter": 0}"#);
    let reason = "7 consecutive failures, the last reset".to_owned();
    let wanted = [Change::Eject(Ejection { slot: 1, duration_ms: 2_000, reason })];
    assert_eq!(policy.observe(&failures(1, SECOND), SECOND), wanted, "the penalty, and a second for the probe to come");
    policy.update(&members(&[1]), SECOND);
    assert!(policy.observe(&failures(1, SECOND), SECOND + 1).is_empty(), "what panic sends there teaches nothing");
    assert_eq!(policy.observe(&[], 2 * SECOND), [Change::Probe(1)]);
    policy.update(&members(&[1]), 2 * SECOND);
    let mut late = traffic(1, Outcome::Success, 3 * SECOND);
    late.completion.total_us = 1_000_001;
    assert!(policy.observe(&[late], 3 * SECOND).is_empty(), "it began before the probation");
    let reason = "the probe failed: timed-out".to_owned();
    let wanted = [Change::Eject(Ejection { slot: 1, duration_ms: 3_000, reason })];
    assert_eq!(policy.observe(&[traffic(1, Outcome::TimedOut, 3 * SECOND)], 3 * SECOND), wanted);
    assert_eq!(policy.observe(&[], 5 * SECOND), [Change::Probe(1)]);
    assert!(policy.observe(&[traffic(1, Outcome::Cancelled, 6 * SECOND)], 6 * SECOND).is_empty(), "says nothing");
    assert_eq!(policy.observe(&[traffic(1, Outcome::Success, 7 * SECOND)], 7 * SECOND), [Change::Admit(1)]);
}

#[test]
fn an_ejection_that_the_gateway_did_not_apply_is_begun_again_as_the_first() {
    let mut policy = policy(r#"{"jitter": 0, "min_penalty": "5 s"}"#);
    for now in [SECOND, 2 * SECOND, 3 * SECOND] {
        let changes = policy.observe(&failures(1, now), now);
        assert!(matches!(&changes[..], [Change::Eject(ejection)] if ejection.duration_ms == 6_000), "{changes:?}");
        policy.update(&members(&[]), now + 1);
        assert!(policy.observe(&failures(1, now + 2), now + 2).is_empty(), "it may yet be applied");
    }
}

#[test]
fn active_checks_do_not_decide() {
    let mut policy = policy("{}");
    let check = |observation: Observation| Observation { source: Source::ActiveCheck, ..observation };
    assert!(policy.observe(&failures(1, 5).into_iter().map(check).collect::<Vec<_>>(), 5).is_empty());
}

#[test]
fn ejections_survive_a_swap_between_breakers_and_from_and_to_outlier_detection() {
    let mut old = policy(r#"{"jitter": 0}"#);
    old.observe(&failures(1, SECOND), SECOND);
    let mut new = policy(r#"{"jitter": 0}"#);
    new.update(&members(&[1]), SECOND);
    new.restore(&old.save()).expect("its own format");
    assert!(new.observe(&[], 2 * SECOND - 1).is_empty());
    assert_eq!(new.observe(&[], 2 * SECOND), [Change::Probe(1)]);

    let mut outliers = Outliers::from_settings(&mut Settings::parse("{}"));
    outliers.update(&members(&[1]), SECOND);
    outliers.restore(&old.save()).expect("the shared format");
    assert_eq!(outliers.observe(&[], 2 * SECOND), [Change::Admit(1)]);

    outliers.update(&members(&[]), 3 * SECOND);
    outliers.observe(&failures(2, 3 * SECOND), 3 * SECOND);
    let mut back = policy("{}");
    back.update(&members(&[2]), 3 * SECOND);
    back.restore(&outliers.save()).expect("the shared format");
    assert_eq!(back.observe(&[], 33 * SECOND), [Change::Probe(2)], "after the 30 s that it had");
}

#[test]
fn who_was_readmitted_before_the_swap_is_not_probed_after_it() {
    let mut old = policy("{}");
    old.observe(&failures(1, SECOND), SECOND);
    let mut new = policy("{}");
    new.restore(&old.save()).expect("its own format");
    assert!(new.observe(&[], 60 * SECOND).is_empty());
}

#[test]
fn it_retries_as_standard_does() {
    assert_eq!(policy("{}").decide(&failure(Outcome::Reset)), Verdict::Retry(0));
    assert_eq!(policy(r#"{"attempts": 1}"#).decide(&failure(Outcome::Reset)), Verdict::GiveUp);
}

#[test]
fn wrong_settings_are_all_reported() {
    let mut settings = Settings::parse(
        r#"{"consecutive": 0, "min_penalty": "2 min", "max_penalty": "1 min", "jitter": 2, "attempts": 0, "probe": 1}"#,
    );
    Breaker::configure(&context(), &mut settings);
    let paths: Vec<_> = settings.finish().into_iter().map(|problem| problem.path).collect();
    assert_eq!(paths, ["/consecutive", "/jitter", "/max_penalty", "/attempts", "/probe"]);
}
