//! Makes durable what waits, of all groups together: one commit, one sync, then the answers.
//!
//! A group is planned from its state as it stands, and what follows is applied once it is durable; what comes meanwhile is the
//! next plan's. Nobody else writes groups, and a group waits in the queue once at most, so that no plan is made of what another
//! has not applied yet.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

use super::{
    core::{Core, stopped},
    error::GroupsError,
    group::Group,
    keys::{self, SPACE},
    record::{Definition, ParkedEvent, Progress, Stopped, compact, json},
    remove::Leaving,
    state::{Pending, Settlement, State},
};
use crate::{model::Position, storage::Batch};

/// Of one commit; what is beyond waits for the next.
const COMMIT_BYTES: usize = 4 * 1024 * 1024;

/// After a commit that failed, before one is tried that nobody waits for: a disk that is full is not written to in a loop.
const NOT_KEPT_PAUSE: Duration = Duration::from_secs(1);

/// Something that becomes durable, and who waits for it.
pub(super) struct Asked {
    pub what: Ask,
    pub reply: oneshot::Sender<Result<(), GroupsError>>,
}

#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// What is settled by now.
    Settled,
    Define(Definition),
    /// This receiver is pushed to no more, if it is still the one.
    Stop {
        url: String,
        stopped: Stopped,
    },
    /// Everything behind this position is delivered again.
    Reset(Position),
    /// What stands aside up to here is to be delivered again.
    Replay {
        to: Position,
    },
    /// One does not stand aside any more.
    Unpark(Position),
    /// Nor do these, of a replay of which `left` is to come.
    BringBack {
        positions: Vec<Position>,
        left: Option<(Position, Position)>,
    },
    Delete,
}

/// What a commit does to one group.
struct Plan {
    group: Arc<Group>,
    settled: Vec<(Position, Settlement)>,
    asked: Vec<Asked>,
    definition: Option<Definition>,
    progress: Progress,
    parks: Vec<(Position, ParkedEvent)>,
    unparks: BTreeSet<Position>,
}

/// Until it is time to stop, and then what waits.
pub(super) async fn run(core: Arc<Core>, mut shutdown: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut shutdown) => break,
            waiting = core.next_queued() => write(&core, waiting).await,
        }
    }
    let last = core.close_queue();
    write(&core, last).await;
    // What was asked meanwhile is answered too.
    for group in core.groups().values() {
        group.lock().asked.drain(..).for_each(|asked| drop(asked.reply.send(Err(GroupsError::Closed))));
        group.changed.notify_waiters();
    }
}

async fn write(core: &Core, groups: Vec<Arc<Group>>) {
    let (mut plans, mut batch) = (Vec::new(), Batch::new());
    for group in groups {
        let Some(mut plan) = Plan::of(group, core.wall.now_ms()) else { continue };
        if let Err(error) = plan.count_parked(core).await {
            plan.end(core, Err(error));
            continue;
        }
        batch = plan.write(batch);
        plans.push(plan);
        if batch.weight_bytes() > COMMIT_BYTES {
            commit(core, std::mem::take(&mut batch), std::mem::take(&mut plans)).await;
        }
    }
    if !plans.is_empty() {
        commit(core, batch, plans).await;
    }
}

async fn commit(core: &Core, batch: Batch, plans: Vec<Plan>) {
    let committed = core.journal.commit(batch).await;
    if matches!(committed, Err(GroupsError::TakenOver)) {
        core.taken_over.store(true, Ordering::Relaxed);
    }
    for plan in plans {
        plan.end(core, committed.clone());
    }
}

impl Plan {
    /// None: there is nothing to be done.
    fn of(group: Arc<Group>, at_ms: u64) -> Option<Self> {
        let mut state = group.lock();
        state.is_queued = false;
        let mut asked = std::mem::take(&mut state.asked);
        // Nothing follows the end: what is asked for behind it would bring back what is removed.
        let too_late = match asked.iter().position(|asked| matches!(asked.what, Ask::Delete)) {
            _ if state.is_gone => 0,
            Some(end) => end + 1,
            None => asked.len(),
        };
        for late in asked.drain(too_late..) {
            drop(late.reply.send(Err(GroupsError::BeingDeleted(group.name.clone()))));
        }
        if state.is_gone {
            return None;
        }
        let settled: Vec<_> = state.pending.iter().filter_map(|(at, of)| Some((*at, of.settlement.clone()?))).collect();
        if asked.is_empty() && settled.is_empty() && state.read == state.read_kept {
            return None;
        }
        let mut progress = state.progress();
        progress.acknowledged += settled.iter().filter(|(_, how)| *how == Settlement::Ack).count() as u64;
        let parks = settled.iter().filter_map(|(at, how)| {
            let Settlement::Park(reason) = how else { return None };
            let attempts = state.pending.get(at).map_or(0, |pending| pending.attempts);
            Some((*at, ParkedEvent { reason: reason.clone(), attempts, at_ms }))
        });
        let (parks, mut unparks) = (parks.collect(), BTreeSet::new());
        let mut definition = None;
        for Asked { what, .. } in &asked {
            match what {
                Ask::Settled => {}
                Ask::Define(new) => definition = Some(new.clone()),
                Ask::Stop { url, stopped } => {
                    let before = definition.as_ref().unwrap_or(&state.definition);
                    if before.is_pushed_to(url) {
                        definition = Some(Definition { stopped: Some(stopped.clone()), ..before.clone() });
                    }
                }
                Ask::Delete => definition = Some(Definition { deleted: true, ..state.definition.clone() }),
                Ask::Reset(to) => progress = Progress { pending: Vec::new(), read: *to, replay: None, ..progress },
                Ask::Replay { to } => progress.replay = Some((Position::START, *to)),
                Ask::Unpark(position) => drop(unparks.insert(*position)),
                Ask::BringBack { positions, left } => {
                    progress.replay = *left;
                    unparks.extend(positions);
                }
            }
        }
        drop(state);
        Some(Self { group, settled, asked, definition, progress, parks, unparks })
    }

    /// After a reset an event may be parked a second time; and what another replay has brought back may be settled by now, so
    /// that only what stands aside still comes back.
    async fn count_parked(&mut self, core: &Core) -> Result<(), GroupsError> {
        for (position, _) in &self.parks {
            self.progress.parked += u64::from(!core.journal.is_parked(&self.group.name, *position).await?);
        }
        for position in std::mem::take(&mut self.unparks) {
            let is_parked_now = self.parks.iter().any(|(parked, _)| *parked == position);
            if is_parked_now || core.journal.is_parked(&self.group.name, position).await? {
                self.progress.parked = self.progress.parked.saturating_sub(1);
                self.unparks.insert(position);
            }
        }
        let pending = &mut self.progress.pending;
        pending.extend(self.unparks.iter().map(|position| (*position, 0)));
        // Of one that is there already, with how often it was delivered.
        pending.sort_unstable_by_key(|(position, attempts)| (*position, std::cmp::Reverse(*attempts)));
        pending.dedup_by_key(|(position, _)| *position);
        Ok(())
    }

    fn write(&self, mut batch: Batch) -> Batch {
        let name = &self.group.name;
        if let Some(definition) = &self.definition {
            batch = batch.put(SPACE, keys::definition(name), json(definition));
        }
        for (position, parked) in &self.parks {
            batch = batch.put(SPACE, keys::parked(name, *position), compact(parked));
        }
        for position in &self.unparks {
            batch = batch.delete(SPACE, keys::parked(name, *position));
        }
        batch.put(SPACE, keys::progress(name), compact(&self.progress))
    }

    /// Applies it, or leaves everything as it was.
    fn end(self, core: &Core, committed: Result<(), GroupsError>) {
        let Self { group, settled, mut asked, progress, unparks, .. } = self;
        let (was_defined, is_gone) = {
            let mut state = group.lock();
            let revision = state.revision;
            match &committed {
                Ok(()) => {
                    state.settled(settled);
                    asked.iter().for_each(|asked| state.apply(&asked.what));
                    unparks.into_iter().for_each(|position| state.bring_back(position));
                    let Progress { read, parked, acknowledged, .. } = progress;
                    (state.read_kept, state.parked, state.acknowledged) = (read, parked, acknowledged);
                }
                Err(error) => {
                    state.unsettled(settled);
                    state.not_kept_until = Instant::now() + NOT_KEPT_PAUSE;
                    state.fail(core.wall.now_ms(), error.to_string());
                }
            }
            if !state.is_queued && (!state.asked.is_empty() || state.is_owing()) {
                state.is_queued = core.queue(Arc::clone(&group));
            }
            (state.revision != revision, state.is_gone)
        };
        if is_gone {
            let replies = asked.extract_if(.., |asked| matches!(asked.what, Ask::Delete)).map(|asked| asked.reply);
            let leaving = Leaving { group: Arc::clone(&group), replies: replies.collect() };
            // Nobody takes it where it is time to stop: then it is removed when the gateway starts.
            drop(core.leaving.try_send(leaving));
        }
        if was_defined {
            group.revised.send_modify(|revised| *revised += 1);
            core.defined.notify_one();
        }
        group.changed.notify_waiters();
        // Whoever asked may have gone.
        asked.into_iter().for_each(|asked| drop(asked.reply.send(committed.clone())));
    }
}

impl State {
    /// As it stands, with what is being settled as settled.
    fn progress(&self) -> Progress {
        let is_open = |of: &Pending| matches!(of.settlement, None | Some(Settlement::Retry { .. }));
        let open = self.pending.iter().filter(|(_, of)| is_open(of));
        Progress {
            read: self.read,
            pending: open.map(|(position, of)| (*position, of.attempts)).collect(),
            parked: self.parked,
            acknowledged: self.acknowledged,
            replay: self.replay,
        }
    }

    fn settled(&mut self, settled: Vec<(Position, Settlement)>) {
        for (position, settlement) in settled {
            match settlement {
                Settlement::Ack => {
                    self.counts.acknowledged += 1;
                    self.recover();
                }
                Settlement::Park(_) => self.counts.parked += 1,
                Settlement::Gone => self.counts.removed += 1,
                Settlement::Retry { due } => {
                    self.counts.retried += 1;
                    if let Some(pending) = self.pending.get_mut(&position) {
                        (pending.lease, pending.settlement, pending.due) = (None, None, due);
                    }
                    continue;
                }
            }
            self.remove(position);
        }
    }

    fn unsettled(&mut self, settled: Vec<(Position, Settlement)>) {
        for (position, _) in settled {
            if let Some(pending) = self.pending.get_mut(&position) {
                pending.settlement = None;
            }
        }
    }

    fn bring_back(&mut self, position: Position) {
        self.pending.entry(position).or_insert_with(|| Pending::new(None, 0, Instant::now()));
    }

    fn apply(&mut self, what: &Ask) {
        match what {
            Ask::Settled => {}
            Ask::Define(definition) => {
                if let Some(webhook) = &definition.settings.webhook
                    && !self.definition.is_pushed_to(&webhook.url)
                {
                    self.end_pauses(Instant::now());
                }
                self.definition = definition.clone();
                self.is_defined = true;
                self.revision += 1;
            }
            Ask::Stop { url, stopped } => {
                if self.definition.is_pushed_to(url) {
                    self.definition.stopped = Some(stopped.clone());
                    self.revision += 1;
                }
            }
            Ask::Reset(to) => {
                self.clear();
                self.read = *to;
                self.replay = None;
                self.revision += 1;
            }
            Ask::Replay { to } => self.replay = Some((Position::START, *to)),
            // What comes back is known to the plan.
            Ask::Unpark(_) => {}
            Ask::BringBack { left, .. } => self.replay = *left,
            Ask::Delete => {
                self.clear();
                self.is_gone = true;
                self.revision += 1;
            }
        }
    }
}
