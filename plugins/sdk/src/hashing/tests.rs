use super::*;
use crate::members::{Candidate, Choice, Levels, Rules, SlowStart};

/// Rows that begin anywhere.
#[derive(Clone)]
struct Rows;

impl Choice for Rows {
    fn rebuild(&mut self, _: &[Member]) {}
}

fn candidate(hash: u64, n: u32, len: usize) -> usize {
    crate::random::below(mix(hash, u64::from(n)), len as u32) as usize
}

fn levels(rules: Rules, count: u32, now: InstantUs, newest: InstantUs) -> Levels<Rows> {
    let mut levels = Levels::new(rules, Rows);
    let one = |slot| Candidate {
        slot,
        key: u64::from(slot),
        weight: 1,
        priority: 0,
        available: true,
        since: if slot + 1 == count { newest } else { 0 },
    };
    levels.update((0..count).map(one), now);
    levels
}

fn bound(settings: &str) -> Bound {
    let mut settings = Settings::parse(settings);
    let bound = Bound::from_settings(&mut settings);
    assert!(settings.finish().is_empty());
    bound
}

#[test]
fn a_new_endpoint_takes_its_hashes_one_after_the_other_and_keeps_them() {
    let slow_start = SlowStart { window_us: 1_000_000, aggression: 1.0 };
    let start = 10_000_000;
    let mut levels = levels(Rules { slow_start, ..Rules::default() }, 4, start, start);
    let off = bound("{}");
    let mut taken = vec![false; 20_000];
    for tenth in 0..=10_u64 {
        let now = start + tenth * 100_000;
        let mut count = 0;
        for (hash, taken) in taken.iter_mut().enumerate() {
            let hash = mix(1, hash as u64);
            let slot = levels.pick(
                now,
                hash,
                0,
                |_| false,
                |_, members, turn| choose(members, hash, turn, &off, |_| 0, |n| candidate(hash, n, members.len())),
            );
            let is = slot == Some(3);
            assert!(is || !*taken, "a hash went back");
            *taken = is;
            count += u32::from(is);
        }
        let wanted = 5_000.0 * (tenth as f64 / 10.0).max(0.1);
        assert!((f64::from(count) - wanted).abs() < 0.1 * wanted + 50.0, "at {tenth}: {count}, not {wanted}");
    }
}

#[test]
fn no_endpoint_has_more_than_the_bound_allows() {
    let mut levels = levels(Rules::default(), 10, 0, 0);
    let mut bound = bound(r#"{"bounded_load": 1.25}"#);
    let mut active = [0_u32; 10];
    for n in 1..=1_000_u64 {
        // One hash has half of the traffic.
        let hash = if n % 2 == 0 { 7 } else { mix(3, n) };
        let now = n * 100;
        bound.refresh(&levels, now, |slot| active[slot as usize]);
        let slot = levels.pick(
            now,
            hash,
            0,
            |_| false,
            |_, members, turn| {
                choose(members, hash, turn, &bound, |slot| active[slot as usize], |n| candidate(hash, n, members.len()))
            },
        );
        active[slot.expect("a pick") as usize] += 1;
        let most = f64::from(*active.iter().max().expect("ten"));
        assert!(most <= (1.25 * n as f64 / 10.0).ceil(), "after {n}: {active:?}");
    }
}

#[test]
fn without_a_bound_no_load_is_asked_for() {
    let mut levels = levels(Rules::default(), 3, 0, 0);
    let mut off = bound("{}");
    let never = |_| panic!("asked for load");
    off.refresh(&levels, 0, never);
    let slot = levels.pick(0, 5, 0, |_| false, |_, members, turn| choose(members, 5, turn, &off, never, |_| 1));
    assert_eq!(slot, Some(1));
}

#[test]
fn load_is_counted_once_in_a_while_and_after_a_change() {
    let levels = levels(Rules::default(), 4, 0, 0);
    let mut bound = bound(r#"{"bounded_load": 2}"#);
    let asked = std::cell::Cell::new(0);
    let ask = |_| {
        asked.set(asked.get() + 1);
        5
    };
    for now in [0, 10, 9_999, 10_000, 10_001] {
        bound.refresh(&levels, now, ask);
    }
    assert_eq!((asked.get(), bound.total), (8, 22));
    bound.forget();
    bound.refresh(&levels, 10_002, ask);
    assert_eq!(asked.get(), 12);
}
