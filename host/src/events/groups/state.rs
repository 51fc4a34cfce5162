//! One group in memory, as plain state: what is read and not settled, who has it, and what may be delivered next. The time is
//! handed in, and nothing here waits.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    record::{Definition, Progress, reason},
    scribe::Asked,
    settings::BUFFER_MAX,
    shown::{Counts, Pushing, TroubleShown},
    token::Token,
};
use crate::model::{Event, Position, StreamName};

/// Of the events of one group that are read and not settled. The page that goes beyond is still in it.
const BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Of those of all groups; beyond, a group holds one at a time.
const HELD_BYTES_MAX: usize = 256 * 1024 * 1024;

const CONSUMERS_MAX: usize = 1_000;

/// A consumer that neither asks nor holds anything.
const CONSUMER_FORGOTTEN_AFTER: Duration = Duration::from_secs(120);

/// Events in memory that nobody asks for go after this time; they are read again when somebody does.
const UNLOADED_AFTER: Duration = Duration::from_secs(60);

/// An event, handed to a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub token: Token,
    /// 1 for the first.
    pub attempt: u32,
    pub event: Arc<Event>,
}

/// What a consumer says of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    Ack,
    /// Not now: once more after a pause, and parked where that was the last attempt.
    Retry(Option<String>),
    /// Never: it is put aside.
    Park(String),
    /// It was no attempt: once more after this time, which nothing is counted for.
    Later(Duration),
}

/// Why a settlement changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSettled {
    /// Its time was over, or the group was reset: the event is delivered again, or was.
    LeaseOver,
    /// It is acknowledged or parked: a settlement that was repeated, say.
    AlreadySettled,
    /// The same delivery is being settled.
    BeingSettled,
}

impl NotSettled {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::LeaseOver => "lease-over",
            Self::AlreadySettled => "already-settled",
            Self::BeingSettled => "being-settled",
        }
    }
}

/// What is to become of an event once it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Settlement {
    Ack,
    Retry {
        due: Instant,
    },
    Park(String),
    /// It is not there any more.
    Gone,
}

/// A consumer has it.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub token: Token,
    pub consumer: Arc<str>,
    pub until: Instant,
}

/// An event that is read and not settled.
#[derive(Debug)]
pub(super) struct Pending {
    /// None: it is on the disk.
    pub event: Option<Arc<Event>>,
    /// Deliveries until now.
    pub attempts: u32,
    /// Not before.
    pub due: Instant,
    pub lease: Option<Lease>,
    pub settlement: Option<Settlement>,
    /// Why the last attempt failed.
    pub failed: Option<String>,
}

impl Pending {
    pub fn new(event: Option<Arc<Event>>, attempts: u32, due: Instant) -> Self {
        Self { event, attempts, due, lease: None, settlement: None, failed: None }
    }

    fn weight(&self) -> usize {
        self.event.as_ref().map_or(0, |event| event.weight_bytes())
    }
}

#[derive(Debug)]
pub(super) struct Consumer {
    pub seen: Instant,
    /// Takes that wait.
    pub waiting: usize,
}

/// What comes of asking for events.
#[derive(Debug)]
pub(super) enum Step {
    Deliver(Vec<Delivery>),
    /// These have to be read before it can be said what comes next.
    Load(Vec<Position>),
    /// Something changes at `until`, or when more is read, of which there is room for so many.
    Wait {
        until: Option<Instant>,
        room: usize,
    },
}

pub(super) struct State {
    pub definition: Definition,
    /// Grows with what makes a reader begin anew: settings, a reset, the end.
    pub revision: u64,
    /// Its definition is durable.
    pub is_defined: bool,
    pub is_gone: bool,
    pub read: Position,
    /// What of `read` is durable.
    pub read_kept: Position,
    /// A commit has failed: before this moment, none for `read` alone.
    pub not_kept_until: Instant,
    pub pending: BTreeMap<Position, Pending>,
    pub parked: u64,
    pub acknowledged: u64,
    pub replay: Option<(Position, Position)>,
    pub consumers: HashMap<Arc<str>, Consumer>,
    pub counts: Counts,
    pub trouble: Option<TroubleShown>,
    /// It is over as soon as something goes well again.
    is_trouble_passing: bool,
    pub pushing: Option<Pushing>,
    /// It waits for the scribe.
    pub is_queued: bool,
    /// For the scribe, in order.
    pub asked: Vec<Asked>,
    bytes: usize,
    held_bytes: Arc<AtomicUsize>,
    taken_at: Instant,
}

impl State {
    pub fn new(definition: Definition, progress: Progress, now: Instant, held_bytes: Arc<AtomicUsize>) -> Self {
        let Progress { read, pending, parked, acknowledged, replay } = progress;
        let pending = pending.into_iter().map(|(at, attempts)| (at, Pending::new(None, attempts, now)));
        Self {
            definition,
            revision: 0,
            is_defined: false,
            is_gone: false,
            read,
            read_kept: read,
            not_kept_until: now,
            pending: pending.collect(),
            parked,
            acknowledged,
            replay,
            consumers: HashMap::new(),
            counts: Counts::default(),
            trouble: None,
            is_trouble_passing: false,
            pushing: None,
            is_queued: false,
            asked: Vec::new(),
            bytes: 0,
            held_bytes,
            taken_at: now,
        }
    }

    /// Notes who asks. False: there are as many already.
    pub fn arrive(&mut self, consumer: &Arc<str>, now: Instant) -> bool {
        self.taken_at = now;
        if !self.consumers.contains_key(consumer) && self.consumers.len() >= CONSUMERS_MAX {
            self.forget_consumers(now);
            if self.consumers.len() >= CONSUMERS_MAX {
                return false;
            }
        }
        let known = self.consumers.entry(Arc::clone(consumer)).or_insert(Consumer { seen: now, waiting: 0 });
        known.seen = now;
        known.waiting += 1;
        true
    }

    pub fn leave(&mut self, consumer: &Arc<str>, now: Instant) {
        self.taken_at = now;
        if let Some(known) = self.consumers.get_mut(consumer) {
            known.seen = now;
            known.waiting = known.waiting.saturating_sub(1);
        }
    }

    fn forget_consumers(&mut self, now: Instant) {
        let holding: HashSet<_> =
            self.pending.values().filter_map(|pending| Some(Arc::clone(&pending.lease.as_ref()?.consumer))).collect();
        self.consumers.retain(|name, known| {
            known.waiting > 0 || holding.contains(name) || now < known.seen + CONSUMER_FORGOTTEN_AFTER
        });
    }

    /// The next events, the first of each stream, each under a lease from `lease` on. `number` is the next of tokens.
    pub fn take(
        &mut self,
        consumer: &Arc<str>,
        limit: usize,
        now: Instant,
        lease: Duration,
        mut token: impl FnMut(Position) -> Token,
    ) -> Step {
        self.expire(now);
        let mut deliveries = Vec::new();
        // What is being settled does not run out.
        let leases = self.pending.values().filter(|of| of.settlement.is_none()).filter_map(|of| of.lease.as_ref());
        let mut until: Option<Instant> = leases.map(|lease| lease.until).min();
        // With those of streams of which one is under way, wherever it stands: one that was parked comes back before others.
        let mut streams = self.busy();
        for (position, pending) in &mut self.pending {
            let Some(event) = &pending.event else {
                // What could not be read is being put aside; of what is on the disk nobody knows the stream, and what stands
                // behind it may be of the same.
                if pending.settlement.is_some() {
                    continue;
                }
                break;
            };
            if !streams.insert(event.stream.clone()) {
                continue;
            }
            if pending.due > now {
                until = Some(until.map_or(pending.due, |until| until.min(pending.due)));
            } else if deliveries.len() < limit {
                let token = token(*position);
                pending.attempts += 1;
                pending.lease = Some(Lease { token, consumer: Arc::clone(consumer), until: now + lease });
                deliveries.push(Delivery { token, attempt: pending.attempts, event: Arc::clone(event) });
            }
        }
        if deliveries.is_empty() {
            let unloaded = self.to_load();
            let wait = Step::Wait { until, room: self.room() };
            return if unloaded.is_empty() { wait } else { Step::Load(unloaded) };
        }
        self.counts.delivered += deliveries.len() as u64;
        self.counts.redelivered += deliveries.iter().filter(|delivery| delivery.attempt > 1).count() as u64;
        Step::Deliver(deliveries)
    }

    /// Streams of which an event is with a consumer, or is being settled.
    fn busy(&self) -> HashSet<StreamName> {
        let under_way = self.pending.values().filter(|of| of.lease.is_some() || of.settlement.is_some());
        under_way.filter_map(|pending| Some(pending.event.as_ref()?.stream.clone())).collect()
    }

    /// What is to be read, if there is room for it, or if nothing before it comes to an end that could be waited for.
    fn to_load(&self) -> Vec<Position> {
        let is_unloaded = |of: &Pending| of.event.is_none() && of.settlement.is_none();
        let first = self.pending.values().find(|of| of.event.is_some() || of.settlement.is_none());
        if !self.may_load() && !first.is_some_and(is_unloaded) {
            return Vec::new();
        }
        self.pending.iter().filter(|(_, of)| is_unloaded(of)).map(|(position, _)| *position).collect()
    }

    /// Whether another event may be in memory.
    pub fn may_load(&self) -> bool {
        let are_others_full = self.held_bytes.load(Ordering::Relaxed) >= HELD_BYTES_MAX;
        self.bytes < BUFFER_BYTES_MAX && (self.bytes == 0 || !are_others_full)
    }

    /// How many events more may be read.
    pub fn room(&self) -> usize {
        let is_full = self.bytes >= BUFFER_BYTES_MAX || self.is_gone;
        let room = if is_full { 0 } else { BUFFER_MAX.saturating_sub(self.pending.len()) };
        if self.held_bytes.load(Ordering::Relaxed) < HELD_BYTES_MAX { room } else { room.min(1 - self.held()) }
    }

    fn held(&self) -> usize {
        usize::from(self.bytes > 0)
    }

    /// Leases that have run out are failed attempts. Answers whether something is to be made durable now.
    fn expire(&mut self, now: Instant) {
        let attempts_max = self.definition.settings.attempts_max;
        for pending in self.pending.values_mut().filter(|pending| pending.settlement.is_none()) {
            let Some(lease) = pending.lease.take_if(|lease| lease.until <= now) else { continue };
            self.counts.timed_out += 1;
            let failed = format!("consumer {:?} had it and did not settle it in time", lease.consumer);
            if pending.attempts >= attempts_max {
                pending.settlement = Some(Settlement::Park(given_up(pending.attempts, &failed)));
            }
            pending.failed = Some(failed);
        }
    }

    /// Whether something waits to be made durable that nobody asked the scribe for.
    pub fn is_owing(&self) -> bool {
        !self.is_queued && self.pending.values().any(|pending| pending.settlement.is_some())
    }

    /// Notes what is to become of a delivery; the scribe makes it so. `pause` is how long an event waits that has failed
    /// so often.
    pub fn settle(
        &mut self,
        token: Token,
        how: &How,
        now: Instant,
        mut pause: impl FnMut(u32) -> Duration,
    ) -> Result<(), NotSettled> {
        self.expire(now);
        let attempts_max = self.definition.settings.attempts_max;
        let Some(pending) = self.pending.get_mut(&token.position) else {
            let was_read = token.position <= self.read;
            return Err(if was_read { NotSettled::AlreadySettled } else { NotSettled::LeaseOver });
        };
        match &pending.lease {
            Some(lease) if lease.token == token => {}
            _ => return Err(NotSettled::LeaseOver),
        }
        if pending.settlement.is_some() {
            return Err(NotSettled::BeingSettled);
        }
        pending.settlement = match how {
            How::Ack => Some(Settlement::Ack),
            How::Park(why) => Some(Settlement::Park(reason(why))),
            How::Retry(why) => {
                let failed = reason(why.as_deref().unwrap_or("its consumer asked for it again"));
                let is_last = pending.attempts >= attempts_max;
                let due = now + pause(pending.attempts);
                let parked = is_last.then(|| Settlement::Park(given_up(pending.attempts, &failed)));
                pending.failed = Some(failed);
                Some(parked.unwrap_or(Settlement::Retry { due }))
            }
            How::Later(after) => {
                pending.attempts -= 1;
                pending.lease = None;
                pending.due = now + *after;
                None
            }
        };
        Ok(())
    }

    /// All that a consumer has is for others, at once, but for what it had as the last attempt. Unless it asks for more, it is
    /// no consumer any more.
    pub fn release(&mut self, consumer: &str) -> usize {
        let attempts_max = self.definition.settings.attempts_max;
        let mut count = 0;
        for pending in self.pending.values_mut().filter(|pending| pending.settlement.is_none()) {
            if pending.lease.take_if(|lease| *lease.consumer == *consumer).is_none() {
                continue;
            }
            count += 1;
            if pending.attempts >= attempts_max {
                let failed = format!("consumer {consumer:?} had it and went");
                pending.settlement = Some(Settlement::Park(given_up(pending.attempts, &failed)));
            }
        }
        if self.consumers.get(consumer).is_some_and(|known| known.waiting == 0) {
            self.consumers.remove(consumer);
        }
        count
    }

    /// Nobody waits any more for what failed: there is another receiver.
    pub fn end_pauses(&mut self, now: Instant) {
        let paused = self.pending.values_mut().filter(|pending| pending.lease.is_none() && pending.due > now);
        paused.for_each(|pending| pending.due = now);
    }

    /// What was read of the log, if the group is still where the reader began.
    pub fn add(&mut self, revision: u64, events: Vec<Arc<Event>>, position: Position, now: Instant) {
        if revision != self.revision || position < self.read {
            return;
        }
        self.read = position;
        for event in events {
            let at = event.position;
            self.pending.entry(at).or_insert_with(|| Pending::new(None, 0, now));
            self.loaded(at, event);
        }
    }

    /// What stands there is no event any more: it is put aside, and said.
    pub fn add_damaged(&mut self, revision: u64, position: Position, why: &str, at_ms: u64, now: Instant) {
        if revision != self.revision {
            return;
        }
        self.read = self.read.max(position);
        self.pending.entry(position).or_insert_with(|| Pending::new(None, 0, now));
        self.is_damaged(position, why, at_ms);
    }

    /// Was looked for on the disk.
    pub fn is_damaged(&mut self, position: Position, why: &str, at_ms: u64) {
        self.fail(at_ms, format!("the event at {position} is damaged and parked: {why}"));
        self.is_trouble_passing = false;
        if let Some(pending) = self.pending.get_mut(&position) {
            pending.settlement = Some(Settlement::Park(reason(&format!("damaged: {why}"))));
        }
    }

    /// Was not found: what need not be kept was removed.
    pub fn is_missing(&mut self, position: Position, at_ms: u64) {
        self.fail(at_ms, format!("the event at {position} was removed before it was settled"));
        self.is_trouble_passing = false;
        if let Some(pending) = self.pending.get_mut(&position).filter(|pending| pending.lease.is_none()) {
            pending.settlement = Some(Settlement::Gone);
        }
    }

    pub fn loaded(&mut self, position: Position, event: Arc<Event>) {
        if let Some(pending) = self.pending.get_mut(&position).filter(|pending| pending.event.is_none()) {
            self.bytes += event.weight_bytes();
            self.held_bytes.fetch_add(event.weight_bytes(), Ordering::Relaxed);
            pending.event = Some(event);
        }
    }

    /// Something went wrong that somebody may want to know.
    pub fn fail(&mut self, at_ms: u64, message: String) {
        self.trouble = Some(TroubleShown { at_ms, message });
        self.is_trouble_passing = true;
    }

    /// It goes well again; what is lost stays said.
    pub fn recover(&mut self) {
        if self.is_trouble_passing {
            self.trouble = None;
        }
    }

    pub fn remove(&mut self, position: Position) -> Option<Pending> {
        let removed = self.pending.remove(&position)?;
        self.let_go(removed.weight());
        Some(removed)
    }

    pub fn clear(&mut self) {
        self.pending.clear();
        self.let_go(self.bytes);
    }

    fn let_go(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.held_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What nobody has asked for in a while need not be in memory.
    pub fn unload(&mut self, now: Instant) {
        self.forget_consumers(now);
        let is_used =
            self.consumers.values().any(|consumer| consumer.waiting > 0) || now < self.taken_at + UNLOADED_AFTER;
        if is_used || self.pending.values().any(|pending| pending.lease.is_some() || pending.settlement.is_some()) {
            return;
        }
        self.pending.values_mut().for_each(|pending| pending.event = None);
        self.let_go(self.bytes);
    }

    pub fn checkpoint(&self) -> Position {
        let before_first = self.pending.keys().next().map(|first| Position(first.0.saturating_sub(1)));
        before_first.map_or(self.read, |before| before.min(self.read))
    }

    pub fn leases(&self, now: Instant) -> impl Iterator<Item = &Lease> {
        self.pending.values().filter_map(|pending| pending.lease.as_ref()).filter(move |lease| lease.until > now)
    }

    /// The streams that wait for an event which failed.
    pub fn retrying(&self, now: Instant) -> Vec<&StreamName> {
        let waits = self.pending.values().filter(|pending| pending.lease.is_none() && pending.due > now);
        waits.filter_map(|pending| Some(&pending.event.as_ref()?.stream)).collect()
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.held_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn given_up(attempts: u32, last: &str) -> String {
    reason(&format!("delivered {attempts} times, at last: {last}"))
}
