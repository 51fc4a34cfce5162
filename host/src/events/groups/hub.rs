//! What everybody else has of the groups.

use std::{
    fmt,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, interval},
};

use super::{
    core::{Core, WebhookCaller, lock, stopped},
    error::GroupsError,
    group::{Group, Settled},
    journal::Journal,
    record::{Definition, ParkedEvent, Progress},
    remove,
    scribe::{self, Ask},
    settings::{BUFFER_MAX, GroupStart, Settings},
    shown::GroupShown,
    state::{Delivery, How, State},
    token::Token,
    webhook,
};
use crate::{
    events::{EventStore, PAGE_BYTES_MAX},
    model::{Event, GroupName, Position, Wall},
    storage::Storage,
};

/// Each costs some KiB as long as nobody consumes.
pub const GROUPS_MAX: usize = 256;

/// Longest wait of one take: what most proxies let a request take.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// How often events that nobody asks for are looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);

/// What the groups are made of.
pub struct GroupParts {
    pub storage: Arc<dyn Storage>,
    pub events: EventStore,
    pub caller: Arc<dyn WebhookCaller>,
    pub wall: Wall,
    /// Named in the claim.
    pub owner: String,
    pub seed: u64,
}

/// The consumer groups of this gateway. Cheap to clone.
#[derive(Clone)]
pub struct EventGroups {
    core: Arc<Core>,
    /// One group is set at a time, so that no change undoes another.
    defining: Arc<tokio::sync::Mutex<()>>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

/// What setting a group did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defined {
    Created,
    Changed,
}

/// Which of what stands aside is delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    All,
    One(Position),
}

/// Some of what stands aside, with the events as far as they are there.
#[derive(Clone, Debug, Default)]
pub struct ParkedPage {
    pub parked: Vec<(Position, ParkedEvent, Option<Arc<Event>>)>,
    /// Behind which the next page begins.
    pub next: Option<Position>,
}

impl fmt::Debug for EventGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventGroups").field("count", &self.core.groups().len()).finish_non_exhaustive()
    }
}

impl EventGroups {
    /// Claims the groups of the store, and finds each where it was. Webhooks begin with [`Self::begin`].
    pub async fn open(parts: GroupParts) -> Result<Self, GroupsError> {
        let GroupParts { storage, events, caller, wall, owner, seed } = parts;
        let journal = Journal::claim(storage, owner).await?;
        let found = journal.groups().await?;
        let (leaving, left) = mpsc::channel(GROUPS_MAX);
        let core = Arc::new(Core::new(journal, events, caller, wall, seed, leaving));
        for (name, definition, progress) in found {
            if definition.deleted {
                core.journal.remove(&name).await?;
                continue;
            }
            let mut state = State::new(definition, progress, Instant::now(), Arc::clone(&core.held_bytes));
            state.is_defined = true;
            let group = Group::new(name.clone(), Arc::clone(&core), state);
            core.groups().insert(name, group);
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(scribe::run(Arc::clone(&core), core.shutdown.subscribe()));
        tasks.spawn(remove::run(Arc::clone(&core), left));
        tasks.spawn(unload(Arc::clone(&core)));
        Ok(Self { core, defining: Arc::default(), tasks: Arc::new(Mutex::new(tasks)) })
    }

    /// From here on webhooks are pushed: there is somebody to make their calls.
    pub fn begin(&self) {
        if !*self.core.shutdown.borrow() {
            lock(&self.tasks).spawn(webhook::run(Arc::clone(&self.core)));
        }
    }

    /// Makes a group, or changes what is set for it; a webhook that has stopped goes on. `settings` is given what is set now.
    pub async fn define(
        &self,
        name: &GroupName,
        settings: impl FnOnce(Option<&Settings>) -> Settings,
    ) -> Result<Defined, GroupsError> {
        let _turn = self.defining.lock().await;
        let there = self.core.groups().get(name).cloned();
        let before = there.as_ref().map(|group| group.lock().definition.clone());
        let settings = settings(before.as_ref().map(|before| &before.settings));
        if let Some(webhook) = &settings.webhook {
            self.core.caller.check(&webhook.url).map_err(GroupsError::NoTarget)?;
        }
        let created_ms = before.as_ref().map_or_else(|| self.core.wall.now_ms(), |before| before.created_ms);
        let definition = Definition { settings, created_ms, stopped: None, deleted: false };
        if let (Some(group), Some(before)) = (there.filter(|group| group.lock().is_defined), before) {
            if before.settings.from != definition.settings.from {
                return Err(GroupsError::HasBegun(name.clone()));
            }
            if group.lock().is_gone {
                return Err(GroupsError::BeingDeleted(name.clone()));
            }
            if before != definition {
                group.ask(Ask::Define(definition)).await?;
            }
            return Ok(Defined::Changed);
        }
        self.create(name, definition).await.map(|()| Defined::Created)
    }

    async fn create(&self, name: &GroupName, definition: Definition) -> Result<(), GroupsError> {
        let head = self.core.events.head();
        let from = match definition.settings.from {
            GroupStart::Start => Position::START,
            GroupStart::Now => head,
            GroupStart::Position(given) if given > head => {
                return Err(GroupsError::OfTheFuture { field: "from", given, head });
            }
            GroupStart::Position(given) => given,
        };
        let progress = Progress::at(from);
        let state = State::new(definition.clone(), progress, Instant::now(), Arc::clone(&self.core.held_bytes));
        let group = Group::new(name.clone(), Arc::clone(&self.core), state);
        {
            let mut groups = self.core.groups();
            if groups.len() >= GROUPS_MAX && !groups.contains_key(name) {
                return Err(GroupsError::TooMany);
            }
            // What is not durable is not shown; what is, is there, even if nobody waits for the answer any more.
            groups.insert(name.clone(), Arc::clone(&group));
        }
        let defined = group.ask(Ask::Define(definition)).await;
        if defined.is_err() && !group.lock().is_defined {
            self.core.groups().remove(name);
        }
        defined
    }

    /// By name.
    pub fn list(&self) -> Vec<GroupShown> {
        let groups: Vec<_> = self.core.groups().values().cloned().collect();
        let there = groups.into_iter().filter(|group| group.is_there());
        there.map(|group| group.show()).collect()
    }

    pub fn show(&self, name: &GroupName) -> Result<GroupShown, GroupsError> {
        Ok(self.group(name)?.show())
    }

    /// Answers once it is gone, with what was parked.
    pub async fn delete(&self, name: &GroupName) -> Result<(), GroupsError> {
        self.group(name)?.ask(Ask::Delete).await
    }

    /// The next events for a consumer, as soon as there are some; none once the wait is over. Without a limit, as many as are
    /// set for the group.
    pub async fn take(
        &self,
        name: &GroupName,
        consumer: &str,
        limit: Option<usize>,
        wait: Duration,
    ) -> Result<Vec<Delivery>, GroupsError> {
        let group = self.group(name)?;
        let settings = group.lock().definition.settings.clone();
        let limit = limit.unwrap_or(settings.batch).clamp(1, BUFFER_MAX);
        let over = Instant::now() + wait.min(WAIT_MAX);
        group.take(&consumer.into(), limit, Some(over), settings.ack_timeout).await
    }

    /// Durable when it answers.
    pub async fn settle(&self, name: &GroupName, given: &[(Token, How)]) -> Result<Settled, GroupsError> {
        self.group(name)?.settle(given).await
    }

    /// A consumer goes: what it has is delivered to others at once. Answers how much that was.
    pub fn release(&self, name: &GroupName, consumer: &str) -> Result<usize, GroupsError> {
        Ok(self.group(name)?.release(consumer))
    }

    /// What stands aside behind a position, in order. The event that goes beyond [`PAGE_BYTES_MAX`] is the page's last.
    pub async fn parked(&self, name: &GroupName, after: Position, limit: usize) -> Result<ParkedPage, GroupsError> {
        let group = self.group(name)?;
        let mut found = self.core.journal.parked(name, after, limit + 1).await?;
        let mut is_more = found.len() > limit;
        found.truncate(limit);
        let (mut parked, mut bytes) = (Vec::with_capacity(found.len()), 0);
        let mut found = found.into_iter();
        for (position, of) in found.by_ref() {
            // One that is damaged or was removed is shown without its event.
            let event = group.event(position).await.ok().flatten();
            bytes += event.as_ref().map_or(0, |event| event.weight_bytes());
            parked.push((position, of, event));
            if bytes > PAGE_BYTES_MAX {
                break;
            }
        }
        is_more |= found.len() > 0;
        let next = parked.last().filter(|_| is_more).map(|(last, ..)| *last);
        Ok(ParkedPage { parked, next })
    }

    /// Has what stands aside delivered again. Answers how much that is.
    pub async fn replay(&self, name: &GroupName, which: Replay) -> Result<u64, GroupsError> {
        let group = self.group(name)?;
        let count = match which {
            Replay::All => {
                let Some(to) = self.core.journal.last_parked(name).await? else { return Ok(0) };
                let count = group.lock().parked;
                group.ask(Ask::Replay { to }).await?;
                count
            }
            Replay::One(position) => {
                if !self.core.journal.is_parked(name, position).await? {
                    return Err(GroupsError::NotParked { group: name.clone(), position });
                }
                // One that is damaged is found to be so when it is loaded, and stays aside.
                if matches!(group.event(position).await, Ok(None)) {
                    return Err(GroupsError::Removed { group: name.clone(), position });
                }
                if group.lock().pending.len() >= BUFFER_MAX {
                    return Err(GroupsError::Full(name.clone()));
                }
                group.ask(Ask::Unpark(position)).await?;
                1
            }
        };
        Ok(count)
    }

    /// Everything behind `to` is delivered again, and nothing at or below; what stands aside stays there.
    pub async fn reset(&self, name: &GroupName, to: Position) -> Result<(), GroupsError> {
        let group = self.group(name)?;
        let head = self.core.events.head();
        if to > head {
            return Err(GroupsError::OfTheFuture { field: "to", given: to, head });
        }
        group.ask(Ask::Reset(to)).await
    }

    /// Of the events that all groups have in memory.
    pub fn held_bytes(&self) -> usize {
        self.core.held_bytes.load(Ordering::Relaxed)
    }

    /// Ends every task, and what waits. The store may be closed afterwards.
    pub async fn close(&self) {
        self.core.shutdown.send_replace(true);
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        while tasks.join_next().await.is_some() {}
    }

    fn group(&self, name: &GroupName) -> Result<Arc<Group>, GroupsError> {
        let group = self.core.groups().get(name).cloned();
        group.filter(|group| group.is_there()).ok_or_else(|| GroupsError::Unknown(name.clone()))
    }
}

impl Group {
    /// It is durable, and not being deleted.
    fn is_there(&self) -> bool {
        let state = self.lock();
        state.is_defined && !state.is_gone
    }
}

/// Until it is time to stop.
async fn unload(core: Arc<Core>) {
    let (mut shutdown, mut looks) = (core.shutdown.subscribe(), interval(LOOK_INTERVAL));
    loop {
        tokio::select! {
            () = stopped(&mut shutdown) => return,
            _ = looks.tick() => {}
        }
        let groups: Vec<_> = core.groups().values().cloned().collect();
        groups.iter().for_each(|group| group.lock().unload(Instant::now()));
    }
}
