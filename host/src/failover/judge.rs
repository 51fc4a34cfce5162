//! Which endpoints of one service are out of traffic: what its health policy wants, within the host's bounds.

use std::sync::Arc;

use super::Shared;
use crate::{
    model::{EjectionLimits, Endpoint, EndpointState, InstantUs, Slot},
    plugin::HealthChange,
};

/// WIT `health.ejection.duration-ms`.
const DURATION_MS: std::ops::RangeInclusive<u32> = 1..=3_600_000;

/// So long an endpoint waits for a request that is safe to repeat; then any request finds out whether it is fit.
const PROBE_PATIENCE_US: u64 = 1_000_000;

/// An endpoint is taken out at most so often within [`FLAPS_WITHIN_US`]: each time is a line of the log and another
/// membership for every balancer.
const FLAPS_MAX: u32 = 10;
const FLAPS_WITHIN_US: u64 = 10_000_000;

/// A probe of which nothing was heard for so long is taken for lost: the next may be sent.
const PROBE_LOST_US: u64 = 60_000_000;

/// Applies verdicts to the endpoints of one service. Pure but for the endpoints' [`Fitness`](crate::model::Fitness),
/// by which the workers see them at once.
#[derive(Debug)]
pub struct Judge {
    limits: EjectionLimits,
    shared: Arc<Shared>,
    /// By slot.
    endpoints: Vec<Option<Judged>>,
    /// Of the endpoints, while one answer is looked at; none: to be taken.
    census: Option<Census>,
}

/// Counted once an answer, so that one with many verdicts does not count ten thousand endpoints for each.
#[derive(Clone, Copy, Debug)]
struct Census {
    members: usize,
    /// Ejected or probed.
    out: usize,
    fit: usize,
}

#[derive(Debug)]
struct Judged {
    endpoint: Arc<Endpoint>,
    /// What its source says.
    healthy: bool,
    standing: Standing,
    /// Times that it was taken out since then.
    flaps: u32,
    flaps_since_us: InstantUs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Admitted,
    Ejected {
        until_us: InstantUs,
    },
    /// Readmitted then, should the policy never say what it has found.
    Probed {
        since_us: InstantUs,
        until_us: InstantUs,
        /// Whether the policy has seen what became of a probe.
        seen: bool,
    },
}

/// A verdict that has come into force.
#[derive(Clone, Debug)]
pub struct Ruling {
    pub at_us: InstantUs,
    pub endpoint: Arc<Endpoint>,
    pub kind: RulingKind,
    /// One sentence.
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RulingKind {
    Ejected { for_ms: u32 },
    Probed,
    Readmitted,
}

/// Why a verdict does not come into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Overruled {
    #[error("an ejection lasts 1 to 3600000 ms, not {0}")]
    Duration(u32),
    #[error("no more of its endpoints may be out of traffic at once")]
    Share,
    #[error("it is the last that is fit")]
    Last,
    #[error("it was taken out {FLAPS_MAX} times within ten seconds")]
    Flaps,
}

impl Judge {
    pub fn new(limits: EjectionLimits, shared: Arc<Shared>) -> Self {
        Self { limits, shared, endpoints: Vec::new(), census: None }
    }

    pub fn set_limits(&mut self, limits: EjectionLimits) {
        self.limits = limits;
    }

    /// Those that stay keep their standing; those that left are as new should they come back.
    pub fn set_members(&mut self, members: &[EndpointState]) {
        let slots = members.iter().map(|member| member.endpoint.slot as usize + 1).max().unwrap_or(0);
        let mut next: Vec<Option<Judged>> = (0..slots).map(|_| None).collect();
        for member in members {
            let slot = member.endpoint.slot as usize;
            let kept = self.endpoints.get_mut(slot).and_then(Option::take);
            let (standing, flaps, flaps_since_us) = match kept {
                Some(kept) if Arc::ptr_eq(&kept.endpoint, &member.endpoint) => {
                    (kept.standing, kept.flaps, kept.flaps_since_us)
                }
                Some(left) => {
                    left.endpoint.fitness.admit();
                    (Standing::Admitted, 0, 0)
                }
                None => (Standing::Admitted, 0, 0),
            };
            let endpoint = Arc::clone(&member.endpoint);
            next[slot] = Some(Judged { endpoint, healthy: member.healthy, standing, flaps, flaps_since_us });
        }
        for left in std::mem::replace(&mut self.endpoints, next).into_iter().flatten() {
            left.endpoint.fitness.admit();
        }
        self.census = None;
        self.count_probed();
    }

    /// Whether this very endpoint is a member.
    pub fn is_member(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.judged(endpoint.slot).is_some_and(|judged| Arc::ptr_eq(&judged.endpoint, endpoint))
    }

    /// Another answer is looked at: what is known of the endpoints may have changed.
    pub fn begin(&mut self) {
        self.census = None;
    }

    /// What comes into force, if anything does. A verdict on an endpoint that has left is none.
    pub fn apply(&mut self, change: HealthChange, now_us: InstantUs) -> Result<Option<Ruling>, Overruled> {
        match change {
            HealthChange::Eject { slot, duration_ms, reason } => self.eject(slot, duration_ms, reason, now_us),
            HealthChange::Probe(slot) => self.probe(slot, now_us),
            HealthChange::Admit(slot) => Ok(self.admit(slot, "its policy finds it fit", now_us)),
        }
    }

    /// Readmits those whose time is over.
    pub fn expire(&mut self, now_us: InstantUs) -> Vec<Ruling> {
        let over = self.endpoints.iter().flatten().filter_map(|judged| match judged.standing {
            Standing::Ejected { until_us } if until_us <= now_us => Some((judged.endpoint.slot, "its time is over")),
            Standing::Probed { until_us, .. } if until_us <= now_us => {
                Some((judged.endpoint.slot, "no verdict came of its probes"))
            }
            _ => None,
        });
        let over: Vec<_> = over.collect();
        for judged in self.endpoints.iter_mut().flatten() {
            if let Standing::Probed { since_us, .. } = &mut judged.standing
                && judged.endpoint.fitness.has_probe_sent()
                && now_us.saturating_sub(*since_us) >= PROBE_LOST_US
            {
                judged.endpoint.fitness.end_probe();
                *since_us = now_us;
            }
        }
        self.count_probed();
        let waits_long = |judged: &Judged| match judged.standing {
            Standing::Probed { since_us, .. } => {
                now_us.saturating_sub(since_us) >= PROBE_PATIENCE_US && !judged.endpoint.fitness.has_probe_sent()
            }
            _ => false,
        };
        self.shared.set_any_may_probe(self.endpoints.iter().flatten().any(waits_long));
        over.into_iter().filter_map(|(slot, reason)| self.admit(slot, reason, now_us)).collect()
    }

    /// The policy is about to be told what became of a request to this endpoint that began at `begun_us`: if that was a
    /// probe, it may judge by it.
    pub fn see(&mut self, slot: Slot, begun_us: InstantUs) {
        let judged = self.endpoints.get_mut(slot as usize).and_then(Option::as_mut);
        if let Some(Judged { standing: Standing::Probed { since_us, seen, .. }, .. }) = judged {
            *seen |= begun_us >= *since_us;
        }
    }

    /// It has been told, and has said what it makes of that: the next probe may be sent.
    pub fn observed(&mut self, slot: Slot) {
        let judged = self.endpoints.get(slot as usize).and_then(Option::as_ref);
        if let Some(Judged { standing: Standing::Probed { seen: true, .. }, endpoint, .. }) = judged {
            endpoint.fitness.end_probe();
            self.count_probed();
        }
    }

    pub fn standing(&self, slot: Slot) -> Option<Standing> {
        self.judged(slot).map(|judged| judged.standing)
    }

    /// When [`Self::expire`] will have something to do.
    pub fn next_expiry_us(&self) -> Option<InstantUs> {
        let until = |judged: &Judged| match judged.standing {
            Standing::Admitted => None,
            Standing::Ejected { until_us } | Standing::Probed { until_us, .. } => Some(until_us),
        };
        self.endpoints.iter().flatten().filter_map(until).min()
    }

    fn eject(
        &mut self,
        slot: Slot,
        duration_ms: u32,
        reason: String,
        now_us: InstantUs,
    ) -> Result<Option<Ruling>, Overruled> {
        if !DURATION_MS.contains(&duration_ms) {
            return Err(Overruled::Duration(duration_ms));
        }
        let Some(judged) = self.judged(slot) else { return Ok(None) };
        match judged.standing {
            // Its time runs already, so that nobody is kept out for ever by being ejected again and again.
            Standing::Ejected { .. } => return Ok(None),
            // Nor by being probed for form's sake.
            Standing::Probed { seen: false, .. } => return Ok(None),
            Standing::Probed { .. } => {}
            Standing::Admitted => self.may_take_out(slot, now_us)?,
        }
        let longest_ms = u32::try_from(self.limits.duration_max.as_millis()).unwrap_or(u32::MAX);
        let for_ms = duration_ms.min(longest_ms).max(1);
        let standing = Standing::Ejected { until_us: now_us + u64::from(for_ms) * 1_000 };
        Ok(self.rule(slot, standing, RulingKind::Ejected { for_ms }, reason, now_us))
    }

    fn probe(&mut self, slot: Slot, now_us: InstantUs) -> Result<Option<Ruling>, Overruled> {
        let Some(judged) = self.judged(slot) else { return Ok(None) };
        match judged.standing {
            Standing::Probed { .. } => return Ok(None),
            Standing::Ejected { .. } => {}
            Standing::Admitted => self.may_take_out(slot, now_us)?,
        }
        let longest_us = u64::try_from(self.limits.duration_max.as_micros()).unwrap_or(u64::MAX);
        let standing = Standing::Probed { since_us: now_us, until_us: now_us.saturating_add(longest_us), seen: false };
        let reason = "one request at a time finds out whether it is fit".to_owned();
        Ok(self.rule(slot, standing, RulingKind::Probed, reason, now_us))
    }

    fn admit(&mut self, slot: Slot, reason: &str, now_us: InstantUs) -> Option<Ruling> {
        if self.judged(slot)?.standing == Standing::Admitted {
            return None;
        }
        self.rule(slot, Standing::Admitted, RulingKind::Readmitted, reason.to_owned(), now_us)
    }

    /// One is always allowed, since in a small service one is a large share; the last one fit never.
    fn may_take_out(&mut self, slot: Slot, now_us: InstantUs) -> Result<(), Overruled> {
        let Census { members, out, fit } = *self.census.get_or_insert_with(|| Census::of(&self.endpoints));
        let Some(judged) = self.endpoints.get_mut(slot as usize).and_then(Option::as_mut) else { return Ok(()) };
        if fit.saturating_sub(usize::from(judged.is_fit())) == 0 {
            return Err(Overruled::Last);
        }
        if out > 0 && (out + 1) * 100 > usize::from(self.limits.percent_max.get()) * members {
            return Err(Overruled::Share);
        }
        if now_us.saturating_sub(judged.flaps_since_us) >= FLAPS_WITHIN_US {
            (judged.flaps, judged.flaps_since_us) = (0, now_us);
        }
        judged.flaps += 1;
        if judged.flaps > FLAPS_MAX { Err(Overruled::Flaps) } else { Ok(()) }
    }

    fn rule(
        &mut self,
        slot: Slot,
        standing: Standing,
        kind: RulingKind,
        reason: String,
        at_us: InstantUs,
    ) -> Option<Ruling> {
        let judged = self.endpoints.get_mut(slot as usize)?.as_mut()?;
        if let Some(census) = &mut self.census {
            census.change(judged, standing);
        }
        judged.standing = standing;
        let endpoint = Arc::clone(&judged.endpoint);
        match standing {
            Standing::Admitted => endpoint.fitness.admit(),
            Standing::Ejected { .. } => endpoint.fitness.eject(),
            Standing::Probed { .. } => endpoint.fitness.probe(),
        }
        self.count_probed();
        Some(Ruling { at_us, endpoint, kind, reason })
    }

    fn judged(&self, slot: Slot) -> Option<&Judged> {
        self.endpoints.get(slot as usize)?.as_ref()
    }

    fn count_probed(&self) {
        let probed = |judged: &&Judged| {
            matches!(judged.standing, Standing::Probed { .. }) && !judged.endpoint.fitness.has_probe_sent()
        };
        self.shared.set_probed(self.endpoints.iter().flatten().filter(probed).count());
    }
}

impl Judged {
    fn is_fit(&self) -> bool {
        self.standing == Standing::Admitted && self.healthy && !self.endpoint.fitness.fails_checks()
    }
}

impl Census {
    fn of(endpoints: &[Option<Judged>]) -> Self {
        let mut census = Self { members: 0, out: 0, fit: 0 };
        for judged in endpoints.iter().flatten() {
            census.members += 1;
            census.out += usize::from(judged.standing != Standing::Admitted);
            census.fit += usize::from(judged.is_fit());
        }
        census
    }

    /// One of them is about to have another standing.
    fn change(&mut self, judged: &Judged, next: Standing) {
        let is_well = judged.healthy && !judged.endpoint.fitness.fails_checks();
        match (judged.standing == Standing::Admitted, next == Standing::Admitted) {
            (true, false) => {
                self.out += 1;
                self.fit = self.fit.saturating_sub(usize::from(is_well));
            }
            (false, true) => {
                self.out = self.out.saturating_sub(1);
                self.fit += usize::from(is_well);
            }
            _ => {}
        }
    }
}

impl Drop for Judge {
    /// Nobody would readmit them any more.
    fn drop(&mut self) {
        self.endpoints.iter().flatten().for_each(|judged| judged.endpoint.fitness.admit());
        self.shared.set_probed(0);
    }
}

#[cfg(test)]
mod tests;
