use super::*;
use sluice_sdk::members::{Candidate, Levels, Rules, SlowStart};

fn candidates(weights: &[u32]) -> Vec<Candidate> {
    let one = |(slot, &weight): (usize, &u32)| Candidate {
        slot: slot as u32,
        key: mix(5, slot as u64),
        weight,
        priority: 0,
        available: true,
        since: 0,
    };
    weights.iter().enumerate().map(one).collect()
}

fn levels(weights: &[u32], seed: u64) -> Levels<Turns> {
    let mut levels = Levels::new(Rules::default(), Turns::new(seed));
    levels.update(candidates(weights), 0);
    levels
}

fn next(levels: &mut Levels<Turns>, now: u64) -> usize {
    levels.pick(now, 0, 0, |_| false, |turns, _, _| turns.next()).expect("there are endpoints") as usize
}

fn counts(levels: &mut Levels<Turns>, endpoints: usize, picks: usize) -> Vec<usize> {
    let mut counts = vec![0; endpoints];
    for _ in 0..picks {
        counts[next(levels, 0)] += 1;
    }
    counts
}

#[test]
fn equal_endpoints_are_served_strictly_in_turn() {
    for endpoints in [1, 2, 3, 100] {
        let mut levels = levels(&vec![1; endpoints], 77);
        let first: Vec<usize> = (0..endpoints).map(|_| next(&mut levels, 0)).collect();
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..endpoints).collect::<Vec<_>>());
        for _ in 0..10 {
            assert_eq!((0..endpoints).map(|_| next(&mut levels, 0)).collect::<Vec<_>>(), first);
        }
    }
}

#[test]
fn workers_with_different_seeds_begin_with_different_endpoints() {
    let mut firsts: Vec<usize> = (0..64).map(|seed| next(&mut levels(&[1; 8], seed), 0)).collect();
    firsts.sort_unstable();
    firsts.dedup();
    assert_eq!(firsts.len(), 8);
}

#[test]
fn shares_are_within_one_percent_of_the_weights() {
    for weights in [vec![1, 2, 3], vec![5, 1, 1], vec![100, 1], vec![65_535, 1, 300, 7], (1..=100).collect()] {
        let total: u32 = weights.iter().sum();
        let picks = (total as usize * 200).clamp(10_000, 2_000_000);
        let counts = counts(&mut levels(&weights, 3), weights.len(), picks);
        for (index, count) in counts.into_iter().enumerate() {
            let wanted = picks as f64 * f64::from(weights[index]) / f64::from(total);
            // Of the rarest, as many as come up: one more or less is as close as whole requests get.
            assert!((count as f64 - wanted).abs() <= (wanted * 0.01).max(1.5), "{index}: {count}, not {wanted}");
        }
    }
}

#[test]
fn a_heavy_endpoint_is_spread_evenly_not_in_a_burst() {
    let mut levels = levels(&[5, 1, 1], 0);
    let picks: Vec<usize> = (0..700).map(|_| next(&mut levels, 0)).collect();
    let mut gaps = Vec::new();
    for endpoint in 1..3 {
        let at: Vec<usize> = (0..700).filter(|&n| picks[n] == endpoint).collect();
        gaps.extend(at.windows(2).map(|pair| pair[1] - pair[0]));
    }
    assert!(gaps.iter().all(|gap| (6..=8).contains(gap)), "{gaps:?}");
    assert!(!picks.windows(5).any(|run| run == [0; 5]), "five in a row");
}

#[test]
fn members_that_stay_keep_their_turn_when_others_come_and_go() {
    // Membership changes before each pick, which must not favour the first or starve the last.
    let mut levels = levels(&[1, 2, 3, 10, 1], 0);
    let mut counts = [0_u32; 5];
    for n in 0..8_000 {
        let mut now = candidates(&[1, 2, 3, 10, 1]);
        if n % 2 == 0 {
            now.pop();
        }
        levels.update(now, 0);
        counts[next(&mut levels, 0)] += 1;
    }
    let of = |index: usize| f64::from(counts[index]) / f64::from(counts[..4].iter().sum::<u32>());
    for (index, weight) in [1.0, 2.0, 3.0, 10.0].into_iter().enumerate() {
        assert!((of(index) - weight / 16.0).abs() < 0.01, "{counts:?}");
    }
}

#[test]
fn a_new_endpoint_in_slow_start_grows_and_is_never_starved() {
    let slow_start = SlowStart { window_us: 10_000_000, aggression: 1.0 };
    let mut levels = Levels::new(Rules { slow_start, ..Rules::default() }, Turns::new(1));
    let began = 100_000_000;
    let mut members = candidates(&[1, 1, 1, 1]);
    members[3].since = began;
    levels.update(members, began);
    // 100 requests a second, so that a reweighing comes between most of them.
    let mut counts = Vec::new();
    for second in 0..12 {
        let picks = (0..100).map(|n| next(&mut levels, began + second * 1_000_000 + n * 10_000));
        counts.push(picks.filter(|&slot| slot == 3).count());
    }
    // In the n-th second the weight is about n / 10, at least a tenth, beside three of 1.
    for (second, count) in counts.into_iter().enumerate() {
        let weight = ((second as f64 + 0.5) / 10.0).clamp(0.1, 1.0);
        let wanted = 100.0 * weight / (3.0 + weight);
        assert!((count as f64 - wanted).abs() <= 2.0, "second {second}: {count}, not {wanted}");
    }
}

#[test]
fn a_successor_goes_on_where_its_predecessor_was() {
    let weights = [5, 1, 1, 2];
    let mut old = levels(&weights, 1);
    for _ in 0..1_003 {
        next(&mut old, 0);
    }
    let mut saved = Vec::new();
    for (members, turns) in old.choices() {
        saved.extend(turns.positions().map(|(index, turn)| (members[index].key, turn)));
    }
    let mut new = levels(&weights, 2);
    for (members, turns) in new.choices_mut() {
        turns.resume(members, saved.clone());
    }
    let goes_on = |levels: &mut Levels<Turns>| (0..90).map(|_| next(levels, 0)).collect::<Vec<_>>();
    assert_eq!(goes_on(&mut new), goes_on(&mut old));
}

#[test]
fn a_saved_state_of_nonsense_still_gives_turns() {
    let mut levels = levels(&[1, 3], 1);
    let keys: Vec<u64> = levels.members().map(|member| member.key).collect();
    for saved in [vec![], vec![(keys[0], 1e300), (keys[0], 0.0), (9, 0.5)], vec![(keys[1], 0.0), (keys[0], 0.0)]] {
        for (members, turns) in levels.choices_mut() {
            turns.resume(members, saved.clone());
        }
        assert_eq!(
            counts(&mut levels, 2, 4_000).iter().map(|count| count.div_ceil(10)).collect::<Vec<_>>(),
            [100, 300]
        );
    }
}
