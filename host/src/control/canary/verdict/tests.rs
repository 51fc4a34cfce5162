//! Candidates of known quality, seeded: bad ones go within a bounded number of requests, good ones never.

use super::*;
use crate::telemetry::{Histogram, PluginTotals};

/// How a version behaves.
#[derive(Clone, Copy)]
struct Arm {
    error_rate: f64,
    trap_rate: f64,
    /// Median of its latency, in microseconds.
    median_us: f64,
    /// Of the logarithm: 0.1 is a cache, 1 a service under load.
    spread: f64,
}

const GOOD: Arm = Arm { error_rate: 0.0, trap_rate: 0.0, median_us: 5_000.0, spread: 0.5 };

#[derive(Default)]
struct Counted {
    totals: PluginTotals,
    latency: Histogram,
}

impl Counted {
    fn serve(&mut self, arm: Arm, random: &mut fastrand::Rng) {
        self.totals.picks += 1;
        self.totals.attempts += 1;
        self.totals.failures += u64::from(random.f64() < arm.error_rate);
        self.totals.traps += u64::from(random.f64() < arm.trap_rate);
        // Three uniforms less their mean, times two, are near enough to a normal of deviation 1.
        let normal = 2.0 * (random.f64() + random.f64() + random.f64() - 1.5);
        self.latency.record_us((arm.median_us * (arm.spread * normal).exp()) as u64);
    }

    fn totals(&self) -> PluginTotals {
        PluginTotals { latency: self.latency.snapshot(), ..self.totals.clone() }
    }
}

/// After how many of the candidate's requests it was withdrawn, asked after every `look` requests of both; none
/// within `requests` of the candidate.
fn withdrawn_after(incumbent: Arm, candidate: Arm, percent: u8, requests: u64, look: u64, seed: u64) -> Option<u64> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut old, mut new) = (Counted::default(), Counted::default());
    for n in 1.. {
        if random.u8(0..100) < percent {
            new.serve(candidate, &mut random);
        } else {
            old.serve(incumbent, &mut random);
        }
        let served = new.totals.attempts;
        if n % look == 0 {
            let comparison = Comparison { incumbent: old.totals(), candidate: new.totals() };
            if verdict(&comparison, &THRESHOLDS) != Verdict::Keep {
                return Some(served);
            }
        }
        if served >= requests {
            return None;
        }
    }
    None
}

/// The largest number of requests over some seeds, each of which must end in a withdrawal.
fn slowest(incumbent: Arm, candidate: Arm, percent: u8, bound: u64, runs: u64) -> u64 {
    let after = (0..runs).map(|seed| {
        let after = withdrawn_after(incumbent, candidate, percent, bound, 50, seed);
        after.unwrap_or_else(|| panic!("seed {seed}: still there after {bound} requests"))
    });
    let slowest = after.max().unwrap_or_default();
    println!("withdrawn after at most {slowest} requests");
    slowest
}

#[test]
fn three_percent_of_errors_are_withdrawn_within_2000_requests() {
    slowest(GOOD, Arm { error_rate: 0.03, ..GOOD }, 10, 2_000, 200);
}

#[test]
fn three_percent_of_errors_are_withdrawn_within_4000_requests_of_each_arm() {
    slowest(GOOD, Arm { error_rate: 0.03, ..GOOD }, 50, 4_000, 100);
}

#[test]
fn errors_on_top_of_the_incumbents_own_are_withdrawn() {
    let incumbent = Arm { error_rate: 0.02, ..GOOD };
    slowest(incumbent, Arm { error_rate: 0.06, ..GOOD }, 20, 6_000, 50);
}

#[test]
fn doubled_latency_is_withdrawn_within_1000_requests() {
    slowest(GOOD, Arm { median_us: 10_000.0, ..GOOD }, 10, 1_000, 200);
    let narrow = Arm { spread: 0.05, ..GOOD };
    slowest(narrow, Arm { median_us: 10_000.0, ..narrow }, 10, 200, 200);
}

#[test]
fn doubled_latency_of_a_scattered_service_takes_longer() {
    let wide = Arm { spread: 1.0, ..GOOD };
    slowest(wide, Arm { median_us: 10_000.0, ..wide }, 10, 5_000, 50);
}

#[test]
fn one_trap_in_1000_picks_is_withdrawn_within_10000_requests() {
    // (1 − 1/1000)^10,000 is 5 in 100,000.
    slowest(GOOD, Arm { trap_rate: 0.001, ..GOOD }, 50, 10_000, 50);
}

#[test]
fn thousands_of_good_candidates_are_never_withdrawn() {
    for seed in 0..3_000 {
        let arm = Arm {
            error_rate: [0.0, 0.001, 0.03, 0.2][seed as usize % 4],
            spread: [0.05, 0.5, 1.0][seed as usize % 3],
            ..GOOD
        };
        let after = withdrawn_after(arm, arm, 20, 500, 250, seed);
        assert_eq!(after, None, "seed {seed}");
    }
}

#[test]
fn a_good_candidate_that_runs_for_long_is_not_withdrawn() {
    for seed in 0..4 {
        let arm = Arm { error_rate: 0.01, spread: 1.0, ..GOOD };
        assert_eq!(withdrawn_after(arm, arm, 30, 100_000, 1_000, seed), None, "seed {seed}");
    }
}

#[test]
fn a_slower_candidate_within_the_factor_is_kept() {
    for seed in 0..50 {
        let slower = Arm { median_us: GOOD.median_us * 1.2, ..GOOD };
        assert_eq!(withdrawn_after(GOOD, slower, 20, 20_000, 500, seed), None, "seed {seed}");
    }
}

#[test]
fn latencies_below_a_millisecond_are_all_the_same() {
    let quick = Arm { median_us: 100.0, spread: 0.2, ..GOOD };
    assert_eq!(withdrawn_after(quick, Arm { median_us: 250.0, ..quick }, 20, 20_000, 500, 1), None);
}

#[test]
fn faults_are_judged_one_by_one() {
    let with = |change: fn(&mut PluginTotals)| {
        let mut comparison = Comparison::default();
        change(&mut comparison.candidate);
        verdict(&comparison, &THRESHOLDS)
    };
    assert_eq!(with(|totals| totals.traps = 1), Verdict::Withdraw(Reason::Traps(1)));
    assert_eq!(with(|totals| totals.memory_overruns = 1), Verdict::Withdraw(Reason::MemoryOverruns(1)));
    assert_eq!(with(|totals| totals.deadline_overruns = 2), Verdict::Keep);
    assert_eq!(with(|totals| totals.deadline_overruns = 3), Verdict::Withdraw(Reason::DeadlineOverruns(3)));
    assert_eq!(with(|totals| totals.invalid_answers = 9), Verdict::Keep);
    assert_eq!(with(|totals| totals.invalid_answers = 10), Verdict::Withdraw(Reason::InvalidAnswers(10)));
}

#[test]
fn without_an_incumbent_to_compare_with_nothing_is_withdrawn() {
    let mut counted = Counted::default();
    let mut random = fastrand::Rng::with_seed(1);
    (0..10_000).for_each(|_| counted.serve(Arm { error_rate: 1.0, ..GOOD }, &mut random));
    let comparison = Comparison { candidate: counted.totals(), ..Comparison::default() };
    assert_eq!(verdict(&comparison, &THRESHOLDS), Verdict::Keep);
}
