use super::*;
use crate::{Outcome, random::mix, testing};

const SECOND: u64 = 1_000_000;
/// How often the gateway asks at the least.
const STEP: u64 = 100_000;

/// The gateway's part: applies ejections with its clock, as `wit/failover.wit` says.
struct Bed {
    outliers: Outliers,
    endpoints: Vec<Endpoint>,
    ejected_until: Vec<u64>,
    now: u64,
    log: Vec<(Slot, u32, String)>,
}

impl Bed {
    fn new(settings: &str, endpoints: u32) -> Self {
        let mut settings = Settings::parse(settings);
        let outliers = Outliers::from_settings(&mut settings);
        assert!(settings.finish().is_empty());
        let endpoints: Vec<_> = (0..endpoints).map(testing::endpoint).collect();
        let ejected_until = vec![0; endpoints.len()];
        let mut bed = Self { outliers, endpoints, ejected_until, now: SECOND, log: Vec::new() };
        bed.outliers.update(&bed.endpoints, bed.now);
        bed
    }

    /// Ends ejections whose time is over.
    fn pass(&mut self, us: u64) {
        self.now += us;
        let mut changed = false;
        for (endpoint, until) in self.endpoints.iter_mut().zip(&self.ejected_until) {
            if !endpoint.available && *until <= self.now {
                (endpoint.available, endpoint.since) = (true, self.now);
                changed = true;
            }
        }
        if changed {
            self.outliers.update(&self.endpoints, self.now);
        }
    }

    fn observe(&mut self, observations: &[Observation]) {
        let changes = self.outliers.observe(observations, self.now);
        for change in &changes {
            if let Change::Eject(Ejection { slot, duration_ms, reason }) = change {
                self.endpoints[*slot as usize].available = false;
                self.ejected_until[*slot as usize] = self.now + u64::from(*duration_ms) * 1_000;
                self.log.push((*slot, *duration_ms, reason.clone()));
            }
        }
        if !changes.is_empty() {
            self.outliers.update(&self.endpoints, self.now);
        }
    }

    fn fail(&mut self, slot: Slot, times: u32) {
        self.see(slot, Outcome::GatewayError, times);
    }

    fn see(&mut self, slot: Slot, outcome: Outcome, times: u32) {
        let observations: Vec<_> = (0..times).map(|_| testing::traffic(slot, outcome, self.now)).collect();
        self.observe(&observations);
    }

    /// Time passes, as the gateway lets it, with nothing to see.
    fn wait(&mut self, us: u64) {
        for _ in 0..us / STEP {
            self.pass(STEP);
            self.observe(&[]);
        }
    }

    fn ejected(&self) -> Vec<Slot> {
        self.endpoints.iter().filter(|endpoint| !endpoint.available).map(|endpoint| endpoint.slot).collect()
    }
}

#[test]
fn five_failures_in_a_row_of_whatever_kind_eject() {
    let mut bed = Bed::new("{}", 3);
    for outcome in [Outcome::ServerError, Outcome::GatewayError, Outcome::ConnectFailed, Outcome::Reset] {
        bed.see(1, outcome, 1);
    }
    assert!(bed.ejected().is_empty());
    bed.see(1, Outcome::TimedOut, 1);
    assert_eq!(bed.log, [(1, 30_000, "5 consecutive failures, the last timed-out".to_owned())]);
}

#[test]
fn an_answer_starts_the_row_anew_and_what_blames_nobody_does_not() {
    let mut bed = Bed::new("{}", 3);
    for outcome in [Outcome::Success, Outcome::ClientError] {
        bed.fail(1, 4);
        bed.see(1, outcome, 1);
        bed.fail(1, 4);
        assert!(bed.ejected().is_empty());
        bed.see(1, Outcome::Success, 1);
    }
    bed.fail(1, 4);
    bed.see(1, Outcome::Cancelled, 10);
    bed.see(1, Outcome::Overloaded, 10);
    assert!(bed.ejected().is_empty(), "an endpoint is not ejected for being busy");
    bed.fail(1, 1);
    assert_eq!(bed.ejected(), [1]);
}

#[test]
fn active_checks_neither_eject_nor_readmit() {
    let mut bed = Bed::new("{}", 3);
    let check = |outcome, at| Observation { source: Source::ActiveCheck, ..testing::traffic(1, outcome, at) };
    bed.observe(&[check(Outcome::ConnectFailed, bed.now); 20]);
    assert!(bed.ejected().is_empty());
    bed.fail(1, 5);
    bed.pass(STEP);
    bed.observe(&[check(Outcome::Success, bed.now); 20]);
    assert_eq!(bed.ejected(), [1]);
}

#[test]
fn each_ejection_is_longer_up_to_the_cap_and_healthy_intervals_forgive() {
    let mut bed = Bed::new(r#"{"success_rate_stdevs": 0}"#, 3);
    for wanted_s in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300] {
        bed.fail(0, 5);
        assert_eq!(bed.log.last().map(|(_, ms, _)| ms / 1_000), Some(wanted_s));
        bed.wait(u64::from(wanted_s) * SECOND);
        assert!(bed.ejected().is_empty());
    }
    // The interval that the readmission fell into, and three that were healthy as a whole.
    bed.wait(39 * SECOND);
    bed.fail(0, 5);
    let (_, ms, _) = bed.log.last().expect("ejected");
    assert_eq!(*ms, 240_000, "10 times, less three, and once more");
    bed.wait(240 * SECOND + 200 * SECOND);
    bed.fail(0, 5);
    assert_eq!(bed.log.last().map(|(_, ms, _)| *ms), Some(30_000), "all is forgiven");
}

#[test]
fn one_may_always_be_ejected_and_beyond_that_only_the_share() {
    for (max_ejected, all, wanted) in
        [(10, 3, 1), (10, 10, 1), (10, 19, 1), (10, 20, 2), (50, 10, 5), (100, 4, 3), (0, 4, 0), (10, 1, 0)]
    {
        let mut bed = Bed::new(&format!(r#"{{"max_ejected": {max_ejected}}}"#), all);
        for slot in 0..all {
            bed.fail(slot, 10);
        }
        assert_eq!(bed.ejected().len(), wanted, "{max_ejected} % of {all}");
    }
}

#[test]
fn the_last_endpoint_that_gets_traffic_stays() {
    let mut bed = Bed::new(r#"{"max_ejected": 100}"#, 3);
    bed.endpoints[0].available = false;
    bed.ejected_until[0] = u64::MAX;
    bed.fail(1, 5);
    bed.fail(2, 5);
    assert_eq!(bed.ejected(), [0, 1]);
}

#[test]
fn what_began_before_the_readmission_does_not_eject_again() {
    let mut bed = Bed::new("{}", 3);
    bed.fail(1, 5);
    bed.wait(30 * SECOND);
    assert!(bed.ejected().is_empty());
    bed.pass(SECOND);
    let late = |total_us, at| {
        let mut observation = testing::traffic(1, Outcome::TimedOut, at);
        observation.completion.total_us = total_us;
        observation
    };
    bed.observe(&[late(15 * SECOND as u32, bed.now); 50]);
    assert!(bed.ejected().is_empty(), "these were sent while it was ejected");
    bed.observe(&[late(500_000, bed.now); 5]);
    assert_eq!(bed.ejected(), [1]);
}

/// A request a millisecond to each of the endpoints for an interval; `rates` are the shares that succeed, in percent.
fn interval(bed: &mut Bed, rates: &[u64], requests: u64) {
    for n in 0..requests {
        for (slot, rate) in rates.iter().enumerate() {
            let works = mix(slot as u64, n) % 100 < *rate;
            let outcome = if works { Outcome::Success } else { Outcome::ServerError };
            bed.observe(&[testing::traffic(slot as u32, outcome, bed.now)]);
        }
    }
    bed.wait(10 * SECOND + STEP);
}

#[test]
fn an_endpoint_that_succeeds_less_than_the_others_is_ejected_at_the_end_of_the_interval() {
    let settings = r#"{"consecutive": 0}"#;
    let mut bed = Bed::new(settings, 6);
    interval(&mut bed, &[100, 100, 100, 70, 100, 100], 200);
    assert_eq!(bed.ejected(), [3]);
    assert!(bed.log[0].2.starts_with("success rate ") && bed.log[0].2.ends_with("1.9 standard deviations"));

    let mut few = Bed::new(settings, 4);
    interval(&mut few, &[100, 100, 70, 100], 200);
    assert!(few.ejected().is_empty(), "four endpoints say too little");

    let mut calm = Bed::new(settings, 6);
    interval(&mut calm, &[100, 100, 100, 0, 100, 100], 99);
    assert!(calm.ejected().is_empty(), "99 requests say too little");

    let mut alike = Bed::new(settings, 6);
    interval(&mut alike, &[50; 6], 200);
    assert!(alike.ejected().len() <= 1, "where all fail alike nobody is an outlier, or one by chance");

    let mut off = Bed::new(r#"{"consecutive": 0, "success_rate_stdevs": 0}"#, 6);
    interval(&mut off, &[100, 100, 100, 0, 100, 100], 200);
    assert!(off.ejected().is_empty());
}

#[test]
fn the_worst_is_ejected_where_there_is_room_for_one() {
    let settings = r#"{"consecutive": 0, "success_rate_stdevs": 0, "failure_percentage": 85}"#;
    let mut bed = Bed::new(settings, 6);
    interval(&mut bed, &[100, 10, 100, 0, 5, 100], 60);
    assert_eq!(bed.log, [(3, 30_000, "100 % of its requests failed".to_owned())]);
    let mut below = Bed::new(settings, 6);
    interval(&mut below, &[100, 30, 100, 30, 30, 100], 60);
    assert!(below.ejected().is_empty());
}

#[test]
fn counts_of_one_interval_do_not_reach_into_the_next() {
    let mut bed = Bed::new(r#"{"consecutive": 0}"#, 6);
    for _ in 0..3 {
        interval(&mut bed, &[100, 100, 100, 20, 100, 100], 99);
    }
    assert!(bed.ejected().is_empty());
}

#[test]
fn who_is_unavailable_already_is_not_ejected_too() {
    let mut bed = Bed::new(r#"{"consecutive": 0}"#, 7);
    bed.see(6, Outcome::Reset, 200);
    bed.endpoints[6].available = false;
    bed.ejected_until[6] = u64::MAX;
    bed.outliers.update(&bed.endpoints, bed.now);
    interval(&mut bed, &[100; 6], 200);
    assert!(bed.log.is_empty());
}

#[test]
fn an_ejection_that_the_gateway_did_not_apply_is_not_held_against_the_endpoint() {
    let mut bed = Bed::new("{}", 3);
    for _ in 0..4 {
        bed.fail(1, 5);
        // The gateway says nothing of it: the membership is as it was.
        bed.endpoints[1].available = true;
        bed.outliers.update(&bed.endpoints, bed.now);
        bed.wait(SECOND);
    }
    assert_eq!(bed.log.iter().map(|(_, ms, _)| *ms).collect::<Vec<_>>(), [30_000; 4]);
}

#[test]
fn a_membership_from_before_an_ejection_does_not_undo_it() {
    let mut bed = Bed::new("{}", 3);
    let before = bed.endpoints.clone();
    bed.fail(1, 5);
    bed.outliers.update(&before, bed.now);
    bed.wait(SECOND / 2);
    bed.outliers.update(&bed.endpoints, bed.now);
    bed.wait(30 * SECOND);
    bed.fail(1, 5);
    assert_eq!(bed.log.last().map(|(_, ms, _)| *ms), Some(60_000));
}

#[test]
fn ejections_and_multipliers_survive_a_swap() {
    let mut bed = Bed::new("{}", 3);
    bed.fail(1, 5);
    bed.wait(30 * SECOND);
    bed.fail(1, 5);
    bed.pass(SECOND);
    let state = bed.outliers.save();
    let mut next = Bed::new("{}", 3);
    next.now = bed.now;
    (next.endpoints, next.ejected_until) = (bed.endpoints, bed.ejected_until);
    next.outliers.update(&next.endpoints, next.now);
    next.outliers.restore(&state).expect("its own format");
    next.fail(2, 5);
    assert_eq!(next.ejected(), [1], "there is room for one, and it is taken");
    next.wait(59 * SECOND);
    assert!(next.ejected().is_empty());
    next.fail(1, 5);
    assert_eq!(next.log.last().map(|(_, ms, _)| *ms), Some(90_000), "the third time");
}

#[test]
fn who_was_readmitted_before_the_swap_is_not_thought_ejected_after_it() {
    let mut bed = Bed::new("{}", 3);
    bed.fail(1, 5);
    let mut next = Bed::new("{}", 3);
    next.outliers.restore(&bed.outliers.save()).expect("its own format");
    next.fail(1, 5);
    assert_eq!(next.log.iter().map(|(slot, ms, _)| (*slot, *ms)).collect::<Vec<_>>(), [(1, 60_000)]);
}

#[test]
fn nothing_learned_is_nothing_saved_and_foreign_states_are_refused() {
    let mut bed = Bed::new("{}", 3);
    assert!(bed.outliers.save().is_empty());
    assert!(bed.outliers.restore(b"something/1\n").is_err());
}

#[test]
fn a_probation_that_another_policy_began_ends_with_an_admission() {
    let mut bed = Bed::new("{}", 2);
    bed.endpoints[1].available = false;
    bed.ejected_until[1] = u64::MAX;
    bed.outliers.update(&bed.endpoints, bed.now);
    let state = saved([Saved { key: bed.endpoints[1].key, until: Some(bed.now - 1), times: 1 }].into_iter());
    bed.outliers.restore(&state).expect("the shared format");
    assert_eq!(bed.outliers.observe(&[], bed.now), [Change::Admit(1)]);
}

#[test]
fn completions_of_endpoints_that_are_not_there_teach_nothing() {
    let mut bed = Bed::new("{}", 2);
    bed.see(7, Outcome::Reset, 100);
    bed.see(Slot::MAX, Outcome::Reset, 100);
    assert!(bed.ejected().is_empty());
}

#[test]
fn wrong_rules_are_all_reported() {
    let mut settings =
        Settings::parse(r#"{"consecutive": -1, "interval": 10, "max_ejection": "1 s", "max_ejected": 101}"#);
    Outliers::from_settings(&mut settings);
    let paths: Vec<_> = settings.finish().into_iter().map(|problem| problem.path).collect();
    assert_eq!(paths, ["/consecutive", "/interval", "/max_ejected", "/max_ejection"]);
}
