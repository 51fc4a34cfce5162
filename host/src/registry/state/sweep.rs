//! What time alone brings about: leases that run out, instances that have been critical for too long.
//!
//! # Mass expiry
//!
//! When many leases run out at once, it is more likely that heartbeats do not arrive than that the instances are gone.
//! So where more than a share of a service's leases, or of all, have run out within [`WINDOW`], those that ran out last
//! are *held*: their checks keep the status that they had (those that had already become critical within the window get
//! it back), until a heartbeat comes, until no more than the share is silent, or until they have been held for so long
//! that this is the truth. Fewer than [`MASS_MIN`] leases are never a mass: the one instance of a service must be able
//! to go.

use std::{cmp::Reverse, collections::HashMap, time::Duration};

use super::{State, us};
use crate::{
    model::InstantUs,
    registry::instance::{CheckStatus, RegisteredCheck, RegisteredInstance},
};

/// Leases that run out within this time did so "at once": heartbeats of a minute's TTL come at least so often.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Silent leases that make a mass at least.
pub const MASS_MIN: usize = 5;
/// How often leases that are held are looked at.
const HELD_INTERVAL: Duration = Duration::from_secs(1);

/// A lease that ran out.
pub(super) struct Lapse {
    at_us: InstantUs,
    service: String,
    /// Of the lease; another one means that a heartbeat came.
    deadline_us: InstantUs,
    /// When it ran out.
    before: CheckStatus,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Just seen.
    New,
    /// Its check has become critical.
    Ended,
    /// Its check keeps its status.
    Held,
}

/// Leases that are held, of how many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldLeases {
    pub held: usize,
    pub of: usize,
}

impl State {
    /// Does what is due, at most `max` changes of status or deregistrations, and at least one, but no more than the
    /// pass takes; true where more is.
    pub fn sweep(&mut self, max: usize, now_us: InstantUs) -> bool {
        self.now_us = now_us;
        self.note_lapses();
        self.forget_lapses();
        let masses = self.masses();
        let mut left = max;
        let lapsed: Vec<String> = self.lapses.keys().cloned().collect();
        for check in lapsed {
            if left == 0 || (left < max && self.is_full()) {
                return true;
            }
            if self.judge(&check, &masses) {
                left -= 1;
            }
        }
        self.deregister_departed(left)
    }

    /// When something will be due at the earliest; None: nothing that is known now.
    pub fn due_us(&self) -> Option<InstantUs> {
        let lease = self.leases.peek().map(|Reverse((at, _))| *at);
        let departure = self.departures.peek().map(|Reverse((at, _))| *at);
        let held = (!self.lapses.is_empty()).then(|| self.now_us + us(HELD_INTERVAL));
        [lease, departure, held].into_iter().flatten().min()
    }

    /// Services whose membership is kept although leases ran out.
    pub fn held(&self) -> HashMap<String, HeldLeases> {
        let mut held: HashMap<String, HeldLeases> = HashMap::new();
        for lapse in self.lapses.values().filter(|lapse| lapse.stage == Stage::Held) {
            held.entry(lapse.service.clone()).or_default().held += 1;
        }
        for (service, held) in &mut held {
            held.of = self.leases_of(service);
        }
        held
    }

    /// Leases whose time has come, and that nobody prolonged.
    pub(super) fn note_lapses(&mut self) {
        while let Some(Reverse((at_us, _))) = self.leases.peek()
            && *at_us <= self.now_us
            && let Some(Reverse((at_us, id))) = self.leases.pop()
        {
            let Some(tracked) = self.checks.get_mut(&id).filter(|tracked| tracked.look_us == Some(at_us)) else {
                continue;
            };
            tracked.look_us = None;
            let owner = tracked.owner.clone();
            let Ok(check) = self.check(&id) else { continue };
            // A check of another kind may have taken the place of the one that had a lease.
            let lease = check.definition.kind.ttl().and(check.live.deadline_us());
            let Some(deadline_us) = lease else { continue };
            if deadline_us > self.now_us {
                self.look_at_lease(&id, deadline_us);
                continue;
            }
            let service = match owner {
                super::Owner::Node => String::new(),
                super::Owner::Instance(id) => self.instances.get(&id).map(|it| it.service.clone()).unwrap_or_default(),
            };
            let before = check.status;
            self.lapses.insert(id, Lapse { at_us: self.now_us, service, deadline_us, before, stage: Stage::New });
        }
    }

    /// Those that a heartbeat has made good, and those that ended too long ago to be of one mass with the next.
    fn forget_lapses(&mut self) {
        let now_us = self.now_us;
        let mut lapses = std::mem::take(&mut self.lapses);
        let mut prolonged = Vec::new();
        lapses.retain(|id, lapse| {
            let deadline_us = self.check(id).ok().and_then(|check| check.live.deadline_us());
            match (lapse.stage, deadline_us) {
                (Stage::Ended, None) => lapse.at_us + us(WINDOW) > now_us,
                (_, None) => false,
                // Ended too: a heartbeat came just before its end.
                (stage, Some(deadline_us)) if stage == Stage::Ended || deadline_us != lapse.deadline_us => {
                    prolonged.push((id.clone(), deadline_us));
                    false
                }
                _ => true,
            }
        });
        self.lapses = lapses;
        for (id, deadline_us) in prolonged {
            self.look_at_lease(&id, deadline_us);
        }
    }

    pub(super) fn masses(&self) -> Masses {
        let mut silent: HashMap<&str, usize> = HashMap::new();
        for lapse in self.lapses.values() {
            *silent.entry(&lapse.service).or_default() += 1;
        }
        let percent = usize::from(self.options.mass_expiry.percent.get());
        let is_mass = |silent: usize, of: usize| silent >= MASS_MIN && silent * 100 > of * percent;
        let services = silent.iter().filter(|(service, silent)| is_mass(**silent, self.leases_of(service)));
        let all = self.lapses.len();
        Masses {
            services: services.map(|(service, _)| (*service).to_owned()).collect(),
            everything: all >= MASS_MIN
                && is_mass(all, self.services.keys().map(|service| self.leases_of(service)).sum::<usize>()),
        }
    }

    /// True where a status changed.
    pub(super) fn judge(&mut self, id: &str, masses: &Masses) -> bool {
        let Some(lapse) = self.lapses.get_mut(id) else { return false };
        let held_too_long = lapse.at_us + us(self.options.mass_expiry.hold) <= self.now_us;
        let hold = !held_too_long && (masses.everything || masses.services.contains(&lapse.service));
        let before = lapse.before;
        match (lapse.stage, hold) {
            (Stage::Held, true) | (Stage::Ended, false) => false,
            (Stage::New, true) => {
                lapse.stage = Stage::Held;
                false
            }
            (Stage::Ended, true) => {
                lapse.stage = Stage::Held;
                let deadline_us = lapse.deadline_us;
                let Ok(check) = self.check(id) else { return false };
                check.live.begin(deadline_us);
                self.set_status(id, before, "the TTL ran out, as that of many at once; the last status is kept");
                true
            }
            (Stage::New | Stage::Held, false) => {
                lapse.stage = Stage::Ended;
                let deadline_us = lapse.deadline_us;
                let Ok(check) = self.check(id) else { return false };
                let Some(ttl) = check.definition.kind.ttl() else { return false };
                // A heartbeat in this very moment: the next sweep sees it.
                if !check.live.end(deadline_us) {
                    return false;
                }
                let text = format!("the TTL of {} ran out without a heartbeat", humantime::format_duration(ttl));
                self.set_status(id, CheckStatus::Critical, &text);
                true
            }
        }
    }

    fn deregister_departed(&mut self, max: usize) -> bool {
        let mut left = max;
        while let Some(Reverse((at_us, _))) = self.departures.peek()
            && *at_us <= self.now_us
        {
            if left == 0 {
                return true;
            }
            let Some(Reverse((at_us, id))) = self.departures.pop() else { break };
            let Some(tracked) = self.checks.get_mut(&id).filter(|tracked| tracked.depart_us == Some(at_us)) else {
                continue;
            };
            tracked.depart_us = None;
            let Some((instance, departs_us)) = self.departure(&id) else { continue };
            if departs_us > self.now_us {
                self.ask_for_departure(&id, departs_us);
            } else {
                tracing::info!(instance = %instance, check = id, "deregistered: its check was critical for too long");
                self.deregister(&instance, self.now_us);
                left -= 1;
            }
        }
        false
    }

    /// TTL checks of a service's instances (of the node where the name is empty) whose leases run, or ran out lately.
    fn leases_of(&self, service: &str) -> usize {
        let counts = |check: &&RegisteredCheck| {
            check.definition.kind.ttl().is_some()
                && (check.status < CheckStatus::Critical || self.lapses.contains_key(check.id()))
        };
        let of_instance = |instance: &RegisteredInstance| instance.checks.iter().filter(counts).count();
        if service.is_empty() {
            return self.node.checks.iter().filter(counts).count();
        }
        let Some(service) = self.services.get(service) else { return 0 };
        service.ids.iter().filter_map(|id| self.instances.get(id)).map(|instance| of_instance(instance)).sum()
    }
}

pub(super) struct Masses {
    services: Vec<String>,
    everything: bool,
}
