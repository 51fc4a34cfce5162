//! One handler: which generation is in use, which is to take over, and the tasks of both.
//!
//! ```text
//!  other version or settings ──▶ new generation, no state ──▶ replay up to the checkpoint of the one in use
//!        ──▶ near it: the one in use is stopped, at a known checkpoint ──▶ replay up to there, nothing goes out
//!        ──▶ one commit: the new one is in use ──▶ what the old one had is removed
//! ```

use std::{
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    aside::{Discarded, Replayed, pass_on},
    core::{Core, stopped},
    error::HandlersError,
    follow::Ask,
    handler::Handler,
    keys::{self, SPACE},
    lanes::{Following, Lane, Rebuild, send},
    outbox::Sender,
    record::{Generation, Pin, Progress, Registration, compact, json},
    replay::NEAR,
    shown::{Cell, Doing, GenerationShown},
    step::{BATCH_EVENTS_MAX, Ended, Stepper},
    wanted::{Readers, Wanted},
};
use crate::{
    model::{HandlerName, HandlerStart, Position, backoff},
    storage::Batch,
};

/// After how long it is seen whether a version that could not be loaded can be now.
const LOAD_INTERVAL: Duration = Duration::from_secs(60);

/// What is asked of a handler.
#[derive(Debug)]
pub(super) enum Command {
    Rebuild(oneshot::Sender<Result<(), HandlersError>>),
    Resume(oneshot::Sender<Result<(), HandlersError>>),
    ReplayParked(oneshot::Sender<Result<Replayed, HandlersError>>),
    DiscardParked(oneshot::Sender<Result<Discarded, HandlersError>>),
}

/// The task of one handler.
pub(super) struct Keeper {
    pub core: Arc<Core>,
    pub name: HandlerName,
    pub cell: Arc<Cell>,
    pub readers: Arc<Readers>,
    /// None: the configuration does not name it.
    pub wanted: watch::Receiver<Option<Arc<Wanted>>>,
    pub commands: mpsc::Receiver<Command>,
    pub shutdown: watch::Receiver<bool>,
    /// Makes the calls of the outbox, whatever generation caused them: a swap breaks none of them off. None while nothing is
    /// wanted.
    pub sender: Option<Lane<()>>,
    /// Tasks that remove what generations have left.
    pub removals: Mutex<JoinSet<()>>,
}

/// Why a handler is not served any more.
enum Left {
    /// Something else is wanted.
    Changed,
    Shutdown,
}

/// What runs of a handler.
pub(super) struct Tasks {
    pub wanted: Arc<Wanted>,
    pub registration: Registration,
    /// None: its version cannot be loaded, or it was stopped to be taken over from.
    pub following: Option<Following>,
    pub rebuild: Option<Rebuild>,
    /// How near it comes to the one in use before that is stopped for the rest.
    pub near: u64,
    /// Of the rebuild: the one in use is stopped, until then at the latest.
    pub last_stretch: Option<Instant>,
}

impl Tasks {
    async fn stop(&mut self) {
        if let Some(following) = &mut self.following {
            following.lane.stop().await;
        }
        if let Some(rebuild) = &mut self.rebuild {
            rebuild.stop().await;
        }
    }
}

impl Keeper {
    /// Until the gateway ends.
    pub async fn run(mut self) {
        self.keep().await;
        self.stop_sending().await;
        // Each of them sees that the gateway ends.
        let mut removals = std::mem::take(&mut *self.removals.lock().unwrap_or_else(PoisonError::into_inner));
        while removals.join_next().await.is_some() {}
    }

    async fn keep(&mut self) {
        let mut failed = 0;
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let left = match wanted {
                None => Ok(self.idle().await),
                Some(wanted) => self.serve(wanted).await,
            };
            match left {
                Ok(Left::Shutdown) => return,
                Ok(Left::Changed) => failed = 0,
                Err(error) => {
                    failed += 1;
                    self.cell.failed(self.core.wall.now_ms(), error.to_string());
                    tracing::warn!(handler = %self.name, %error, "an event handler does not go on, and is tried again");
                    let pause = self.core.pause(failed, backoff::BASE);
                    tokio::select! {
                        () = stopped(&mut self.shutdown) => return,
                        () = sleep(pause) => {}
                    }
                }
            }
        }
    }

    /// Nothing is wanted of it: what it has stays where it is.
    async fn idle(&mut self) -> Left {
        self.stop_sending().await;
        self.core.emitters.remove(&self.name);
        *self.cell.lock() = Default::default();
        self.readers.keep_only(&[]);
        loop {
            tokio::select! {
                () = stopped(&mut self.shutdown) => return Left::Shutdown,
                changed = self.wanted.changed() => return if changed.is_ok() { Left::Changed } else { Left::Shutdown },
                Some(command) = self.commands.recv() => command.refuse(HandlersError::Unknown(self.name.clone())),
            }
        }
    }

    async fn serve(&mut self, wanted: Arc<Wanted>) -> Result<Left, HandlersError> {
        let registration = match self.core.journal.registration(&self.name).await? {
            Some(registration) => registration,
            None => self.register(&wanted).await?,
        };
        self.cell.lock().on_failure = wanted.on_failure;
        self.begin_sending().await?;
        for generation in self.core.journal.dropped(&self.name).await? {
            self.remove(generation);
        }
        let mut tasks = self.begin(wanted, registration).await?;
        let left = self.attend(&mut tasks).await;
        tasks.stop().await;
        left
    }

    async fn begin_sending(&mut self) -> Result<(), HandlersError> {
        if self.sender.is_some() {
            return Ok(());
        }
        self.cell.outbox.set(self.core.journal.count_calls(&self.name).await?);
        self.sender = Some(send(Sender {
            core: Arc::clone(&self.core),
            cell: Arc::clone(&self.cell),
            name: self.name.clone(),
            stop: self.shutdown.clone(),
        }));
        Ok(())
    }

    /// A call that is under way is broken off, and made again when it goes on.
    async fn stop_sending(&mut self) {
        if let Some(mut sender) = self.sender.take() {
            sender.stop().await;
        }
    }

    /// A handler that was never there.
    async fn register(&self, wanted: &Wanted) -> Result<Registration, HandlersError> {
        let begins = match wanted.from {
            HandlerStart::Start => Position::START,
            HandlerStart::Now => self.core.events.head(),
        };
        let registration = Registration { begins, active: 1, rebuilding: None, next: 2, refused: None };
        let batch = self.new_generation(1, &wanted.pin, begins);
        let batch = batch.put(SPACE, keys::registration(&self.name), json(&registration));
        self.core.journal.write(batch).await?;
        Ok(registration)
    }

    pub(super) fn new_generation(&self, generation: u64, pin: &Pin, begins: Position) -> Batch {
        let record = Generation { pin: pin.clone(), begun_ms: self.core.wall.now_ms() };
        let progress = Progress { checkpoint: begins, ..Progress::default() };
        Batch::new().put(SPACE, keys::generation(&self.name, generation), json(&record)).put(
            SPACE,
            keys::progress(&self.name, generation),
            compact(&progress),
        )
    }

    pub(super) async fn begin(&self, wanted: Arc<Wanted>, registration: Registration) -> Result<Tasks, HandlersError> {
        let active = registration.active;
        let pin = self.core.journal.generation(&self.name, active).await?.pin;
        let progress = self.core.journal.progress(&self.name, active).await?;
        {
            let mut standing = self.cell.lock();
            standing.begins = registration.begins;
            standing.refused = registration.refused.clone();
            standing.rebuilding = None;
            standing.active = Some(shown(active, pin.clone(), progress));
        }
        self.readers.keep_only(&[active]);
        let following = match self.code_of(active, &pin, &wanted).await {
            Ok(handler) => {
                self.cell.update(active, |shown| shown.filter = Some(handler.filter().clone()));
                Some(Following::spawn(self.stepper(active, &pin, handler, progress, None, &wanted)))
            }
            Err(reason) => {
                self.cell.doing(active, Doing::NotLoaded(reason));
                None
            }
        };
        let mut tasks = Tasks { wanted, registration, following, rebuild: None, near: NEAR, last_stretch: None };
        match self.catch_up_with_wanted(&pin, &mut tasks).await {
            Ok(()) => Ok(tasks),
            Err(error) => {
                // Nobody would stop them once they are out of sight.
                tasks.stop().await;
                Err(error)
            }
        }
    }

    /// The code of the generation in use: what is wanted, or what it keeps to.
    async fn code_of(&self, active: u64, pin: &Pin, wanted: &Wanted) -> Result<Arc<dyn Handler>, String> {
        let handler = if *pin == wanted.pin {
            Arc::clone(&wanted.handler)
        } else {
            self.core.versions.load(&self.name, pin, &wanted.making).await?
        };
        self.readers.put(active, Arc::clone(&handler));
        Ok(handler)
    }

    /// How far the generation in use has come.
    pub(super) fn goal(&self) -> impl Fn() -> Position + Send + Sync + 'static {
        let cell = Arc::clone(&self.cell);
        move || cell.lock().active.as_ref().map_or(Position::START, |active| active.progress.checkpoint)
    }

    pub(super) fn stepper(
        &self,
        generation: u64,
        pin: &Pin,
        handler: Arc<dyn Handler>,
        progress: Progress,
        replays: Option<u64>,
        wanted: &Wanted,
    ) -> Stepper {
        Stepper {
            core: Arc::clone(&self.core),
            cell: Arc::clone(&self.cell),
            name: self.name.clone(),
            generation,
            pin: pin.clone(),
            handler,
            progress,
            batch_max: BATCH_EVENTS_MAX,
            grows_after: 0,
            replays,
            on_failure: wanted.on_failure,
            refusals: 0,
            stop: self.shutdown.clone(),
        }
    }

    /// Until something else is wanted, or the gateway ends.
    async fn attend(&mut self, tasks: &mut Tasks) -> Result<Left, HandlersError> {
        let load_again = Instant::now() + LOAD_INTERVAL;
        loop {
            let stretch_ends = tasks.last_stretch;
            let waits_for_its_version = tasks.following.is_none() && tasks.rebuild.is_none();
            tokio::select! {
                biased;
                () = stopped(&mut self.shutdown) => return Ok(Left::Shutdown),
                changed = self.wanted.changed() => {
                    return Ok(if changed.is_ok() { Left::Changed } else { Left::Shutdown });
                }
                rebuilt = ended(&mut tasks.rebuild) => self.rebuilt(rebuilt, tasks).await?,
                () = panicked(&mut tasks.following) => return Err(HandlersError::Interrupted(self.name.clone())),
                () = until(stretch_ends) => self.break_off(tasks).await?,
                () = sleep_until(load_again), if waits_for_its_version => return Ok(Left::Changed),
                Some(command) = self.commands.recv() => self.answer(command, tasks).await?,
            }
        }
    }

    pub(super) async fn put_registration(
        &self,
        tasks: &mut Tasks,
        registration: Registration,
        batch: Batch,
    ) -> Result<(), HandlersError> {
        self.core.journal.write(batch.put(SPACE, keys::registration(&self.name), json(&registration))).await?;
        tasks.registration = registration;
        Ok(())
    }

    /// What a generation has left, a little at a time, by a task that ends with the gateway: the rest goes after the next
    /// start.
    pub(super) fn remove(&self, generation: u64) {
        let (core, name, readers) = (Arc::clone(&self.core), self.name.clone(), Arc::clone(&self.readers));
        let mut shutdown = self.shutdown.clone();
        let mut removals = self.removals.lock().unwrap_or_else(PoisonError::into_inner);
        while removals.try_join_next().is_some() {}
        removals.spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    () = stopped(&mut shutdown) => return,
                    removed = core.journal.remove_some(&name, generation) => match removed {
                        Ok(false) => tokio::task::yield_now().await,
                        Ok(true) => break,
                        Err(error) => {
                            tracing::warn!(handler = %name, generation, %error, "old state was not removed; it is tried again later");
                            break;
                        }
                    },
                }
            }
            readers.drop_one(generation);
        });
    }

    async fn answer(&mut self, command: Command, tasks: &mut Tasks) -> Result<(), HandlersError> {
        match command {
            Command::Rebuild(reply) => {
                // One that is under way is what was asked for.
                let begun = if tasks.rebuild.is_some() { Ok(()) } else { self.begin_rebuild(tasks).await };
                let failed = begun.clone();
                let _ = reply.send(begun);
                failed
            }
            Command::Resume(reply) => {
                match &tasks.following {
                    Some(following) => pass_on(&self.name, following, Ask::Resume(reply)),
                    None => drop(reply.send(Err(HandlersError::NotHalted(self.name.clone())))),
                }
                Ok(())
            }
            Command::ReplayParked(reply) => self.replay_parked(tasks, reply).await,
            Command::DiscardParked(reply) => self.discard_parked(tasks, reply).await,
        }
    }
}

impl Command {
    pub fn refuse(self, error: HandlersError) {
        // Whoever asked may have gone.
        match self {
            Self::Rebuild(reply) | Self::Resume(reply) => drop(reply.send(Err(error))),
            Self::ReplayParked(reply) => drop(reply.send(Err(error))),
            Self::DiscardParked(reply) => drop(reply.send(Err(error))),
        }
    }
}

/// The task that follows: it ends without having been told to only where it fails in itself.
async fn panicked(following: &mut Option<Following>) {
    if let Some(following) = following
        && following.lane.ended().await.is_none()
    {
        return;
    }
    // One that another gateway has taken over from has nothing left to do.
    pending().await
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

async fn ended(rebuild: &mut Option<Rebuild>) -> Option<(Stepper, Result<(), Ended>)> {
    match rebuild {
        Some(rebuild) => rebuild.ended().await,
        None => pending().await,
    }
}

pub(super) fn shown(generation: u64, pin: Pin, progress: Progress) -> GenerationShown {
    let looked_at = progress.checkpoint;
    GenerationShown { generation, pin, filter: None, progress, looked_at, doing: Doing::Starting }
}
