use super::*;
use crate::members::SlowStart;

/// Picks any member, uniformly; enough to see who is in the running.
#[derive(Clone, Default)]
struct Any {
    rebuilt: u32,
    reweighed: u32,
}

impl Choice for Any {
    fn rebuild(&mut self, _: &[Member]) {
        self.rebuilt += 1;
    }

    fn reweigh(&mut self, _: &[Member]) {
        self.reweighed += 1;
    }
}

fn group(priority: u32, slots: std::ops::Range<u32>, available: usize) -> Vec<Candidate> {
    let one =
        |(n, slot)| Candidate { slot, key: u64::from(slot), weight: 1, priority, available: n < available, since: 0 };
    slots.enumerate().map(one).collect()
}

fn levels(rules: Rules, candidates: impl IntoIterator<Item = Candidate>) -> Levels<Any> {
    let mut levels = Levels::new(rules, Any::default());
    levels.update(candidates, 0);
    levels
}

fn pick(levels: &mut Levels<Any>, random: u64) -> Option<Slot> {
    levels.pick(
        0,
        random,
        0,
        |_| false,
        |_, members, turn| crate::random::below(mix(random, u64::from(turn)), members.len() as u32) as usize,
    )
}

/// The share of picks that fall to slots below `bound`.
fn share_below(levels: &mut Levels<Any>, bound: Slot) -> f64 {
    let draws = 100_000;
    let below = (0..draws).filter(|n| pick(levels, mix(3, *n)).expect("a pick") < bound).count();
    below as f64 / draws as f64
}

#[test]
fn the_preferred_level_takes_all_traffic_while_72_percent_of_it_is_available() {
    let with = |available| [group(0, 0..100, available), group(1, 100..200, 100)].concat();
    assert_eq!(share_below(&mut levels(Rules::default(), with(100)), 100), 1.0);
    assert_eq!(share_below(&mut levels(Rules::default(), with(72)), 100), 1.0);
    // 1.4 × 70 % = 98 %.
    let share = share_below(&mut levels(Rules::default(), with(70)), 100);
    assert!((share - 0.98).abs() < 0.005, "{share}");
    let share = share_below(&mut levels(Rules::default(), with(25)), 100);
    assert!((share - 0.35).abs() < 0.01, "{share}");
    assert_eq!(share_below(&mut levels(Rules::default(), with(0)), 100), 0.0);
}

#[test]
fn a_level_that_takes_over_is_no_reason_to_panic() {
    let candidates = [group(0, 0..10, 0), group(1, 10..20, 8)].concat();
    let mut levels = levels(Rules::default(), candidates);
    assert!((0..1_000).all(|n| (10..18).contains(&pick(&mut levels, mix(1, n)).expect("a pick"))));
}

#[test]
fn below_half_available_all_endpoints_are_used() {
    let slots = |available, rules| {
        let mut levels = levels(rules, group(0, 0..10, available));
        let mut seen: Vec<Slot> = (0..1_000).filter_map(|n| pick(&mut levels, mix(1, n))).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.len()
    };
    let rules = Rules::default();
    assert_eq!(slots(5, rules), 5, "exactly half is no panic");
    assert_eq!(slots(4, rules), 10);
    assert_eq!(slots(0, rules), 10);
    assert_eq!(slots(4, Rules { panic_threshold_percent: 40, ..rules }), 4);
    assert_eq!(slots(0, Rules { panic_threshold_percent: 0, ..rules }), 0);
    assert_eq!(slots(5, Rules { on_panic: OnPanic::Fail, ..rules }), 5);
    assert_eq!(slots(4, Rules { on_panic: OnPanic::Fail, ..rules }), 0);
}

#[test]
fn an_unavailable_endpoint_is_picked_only_while_fewer_than_half_of_all_are_available() {
    // The gateway calls any other such pick invalid. All memberships of two levels of up to six.
    for a in 0..=6_usize {
        for b in 0..=6_usize {
            for (up_a, up_b) in (0..=a).flat_map(|x| (0..=b).map(move |y| (x, y))) {
                let candidates = [group(0, 0..a as u32, up_a), group(1, 10..10 + b as u32, up_b)].concat();
                let mut levels = levels(Rules::default(), candidates.clone());
                let may_panic = (up_a + up_b) * 2 < a + b;
                for n in 0..40 {
                    let picked = pick(&mut levels, mix(9, n));
                    assert_eq!(picked.is_some(), a + b > 0, "{up_a}/{a} {up_b}/{b}");
                    let up = candidates.iter().find(|c| Some(c.slot) == picked).is_none_or(|c| c.available);
                    assert!(up || may_panic, "{up_a}/{a} {up_b}/{b}: {picked:?}");
                }
            }
        }
    }
}

#[test]
fn a_retry_goes_where_no_attempt_was_even_to_another_level() {
    let candidates = [group(0, 0..3, 3), group(1, 3..5, 2)].concat();
    let mut levels = levels(Rules::default(), candidates);
    let mut retry =
        |tried: &[Slot], random| levels.pick(0, random, 1, |slot| tried.contains(&slot), |_, _, _| 0).expect("a pick");
    for random in (0..50).map(|n| mix(4, n)) {
        assert!([1, 2].contains(&retry(&[0], random)));
        assert_eq!(retry(&[0, 2], random), 1);
        assert_eq!(retry(&[0, 1, 2, 4], random), 3);
        assert_eq!(retry(&[0, 1, 2, 3, 4], random), 0, "all were tried, so any will do");
    }
}

#[test]
fn shares_follow_the_slow_start_and_are_computed_only_while_it_lasts() {
    let slow_start = SlowStart { window_us: 1_000_000, aggression: 1.0 };
    let mut candidates = group(0, 0..2, 2);
    candidates[1].since = 5_000_000;
    let mut levels = Levels::new(Rules { slow_start, ..Rules::default() }, Any::default());
    levels.update(candidates, 5_000_000);
    let shares = |levels: &Levels<Any>| levels.members().map(|member| member.share).collect::<Vec<_>>();
    assert_eq!(shares(&levels), [256, 25]);
    let mut at = |now| {
        for _ in 0..3 {
            levels.pick(now, 0, 0, |_| false, |_, _, _| 0);
        }
        (shares(&levels), levels.levels[0].choice.reweighed)
    };
    assert_eq!(at(5_005_000), (vec![256, 25], 0));
    assert_eq!(at(5_500_000), (vec![256, 128], 1));
    assert_eq!(at(6_000_000), (vec![256, 256], 2));
    assert_eq!(at(9_000_000), (vec![256, 256], 2));
}

#[test]
fn a_level_keeps_its_choice_when_its_members_change() {
    let mut levels = levels(Rules::default(), group(0, 0..3, 3));
    levels.update(group(0, 1..9, 8), 1);
    assert_eq!(levels.levels[0].choice.rebuilt, 2);
    levels.update([], 2);
    assert_eq!(pick(&mut levels, 1), None);
}
