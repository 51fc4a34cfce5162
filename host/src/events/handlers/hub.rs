//! What everybody else has of the event handlers.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use super::{
    aside::{Discarded, Replayed},
    core::{Core, Emitters, HandlerCaller, Tell},
    error::HandlersError,
    handler::{HandlerVersions, StoredState},
    journal::Journal,
    keeper::{Command, Keeper},
    keys::{self, CallId, SPACE},
    record::{OutboxCall, ParkedEvent, Pin, Registration, from_json},
    room::OutboxBounds,
    shown::{Cell, HandlerShown},
    wanted::{Readers, Wanted},
};
use crate::{
    events::EventStore,
    model::{HandlerName, Position, Wall},
    plugin::{Fault, FaultKind, ReadAnswer, ReadQuery},
    storage::Storage,
};

/// What may wait for one handler to answer it.
const COMMANDS_MAX: usize = 8;

/// What the handlers are made of.
pub struct HandlerParts {
    pub storage: Arc<dyn Storage>,
    pub events: EventStore,
    pub caller: Arc<dyn HandlerCaller>,
    pub versions: Arc<dyn HandlerVersions>,
    pub tell: Tell,
    pub wall: Wall,
    /// Named in the claim.
    pub owner: String,
    pub outbox: OutboxBounds,
    pub seed: u64,
}

/// The event handlers of this gateway. Cheap to clone.
#[derive(Clone)]
pub struct EventHandlers {
    core: Arc<Core>,
    entries: Arc<Mutex<BTreeMap<HandlerName, Entry>>>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

/// One that is named by the configuration, or was since the gateway started.
struct Entry {
    cell: Arc<Cell>,
    readers: Arc<Readers>,
    wanted: watch::Sender<Option<Arc<Wanted>>>,
    commands: mpsc::Sender<Command>,
}

/// What stands aside, as far as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aside {
    pub events: Vec<(Position, ParkedEvent)>,
    pub calls: Vec<(CallId, OutboxCall)>,
}

impl fmt::Debug for EventHandlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventHandlers").field("count", &self.lock().len()).finish_non_exhaustive()
    }
}

impl EventHandlers {
    /// Claims the handlers of the store. They begin with [`Self::set`].
    pub async fn open(parts: HandlerParts) -> Result<Self, HandlersError> {
        let HandlerParts { storage, events, caller, versions, tell, wall, owner, outbox, seed } = parts;
        let journal = Journal::claim(storage, events.clone(), owner).await?;
        let (shutdown, _) = watch::channel(false);
        let random = Mutex::new(fastrand::Rng::with_seed(seed));
        let core = Arc::new(Core {
            journal,
            events,
            caller,
            versions,
            tell,
            wall,
            random,
            emitters: Emitters::default(),
            outbox,
            shutdown,
        });
        Ok(Self { core, entries: Arc::default(), tasks: Arc::default() })
    }

    /// Whatever shall run from here on. One that is not among them stops, and goes on where it was when it comes back.
    pub fn set(&self, wanted: BTreeMap<HandlerName, Wanted>) {
        if *self.core.shutdown.borrow() {
            return;
        }
        let mut entries = self.lock();
        for (name, entry) in entries.iter() {
            if !wanted.contains_key(name) {
                entry.wanted.send_if_modified(|now| now.take().is_some());
            }
        }
        for (name, wanted) in wanted {
            match entries.get(&name) {
                Some(entry) => {
                    entry.wanted.send_if_modified(|now| {
                        let differs = now.as_ref().is_none_or(|now| !now.is_same(&wanted));
                        if differs {
                            *now = Some(Arc::new(wanted));
                        }
                        differs
                    });
                }
                None => drop(entries.insert(name.clone(), self.enter(name, wanted))),
            }
        }
    }

    fn enter(&self, name: HandlerName, wanted: Wanted) -> Entry {
        let (cell, readers) = (Arc::<Cell>::default(), Arc::<Readers>::default());
        let (wanted, wants) = watch::channel(Some(Arc::new(wanted)));
        let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
        let keeper = Keeper {
            core: Arc::clone(&self.core),
            name,
            cell: Arc::clone(&cell),
            readers: Arc::clone(&readers),
            wanted: wants,
            commands: commanded,
            shutdown: self.core.shutdown.subscribe(),
            sender: None,
            removals: Mutex::default(),
        };
        self.tasks().spawn(keeper.run());
        Entry { cell, readers, wanted, commands }
    }

    /// By name.
    pub fn list(&self) -> Vec<HandlerShown> {
        let head = self.core.events.head();
        let entries = self.lock();
        let wanted = entries.iter().filter(|(_, entry)| entry.wanted.borrow().is_some());
        wanted.map(|(name, entry)| entry.cell.show(name, head)).collect()
    }

    pub fn show(&self, name: &HandlerName) -> Result<HandlerShown, HandlersError> {
        let head = self.core.events.head();
        self.with(name, |entry| entry.cell.show(name, head))
    }

    /// The first of what was put aside, at most so many events and calls.
    pub async fn aside(&self, name: &HandlerName, limit: usize) -> Result<Aside, HandlersError> {
        let shown = self.show(name)?;
        let events = match &shown.active {
            Some(active) => self.core.journal.parked_events(name, active.generation, None, limit).await?,
            None => Vec::new(),
        };
        Ok(Aside { events, calls: self.core.journal.parked_calls(name, None, limit).await? })
    }

    /// Builds the state anew from the log, beside the one in use, and then takes it into use. Repeats no effect. Answers once
    /// that has begun; one that is under way is what was asked for.
    pub async fn rebuild(&self, name: &HandlerName) -> Result<(), HandlersError> {
        self.ask(name, Command::Rebuild).await
    }

    /// A halted one tries again.
    pub async fn resume(&self, name: &HandlerName) -> Result<(), HandlersError> {
        self.ask(name, Command::Resume).await
    }

    /// Handles what was put aside once more, and puts calls back into the outbox.
    pub async fn replay_parked(&self, name: &HandlerName) -> Result<Replayed, HandlersError> {
        self.ask(name, Command::ReplayParked).await
    }

    /// Forgets what was put aside, events and calls.
    pub async fn discard_parked(&self, name: &HandlerName) -> Result<Discarded, HandlersError> {
        self.ask(name, Command::DiscardParked).await
    }

    /// Its read model, as of one commit. Waits for no `handle`.
    pub async fn read(&self, name: &HandlerName, query: ReadQuery) -> Result<ReadAnswer, HandlersError> {
        let readers = self.with(name, |entry| Arc::clone(&entry.readers))?;
        // Another generation may have come into use between the look into the store and that for its code.
        for _ in 0..2 {
            let Some((generation, state)) = self.state_in_use(name).await? else { break };
            let Some(handler) = readers.get(generation) else { continue };
            return match handler.read(query, Arc::new(state)).await {
                Some(Ok(answer)) => Ok(answer),
                // That says nothing against the plugin.
                Some(Err(Fault { kind: FaultKind::Storage, message, .. })) => {
                    Err(HandlersError::NotReadable { name: name.clone(), reason: message })
                }
                Some(Err(fault)) => {
                    let message = fault.to_string();
                    self.with(name, |entry| {
                        entry.cell.faulted();
                        entry.cell.failed(self.core.wall.now_ms(), message);
                    })?;
                    Err(HandlersError::Fault { name: name.clone(), fault })
                }
                None => Err(HandlersError::Busy(name.clone())),
            };
        }
        Err(HandlersError::NotReadable { name: name.clone(), reason: self.why_not_readable(name)? })
    }

    async fn state_in_use(&self, name: &HandlerName) -> Result<Option<(u64, StoredState)>, HandlersError> {
        let storage = Arc::clone(&self.core.journal.storage);
        let name = name.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let snapshot = storage.snapshot()?;
            let key = keys::registration(&name);
            let Some(value) = snapshot.get(SPACE, &key)? else { return Ok(None) };
            let Registration { active, .. } = from_json(&key, &value)?;
            Ok(Some((active, StoredState { snapshot, prefix: keys::state(&name, active) })))
        });
        looked.await.unwrap_or(Err(HandlersError::Closed))
    }

    fn why_not_readable(&self, name: &HandlerName) -> Result<String, HandlersError> {
        let shown = self.show(name)?;
        Ok(match shown.active.map(|active| active.doing) {
            Some(super::shown::Doing::NotLoaded(reason)) => reason,
            _ => "it is just beginning".to_owned(),
        })
    }

    /// All that some generation keeps to, of handlers that the configuration does not name too.
    pub async fn pins(&self) -> Result<Vec<Pin>, HandlersError> {
        self.core.journal.pins().await
    }

    /// Ends every task; what has not ended goes on with the next [`Self::set`]. The store may be closed afterwards.
    pub async fn close(&self) {
        self.core.shutdown.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.tasks());
        while tasks.join_next().await.is_some() {}
    }

    async fn ask<T>(
        &self,
        name: &HandlerName,
        command: impl FnOnce(oneshot::Sender<Result<T, HandlersError>>) -> Command,
    ) -> Result<T, HandlersError> {
        let commands = self.with(name, |entry| entry.commands.clone())?;
        let (reply, answered) = oneshot::channel();
        let unanswered = || match *self.core.shutdown.borrow() {
            true => HandlersError::Closed,
            false => HandlersError::Interrupted(name.clone()),
        };
        commands.send(command(reply)).await.map_err(|_| unanswered())?;
        answered.await.unwrap_or_else(|_| Err(unanswered()))
    }

    fn with<T>(&self, name: &HandlerName, look: impl FnOnce(&Entry) -> T) -> Result<T, HandlersError> {
        let entries = self.lock();
        let entry = entries.get(name).filter(|entry| entry.wanted.borrow().is_some());
        entry.map(look).ok_or_else(|| HandlersError::Unknown(name.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<HandlerName, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
