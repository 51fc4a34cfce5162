//! What a policy knows of each endpoint, kept while the membership around it changes.

use crate::{Completion, InstantUs, Slot, members::Candidate};

/// So long after a verdict the membership may still be the one from before it: its way back is through the gateway's
/// control plane, and `observe` comes every 100 ms.
pub const VERDICT_GRACE_US: u64 = 1_000_000;

/// A table of the endpoints, with something of the policy's own about each: `T`, whose default is what is known of
/// an endpoint that has just joined.
#[derive(Debug)]
pub struct Endpoints<T> {
    by_slot: Vec<Option<Known<T>>>,
}

#[derive(Debug)]
pub struct Known<T> {
    pub slot: Slot,
    pub key: u64,
    pub available: bool,
    pub since: InstantUs,
    pub state: T,
}

impl<T> Default for Endpoints<T> {
    fn default() -> Self {
        Self { by_slot: Vec::new() }
    }
}

impl<T: Default> Endpoints<T> {
    /// Takes the whole membership. What is known of an endpoint stays known as long as it is a member, under
    /// whichever slot.
    pub fn update(&mut self, endpoints: impl Iterator<Item = Candidate>) {
        let mut before = std::mem::take(&mut self.by_slot);
        for Candidate { slot, key, available, since, .. } in endpoints {
            let index = slot as usize;
            let same = |known: &Option<Known<T>>| known.as_ref().is_some_and(|known| known.key == key);
            let place = if before.get(index).is_some_and(same) { Some(index) } else { before.iter().position(same) };
            let state = place.and_then(|place| before[place].take()).map(|known| known.state).unwrap_or_default();
            if self.by_slot.len() <= index {
                self.by_slot.resize_with(index + 1, || None);
            }
            self.by_slot[index] = Some(Known { slot, key, available, since, state });
        }
    }

    /// None where the endpoint has left.
    pub fn get(&mut self, slot: Slot) -> Option<&mut Known<T>> {
        self.by_slot.get_mut(slot as usize)?.as_mut()
    }

    pub fn with_key(&mut self, key: u64) -> Option<&mut Known<T>> {
        self.iter_mut().find(|known| known.key == key)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Known<T>> {
        self.by_slot.iter().flatten()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Known<T>> {
        self.by_slot.iter_mut().flatten()
    }
}

impl<T> Known<T> {
    /// Whether a completion tells how the endpoint is now. One of an attempt that began before the endpoint became
    /// available tells what it was made unavailable for, and one during that time what panic sent there.
    pub fn is_told_by(&self, completion: &Completion) -> bool {
        self.available && began(completion) >= self.since
    }

    /// Whether a verdict of `since`, which would have made the endpoint unavailable, is not in force: a bound of the
    /// gateway stood against it, or somebody has readmitted the endpoint.
    pub fn overrules(&self, since: InstantUs, now: InstantUs) -> bool {
        self.available && now >= since.saturating_add(VERDICT_GRACE_US)
    }
}

/// When the attempt was sent.
pub fn began(completion: &Completion) -> InstantUs {
    completion.at.saturating_sub(u64::from(completion.total_us))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Outcome, testing};

    fn members(keys: &[(Slot, u64)]) -> impl Iterator<Item = Candidate> {
        keys.iter().map(|&(slot, key)| Candidate { key, ..(&testing::endpoint(slot)).into() })
    }

    #[test]
    fn what_is_known_follows_the_key_and_not_the_slot() {
        let mut table = Endpoints::<u32>::default();
        table.update(members(&[(0, 10), (1, 11), (5, 15)]));
        for known in table.iter_mut() {
            known.state = known.key as u32;
        }
        table.update(members(&[(0, 11), (5, 15), (2, 12), (1, 99)]));
        let known: Vec<_> = table.iter().map(|known| (known.slot, known.state)).collect();
        assert_eq!(known, [(0, 11), (1, 0), (2, 0), (5, 15)], "10 has left, 12 and 99 are new");
        assert!(table.get(3).is_none() && table.get(Slot::MAX).is_none());
        table.update(members(&[(0, 10)]));
        assert_eq!(table.with_key(10).map(|known| known.state), Some(0), "who comes back is new");
    }

    #[test]
    fn a_verdict_is_given_time_to_be_in_force() {
        let known = Known { slot: 0, key: 0, available: true, since: 0, state: () };
        assert!(!known.overrules(5, 5 + VERDICT_GRACE_US - 1), "the membership may be from before");
        assert!(known.overrules(5, 5 + VERDICT_GRACE_US));
        assert!(!Known { available: false, ..known }.overrules(5, u64::MAX));
    }

    #[test]
    fn what_began_before_an_endpoint_was_available_tells_nothing_of_it_now() {
        let known = Known { slot: 0, key: 0, available: true, since: 1_000, state: () };
        let ended = |at, total_us| Completion { total_us, ..testing::traffic(0, Outcome::Reset, at).completion };
        assert!(known.is_told_by(&ended(1_500, 500)));
        assert!(!known.is_told_by(&ended(1_500, 501)));
        assert!(!Known { available: false, ..known }.is_told_by(&ended(1_500, 0)));
    }
}
