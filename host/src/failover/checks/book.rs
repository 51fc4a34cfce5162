//! What is to be checked, and when: pure, with the time handed in.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use fastrand::Rng;

use super::{CheckReport, Checked, CheckedService, probe::Look, tally::Tally};
use crate::model::{Endpoint, HealthCheck, InstantUs, Outcome, Protocol, ServiceName, Slot};

/// First checks begin so far apart, 100 a second, until those of a service are spread over its whole interval: then
/// there are as many as there will be from then on.
const FIRST_APART: Duration = Duration::from_millis(10);

/// Times of endpoints that left stay until they come; with so many beyond the endpoints' own they are sorted out.
const STALE_MAX: usize = 1024;

/// A check that is to be made.
pub struct Due {
    pub serial: u64,
    pub check: Arc<HealthCheck>,
    pub protocol: Protocol,
    pub endpoint: Arc<Endpoint>,
}

pub struct Book {
    services: HashMap<ServiceName, Service>,
    /// By serial number, which no other endpoint ever gets.
    entries: HashMap<u64, Entry>,
    /// When which entry is due; of entries that are waiting, and of some that left.
    times: BinaryHeap<Reverse<(InstantUs, u64)>>,
    next_serial: u64,
    /// Until when the first checks given out so far take, were they so far apart as they should be.
    first_until_us: InstantUs,
    random: Rng,
}

struct Service {
    check: Arc<HealthCheck>,
    protocol: Protocol,
    serials: HashMap<Slot, u64>,
}

struct Entry {
    endpoint: Arc<Endpoint>,
    check: Arc<HealthCheck>,
    protocol: Protocol,
    tally: Tally,
    state: State,
    /// When its passing, or not, began.
    since_us: InstantUs,
    last: Option<Last>,
}

#[derive(Clone, Copy)]
enum State {
    Waiting { due_us: InstantUs },
    UnderWay { since_us: InstantUs, anew: bool },
}

struct Last {
    outcome: Outcome,
    at_us: InstantUs,
    total_us: u32,
    detail: String,
}

impl Book {
    pub fn new(seed: u64) -> Self {
        Self {
            services: HashMap::new(),
            entries: HashMap::new(),
            times: BinaryHeap::new(),
            next_serial: 0,
            first_until_us: 0,
            random: Rng::with_seed(seed),
        }
    }

    /// Makes these all that is checked; answers whether that changed anything.
    pub fn set(&mut self, services: Vec<CheckedService>, now_us: InstantUs) -> bool {
        let before = self.services.len();
        let names: HashSet<ServiceName> = services.iter().map(|service| service.service.clone()).collect();
        let entries = &mut self.entries;
        self.services.retain(|name, service| {
            let stays = names.contains(name);
            if !stays {
                service.serials.values().for_each(|serial| leave(entries, *serial));
            }
            stays
        });
        let mut changed = before != self.services.len();
        let mut first = Vec::new();
        for service in services {
            changed |= self.set_service(service, &mut first);
        }
        self.spread(&first, now_us);
        if self.times.len() > self.entries.len() + STALE_MAX {
            let entries = &self.entries;
            self.times
                .retain(|Reverse((due_us, serial))| entries.get(serial).is_some_and(|entry| entry.is_due_at(*due_us)));
        }
        changed || !first.is_empty()
    }

    /// What joined, or is asked something else, is added to `first`.
    fn set_service(&mut self, given: CheckedService, first: &mut Vec<u64>) -> bool {
        let CheckedService { service: name, check, protocol, endpoints } = given;
        let (entries, next_serial) = (&mut self.entries, &mut self.next_serial);
        let service = self.services.entry(name).or_insert_with(|| Service {
            check: Arc::new(check.clone()),
            protocol,
            serials: HashMap::with_capacity(endpoints.len()),
        });
        let asks_anew = *service.check != check || service.protocol != protocol;
        if asks_anew {
            (service.check, service.protocol) = (Arc::new(check), protocol);
        }
        let slots: HashSet<Slot> = endpoints.iter().map(|endpoint| endpoint.slot).collect();
        let before = service.serials.len();
        service.serials.retain(|slot, serial| {
            let stays = slots.contains(slot);
            if !stays {
                leave(entries, *serial);
            }
            stays
        });
        let changed = asks_anew || before != service.serials.len();
        for endpoint in endpoints {
            let known = service.serials.get(&endpoint.slot).copied();
            if let Some(serial) = known
                && let Some(entry) = entries.get_mut(&serial)
                && Arc::ptr_eq(&entry.endpoint, &endpoint)
            {
                if asks_anew {
                    entry.ask(&service.check, protocol);
                    first.extend(matches!(entry.state, State::Waiting { .. }).then_some(serial));
                }
                continue;
            }
            // Another endpoint has its slot now.
            if let Some(serial) = known {
                leave(entries, serial);
            }
            let serial = *next_serial;
            *next_serial += 1;
            service.serials.insert(endpoint.slot, serial);
            entries.insert(serial, Entry::new(endpoint, &service.check, protocol));
            first.push(serial);
        }
        changed
    }

    /// Gives out the times of first checks: evenly over what is needed to keep them apart, at random within each
    /// one's part.
    fn spread(&mut self, first: &[u64], now_us: InstantUs) {
        let busy_us = self.first_until_us.saturating_sub(now_us);
        let (place, count) = (|index: usize| index as f64, first.len() as f64);
        let needed_us = busy_us + first.len() as u64 * micros(FIRST_APART);
        for (index, serial) in first.iter().enumerate() {
            let entry = self.entries.get_mut(serial).expect("it has just joined");
            let window_us = needed_us.min(micros(entry.check.interval));
            let share = (place(index) + self.random.f64()) / count;
            let due_us = now_us + (window_us as f64 * share) as u64;
            entry.state = State::Waiting { due_us };
            self.times.push(Reverse((due_us, *serial)));
        }
        self.first_until_us = now_us + needed_us;
    }

    /// At most so many that are due, those that are overdue longest first.
    pub fn take_due(&mut self, now_us: InstantUs, at_most: usize) -> Vec<Due> {
        let mut due = Vec::new();
        while due.len() < at_most && self.next_us().is_some_and(|next_us| next_us <= now_us) {
            let Some(Reverse((_, serial))) = self.times.pop() else { break };
            let entry = self.entries.get_mut(&serial).expect("what comes next has not left");
            entry.state = State::UnderWay { since_us: now_us, anew: false };
            due.push(Due {
                serial,
                check: Arc::clone(&entry.check),
                protocol: entry.protocol,
                endpoint: Arc::clone(&entry.endpoint),
            });
        }
        due
    }

    /// When the next check is due.
    pub fn next_us(&mut self) -> Option<InstantUs> {
        while let Some(&Reverse((due_us, serial))) = self.times.peek() {
            if self.entries.get(&serial).is_some_and(|entry| entry.is_due_at(due_us)) {
                return Some(due_us);
            }
            self.times.pop();
        }
        None
    }

    /// Counts what a check found, and has the next one follow. None where the endpoint has left meanwhile, or is asked
    /// something else: then it was an answer to nothing.
    pub fn finish(&mut self, serial: u64, look: Look, total_us: u32, now_us: InstantUs) -> Option<Checked> {
        let entry = self.entries.get_mut(&serial)?;
        let State::UnderWay { since_us: began_us, anew } = entry.state else { return None };
        let jitter = f64::from(entry.check.jitter.get()) / 100.0;
        let interval = entry.check.interval.mul_f64(1.0 + jitter * (2.0 * self.random.f64() - 1.0));
        // From beginning to beginning, so that slow answers make no longer intervals.
        let due_us = (began_us + micros(interval)).max(now_us);
        entry.state = State::Waiting { due_us };
        self.times.push(Reverse((due_us, serial)));
        if anew {
            return None;
        }
        let Look { outcome, detail } = look;
        let is_first = entry.last.is_none();
        let became = entry.tally.count(outcome == Outcome::Success, entry.check.fall, entry.check.rise);
        if let Some(passes) = became {
            entry.endpoint.fitness.set_passes_checks(passes);
        }
        if is_first || became.is_some() {
            entry.since_us = now_us;
        }
        entry.last = Some(Last { outcome, at_us: now_us, total_us, detail: detail.clone() });
        Some(Checked { endpoint: Arc::clone(&entry.endpoint), outcome, at_us: now_us, total_us, became, detail })
    }

    pub fn report(&self, service: &ServiceName, slot: Slot) -> Option<CheckReport> {
        let serial = self.services.get(service)?.serials.get(&slot)?;
        let entry = self.entries.get(serial)?;
        let last = entry.last.as_ref()?;
        Some(CheckReport {
            passing: entry.tally.is_passing(),
            since_us: entry.since_us,
            consecutive: entry.tally.consecutive(),
            outcome: last.outcome,
            at_us: last.at_us,
            total_us: last.total_us,
            detail: last.detail.clone(),
        })
    }
}

impl Entry {
    /// Due at no time yet.
    fn new(endpoint: Arc<Endpoint>, check: &Arc<HealthCheck>, protocol: Protocol) -> Self {
        let state = State::Waiting { due_us: InstantUs::MAX };
        Self { endpoint, check: Arc::clone(check), protocol, tally: Tally::new(), state, since_us: 0, last: None }
    }

    fn ask(&mut self, check: &Arc<HealthCheck>, protocol: Protocol) {
        (self.check, self.protocol) = (Arc::clone(check), protocol);
        self.tally.ask_anew();
        if let State::UnderWay { anew, .. } = &mut self.state {
            *anew = true;
        }
    }

    fn is_due_at(&self, us: InstantUs) -> bool {
        matches!(self.state, State::Waiting { due_us } if due_us == us)
    }
}

/// What is not checked passes.
fn leave(entries: &mut HashMap<u64, Entry>, serial: u64) {
    if let Some(entry) = entries.remove(&serial) {
        entry.endpoint.fitness.set_passes_checks(true);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
impl Book {
    pub fn times_len(&self) -> usize {
        self.times.len()
    }
}
