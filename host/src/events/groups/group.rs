//! One group, as its consumers have it.

use std::{
    sync::{Arc, Mutex, MutexGuard, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot, watch},
    time::{Instant, sleep_until},
};

use super::{
    core::{Core, lock, stopped},
    error::GroupsError,
    read::Reader,
    scribe::{Ask, Asked},
    shown::GroupShown,
    state::{Delivery, How, NotSettled, State, Step},
    token::Token,
};
use crate::model::GroupName;

/// How long a take that waits for nothing goes on looking where nothing fits.
const LOOKS_FOR: Duration = Duration::from_millis(500);

/// Positions that were passed without anything that fits; then it is made durable that they were.
const PASSED_MAX: u64 = 10_000;

pub(super) struct Group {
    pub name: GroupName,
    pub core: Arc<Core>,
    pub reader: tokio::sync::Mutex<Reader>,
    /// Something may be delivered that could not before.
    pub changed: Notify,
    /// Grows with [`State::revision`].
    pub revised: watch::Sender<u64>,
    state: Mutex<State>,
}

/// The scribe's answer.
type Answered = oneshot::Receiver<Result<(), GroupsError>>;

/// What became of settlements, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    pub settled: Vec<Token>,
    pub refused: Vec<(Token, NotSettled)>,
}

impl Group {
    pub fn new(name: GroupName, core: Arc<Core>, state: State) -> Arc<Self> {
        let (reader, changed) = (tokio::sync::Mutex::default(), Notify::new());
        Arc::new(Self { name, core, reader, changed, revised: watch::Sender::new(0), state: Mutex::new(state) })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// As soon as there are some, at most `limit`; none when the wait is `over`, if it ever is. Leases last for `lease`. Nothing
    /// is leased where the future is dropped before it is ready.
    pub async fn take(
        self: &Arc<Self>,
        consumer: &Arc<str>,
        limit: usize,
        over: Option<Instant>,
        lease: Duration,
    ) -> Result<Vec<Delivery>, GroupsError> {
        let began = Instant::now();
        if !self.lock().arrive(consumer, began) {
            return Err(GroupsError::Crowded(self.name.clone()));
        }
        let _asking = Asking { group: self, consumer };
        let (mut shutdown, mut head) = (self.core.shutdown.subscribe(), self.core.events.watch());
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            self.check()?;
            // It may have become one while this waited, which is for the gateway alone then: that has no end to wait for.
            if over.is_some() && self.lock().definition.settings.webhook.is_some() {
                return Err(GroupsError::IsPushed(self.name.clone()));
            }
            let (until, room) = match self.step(consumer, limit, lease) {
                Step::Deliver(deliveries) => return Ok(deliveries),
                Step::Load(positions) => {
                    self.load(positions).await?;
                    continue;
                }
                Step::Wait { until, room } => (until, room),
            };
            if room > 0 && self.lock().replay.is_some() {
                self.bring_back().await?;
                continue;
            }
            let is_behind = room > 0 && self.lock().read < *head.borrow_and_update();
            if is_behind && over.is_none_or(|over| Instant::now() < over.max(began + LOOKS_FOR)) {
                self.fill().await?;
                continue;
            }
            tokio::select! {
                biased;
                () = stopped(&mut shutdown) => return Err(GroupsError::Closed),
                () = &mut changed => {}
                () = at(until) => {}
                () = at(over) => return Ok(Vec::new()),
                moved = head.changed(), if room > 0 => moved.map_err(|_| GroupsError::Closed)?,
            }
        }
    }

    fn step(self: &Arc<Self>, consumer: &Arc<str>, limit: usize, lease: Duration) -> Step {
        let mut state = self.lock();
        let step = state.take(consumer, limit, Instant::now(), lease, |position| self.core.token(position));
        let is_behind = state.read.0 - state.read_kept.0.min(state.read.0) >= PASSED_MAX;
        if state.is_owing() || (is_behind && Instant::now() >= state.not_kept_until) {
            self.queue(&mut state);
        }
        step
    }

    /// Answers once what could be settled is durable.
    pub async fn settle(self: &Arc<Self>, given: &[(Token, How)]) -> Result<Settled, GroupsError> {
        self.check()?;
        let mut settled = Settled::default();
        let answered = {
            let mut state = self.lock();
            let base = state.definition.settings.backoff;
            for (token, how) in given {
                let noted = state.settle(*token, how, Instant::now(), |failed| self.core.pause(failed, base));
                match noted {
                    Ok(()) => settled.settled.push(*token),
                    Err(why) => settled.refused.push((*token, why)),
                }
            }
            if settled.settled.is_empty() {
                return Ok(settled);
            }
            // Under the same lock: a commit in between that fails would take back what is answered for here.
            self.enlist(&mut state, Ask::Settled)?
        };
        answered.await.unwrap_or(Err(GroupsError::Closed))?;
        Ok(settled)
    }

    /// What a consumer has is for others.
    pub fn release(self: &Arc<Self>, consumer: &str) -> usize {
        let count = {
            let mut state = self.lock();
            let count = state.release(consumer);
            if state.is_owing() {
                self.queue(&mut state);
            }
            count
        };
        self.changed.notify_waiters();
        count
    }

    /// Answers once it is durable.
    pub async fn ask(self: &Arc<Self>, what: Ask) -> Result<(), GroupsError> {
        let answered = self.enlist(&mut self.lock(), what)?;
        answered.await.unwrap_or(Err(GroupsError::Closed))
    }

    fn enlist(self: &Arc<Self>, state: &mut State, what: Ask) -> Result<Answered, GroupsError> {
        if state.is_gone {
            return Err(GroupsError::BeingDeleted(self.name.clone()));
        }
        let (reply, answered) = oneshot::channel();
        state.asked.push(Asked { what, reply });
        if !self.queue(state) {
            state.asked.pop();
            return Err(GroupsError::Closed);
        }
        Ok(answered)
    }

    fn queue(self: &Arc<Self>, state: &mut State) -> bool {
        if !state.is_queued {
            state.is_queued = self.core.queue(Arc::clone(self));
        }
        state.is_queued
    }

    fn check(&self) -> Result<(), GroupsError> {
        if self.core.taken_over.load(Ordering::Relaxed) {
            return Err(GroupsError::TakenOver);
        }
        if self.lock().is_gone { Err(GroupsError::Unknown(self.name.clone())) } else { Ok(()) }
    }

    pub fn show(&self) -> GroupShown {
        GroupShown::of(&self.name, &self.lock(), self.core.events.head(), Instant::now())
    }
}

/// Somebody waits, until this is dropped.
struct Asking<'a> {
    group: &'a Group,
    consumer: &'a Arc<str>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.group.lock().leave(self.consumer, Instant::now());
    }
}

/// Never where there is no such moment.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
