//! What everybody else has of the transactions.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    Gid, LIVE_MAX,
    begin::{self, Begun},
    call::BranchCaller,
    core::{Alert, Core, Entered},
    driver::{Command, Driver, Reply},
    error::TransactionError,
    journal::Journal,
    protocol::{Protocols, Versions},
    shown::{Details, Status},
    submission::{Enlistment, Submission},
};
use crate::{
    events::EventStore,
    model::{PluginName, VersionId, Wall, transaction::Decision},
    storage::Storage,
};

/// After a restart calls that were under way are made within this time, for each thousand transactions.
const RECOVERY_SPREAD: Duration = Duration::from_secs(1);

/// The transactions that are recovered within the first spread.
const RECOVERED_AT_ONCE: usize = 1_000;

/// Looked for to be removed.
const REMOVAL_INTERVAL: Duration = Duration::from_secs(10);

/// What a coordinator is made of.
pub struct Parts {
    pub storage: Arc<dyn Storage>,
    /// Where outcomes append events; without it a transaction that asks for that is refused.
    pub events: Option<EventStore>,
    pub caller: Arc<dyn BranchCaller>,
    pub versions: Arc<dyn Versions>,
    pub alert: Alert,
    pub wall: Wall,
    /// For which an ended transaction is kept.
    pub retention: Duration,
    /// Named in the claim.
    pub owner: String,
    pub seed: u64,
}

/// The transactions of this gateway. Cheap to clone. What it has answered with `Ok` is durable.
#[derive(Clone)]
pub struct Coordinator {
    core: Arc<Core>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator").field("live", &self.core.live_count()).finish_non_exhaustive()
    }
}

impl Coordinator {
    /// Claims the store's transactions. Those that have not ended are found, and go on with [`Self::recover`].
    pub async fn open(parts: Parts) -> Result<Self, TransactionError> {
        let Parts { storage, events, caller, versions, alert, wall, retention, owner, seed } = parts;
        let journal = Journal::claim(storage, events, owner).await?;
        let core = Core::new(journal, caller, versions, alert, wall, retention, seed);
        Ok(Self { core, tasks: Arc::default() })
    }

    /// Takes up what has not ended, and begins to remove what has and is due. Answers how many go on. To be called once,
    /// when the protocols are set.
    pub async fn recover(&self) -> Result<usize, TransactionError> {
        let unfinished = self.core.journal.unfinished().await?;
        let spread = RECOVERY_SPREAD.mul_f64((unfinished.len() as f64 / RECOVERED_AT_ONCE as f64).clamp(0.05, 60.0));
        let mut count = 0;
        for gid in &unfinished {
            let restored = match self.core.journal.whole(gid).await {
                Ok(Some(restored)) => restored,
                Ok(None) => continue,
                // One that cannot be read is no reason to leave the others alone.
                Err(error @ TransactionError::Damaged { .. }) => {
                    tracing::error!(%gid, %error, "a transaction is not taken up");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (plugin, version) = (restored.standing.plugin.clone(), restored.standing.version);
            if let Entered::New(commands) = self.core.enter(gid, &plugin, version, usize::MAX) {
                let mut driver = Driver::new(&self.core, restored, None);
                driver.resume(spread);
                self.spawn(driver.run(commands));
                count += 1;
            }
        }
        let core = Arc::clone(&self.core);
        self.spawn(async move { remove_due(&core).await });
        Ok(count)
    }

    /// The protocols that new transactions get from here on.
    pub fn set_protocols(&self, protocols: Protocols) {
        self.core.set_protocols(protocols);
    }

    pub fn protocols(&self) -> Arc<Protocols> {
        self.core.protocols()
    }

    /// A new id: unguessable, and in the order of time, so that neighbours in time are neighbours in the store.
    pub fn new_gid(&self) -> Gid {
        let random = self.core.random().u128(..);
        let text = format!("{:012x}{:020x}", self.core.wall.now_ms(), random >> 48);
        text.parse().expect("hex digits are right in an id")
    }

    /// Begins a transaction whose client has still to ask for its end. Harmless where it is repeated.
    pub async fn prepare(&self, submission: Submission) -> Result<Status, TransactionError> {
        self.put(submission, false).await
    }

    /// Begins a transaction if it is not there, and asks for it to be committed. Harmless where it is repeated.
    pub async fn submit(&self, submission: Submission) -> Result<Status, TransactionError> {
        self.put(submission, true).await
    }

    async fn put(&self, submission: Submission, asks: bool) -> Result<Status, TransactionError> {
        let gid = submission.gid.clone();
        let pinned = match begin::pinned(&self.core, &submission) {
            Ok(pinned) => pinned,
            Err(refused) => return self.again_or(&submission, asks, refused).await,
        };
        let (plugin, version) = (&pinned.0.pin.plugin, pinned.0.pin.version);
        match self.core.enter(&gid, plugin, version, LIVE_MAX) {
            Entered::Full => Err(TransactionError::Full { max: LIVE_MAX }),
            Entered::There => self.again_or(&submission, asks, TransactionError::Closed).await,
            Entered::New(commands) => {
                let (reply, answered) = oneshot::channel();
                let (core, beginning) = (Arc::clone(&self.core), submission.clone());
                self.spawn(async move { begin::live(&core, beginning, asks, pinned, commands, reply).await });
                let begun = answered.await.unwrap_or(Err(TransactionError::Closed));
                crate::storage::crash_point::here("before-answer");
                match begun {
                    Ok(Begun::New(status)) => Ok(status),
                    Ok(Begun::Before) => self.again_or(&submission, asks, TransactionError::Closed).await,
                    Err(refused @ (TransactionError::Invalid(_) | TransactionError::Protocol { .. })) => {
                        self.again_or(&submission, asks, refused).await
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// The same submission, of a transaction that is there: it goes on as it began, whatever has become of its protocol.
    /// Where there is none, `refused`.
    async fn again_or(
        &self,
        submission: &Submission,
        asks: bool,
        refused: TransactionError,
    ) -> Result<Status, TransactionError> {
        if let Some(commands) = self.core.commands_of(&submission.gid) {
            let ask = |reply| Command::Again { submission: Box::new(submission.clone()), asks, reply };
            match ask_driver(&commands, ask).await {
                // It has just ended, or was not begun after all.
                Err(TransactionError::Closed) => {}
                answer => return answer,
            }
        }
        self.again_after_end(submission, asks).await?.ok_or(refused)
    }

    /// Of one that has ended; None where there is none.
    async fn again_after_end(&self, submission: &Submission, asks: bool) -> Result<Option<Status>, TransactionError> {
        let gid = &submission.gid;
        let Some(ended) = self.core.journal.whole(gid).await? else { return Ok(None) };
        if let Some(field) = submission.differs_from(&ended.submitted.first.request) {
            return Err(TransactionError::OtherContent { gid: gid.clone(), field: field.to_owned() });
        }
        match Status::of(ended.machine.facts()) {
            Status::Succeeded => Ok(Some(Status::Succeeded)),
            status if !asks => Ok(Some(status)),
            status => Err(TransactionError::TooLate { gid: gid.clone(), status, wanted: "be committed" }),
        }
    }

    /// Asks for a transaction to be aborted. Harmless where it is repeated.
    pub async fn abort(&self, gid: &Gid, reason: Option<String>) -> Result<Status, TransactionError> {
        let ask = |reply| Command::Ask { decision: Decision::Abort, reason, reply };
        match self.ask(gid, ask).await? {
            Asked::Answer(answer) => answer,
            Asked::Ended(Status::Failed) => Ok(Status::Failed),
            Asked::Ended(status) => Err(TransactionError::TooLate { gid: gid.clone(), status, wanted: "be aborted" }),
        }
    }

    /// Adds a branch to a transaction whose client has not asked for its end. Durable when it returns, so that the
    /// branch's own call may be made.
    pub async fn enlist(&self, enlistment: Enlistment) -> Result<Status, TransactionError> {
        let gid = enlistment.gid.clone();
        let ask = |reply| Command::Enlist { enlistment: Box::new(enlistment), reply };
        self.ask(&gid, ask).await?.or_too_late(&gid, "take another branch")
    }

    /// An operator's last word: wherever the transaction stands, nothing more is called.
    pub async fn stop(&self, gid: &Gid) -> Result<Status, TransactionError> {
        self.ask(gid, |reply| Command::Stop { reply }).await?.or_too_late(gid, "be stopped")
    }

    /// Whatever waits for its next attempt is tried now; one in hazard goes on.
    pub async fn retry(&self, gid: &Gid) -> Result<Status, TransactionError> {
        self.ask(gid, |reply| Command::Retry { reply }).await?.or_too_late(gid, "be tried again")
    }

    /// Where it stands as soon as it has ended or stands in hazard, or after `wait`.
    pub async fn outcome(&self, gid: &Gid, wait: Duration) -> Result<Status, TransactionError> {
        if let Some(commands) = self.core.commands_of(gid) {
            let (reply, answered) = oneshot::channel();
            if commands.send(Command::Wait { reply }).await.is_ok()
                && let Ok(Ok(status)) = timeout_at(Instant::now() + wait, answered).await
            {
                return Ok(status);
            }
        }
        self.status(gid).await
    }

    pub async fn status(&self, gid: &Gid) -> Result<Status, TransactionError> {
        if let Some(ended) = self.core.ended(gid) {
            return Ok(ended.status);
        }
        match self.core.journal.standing(gid).await? {
            Some(standing) => Ok(Status::of(&standing.facts)),
            None => Err(TransactionError::Unknown(gid.clone())),
        }
    }

    pub async fn details(&self, gid: &Gid) -> Result<Details, TransactionError> {
        if let Some(commands) = self.core.commands_of(gid) {
            let (reply, answered) = oneshot::channel();
            if commands.send(Command::Show { reply }).await.is_ok()
                && let Ok(details) = answered.await
            {
                return Ok(details);
            }
        }
        match self.core.journal.whole(gid).await? {
            Some(of) => Ok(Details::of(gid, &of.submitted, &of.machine, &of.standing, None)),
            None => Err(TransactionError::Unknown(gid.clone())),
        }
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// How many whose end is not in the store keep to a plugin's versions.
    pub fn pins_of(&self, plugin: &PluginName) -> std::collections::HashMap<VersionId, usize> {
        self.core.pins_of(plugin)
    }

    /// All versions that some transaction keeps to.
    pub fn pins(&self) -> Vec<(PluginName, VersionId)> {
        self.core.pins()
    }

    /// Ends every task; what has not ended is taken up by the next [`Self::recover`]. The store may be closed afterwards.
    pub async fn close(&self) {
        self.core.shutdown.send_replace(true);
        loop {
            let mut tasks = std::mem::take(&mut *self.tasks());
            if tasks.is_empty() {
                return;
            }
            while tasks.join_next().await.is_some() {}
        }
    }

    /// At once, so that whoever asks for it may go away meanwhile.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, gid: &Gid, ask: impl FnOnce(Reply<Status>) -> Command) -> Result<Asked, TransactionError> {
        if let Some(commands) = self.core.commands_of(gid) {
            match ask_driver(&commands, ask).await {
                Err(TransactionError::Closed) if !*self.core.shutdown.borrow() => {}
                answer => return Ok(Asked::Answer(answer)),
            }
        }
        self.status(gid).await.map(Asked::Ended)
    }
}

enum Asked {
    Answer(Result<Status, TransactionError>),
    /// There is nobody to ask any more.
    Ended(Status),
}

impl Asked {
    fn or_too_late(self, gid: &Gid, wanted: &'static str) -> Result<Status, TransactionError> {
        match self {
            Self::Answer(answer) => answer,
            Self::Ended(status) => Err(TransactionError::TooLate { gid: gid.clone(), status, wanted }),
        }
    }
}

async fn ask_driver(
    commands: &mpsc::Sender<Command>,
    ask: impl FnOnce(Reply<Status>) -> Command,
) -> Result<Status, TransactionError> {
    let (reply, answered) = oneshot::channel();
    commands.send(ask(reply)).await.map_err(|_| TransactionError::Closed)?;
    answered.await.unwrap_or(Err(TransactionError::Closed))
}

/// Until the gateway ends.
async fn remove_due(core: &Core) {
    loop {
        match core.journal.remove_due(core.wall.now_ms()).await {
            Ok(0) => {}
            Ok(_) => {
                tokio::task::yield_now().await;
                continue;
            }
            Err(error) => tracing::warn!(%error, "ended transactions could not be removed"),
        }
        tokio::select! {
            () = core.closed() => return,
            () = tokio::time::sleep(REMOVAL_INTERVAL) => {}
        }
    }
}
