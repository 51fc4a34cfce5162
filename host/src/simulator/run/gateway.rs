//! What the gateway does around the plugins: asks and checks, tells them what was learned, and carries out their
//! verdicts.

use super::{Event, RequestId, Simulation};
use crate::{
    failover::RulingKind,
    gateway::{
        COMPLETIONS_MAX,
        choice::{self, Chosen},
    },
    model::{Completion, Outcome},
    plugin::{Incoming, Observation, PickRequest},
    simulator::server::AttemptId,
};

/// Completions wait at most so long (WIT `balancer.complete`).
const DELIVERY_AFTER_US: u64 = 10_000;

/// From a ruling until every worker's balancer knows; the workers themselves see it at once.
const PUBLISH_AFTER_US: u64 = 10_000;

impl Simulation<'_> {
    /// The endpoint for the request's next attempt; none where there is none to give.
    pub(super) fn choose(&mut self, request: RequestId) -> Option<Chosen> {
        let now_us = self.events.now_us();
        let asking = &self.requests[request];
        let attempt = u32::try_from(asking.attempts.len()).unwrap_or(u32::MAX);
        // Nothing is hashed on: equal to the first attempt's `random`, and the same for all (WIT `balancer.request`).
        let random = if attempt == 0 { asking.hash } else { self.random.u64(..) };
        let incoming = Incoming { tried: asking.tried.clone(), ..Incoming::default() };
        let probes = asking.idempotent || self.shared.any_may_probe();
        if probes
            && self.shared.is_probing()
            && let Some(probe) = choice::take_probe(&self.snapshot, &incoming.tried)
        {
            return Some(probe);
        }
        let given = PickRequest { now_us, random, hash: asking.hash, attempt };
        let balancer = &mut self.instances.workers[asking.worker].balancer;
        let answer = balancer.call(now_us, |instance| instance.pick(given, &incoming));
        let valid = answer.filter(|&slot| self.snapshot.accepts(slot, &incoming.tried));
        if answer.is_some() && valid.is_none() {
            self.recorder.figures.invalid_picks += 1;
        }
        let fallback = || choice::power_of_two_choices(&self.snapshot, random, &incoming.tried);
        let slot = valid.unwrap_or_else(fallback)?;
        choice::admit(&self.snapshot, slot, random, &incoming.tried).ok()
    }

    /// The account of an attempt, given once.
    pub(super) fn end_attempt(&mut self, attempt: AttemptId, outcome: Outcome, has_head: bool) {
        let now_us = self.events.now_us();
        let ended = &mut self.attempts[attempt];
        ended.in_flight = None;
        let total_us = u32::try_from(now_us - ended.begun_us).unwrap_or(u32::MAX);
        let first_byte_us = if has_head { total_us.max(1) } else { 0 };
        let slot = ended.slot;
        let completion = Completion { slot, outcome, at_us: now_us, first_byte_us, total_us, load_permille: None };
        let worker = self.requests[ended.request].worker;
        let place = &mut self.instances.workers[worker];
        place.waiting.push(completion);
        if place.waiting.len() >= COMPLETIONS_MAX {
            self.deliver(worker);
        } else if !place.delivery_due {
            place.delivery_due = true;
            self.events.after(DELIVERY_AFTER_US, Event::Deliver { worker });
        }
    }

    pub(super) fn delivery_due(&mut self, worker: usize) {
        self.instances.workers[worker].delivery_due = false;
        self.deliver(worker);
    }

    fn deliver(&mut self, worker: usize) {
        let now_us = self.events.now_us();
        let worker = &mut self.instances.workers[worker];
        let batch = std::mem::take(&mut worker.waiting);
        if batch.is_empty() {
            return;
        }
        worker.balancer.call(now_us, |instance| instance.complete(&batch, now_us));
        if let Some(failover) = &mut worker.failover {
            // An instance that failed hedges nothing.
            let answer = failover.call(now_us, |instance| instance.complete(&batch, now_us));
            worker.hedge_after_us = answer.flatten();
            let observed = batch.iter().map(|&completion| Observation { by_check: false, completion });
            self.observations.extend(observed);
        }
    }

    /// The health policy's look at what all workers have learned, and the bounds' look at the time.
    pub(super) fn observe(&mut self) {
        let now_us = self.events.now_us();
        self.shared.budget.roll(now_us);
        let members: Vec<_> = self.snapshot.members().cloned().collect();
        self.instances.restart(&members, now_us);
        let (Some(health), Some(judge)) = (&mut self.instances.health, &mut self.judge) else { return };
        let observations = std::mem::take(&mut self.observations);
        for Observation { completion, .. } in &observations {
            judge.see(completion.slot, completion.at_us.saturating_sub(u64::from(completion.total_us)));
        }
        judge.begin();
        let changes = health.call(now_us, |instance| instance.observe(&observations, now_us)).unwrap_or_default();
        let mut rulings = Vec::new();
        for change in changes {
            match judge.apply(change, now_us) {
                Ok(ruling) => rulings.extend(ruling),
                Err(_) => self.recorder.figures.overruled += 1,
            }
        }
        for observation in &observations {
            judge.observed(observation.completion.slot);
        }
        rulings.extend(judge.expire(now_us));
        let ejections = rulings.iter().filter(|ruling| matches!(ruling.kind, RulingKind::Ejected { .. })).count();
        self.recorder.figures.ejections += ejections as u64;
        if !rulings.is_empty() && !self.publish_due {
            self.publish_due = true;
            self.events.after(PUBLISH_AFTER_US, Event::Publish);
        }
    }

    /// Every instance is told who is available now.
    pub(super) fn publish(&mut self) {
        let now_us = self.events.now_us();
        self.publish_due = false;
        for member in self.snapshot.endpoints.iter_mut().flatten() {
            let available = member.healthy && member.endpoint.fitness.is_fit();
            if available && !member.available {
                member.since_us = now_us;
            }
            member.available = available;
        }
        self.snapshot.updated_us = now_us;
        let members: Vec<_> = self.snapshot.members().cloned().collect();
        self.instances.update(&members, now_us);
    }
}
