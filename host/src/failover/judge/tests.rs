use std::time::Duration;

use super::*;
use crate::model::{HostPort, Percent, Weight};

const SECOND_US: u64 = 1_000_000;

fn member(slot: Slot) -> EndpointState {
    let label: HostPort = format!("10.0.0.1:{}", 9000 + slot).parse().expect("an address");
    let address = label.socket_addr().expect("an address");
    EndpointState {
        endpoint: Endpoint::new("orders".parse().expect("a name"), slot, u64::from(slot), address, label),
        weight: Weight::ONE,
        priority: 0,
        zone: String::new(),
        metadata: Vec::new(),
        healthy: true,
        available: true,
        since_us: 0,
    }
}

fn judge(members: &[EndpointState], percent: i64) -> Judge {
    let percent_max = Percent::new(percent).expect("a share");
    let limits = EjectionLimits { percent_max, duration_max: Duration::from_secs(60) };
    let mut judge = Judge::new(limits, Shared::new(1, 0));
    judge.set_members(members);
    judge
}

fn eject(slot: Slot, duration_ms: u32) -> HealthChange {
    HealthChange::Eject { slot, duration_ms, reason: "five failures in a row".to_owned() }
}

fn fit(members: &[EndpointState]) -> Vec<Slot> {
    members.iter().map(|member| &member.endpoint).filter(|end| end.fitness.is_fit()).map(|end| end.slot).collect()
}

#[test]
fn one_may_always_be_ejected_and_the_last_never() {
    let members: Vec<_> = (0..2).map(member).collect();
    let mut judge = judge(&members, 10);
    let ruling = judge.apply(eject(0, 1_000), 0).expect("one is always allowed").expect("a ruling");
    assert_eq!(ruling.kind, RulingKind::Ejected { for_ms: 1_000 });
    assert_eq!(judge.apply(eject(1, 1_000), 0).expect_err("the last one"), Overruled::Last);
    assert_eq!(fit(&members), [1]);
}

#[test]
fn who_fails_its_checks_or_is_unhealthy_is_not_one_that_is_left() {
    let mut members: Vec<_> = (0..3).map(member).collect();
    members[1].healthy = false;
    members[2].endpoint.fitness.set_passes_checks(false);
    let mut judge = judge(&members, 100);
    assert_eq!(judge.apply(eject(0, 1_000), 0).expect_err("no other is fit"), Overruled::Last);
    members[2].endpoint.fitness.set_passes_checks(true);
    judge.begin();
    assert!(judge.apply(eject(0, 1_000), 0).is_ok());
}

#[test]
fn no_more_than_the_share_is_out_at_once() {
    let members: Vec<_> = (0..10).map(member).collect();
    let mut judge = judge(&members, 30);
    let allowed = (0..10).filter(|&slot| judge.apply(eject(slot, 1_000), 0).is_ok()).count();
    assert_eq!(allowed, 3);
    assert_eq!(judge.expire(SECOND_US).len(), 3);
    assert_eq!(fit(&members).len(), 10);
}

#[test]
fn an_ejection_ends_by_itself_and_is_no_longer_than_may_be() {
    let members: Vec<_> = (0..3).map(member).collect();
    let mut judge = judge(&members, 50);
    judge.apply(eject(0, 3_600_000), 0).expect("allowed");
    // Saying it again and again does not prolong it.
    assert!(judge.apply(eject(0, 3_600_000), 30 * SECOND_US).expect("no violation").is_none());
    assert!(judge.expire(59 * SECOND_US).is_empty());
    assert_eq!(judge.next_expiry_us(), Some(60 * SECOND_US));
    let rulings = judge.expire(60 * SECOND_US);
    assert_eq!((rulings.len(), rulings[0].kind), (1, RulingKind::Readmitted));
    assert_eq!(fit(&members), [0, 1, 2]);
    for wrong in [0, 3_600_001, u32::MAX] {
        assert_eq!(judge.apply(eject(0, wrong), 0).expect_err("out of range"), Overruled::Duration(wrong));
    }
}

#[test]
fn a_probed_endpoint_gets_one_request_until_that_was_observed() {
    let members: Vec<_> = (0..3).map(member).collect();
    let mut judge = judge(&members, 50);
    let fitness = &members[0].endpoint.fitness;
    judge.apply(eject(0, 1_000), 0).expect("allowed");
    assert!(!fitness.take_probe(), "it is ejected");
    judge.apply(HealthChange::Probe(0), 0).expect("allowed");
    assert!(judge.shared.is_probing());
    assert!(fitness.take_probe() && !fitness.take_probe());
    judge.see(1, 0);
    judge.observed(1);
    assert!(!fitness.take_probe(), "another endpoint's request");
    judge.see(0, 0);
    judge.observed(0);
    assert!(fitness.take_probe());
    judge.apply(HealthChange::Admit(0), 0).expect("allowed").expect("a ruling");
    assert!(fitness.is_fit() && !judge.shared.is_probing());
}

#[test]
fn a_policy_that_falls_silent_while_it_probes_is_readmitted_for() {
    let members: Vec<_> = (0..3).map(member).collect();
    let mut judge = judge(&members, 50);
    judge.apply(HealthChange::Probe(2), 0).expect("allowed");
    assert_eq!(fit(&members), [0, 1]);
    assert_eq!(judge.expire(60 * SECOND_US).len(), 1);
    assert_eq!(fit(&members), [0, 1, 2]);
}

#[test]
fn verdicts_outlive_other_members_and_end_with_the_endpoint() {
    let members: Vec<_> = (0..4).map(member).collect();
    let mut judge = judge(&members, 100);
    judge.apply(eject(0, 10_000), 0).expect("allowed");
    judge.apply(eject(1, 10_000), 0).expect("allowed");
    judge.set_members(&members[1..]);
    assert_eq!(fit(&members), [0, 2, 3], "who left is as new, who stays is still out");
    assert!(judge.apply(eject(0, 1_000), 0).expect("no violation").is_none(), "it is no member");
    drop(judge);
    assert_eq!(fit(&members), [0, 1, 2, 3]);
}

#[test]
fn a_policy_cannot_make_an_endpoint_flap() {
    let members: Vec<_> = (0..3).map(member).collect();
    let mut judge = judge(&members, 50);
    let mut taken_out = 0;
    for _ in 0..100 {
        taken_out += u32::from(judge.apply(eject(0, 1_000), 0).is_ok_and(|ruling| ruling.is_some()));
        judge.apply(HealthChange::Admit(0), 0).expect("allowed");
    }
    assert_eq!(taken_out, FLAPS_MAX);
    assert!(judge.apply(eject(0, 1_000), FLAPS_WITHIN_US).expect("later again").is_some());
}

#[test]
fn an_ejection_is_not_prolonged_by_a_probing_without_a_probe() {
    let members: Vec<_> = (0..3).map(member).collect();
    let mut judge = judge(&members, 50);
    judge.apply(eject(0, 10_000), 0).expect("allowed");
    for second in 0..30 {
        judge.apply(HealthChange::Probe(0), second * SECOND_US).expect("allowed");
        judge.apply(eject(0, 10_000), second * SECOND_US).expect("no violation");
    }
    assert!(matches!(judge.standing(0), Some(Standing::Probed { .. })), "it waits for its probe");
    assert!(members[0].endpoint.fitness.take_probe());
    judge.see(0, 20 * SECOND_US);
    assert!(judge.apply(eject(0, 10_000), 31 * SECOND_US).expect("allowed").is_some(), "now its probe was seen");
}

#[test]
fn many_verdicts_in_one_answer_are_counted_one_by_one() {
    let members: Vec<_> = (0..10).map(member).collect();
    let mut judge = judge(&members, 100);
    judge.begin();
    let allowed = (0..10).filter(|&slot| judge.apply(eject(slot, 1_000), 0).is_ok()).count();
    assert_eq!(allowed, 9, "the last one stays");
    judge.apply(HealthChange::Admit(3), 0).expect("allowed");
    assert!(judge.apply(eject(9, 1_000), 0).is_ok(), "another one is fit now");
}
