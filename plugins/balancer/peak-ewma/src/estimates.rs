//! Peak EWMA, as Finagle and tower have it (`tower/src/load/peak_ewma.rs`): an endpoint's cost is its expected time
//! to answer times the requests that it would then have. The expectation is a moving average that forgets with
//! `decay`, but takes a new peak at once; where nothing is measured it sinks, so that a slow endpoint is tried
//! again.
//!
//! That sinking is the same factor for all endpoints, e^(-t/decay), and costs are only compared. So an estimate is
//! stored as if it had been growing by the inverse factor since a common epoch: comparing needs no exponential.

use sluice_sdk::{InstantUs, Slot};

/// How many decays the epoch, and the last measurement before it, may be back. The stored numbers are between e^-100
/// and e^100 times the estimates, far from the end of an f64 in both directions.
const EPOCH_DECAYS_MAX: f64 = 100.0;

/// An estimate of 0 would hide the load.
const RTT_US_MIN: f64 = 1.0;

/// Eleven days: what is more, in a state that somebody else saved, is nonsense.
const RTT_US_MAX: f64 = 1e12;

/// The estimates of all endpoints, by slot.
#[derive(Debug)]
pub struct Estimates {
    decay_us: f64,
    initial_us: f64,
    epoch: InstantUs,
    now: InstantUs,
    by_slot: Vec<Option<Stored>>,
}

#[derive(Clone, Copy, Debug)]
struct Stored {
    key: u64,
    /// The estimate at `at`, times e^((at - epoch) / decay).
    grown_us: f64,
    /// When it was measured last, or when the endpoint was first seen.
    at: InstantUs,
}

/// One endpoint's estimate as it is saved.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub key: u64,
    pub rtt_us: f64,
    pub at: InstantUs,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    /// It took this long.
    Exactly(f64),
    /// It took, or would have taken, this long or longer. Raises an estimate or leaves it where the last measurement
    /// put it: an endpoint that answers with errors must not sink into being the fastest.
    AtLeast(f64),
}

impl Estimates {
    pub fn new(decay_us: f64, initial_us: f64) -> Self {
        Self { decay_us, initial_us, epoch: 0, now: 0, by_slot: Vec::new() }
    }

    /// Takes the whole membership: slots and keys. What is known of an endpoint stays known.
    pub fn update(&mut self, endpoints: impl Iterator<Item = (Slot, u64)>, now: InstantUs) {
        if self.by_slot.is_empty() {
            self.epoch = now;
        }
        self.advance(now);
        let before = std::mem::take(&mut self.by_slot);
        for (slot, key) in endpoints {
            let known = before.get(slot as usize).copied().flatten().filter(|known| known.key == key);
            let fresh = || Stored { key, grown_us: self.grown(self.initial_us, now), at: now };
            let stored = known.unwrap_or_else(fresh);
            let index = slot as usize;
            if self.by_slot.len() <= index {
                self.by_slot.resize(index + 1, None);
            }
            self.by_slot[index] = Some(stored);
        }
    }

    /// What may be compared between endpoints: the expected time to answer, on a scale common to all.
    #[inline]
    pub fn cost(&self, slot: Slot) -> f64 {
        self.by_slot.get(slot as usize).copied().flatten().map_or(0.0, |stored| stored.grown_us)
    }

    pub fn observe(&mut self, slot: Slot, sample: Sample, at: InstantUs) {
        self.advance(at);
        let Some(Some(stored)) = self.by_slot.get(slot as usize).copied() else { return };
        // Completions of one batch may be out of order.
        let at = at.max(stored.at);
        let elapsed = (at - stored.at) as f64;
        let kept = (-elapsed / self.decay_us).exp();
        let estimate = self.shrunk(stored.grown_us, at);
        let next = match sample {
            Sample::Exactly(rtt_us) if rtt_us < estimate => estimate + rtt_us * (1.0 - kept),
            Sample::Exactly(rtt_us) => rtt_us,
            Sample::AtLeast(rtt_us) => rtt_us.max(self.shrunk(stored.grown_us, stored.at)),
        };
        let grown_us = self.grown(next, at);
        self.by_slot[slot as usize] = Some(Stored { grown_us, at, ..stored });
    }

    pub fn iter(&self) -> impl Iterator<Item = Estimate> {
        self.by_slot.iter().flatten().map(|stored| Estimate {
            key: stored.key,
            rtt_us: self.shrunk(stored.grown_us, stored.at),
            at: stored.at,
        })
    }

    /// Takes over what a predecessor knew, if the endpoint is still there.
    pub fn restore(&mut self, saved: Estimate) {
        let at = saved.at.clamp(self.oldest(), self.now);
        let grown_us = self.grown(saved.rtt_us, at);
        for stored in self.by_slot.iter_mut().flatten().filter(|stored| stored.key == saved.key) {
            *stored = Stored { grown_us, at, ..*stored };
        }
    }

    fn grown(&self, rtt_us: f64, at: InstantUs) -> f64 {
        rtt_us.clamp(RTT_US_MIN, RTT_US_MAX) * self.growth(at)
    }

    fn shrunk(&self, grown_us: f64, at: InstantUs) -> f64 {
        grown_us / self.growth(at)
    }

    /// What an estimate has been multiplied with; below 1 before the epoch.
    fn growth(&self, at: InstantUs) -> f64 {
        ((at as f64 - self.epoch as f64) / self.decay_us).exp()
    }

    /// The earliest time of a measurement that is told apart from earlier ones.
    fn oldest(&self) -> InstantUs {
        self.epoch.saturating_sub((EPOCH_DECAYS_MAX * self.decay_us) as u64)
    }

    /// Moves the epoch up to `now` where it is too far back.
    fn advance(&mut self, now: InstantUs) {
        self.now = self.now.max(now);
        let decays = (self.now - self.epoch) as f64 / self.decay_us;
        if decays <= EPOCH_DECAYS_MAX {
            return;
        }
        self.epoch = self.now;
        let oldest = self.oldest();
        // Never 0: endpoints that nobody has asked for long still differ by their load.
        let least = RTT_US_MIN * (-EPOCH_DECAYS_MAX).exp();
        for stored in self.by_slot.iter_mut().flatten() {
            stored.grown_us = (stored.grown_us * (-decays).exp()).max(least);
            stored.at = stored.at.max(oldest);
        }
    }
}

#[cfg(test)]
mod tests;
