//! A request's way: its attempts, what becomes of those that fail, and its answer.

use super::{Attempt, Event, Request, RequestId, Simulation, micros};
use crate::{
    gateway::{choice::Chosen, native_verdict},
    model::{Outcome, Slot},
    plugin::{FailedAttempt, Verdict},
    simulator::{
        random::{Stream, stream},
        server::{AttemptId, Begun, Job, Taken},
    },
};

/// Why an attempt brought no good answer.
#[derive(Clone, Copy, Debug)]
struct Failed {
    /// None: there was no endpoint to send it to.
    slot: Option<Slot>,
    outcome: Outcome,
    status: Option<u16>,
}

impl Simulation<'_> {
    pub(super) fn arrive(&mut self) {
        let now_us = self.events.now_us();
        let worker = self.random.usize(..self.instances.workers.len());
        let request = self.requests.len();
        self.requests.push(Request {
            worker,
            arrived_us: now_us,
            deadline_us: now_us + micros(self.scenario.timeout),
            idempotent: self.random.f64() < self.scenario.idempotent,
            hash: self.random.u64(..),
            tried: Default::default(),
            attempts: Default::default(),
            ended: false,
        });
        self.open_requests += 1;
        self.shared.budget.request(worker);
        self.events.at(self.requests[request].deadline_us, Event::Deadline(request));
        self.send(request);
    }

    pub(super) fn retry(&mut self, request: RequestId) {
        if !self.requests[request].ended {
            self.send(request);
        }
    }

    /// A second copy beside an attempt that has not been answered in time, if there is an endpoint for it that was not
    /// tried, and budget.
    pub(super) fn hedge(&mut self, attempt: AttemptId) {
        let Attempt { request, in_flight, .. } = &self.attempts[attempt];
        let request = *request;
        if in_flight.is_none() || self.snapshot.fit(&self.requests[request].tried).next().is_none() || !self.spend() {
            return;
        }
        if let Some(chosen) = self.choose(request) {
            self.shared.counts.hedges.add(1);
            self.attempt(request, chosen, true);
        }
    }

    pub(super) fn deadline(&mut self, request: RequestId) {
        if self.requests[request].ended {
            return;
        }
        self.end_open_attempts(request, Outcome::TimedOut);
        self.answer(request, false);
    }

    pub(super) fn try_timeout(&mut self, attempt: AttemptId) {
        if self.attempts[attempt].in_flight.is_some() {
            self.abandon(attempt);
            self.attempt_failed(attempt, Outcome::TimedOut, None);
        }
    }

    /// An endpoint has done its work.
    pub(super) fn done(&mut self, attempt: AttemptId) {
        let (server, now_us) = (self.attempts[attempt].slot as usize, self.events.now_us());
        let Some((status, next)) = self.servers[server].done(attempt, now_us) else { return };
        self.begun(next);
        self.respond(attempt, status);
    }

    pub(super) fn death(&mut self, endpoint: usize) {
        for attempt in self.servers[endpoint].die() {
            if self.attempts[attempt].in_flight.is_some() {
                self.attempt_failed(attempt, Outcome::Reset, None);
            }
        }
    }

    /// One attempt, at the endpoint that the balancer chooses.
    fn send(&mut self, request: RequestId) {
        match self.choose(request) {
            Some(chosen) => {
                let Request { worker, idempotent, .. } = self.requests[request];
                let attempt = self.attempts.len();
                let hedge_after_us = self.instances.workers[worker].hedge_after_us;
                if let Some(after_us) = hedge_after_us.filter(|_| idempotent && self.may_try_again(request, 2)) {
                    self.events.after(u64::from(after_us), Event::Hedge(attempt));
                }
                self.attempt(request, chosen, false);
            }
            None => {
                let failed = Failed { slot: None, outcome: Outcome::ConnectFailed, status: None };
                self.decide(request, failed);
            }
        }
    }

    fn attempt(&mut self, request: RequestId, Chosen { slot, in_flight }: Chosen, is_hedge: bool) {
        let now_us = self.events.now_us();
        let id = self.attempts.len();
        self.attempts.push(Attempt { request, slot, begun_us: now_us, is_hedge, in_flight: Some(in_flight) });
        let sent = &mut self.requests[request];
        let nth = sent.attempts.len() as u64;
        sent.attempts.push(id);
        sent.tried.push(slot);
        self.recorder.attempted(sent.arrived_us, slot as usize);
        if let Some(timeout) = self.scenario.retry.per_try_timeout {
            self.events.after(micros(timeout), Event::TryTimeout(id));
        }
        let random = stream(self.seed, Stream::Work { request: request as u64, attempt: nth });
        match self.servers[slot as usize].take(Job { attempt: id, random }, now_us) {
            Taken::Refused => self.attempt_failed(id, Outcome::ConnectFailed, None),
            Taken::Full => self.respond(id, 503),
            Taken::Begun(begun) => self.begun(Some(begun)),
            Taken::Waits => {}
        }
    }

    fn begun(&mut self, begun: Option<Begun>) {
        if let Some(Begun { attempt, done_us }) = begun {
            self.events.at(done_us, Event::Done(attempt));
        }
    }

    /// The response, to whoever still waits for it.
    fn respond(&mut self, attempt: AttemptId, status: u16) {
        if self.attempts[attempt].in_flight.is_none() {
            return;
        }
        let outcome = Outcome::of_status(status);
        if outcome.is_failure() {
            return self.attempt_failed(attempt, outcome, Some(status));
        }
        self.end_attempt(attempt, outcome, true);
        let Attempt { request, is_hedge, .. } = self.attempts[attempt];
        if is_hedge {
            self.shared.counts.hedges_won.add(1);
        }
        self.end_open_attempts(request, Outcome::Cancelled);
        self.answer(request, true);
    }

    fn attempt_failed(&mut self, attempt: AttemptId, outcome: Outcome, status: Option<u16>) {
        self.end_attempt(attempt, outcome, status.is_some());
        let Attempt { request, slot, .. } = self.attempts[attempt];
        // The other copy may still bring an answer.
        if self.open_attempts(request) == 0 {
            self.decide(request, Failed { slot: Some(slot), outcome, status });
        }
    }

    /// Asks the failover policy, and does what it says as far as that may be (`gateway::retry`).
    fn decide(&mut self, request: RequestId, Failed { slot, outcome, status }: Failed) {
        let now_us = self.events.now_us();
        let asked = &self.requests[request];
        let remaining_us = asked.deadline_us - now_us;
        let unsent = outcome == Outcome::ConnectFailed;
        let at_hand = (asked.idempotent || unsent) && remaining_us > 0;
        let may_be_next = at_hand && slot.is_some() && self.may_try_again(request, 1);
        let made = u32::try_from(asked.attempts.len()).unwrap_or(u32::MAX);
        let retries_left = self.scenario.retry.attempts_max.saturating_sub(made);
        let budget_left = self.shared.budget.has_left(&self.scenario.retry, now_us);
        if may_be_next && !budget_left && self.judge.is_some() {
            self.recorder.figures.over_budget += 1;
        }
        let given = FailedAttempt {
            now_us,
            random: self.random.u64(..),
            slot,
            outcome,
            status,
            grpc_status: None,
            retry_after_ms: None,
            attempts: made,
            remaining_us,
            repeatable: at_hand,
            retries_left: if may_be_next && budget_left { retries_left } else { 0 },
        };
        match self.verdict(asked.worker, &given) {
            Verdict::GiveUp => {}
            Verdict::Retry { .. } if !given.repeatable || given.retries_left == 0 => {
                self.shared.counts.invalid_verdicts.add(1);
            }
            Verdict::Retry { after_us } => {
                // One that could not be answered before the deadline is not paid for.
                if u64::from(after_us) < remaining_us && self.spend() {
                    self.shared.counts.retries.add(1);
                    self.events.after(u64::from(after_us), Event::Retry(request));
                    return;
                }
            }
            // There is no other service.
            Verdict::FallBack(_) => self.shared.counts.invalid_verdicts.add(1),
        }
        self.answer(request, false);
    }

    /// The policy's; where it cannot say, what the gateway does without it.
    fn verdict(&mut self, worker: usize, failed: &FailedAttempt) -> Verdict {
        let now_us = self.events.now_us();
        let Some(policy) = &mut self.instances.workers[worker].failover else { return Verdict::GiveUp };
        policy.call(now_us, |instance| instance.decide(failed)).unwrap_or_else(|| native_verdict(failed))
    }

    /// Whether the number of attempts allows so many more.
    fn may_try_again(&self, request: RequestId, more: usize) -> bool {
        self.requests[request].attempts.len() + more <= self.scenario.retry.attempts_max as usize
    }

    fn spend(&self) -> bool {
        let allowed = self.shared.budget.spend(&self.scenario.retry, self.events.now_us());
        if !allowed {
            self.shared.counts.over_budget.add(1);
        }
        allowed
    }

    fn answer(&mut self, request: RequestId, well: bool) {
        let answered = &mut self.requests[request];
        answered.ended = true;
        self.open_requests -= 1;
        self.recorder.answered(answered.arrived_us, self.events.now_us(), well);
    }

    fn open_attempts(&self, request: RequestId) -> usize {
        self.requests[request].attempts.iter().filter(|&&attempt| self.attempts[attempt].in_flight.is_some()).count()
    }

    fn end_open_attempts(&mut self, request: RequestId, outcome: Outcome) {
        for attempt in self.requests[request].attempts.clone() {
            if self.attempts[attempt].in_flight.is_some() {
                self.abandon(attempt);
                self.end_attempt(attempt, outcome, false);
            }
        }
    }

    /// The endpoint is told that nobody waits any more, where it listens.
    fn abandon(&mut self, attempt: AttemptId) {
        if self.scenario.cancelled_stops {
            let (server, now_us) = (self.attempts[attempt].slot as usize, self.events.now_us());
            let next = self.servers[server].stop(attempt, now_us);
            self.begun(next);
        }
    }
}
