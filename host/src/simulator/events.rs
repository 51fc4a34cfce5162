//! Virtual time: what is to happen, in the order in which it does.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

use crate::model::InstantUs;

/// When a simulation begins. Not 0, which is never an instant on the gateway's clock either.
pub const BEGIN_US: InstantUs = 1_000_000;

/// Events to come, and the instant of the last one that came.
///
/// Of two at one instant the one that was put in first comes first, so that a run depends on nothing but its seed.
#[derive(Debug)]
pub struct Events<E> {
    heap: BinaryHeap<Reverse<Scheduled<E>>>,
    sequence: u64,
    now_us: InstantUs,
}

#[derive(Debug)]
struct Scheduled<E> {
    at_us: InstantUs,
    sequence: u64,
    event: E,
}

impl<E> Events<E> {
    pub fn new() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0, now_us: BEGIN_US }
    }

    pub fn now_us(&self) -> InstantUs {
        self.now_us
    }

    /// An instant that has passed is now.
    pub fn at(&mut self, at_us: InstantUs, event: E) {
        let (at_us, sequence) = (at_us.max(self.now_us), self.sequence);
        self.sequence += 1;
        self.heap.push(Reverse(Scheduled { at_us, sequence, event }));
    }

    pub fn after(&mut self, us: u64, event: E) {
        self.at(self.now_us.saturating_add(us), event);
    }

    /// The next event; it is its instant then.
    pub fn next(&mut self) -> Option<E> {
        let Reverse(Scheduled { at_us, event, .. }) = self.heap.pop()?;
        self.now_us = at_us;
        Some(event)
    }
}

impl<E> Scheduled<E> {
    fn place(&self) -> (InstantUs, u64) {
        (self.at_us, self.sequence)
    }
}

impl<E> PartialEq for Scheduled<E> {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl<E> Eq for Scheduled<E> {}

impl<E> PartialOrd for Scheduled<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Scheduled<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_their_instants_and_then_of_their_making() {
        let mut events = Events::new();
        for (at_us, event) in [(3, 'c'), (2, 'a'), (2, 'b'), (9, 'd')] {
            events.at(BEGIN_US + at_us, event);
        }
        let order: String = std::iter::from_fn(|| events.next()).collect();
        assert_eq!((order.as_str(), events.now_us()), ("abcd", BEGIN_US + 9));
        events.at(BEGIN_US, 'e');
        assert_eq!((events.next(), events.now_us()), (Some('e'), BEGIN_US + 9), "time does not run backwards");
    }
}
