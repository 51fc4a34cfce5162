//! The task of one transaction: asks its protocol, makes durable what it says, makes the calls, takes their answers.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use super::{
    Gid, answers,
    call::BranchCall,
    calls::{Calls, Ended},
    core::{Core, Counts},
    error::TransactionError,
    journal::NotKept,
    machine::{Ending, Machine, Taken, Violation},
    outcome,
    protocol::Protocol,
    record::{EventKind, Restored, Standing, Submitted},
    shown::{Details, Status, Summary},
    submission::{Enlistment, Submission},
};
use crate::{
    events::StreamAppend,
    model::{
        backoff,
        transaction::{Decision, Reference, Step},
    },
};

/// After the store, or the protocol's plugin, was not there.
const HELD_UP_PAUSE: Duration = Duration::from_secs(1);

/// Steps that may follow each other without an answer between them: decide, run, finish.
const STEPS_AT_ONCE_MAX: usize = 4;

/// What somebody wants of a transaction.
pub enum Command {
    /// The same submission once more, or a later word on it.
    Again {
        submission: Box<Submission>,
        asks: bool,
        reply: Reply<Status>,
    },
    Ask {
        decision: Decision,
        reason: Option<String>,
        reply: Reply<Status>,
    },
    Enlist {
        enlistment: Box<Enlistment>,
        reply: Reply<Status>,
    },
    /// An operator's.
    Stop {
        reply: Reply<Status>,
    },
    Retry {
        reply: Reply<Status>,
    },
    Show {
        reply: oneshot::Sender<Details>,
    },
    /// Answered when it has ended, or stands in hazard.
    Wait {
        reply: oneshot::Sender<Status>,
    },
}

pub type Reply<T> = oneshot::Sender<Result<T, TransactionError>>;

/// Those who wait for one transaction to end.
const WAITERS_MAX: usize = 64;

pub struct Driver {
    pub(super) core: Arc<Core>,
    pub(super) gid: Gid,
    pub(super) submitted: Arc<Submitted>,
    pub(super) payloads: Vec<Bytes>,
    pub(super) protocol: Option<Arc<dyn Protocol>>,
    pub(super) machine: Machine,
    pub(super) standing: Standing,
    calls: Calls,
    waiters: Vec<oneshot::Sender<Status>>,
    /// Something has happened that is not in the store.
    pub(super) unkept: bool,
    /// What the steps that are not in the store will bring about.
    pending: Moved,
    /// As it was before a decision that tells events and is not in the store.
    undecided: Option<Box<(Machine, Standing)>>,
    /// Why it does not go on, and when it is tried again.
    held_up: Option<(String, Instant)>,
}

/// What some steps bring about, once they are durable.
#[derive(Debug, Default)]
pub struct Moved {
    pub started: Vec<Reference>,
    pub decided: bool,
    /// Why it stands in hazard from here on.
    pub hazard: Option<String>,
    pub ended: Option<Ending>,
}

impl Driver {
    pub fn new(core: &Arc<Core>, restored: Restored, protocol: Option<Arc<dyn Protocol>>) -> Self {
        let Restored { gid, submitted, payloads, machine, standing } = restored;
        Self {
            core: Arc::clone(core),
            gid,
            submitted: Arc::new(submitted),
            payloads,
            protocol,
            machine,
            standing,
            calls: Calls::new(core.random()),
            waiters: Vec::new(),
            unkept: false,
            pending: Moved::default(),
            undecided: None,
            held_up: None,
        }
    }

    /// Until the transaction has ended, or the gateway does.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        self.drive(&mut commands).await;
        turn_away(commands).await;
    }

    async fn drive(&mut self, commands: &mut mpsc::Receiver<Command>) {
        let core = Arc::clone(&self.core);
        let mut closed = pin!(core.closed());
        // One that has just begun has taken all its steps.
        if self.protocol.is_none() || self.unkept {
            self.progress().await;
        }
        while !self.is_over() {
            let wake = self.wakes_at();
            tokio::select! {
                biased;
                () = &mut closed => return,
                Some(ended) = self.calls.next() => self.ended(ended),
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => return,
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => self.woken(),
            }
            self.progress().await;
        }
        self.core.leave(&self.gid);
    }

    /// After a restart: what was under way is asked for once more, each call within its share of `spread`.
    pub fn resume(&mut self, spread: Duration) {
        if self.machine.is_going() {
            for at in self.machine.under_way() {
                let pause = spread.mul_f64(self.calls.random().f64());
                self.start_call(at, pause);
            }
        }
    }

    /// Ended, and that is durable.
    fn is_over(&self) -> bool {
        self.machine.facts().ended.is_some() && !self.unkept
    }

    /// The next moment at which something is due by itself.
    fn wakes_at(&self) -> Option<Instant> {
        let held_up = self.held_up.as_ref().map(|(_, until)| *until);
        let expires = self.expires_ms().map(|at_ms| self.core.wall.instant(at_ms));
        held_up.into_iter().chain(expires).min()
    }

    /// When it expires, if it still does.
    pub(super) fn expires_ms(&self) -> Option<u64> {
        let facts = self.machine.facts();
        let is_void = self.standing.expiry_ends_with_asking && facts.complete;
        let is_open = facts.decision.is_none() && !facts.expired && self.machine.is_going();
        self.standing.expires_ms.filter(|_| is_open && !is_void)
    }

    fn woken(&mut self) {
        let now_ms = self.core.wall.now_ms();
        if self.expires_ms().is_some_and(|at_ms| at_ms <= now_ms) {
            self.machine.expire();
            self.note(EventKind::Expired);
            self.unkept = true;
        }
        if self.held_up.as_ref().is_some_and(|(_, until)| *until <= Instant::now()) {
            self.held_up = None;
        }
    }

    /// Takes all the steps that can be taken now, makes them durable, and carries them out.
    pub(super) async fn progress(&mut self) {
        if self.held_up.is_some() {
            return;
        }
        if self.protocol.is_none() && self.machine.is_going() {
            match self.core.protocol(&self.submitted.pin).await {
                Ok(protocol) => self.protocol = Some(protocol),
                Err(error) => return self.hold_up(error),
            }
        }
        self.step();
        let has_time = self.machine.facts().ended.is_some() && !self.pending.decided;
        if has_time {
            // The decision is durable and carried out: only the record of its end is not.
            let ended = self.pending.ended.take();
            let summary = Summary::of(self.gid.clone(), self.current());
            self.core.end(summary);
            self.make_known(None, ended);
            self.tell_waiters();
        }
        if self.unkept {
            let mut kept = self.keep(has_time).await;
            if let Err(NotKept::Error(refused)) = &kept
                && refused.is_of_events()
            {
                let refused = refused.to_string();
                self.take_back_decision(refused);
                kept = self.keep(false).await;
            }
            match kept {
                Ok(()) => self.carry_out(),
                Err(NotKept::Conflict) => {
                    self.hold_up("its record in the store is not the one that it left".to_owned())
                }
                Err(NotKept::Error(error)) => self.hold_up(error.to_string()),
            }
        }
    }

    /// Without its events there is no decision, and repeating it would bring none: somebody has to look.
    fn take_back_decision(&mut self, refused: String) {
        if let Some(before) = self.undecided.take() {
            (self.machine, self.standing) = *before;
        }
        self.pending = Moved::default();
        self.endanger(refused);
    }

    /// Asks the protocol until it waits. What comes of it is in `pending`, and not to be done before it is durable.
    pub(super) fn step(&mut self) {
        let Some(protocol) = self.protocol.clone() else { return };
        for _ in 0..STEPS_AT_ONCE_MAX {
            if !self.machine.is_going() {
                return;
            }
            let step =
                match protocol.next(&self.machine.view(self.gid.as_str()), &|step| self.machine.is_moved_by(step)) {
                    Ok(step) => step,
                    Err(error) => return self.endanger(format!("its protocol failed: {error}")),
                };
            // A second decision is none, and what there was before it is decided already.
            let decides = matches!(step, Step::Decide(_)) && self.machine.facts().decision.is_none();
            if decides && outcome::asks_for_events(&self.submitted.first.request) {
                self.undecided = Some(Box::new((self.machine.clone(), self.standing.clone())));
            }
            match self.machine.take(&step) {
                Err(violation) => return self.endanger(format!("{violation} (its answer: {step:?})")),
                Ok(Taken::Nothing) if self.waits_for_nothing() => {
                    return self.endanger(format!("{} (its answer: {step:?})", Violation::WaitsForNothing));
                }
                Ok(Taken::Nothing) => return,
                Ok(Taken::Started(started)) => {
                    self.unkept = true;
                    self.pending.started.extend(started);
                    return;
                }
                Ok(Taken::Decided(decision)) => {
                    self.unkept = true;
                    self.pending.decided = true;
                    // Never carried out: they were asked for before the decision, in this very round.
                    self.pending.started.clear();
                    self.note(EventKind::Decided { decision });
                }
                Ok(Taken::Finished(ending)) => {
                    self.unkept = true;
                    self.note_end(ending);
                    return;
                }
            }
        }
    }

    /// No call, no client and no time can move it any more.
    fn waits_for_nothing(&self) -> bool {
        let facts = self.machine.facts();
        let client_is_done = facts.complete || facts.expired;
        client_is_done && self.expires_ms().is_none() && self.machine.under_way().is_empty()
    }

    pub(super) fn endanger(&mut self, reason: String) {
        let reason = reason[..reason.floor_char_boundary(super::record::TEXT_LEN_MAX)].to_owned();
        self.machine.endanger(reason.clone());
        self.note(EventKind::Hazard { reason: reason.clone() });
        self.unkept = true;
        self.pending.hazard = Some(reason);
    }

    pub(super) fn note_end(&mut self, ending: Ending) {
        self.pending.ended = Some(ending);
        self.note(EventKind::Ended { ending });
    }

    pub(super) fn note(&mut self, what: EventKind) {
        self.standing.note(self.core.wall.now_ms(), what);
    }

    /// The standing as it is now, for the store.
    pub(super) fn current(&mut self) -> &Standing {
        self.standing.facts = self.machine.facts().clone();
        &self.standing
    }

    /// `has_time`: it tells of an end that is made known already.
    pub(super) async fn keep(&mut self, has_time: bool) -> Result<(), NotKept> {
        let (core, gid) = (Arc::clone(&self.core), self.gid.clone());
        let ended = self.machine.facts().ended.is_some();
        let told = self.outcome_to_tell().map_err(NotKept::Error)?;
        let tells = !told.is_empty();
        let standing = self.current();
        let kept = if ended {
            let retention_ms = u64::try_from(core.retention.as_millis()).unwrap_or(u64::MAX);
            let remove_ms = core.wall.now_ms().saturating_add(retention_ms);
            core.journal.end(&gid, standing, remove_ms, told, has_time).await
        } else {
            core.journal.keep(&gid, standing, told).await
        };
        if kept.is_err() && tells {
            self.standing.outcome_told = false;
        }
        kept
    }

    /// What the decision appends, if there is one and its events are not there yet; they are from the next commit on.
    pub(super) fn outcome_to_tell(&mut self) -> Result<Vec<StreamAppend>, TransactionError> {
        let Some(decision) = self.machine.facts().decision.filter(|_| !self.standing.outcome_told) else {
            return Ok(Vec::new());
        };
        let begun = (&self.gid, self.standing.created_ms);
        let told = outcome::appends(begun, &self.submitted.first.request, decision)?;
        self.standing.outcome_told = true;
        Ok(told)
    }

    /// What is durable now happens.
    pub(super) fn carry_out(&mut self) {
        self.unkept = false;
        self.undecided = None;
        let Moved { started, decided, hazard, ended } = std::mem::take(&mut self.pending);
        self.make_known(hazard, ended);
        if decided || !self.machine.is_going() {
            self.calls.give_up_all();
        }
        if self.machine.is_going() {
            for at in started {
                self.start_call(at, Duration::ZERO);
            }
        } else {
            self.tell_waiters();
        }
    }

    /// What is not durable may never have been, so nobody is told of it before.
    fn make_known(&self, hazard: Option<String>, ended: Option<Ending>) {
        let counts = &self.core.counts;
        if let Some(reason) = hazard {
            Counts::add(&counts.hazards);
            let Standing { plugin, version, .. } = &self.standing;
            (self.core.alert)(&self.gid, plugin, *version, &reason);
        }
        match ended {
            Some(Ending::Succeeded) => Counts::add(&counts.succeeded),
            Some(Ending::Failed) => Counts::add(&counts.failed),
            Some(Ending::Stopped) => Counts::add(&counts.stopped),
            None => {}
        }
    }

    /// Those that are not durable, and are not going to be.
    pub(super) fn forget_steps(&mut self) {
        self.unkept = false;
        self.undecided = None;
        self.pending = Moved::default();
    }

    fn hold_up(&mut self, why: String) {
        tracing::warn!(gid = %self.gid, %why, "a transaction does not go on");
        self.held_up = Some((why, Instant::now() + HELD_UP_PAUSE));
    }

    pub(super) fn start_call(&mut self, at: Reference, pause: Duration) {
        let Some((branch, operation)) = self.machine.operation(at) else { return };
        let payload = branch.payload.and_then(|index| self.payloads.get(index as usize)).cloned().unwrap_or_default();
        let options = &self.submitted.options;
        let call = BranchCall::new(&self.gid, &self.standing.protocol, (branch, operation), payload, options);
        self.calls.start(&self.core, at, call, pause);
    }

    /// Tries again at once whatever waits for its next attempt.
    pub(super) fn hurry(&mut self) {
        self.calls.hurry();
        self.held_up = None;
    }

    /// What is under way and is not called, is called.
    pub(super) fn call_all(&mut self) {
        for at in self.machine.under_way() {
            if !self.calls.has(at) {
                self.start_call(at, Duration::ZERO);
            }
        }
    }

    /// One attempt has ended.
    fn ended(&mut self, ended: Ended) {
        if let Some((at, pause)) = answers::take(self, ended) {
            self.start_call(at, pause);
        }
    }

    pub(super) fn pause(&mut self, failed: u32) -> Duration {
        let base = self.submitted.options.retry_interval_ms.map_or(backoff::BASE, Duration::from_millis);
        backoff::pause(failed, base, self.calls.random())
    }

    pub(super) fn wait(&mut self, reply: oneshot::Sender<Status>) {
        self.waiters.retain(|waiter| !waiter.is_closed());
        if self.waiters.len() < WAITERS_MAX {
            self.waiters.push(reply);
        }
        if !self.machine.is_going() && !self.unkept {
            self.tell_waiters();
        }
    }

    fn tell_waiters(&mut self) {
        let status = Status::of(self.machine.facts());
        for waiter in self.waiters.drain(..) {
            // Who has gone does not want to know.
            let _ = waiter.send(status);
        }
    }

    pub(super) fn details(&self) -> Details {
        let held_up = self.held_up.as_ref().map(|(why, _)| why.clone());
        Details::of(&self.gid, &self.submitted, &self.machine, &self.standing, held_up)
    }
}

/// Whoever has just asked is told that nobody answers. Let go of only like this: a command that arrives while its inbox is
/// dropped stays in there, and its sender would wait for ever.
pub async fn turn_away(mut commands: mpsc::Receiver<Command>) {
    commands.close();
    // Ends when what was being sent has arrived.
    while commands.recv().await.is_some() {}
}
