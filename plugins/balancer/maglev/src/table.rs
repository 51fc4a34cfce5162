//! Maglev's table (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, §3.4):
//! members take turns in claiming the entry that each likes best of those left.

use sluice_sdk::{
    members::{Choice, Member},
    random::mix,
    sort::sort_by,
};

/// Prime, and more than a hundred times as many as endpoints are expected (§5.3's small size).
pub const ENTRIES: u32 = 65_537;

/// No member yet.
const FREE: u32 = u32::MAX;

#[derive(Clone, Debug, Default)]
pub struct Table {
    entries: Vec<u32>,
}

/// A member's order of preference: `offset`, `offset + skip`, … modulo [`ENTRIES`], which is prime, so all of them.
struct Preference {
    member: u32,
    key: u64,
    next: u32,
    skip: u32,
    /// Of a turn, saved up for the next.
    credit: f64,
    turn: f64,
}

impl Table {
    /// The member of the `n`-th entry that belongs to a hash; entries after the first are anywhere else.
    #[inline]
    pub fn member(&self, hash: u64, n: u32) -> usize {
        let entry = ((mix(hash, u64::from(n)) >> 32) * u64::from(ENTRIES)) >> 32;
        self.entries[entry as usize] as usize
    }
}

impl Choice for Table {
    fn rebuild(&mut self, members: &[Member]) {
        let heaviest = members.iter().map(|member| member.weight).max().unwrap_or(1);
        let preference = |(index, member): (usize, &Member)| Preference {
            member: index as u32,
            key: member.key,
            next: (mix(member.key, 0) % u64::from(ENTRIES)) as u32,
            skip: (mix(member.key, 1) % u64::from(ENTRIES - 1)) as u32 + 1,
            credit: 0.0,
            turn: f64::from(member.weight) / f64::from(heaviest),
        };
        let mut preferences: Vec<Preference> = members.iter().enumerate().map(preference).collect();
        // By key: the same order, and so the same table, on every gateway.
        sort_by(&mut preferences, |a, b| a.key < b.key);
        self.entries.clear();
        self.entries.resize(ENTRIES as usize, FREE);
        let mut left = ENTRIES;
        while left > 0 {
            for preference in &mut preferences {
                preference.credit += preference.turn;
                if preference.credit < 1.0 {
                    continue;
                }
                preference.credit -= 1.0;
                preference.claim(&mut self.entries);
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
    }

    /// Slow start is a matter of hashes, not of entries: see `sluice_sdk::hashing`.
    fn reweigh(&mut self, _: &[Member]) {}
}

impl Preference {
    /// Takes the free entry that it likes best. There must be one.
    fn claim(&mut self, entries: &mut [u32]) {
        loop {
            let entry = self.next as usize;
            self.next = (self.next + self.skip) % ENTRIES;
            if entries[entry] == FREE {
                entries[entry] = self.member;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
