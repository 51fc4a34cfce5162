use std::{cmp::Reverse, collections::BinaryHeap};

use super::*;
use sluice_sdk::{
    choices::Choices,
    members::{Candidate, Levels, Rules},
    random::mix,
};

fn levels(weights: &[u32], choices: u32) -> Levels<Choices> {
    let candidates = weights.iter().zip(0..).map(|(&weight, slot)| Candidate {
        slot,
        key: u64::from(slot),
        weight,
        priority: 0,
        available: true,
        since: 0,
    });
    let mut levels = Levels::new(Rules::default(), Choices::new(choices));
    levels.update(candidates, 0);
    levels
}

fn pick(levels: &mut Levels<Choices>, load: &Load, random: u64, active: &[u32]) -> usize {
    let slot = levels.pick(
        0,
        random,
        0,
        |_| false,
        |choices, members, turn| {
            choices.choose(members, random, turn, |member| load.of(active[member.slot as usize], member.share))
        },
    );
    slot.expect("there are endpoints") as usize
}

/// Mean time in the system, in mean service times, of `servers` first-come-first-served servers with Poisson
/// arrivals and exponential service, `load` of the capacity each.
fn mean_time(choices: u32, load: f64, servers: usize, requests: u32) -> f64 {
    let (mut levels, load_of) = (levels(&vec![1; servers], choices), Load::new(1.0));
    let exponential = |n: u64, seed| {
        let uniform = ((mix(seed, n) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -uniform.ln()
    };
    let (mut now, mut total, mut counted) = (0.0, 0.0, 0_u32);
    let mut active = vec![0_u32; servers];
    let mut free_at = vec![0.0_f64; servers];
    // Departures, soonest first; positive floats are ordered as their bits are.
    let mut departures = BinaryHeap::new();
    for n in 0..u64::from(requests) {
        now += exponential(n, 1) / (load * servers as f64);
        while let Some(Reverse((at, server))) = departures.peek().copied()
            && f64::from_bits(at) <= now
        {
            departures.pop();
            active[server] -= 1;
        }
        let server = pick(&mut levels, &load_of, mix(2, n), &active);
        active[server] += 1;
        free_at[server] = free_at[server].max(now) + exponential(n, 3);
        departures.push(Reverse((free_at[server].to_bits(), server)));
        // The first third fills the queues.
        if n > u64::from(requests) / 3 {
            total += free_at[server] - now;
            counted += 1;
        }
    }
    total / f64::from(counted)
}

#[test]
fn the_power_of_d_choices_has_its_closed_form() {
    // Mitzenmacher's limit for many servers: 10, 2.614 and 2.028 at load 0.9.
    for (choices, wanted, within) in [(1, 10.0, 0.3), (2, 2.614, 0.04), (3, 2.028, 0.03)] {
        let mean = mean_time(choices, 0.9, 1_000, 4_000_000);
        assert!((mean - wanted).abs() < within, "{choices} choices: {mean}, not {wanted}");
    }
}

#[test]
fn an_idle_service_is_shared_out_by_weight_within_one_percent() {
    for weights in [vec![1, 1, 1], vec![1, 2], vec![10, 20, 30, 40]] {
        let (mut levels, load) = (levels(&weights, 2), Load::new(1.0));
        let picks = 1_000_000;
        let mut counts = vec![0_u32; weights.len()];
        for n in 0..picks {
            counts[pick(&mut levels, &load, mix(8, n), &vec![0; weights.len()])] += 1;
        }
        let total: u32 = weights.iter().sum();
        for (index, count) in counts.into_iter().enumerate() {
            let wanted = picks as f64 * f64::from(weights[index]) / f64::from(total);
            assert!((f64::from(count) - wanted).abs() < 0.01 * wanted, "{index}: {count}, not {wanted}");
        }
    }
}

#[test]
fn a_busy_service_is_shared_out_by_weight_too() {
    // Requests of equal length, always as many in flight as there are units of weight times four.
    let weights = [1, 2, 5];
    let (mut levels, load) = (levels(&weights, 2), Load::new(1.0));
    let mut active = [0_u32; 3];
    let mut running = std::collections::VecDeque::new();
    let mut counts = [0_u32; 3];
    for n in 0..200_000 {
        if running.len() == 32 {
            let done: usize = running.pop_front().expect("32 are running");
            active[done] -= 1;
        }
        let index = pick(&mut levels, &load, mix(4, n), &active);
        active[index] += 1;
        running.push_back(index);
        counts[index] += 1;
    }
    for (count, weight) in counts.into_iter().zip(weights) {
        let wanted = 25_000.0 * f64::from(weight);
        assert!((f64::from(count) - wanted).abs() < 0.05 * wanted, "{counts:?}");
    }
}

#[test]
fn the_one_with_fewer_requests_wins() {
    let (mut levels, load) = (levels(&[1, 1], 2), Load::new(1.0));
    let other = (0..10_000).filter(|n| pick(&mut levels, &load, mix(6, *n), &[3, 2]) == 0).count();
    // One in 256 draws the same one eight times.
    assert!(other < 80, "{other} of 10000");
}

#[test]
fn bias_turns_load_up_and_off() {
    assert_eq!(Load::new(0.0).of(100, 256), 0.0);
    assert_eq!(Load::new(1.0).of(100, 100), 1.0);
    assert!((Load::new(2.0).of(2, 1) - 8.0).abs() < 1e-9);
    assert!((Load::new(0.5).of(399, 1) - 19.0).abs() < 1e-4, "beyond those known");
}
