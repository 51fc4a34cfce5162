use super::*;
use sluice_sdk::members::{Candidate, Levels, Rules};

/// The endpoints' slots are their names here, so that rings of different members can be compared.
fn levels(slots: impl IntoIterator<Item = (u32, u32)>) -> Levels<Ring> {
    let mut levels = Levels::new(Rules::default(), Ring::new(POINTS));
    let candidates = slots.into_iter().map(|(slot, weight)| Candidate {
        slot,
        key: mix(99, u64::from(slot)),
        weight,
        priority: 0,
        available: true,
        since: 0,
    });
    levels.update(candidates, 0);
    levels
}

fn at(levels: &mut Levels<Ring>, hash: u64) -> u32 {
    levels.pick(0, hash, 0, |_| false, |ring, _, turn| ring.member(ring.find(hash), turn)).expect("a pick")
}

#[test]
fn the_index_finds_the_next_point_clockwise() {
    for endpoints in [1, 2, 3, 100, 1_000] {
        let mut levels = levels((0..endpoints).map(|slot| (slot, 1)));
        let (_, ring) = levels.choices_mut().next().expect("one level");
        let point = |slot: u32, n| mix(mix(99, u64::from(slot)), n);
        let all = (0..endpoints).flat_map(|slot| (0..u64::from(POINTS)).map(move |n| (point(slot, n), slot)));
        let mut all: Vec<_> = all.collect();
        all.sort_unstable();
        let mut other = 0;
        for n in 0..20_000 {
            let hash = mix(n, n);
            let next = all.partition_point(|(point, _)| *point < mix(hash, 0)) % all.len();
            other += u32::from(ring.member(ring.find(hash), 0) != all[next].1 as usize);
        }
        // A hash just behind a point, by less than 2^-29 of the ring, finds it all the same: 3 of 20,000 among 160,000.
        assert!(other <= 12, "{endpoints} endpoints: {other} of 20,000 hashes found another point");
    }
}

#[test]
fn an_endpoint_gets_about_its_share_of_the_hashes() {
    let weights = [1, 1, 2, 4];
    let mut levels = levels(weights.iter().zip(0..).map(|(&weight, slot)| (slot, weight)));
    let mut counts = [0_u32; 4];
    for n in 0..800_000 {
        counts[at(&mut levels, n) as usize] += 1;
    }
    for (count, weight) in counts.into_iter().zip(weights) {
        // 160 points: a standard deviation of 1 / sqrt(160), 8 %.
        let wanted = 100_000.0 * f64::from(weight);
        assert!((f64::from(count) - wanted).abs() < 0.2 * wanted, "{counts:?}");
    }
}

#[test]
fn only_the_hashes_of_a_removed_endpoint_move() {
    let mut before = levels((0..10).map(|slot| (slot, 1)));
    let mut after = levels((0..10).filter(|slot| *slot != 4).map(|slot| (slot, 1)));
    let mut moved = 0;
    for hash in 0..100_000 {
        let (was, is) = (at(&mut before, hash), at(&mut after, hash));
        if was == 4 {
            moved += 1;
        } else {
            assert_eq!(was, is);
        }
    }
    assert!((8_000..12_000).contains(&moved), "{moved}");
}

#[test]
fn enormous_weights_make_no_enormous_ring() {
    let mut levels = levels((0..1_000).map(|slot| (slot, if slot == 0 { 1 } else { 65_535 })));
    let (_, ring) = levels.choices_mut().next().expect("one level");
    assert!(ring.points.len() <= POINTS_MAX as usize + 1_000);
    assert!((0..ring.points.len()).any(|at| ring.member(at, 0) == 0), "the light one has a point too");
}
