//! A small discrete-event simulation of one endpoint: places, a queue before them, and requests at random times.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

use fastrand::Rng;

use super::Adaptive;
use crate::model::{Completion, Outcome};

const SECOND_US: u64 = 1_000_000;
const SEEDS: [u64; 8] = [1, 2, 3, 4, 5, 6, 7, 0x5111];

struct Scenario {
    places: usize,
    /// Requests a second.
    offered: f64,
    /// Of a request that begins at this time, in microseconds.
    service_us: fn(u64, &mut Rng) -> f64,
    until_us: u64,
}

/// What happened in each second.
#[derive(Clone, Copy, Default)]
struct Second {
    offered: u32,
    done: u32,
    limit_max: u32,
    limit_min: u32,
    latency_max_us: u64,
}

struct Server {
    places: usize,
    busy: usize,
    /// When each that waits came.
    queue: VecDeque<u64>,
    /// When each that is served ends, and when it came.
    ends: BinaryHeap<Reverse<(u64, u64)>>,
}

fn exponential(mean: f64, random: &mut Rng) -> f64 {
    -mean * (1.0 - random.f64()).ln()
}

/// What is beyond the limit is shed at once; the limit is asked for at each request.
fn simulate(scenario: &Scenario, seed: u64) -> Vec<Second> {
    let mut random = Rng::with_seed(seed);
    let mut adaptive = Adaptive::new(SECOND_US);
    let mut server = Server { places: scenario.places, busy: 0, queue: VecDeque::new(), ends: BinaryHeap::new() };
    let mut seconds = vec![Second::default(); usize::try_from(scenario.until_us / SECOND_US).expect("few")];
    let at = |us: u64| usize::try_from(us / SECOND_US).expect("few");
    let mut arrives_us = 0;
    while arrives_us < scenario.until_us {
        // All that ends before.
        while let Some(&Reverse((end_us, came_us))) = server.ends.peek().filter(|end| end.0.0 <= arrives_us) {
            server.ends.pop();
            let in_flight = u32::try_from(server.busy + server.queue.len()).expect("few");
            let total_us = end_us - came_us;
            adaptive.observe(&completion(end_us + SECOND_US, total_us), in_flight);
            let second = &mut seconds[at(end_us)];
            second.done += 1;
            second.latency_max_us = second.latency_max_us.max(total_us);
            server.busy -= 1;
            if let Some(next_us) = server.queue.pop_front() {
                server.begin(next_us, end_us + (scenario.service_us)(end_us, &mut random) as u64);
            }
        }
        let limit = adaptive.limit(arrives_us + SECOND_US);
        let second = &mut seconds[at(arrives_us)];
        second.offered += 1;
        second.limit_max = second.limit_max.max(limit);
        second.limit_min = if second.limit_min == 0 { limit } else { second.limit_min.min(limit) };
        if server.busy + server.queue.len() < limit as usize {
            if server.busy < server.places {
                let end_us = arrives_us + (scenario.service_us)(arrives_us, &mut random) as u64;
                server.begin(arrives_us, end_us);
            } else {
                server.queue.push_back(arrives_us);
            }
        }
        arrives_us += exponential(1e6 / scenario.offered, &mut random) as u64 + 1;
    }
    seconds
}

impl Server {
    fn begin(&mut self, came_us: u64, end_us: u64) {
        self.busy += 1;
        self.ends.push(Reverse((end_us, came_us)));
    }
}

fn completion(at_us: u64, total_us: u64) -> Completion {
    let total_us = u32::try_from(total_us).expect("short");
    Completion { slot: 0, outcome: Outcome::Success, at_us, first_byte_us: total_us, total_us, load_permille: None }
}

/// Requests done a second, as a share of `of`, from one second to another.
fn share_done(seconds: &[Second], of: f64) -> f64 {
    let done: u32 = seconds.iter().map(|second| second.done).sum();
    f64::from(done) / of / seconds.len() as f64
}

fn share_let_through(seconds: &[Second]) -> f64 {
    let offered: u32 = seconds.iter().map(|second| second.offered).sum();
    share_done(seconds, f64::from(offered) / seconds.len() as f64)
}

#[track_caller]
fn for_each_seed(scenario: &Scenario, check: impl Fn(&[Second])) {
    for seed in SEEDS {
        println!("seed {seed}");
        let seconds = simulate(scenario, seed);
        for (index, second) in seconds.iter().enumerate() {
            let Second { offered, done, limit_min, limit_max, latency_max_us } = second;
            println!(
                "{index:3} s: {done:5} of {offered:5}, limit {limit_min:4} to {limit_max:4}, {latency_max_us:7} us"
            );
        }
        check(&seconds);
    }
}

#[test]
fn three_times_what_an_endpoint_can_take_leaves_it_busy_and_its_queue_short() {
    let constant: fn(u64, &mut Rng) -> f64 = |_, _| 10_000.0;
    let random: fn(u64, &mut Rng) -> f64 = |_, random| exponential(10_000.0, random);
    for (service_us, queued_us_max) in [(constant, 60_000), (random, 250_000)] {
        for_each_seed(&Scenario { places: 8, offered: 2_400.0, service_us, until_us: 60 * SECOND_US }, |seconds| {
            let done = share_done(&seconds[1..], 800.0);
            assert!(done >= 0.9, "{done}");
            // In balance about 1.5 × 8 and the root of itself.
            let limit_max = seconds[5..].iter().map(|second| second.limit_max).max();
            assert!(limit_max.is_some_and(|limit| limit <= 32), "{limit_max:?}");
            let latency_max_us = seconds[5..].iter().map(|second| second.latency_max_us).max();
            assert!(latency_max_us.is_some_and(|latency_us| latency_us <= queued_us_max), "{latency_max_us:?}");
        });
    }
}

#[test]
fn an_endpoint_that_has_room_for_all_is_given_all() {
    for (offered, service_us, least) in [
        (400.0, (|_, _| 10_000.0) as fn(u64, &mut Rng) -> f64, 0.98),
        // Simply slow: 100 at once.
        (500.0, |_, _| 200_000.0, 0.97),
        (500.0, |_, random| exponential(200_000.0, random), 0.97),
        // So slow that finding out takes a minute, and a measurement ten seconds.
        (50.0, |_, random| 1_000_000.0 + exponential(1_000_000.0, random), 0.9),
    ] {
        for_each_seed(&Scenario { places: 1000, offered, service_us, until_us: 200 * SECOND_US }, |seconds| {
            let share = share_let_through(&seconds[60..190]);
            assert!(share >= least, "{share}");
        });
    }
}

#[test]
fn an_endpoint_that_becomes_slower_by_itself_is_not_given_less_and_less() {
    let service_us = |at_us, _: &mut Rng| if at_us < 20 * SECOND_US { 10_000.0 } else { 80_000.0 };
    for_each_seed(&Scenario { places: 1000, offered: 1_000.0, service_us, until_us: 60 * SECOND_US }, |seconds| {
        let before = share_let_through(&seconds[10..20]);
        let after = share_let_through(&seconds[30..60]);
        assert!(before >= 0.97 && after >= 0.95, "{before}, then {after}");
    });
}

#[test]
fn an_endpoint_that_had_no_room_at_the_beginning_is_found_out() {
    let scenario = Scenario { places: 1, offered: 300.0, service_us: |_, _| 10_000.0, until_us: 30 * SECOND_US };
    for_each_seed(&scenario, |seconds| {
        // The first measurement, at 4, was of four requests one after the other: 40 ms.
        let limit_max = seconds[10..].iter().map(|second| second.limit_max).max();
        assert!(limit_max.is_some_and(|limit| limit <= 6), "{limit_max:?}");
        assert!(share_done(&seconds[1..], 100.0) >= 0.9);
    });
}

#[test]
fn the_latency_with_room_is_measured_again_from_time_to_time() {
    let scenario = Scenario { places: 8, offered: 2_400.0, service_us: |_, _| 10_000.0, until_us: 100 * SECOND_US };
    for_each_seed(&scenario, |seconds| {
        let dips: Vec<_> = (5..100).filter(|&second| seconds[second].limit_min <= 5).collect();
        assert!((2..=6).contains(&dips.len()), "{dips:?}");
    });
}

#[test]
fn what_times_out_or_is_refused_lowers_the_limit_and_what_never_arrived_says_nothing() {
    let after = |outcome| {
        let mut adaptive = Adaptive::new(0);
        for number in 0..2_000u64 {
            adaptive.observe(&completion(number * 10_000, 10_000), 1_000);
            adaptive.limit(number * 10_000);
        }
        let before = adaptive.limit(20 * SECOND_US);
        for number in 0..500u64 {
            let at_us = 20 * SECOND_US + number * 10_000;
            adaptive.observe(&Completion { outcome, first_byte_us: 0, ..completion(at_us, 1) }, 1_000);
            adaptive.limit(at_us);
        }
        (before, adaptive.limit(25 * SECOND_US))
    };
    for outcome in [Outcome::TimedOut, Outcome::Overloaded, Outcome::GatewayError] {
        let (before, now) = after(outcome);
        assert!(before > 50 && now < before / 5, "{outcome:?}: {before}, then {now}");
    }
    for outcome in [Outcome::ConnectFailed, Outcome::Reset, Outcome::Cancelled] {
        let (before, now) = after(outcome);
        assert_eq!(before, now, "{outcome:?}");
    }
}

#[test]
fn the_limit_stays_within_its_bounds() {
    let mut adaptive = Adaptive::new(0);
    for number in 0..200_000u64 {
        adaptive.observe(&completion(number * 1_000, 1_000), u32::MAX);
        assert!((1..=1000).contains(&adaptive.limit(number * 1_000)));
    }
    let mut drops = Adaptive::new(0);
    for number in 0..20_000u64 {
        let slow = Completion { outcome: Outcome::TimedOut, ..completion(number * 10_000, u64::from(u32::MAX)) };
        drops.observe(&slow, 1);
        drops.observe(&completion(number * 10_000, 0), 1);
        assert!((1..=1000).contains(&drops.limit(number * 10_000)));
    }
}
