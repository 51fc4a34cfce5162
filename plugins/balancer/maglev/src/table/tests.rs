use super::*;
use sluice_sdk::members::{Candidate, Levels, Rules};

fn levels(slots: impl IntoIterator<Item = (u32, u32)>) -> Levels<Table> {
    let mut levels = Levels::new(Rules::default(), Table::default());
    let candidates = slots.into_iter().map(|(slot, weight)| Candidate {
        slot,
        key: mix(2_026, u64::from(slot)),
        weight,
        priority: 0,
        available: true,
        since: 0,
    });
    levels.update(candidates, 0);
    levels
}

/// The slot of each entry.
fn entries(levels: &Levels<Table>) -> Vec<u32> {
    let (members, table) = levels.choices().next().expect("one level");
    table.entries.iter().map(|entry| members[*entry as usize].slot).collect()
}

/// The share of entries that differ between `endpoints` and the same without the last `removed`, in percent.
fn disruption(endpoints: u32, removed: u32) -> f64 {
    let before = entries(&levels((0..endpoints).map(|slot| (slot, 1))));
    let after = entries(&levels((0..endpoints - removed).map(|slot| (slot, 1))));
    let changed = before.iter().zip(&after).filter(|(was, is)| was != is).count();
    100.0 * changed as f64 / f64::from(ENTRIES)
}

#[test]
fn removals_change_as_many_entries_as_published() {
    for (endpoints, removed, wanted) in [(10, 1, 10.28), (100, 1, 1.58), (1_000, 1, 0.65), (1_000, 10, 3.30)] {
        let changed = disruption(endpoints, removed);
        // A single removal differs by which endpoint it is.
        assert!(
            (changed - wanted).abs() < 0.15 * wanted + 0.1,
            "{removed} of {endpoints}: {changed} %, not {wanted} %"
        );
    }
}

#[test]
fn entries_are_shared_out_within_one_percent_of_the_weights() {
    for weights in [vec![1; 3], vec![1; 100], vec![1, 2, 3, 4], vec![100, 10, 50]] {
        let total: u32 = weights.iter().sum();
        let slots = entries(&levels(weights.iter().zip(0..).map(|(&weight, slot)| (slot, weight))));
        for (slot, weight) in (0..).zip(&weights) {
            let count = slots.iter().filter(|entry| **entry == slot).count() as f64;
            let wanted = f64::from(ENTRIES) * f64::from(*weight) / f64::from(total);
            assert!((count - wanted).abs() <= (0.01 * wanted).max(1.0), "{slot}: {count}, not {wanted}");
        }
    }
}

#[test]
fn the_order_in_which_endpoints_are_told_does_not_matter() {
    let keys = |slots: Vec<u32>| {
        let levels = levels(slots.into_iter().map(|slot| (slot, 1 + slot % 3)));
        entries(&levels)
    };
    assert_eq!(keys((0..50).collect()), keys((0..50).rev().collect()));
}

#[test]
fn a_hash_always_leads_to_the_same_endpoint() {
    let levels = levels((0..7).map(|slot| (slot, 1)));
    let (_, table) = levels.choices().next().expect("one level");
    for hash in 0..1_000 {
        assert_eq!(table.member(hash, 0), table.member(hash, 0));
    }
    let row: std::collections::BTreeSet<usize> = (0..64).map(|n| table.member(5, n)).collect();
    assert_eq!(row.len(), 7, "further candidates are all the others");
}
