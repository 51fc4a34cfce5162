//! Smooth weighted round robin as a stride schedule (Waldspurger, Weihl, "Stride Scheduling", 1995): each member
//! is due every `total / share` picks, and the one due first is next.
//!
//! Members of equal share are one *class*, in which they simply take turns, so only classes are scheduled, in a
//! heap. A pick costs O(log c) for c different shares: nothing at all where all weights are equal, and no more for
//! 1,000 endpoints than for 3 where both have as many different weights.

use sluice_sdk::{
    members::{Choice, Member},
    random::mix,
    sort::sort_by,
};

#[derive(Clone, Debug)]
pub struct Turns {
    seed: u64,
    /// A binary heap, the class that is due first on top.
    classes: Vec<Class>,
    /// Indices of members, a class after the other, each in the order of their turns.
    order: Vec<u32>,
    /// When the last pick was due, on the scale of `Class::due`.
    now: f64,
    /// Of each member, while another schedule is made.
    scratch: Vec<Place>,
    /// Key and turn, sorted by key: where members were in the schedule before.
    before: Vec<(u64, f64)>,
    keys: Vec<u64>,
}

/// Members of equal share.
#[derive(Clone, Copy, Debug)]
struct Class {
    /// In picks since the schedule was made.
    due: f64,
    /// Picks from one turn of this class to its next.
    stride: f64,
    /// Its members in `order`.
    start: u32,
    len: u32,
    /// Whose turn is next.
    cursor: u32,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    share: u32,
    index: u32,
    due: f64,
}

impl Turns {
    /// `seed` decides who is first, so that the workers do not all begin with the same endpoint.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            classes: Vec::new(),
            order: Vec::new(),
            now: 0.0,
            scratch: Vec::new(),
            before: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// The index of the member whose turn it is. There must be one.
    #[inline]
    pub fn next(&mut self) -> usize {
        let class = &mut self.classes[0];
        let index = self.order[(class.start + class.cursor) as usize];
        class.cursor = if class.cursor + 1 == class.len { 0 } else { class.cursor + 1 };
        self.now = class.due;
        class.due += class.stride;
        sift_down(&mut self.classes);
        index as usize
    }

    /// Each member's index and turn: how much of its period is left until it is due, from 0 to 1.
    pub fn positions(&self) -> impl Iterator<Item = (usize, f64)> {
        self.classes.iter().flat_map(move |class| {
            (0..class.len).map(move |distance| {
                let place = (class.cursor + distance) % class.len;
                let due = class.due + f64::from(distance) * class.stride;
                let period = class.stride * f64::from(class.len);
                (self.order[(class.start + place) as usize] as usize, ((due - self.now) / period).clamp(0.0, 1.0))
            })
        })
    }

    /// Goes on where `saved` (key and turn) was.
    pub fn resume(&mut self, members: &[Member], mut saved: Vec<(u64, f64)>) {
        sort_by(&mut saved, |a, b| a.0 < b.0);
        self.before = saved;
        self.schedule(members);
    }

    fn remember(&mut self) {
        let mut before = std::mem::take(&mut self.before);
        before.clear();
        before.extend(self.positions().map(|(index, turn)| (self.keys[index], turn)));
        sort_by(&mut before, |a, b| a.0 < b.0);
        self.before = before;
    }

    /// Makes the schedule; members of `before` keep their turn, others get in line as if just served.
    fn schedule(&mut self, members: &[Member]) {
        let total: f64 = members.iter().map(|member| f64::from(member.share)).sum();
        let everybody_new = self.before.is_empty();
        let count = members.len() as u64;
        let places = members.iter().enumerate().map(|(index, member)| {
            let period = total / f64::from(member.share);
            let turn = match self.before.binary_search_by_key(&member.key, |(key, _)| *key) {
                Ok(at) => self.before[at].1.min(1.0),
                // A first schedule begins anywhere in the row.
                Err(_) if everybody_new => {
                    ((index as u64 + mix(self.seed, 0) % count) % count + 1) as f64 / count as f64
                }
                Err(_) => 1.0,
            };
            Place { share: member.share, index: index as u32, due: turn * period }
        });
        self.scratch.clear();
        self.scratch.extend(places);
        sort_by(&mut self.scratch, |a, b| (a.share, a.due, a.index) < (b.share, b.due, b.index));
        self.order.clear();
        self.order.extend(self.scratch.iter().map(|place| place.index));
        self.keys.clear();
        self.keys.extend(members.iter().map(|member| member.key));
        self.now = 0.0;
        self.classes.clear();
        let mut start = 0;
        for class in self.scratch.chunk_by(|a, b| a.share == b.share) {
            let len = class.len() as u32;
            let stride = total / (f64::from(class[0].share) * f64::from(len));
            self.classes.push(Class { due: class[0].due, stride, start, len, cursor: 0 });
            start += len;
        }
        // A sorted array is a heap.
        sort_by(&mut self.classes, |a, b| a.due < b.due);
    }
}

impl Choice for Turns {
    fn rebuild(&mut self, members: &[Member]) {
        self.remember();
        self.schedule(members);
    }
}

/// Puts the heap's top, whose due time has grown, where it belongs.
#[inline]
fn sift_down(heap: &mut [Class]) {
    let mut at = 0;
    loop {
        let left = 2 * at + 1;
        let Some(mut child) = heap.get(left) else { return };
        let mut to = left;
        if let Some(right) = heap.get(left + 1)
            && right.due < child.due
        {
            (child, to) = (right, left + 1);
        }
        if heap[at].due <= child.due {
            return;
        }
        heap.swap(at, to);
        at = to;
    }
}

#[cfg(test)]
mod tests;
