//! The thread that feeds every service's health policy with what all workers and the active checks have seen, and
//! brings its verdicts into force.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, mpsc as std_mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{Notify, oneshot};

use super::{
    Shared,
    book::{HealthBook, Said},
    watched::Watched,
};
use crate::{
    model::{Clock, Completion, EjectionLimits, Endpoint, EndpointState, InstantUs, ServiceName, VersionId},
    plugin::{Fault, HealthInstance, Version},
    telemetry::{PluginCells, SharedCounter},
};

/// How often what was seen is looked at. WIT `health.observe`: at least each 100 ms, of which the batches of the workers
/// take up to 10.
const TICK: Duration = Duration::from_millis(50);
/// A service without any news is only told of the time at each so many ticks.
const IDLE_TICKS: u32 = 2;
/// Batches of up to 64 completions that wait to be looked at. A worker has one of each service in 10 ms at the least: those
/// of 1,600 busy services on two workers fill it in 50 ms. Beyond, they are dropped and counted.
const BATCHES_MAX: usize = 16_384;

/// What one worker has seen of one service: never empty.
#[derive(Debug, Default)]
pub struct Batch {
    pub completions: Vec<Completion>,
    /// Keeps each completion's slot from being given to another endpoint before it was delivered.
    pub leases: Vec<Arc<Endpoint>>,
}

impl Batch {
    pub fn with_capacity(completions: usize) -> Self {
        Self { completions: Vec::with_capacity(completions), leases: Vec::with_capacity(completions) }
    }
}

/// A worker's end.
#[derive(Clone, Debug)]
pub struct Feed {
    batches: std_mpsc::SyncSender<Batch>,
    dropped: Arc<SharedCounter>,
}

impl Feed {
    /// Never waits, and wakes nobody.
    pub fn send(&self, batch: Batch) {
        if self.batches.try_send(batch).is_err() {
            self.dropped.add(1);
        }
    }
}

/// What an active check found of an endpoint.
#[derive(Clone, Debug)]
pub struct CheckResult {
    pub endpoint: Arc<Endpoint>,
    pub completion: Completion,
    /// Whether the endpoint has just become fit or unfit by it.
    pub became: Option<bool>,
    pub detail: String,
}

/// One service as it is to be watched from now on.
#[derive(Debug)]
pub struct ServiceWatch {
    pub service: ServiceName,
    pub limits: EjectionLimits,
    /// Whether it is measured how many requests at once each endpoint can take.
    pub adaptive: bool,
    pub shared: Arc<Shared>,
    /// None: the same as before.
    pub members: Option<Vec<EndpointState>>,
    /// None: the instances that are there go on.
    pub health: Option<HealthArms>,
}

/// The health policy of one service.
#[derive(Debug)]
pub struct HealthArms {
    pub incumbent: HealthArm,
    /// In the shadow: its verdicts are compared and never in force.
    pub candidate: Option<HealthArm>,
}

#[derive(Debug)]
pub struct HealthArm {
    pub version: Arc<Version>,
    /// None: it has failed; nobody is ejected until another is there, and who is out returns in time.
    pub instance: Option<HealthInstance>,
    pub cells: Arc<PluginCells>,
}

/// An instance is discarded.
#[derive(Debug)]
pub struct HealthFault {
    pub service: ServiceName,
    pub version: VersionId,
    pub fault: Fault,
}

/// What the health instances of a service have learned.
#[derive(Debug, Default)]
pub struct SavedHealth {
    pub incumbent: Option<Vec<u8>>,
    pub candidate: Option<Vec<u8>>,
}

enum Command {
    Watch { services: Vec<ServiceWatch>, gone: Vec<ServiceName>, reply: oneshot::Sender<()> },
    Save { service: ServiceName, reply: oneshot::Sender<SavedHealth> },
    Checked(CheckResult),
    End,
}

/// The control plane's end.
#[derive(Debug)]
pub struct Monitor {
    commands: std_mpsc::Sender<Command>,
    feed: Feed,
    book: HealthBook,
    changed: Arc<Notify>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Watch { .. } => "Watch",
            Self::Save { .. } => "Save",
            Self::Checked(_) => "Checked",
            Self::End => "End",
        })
    }
}

impl Monitor {
    /// `faults` hears of instances that fail.
    pub fn start(clock: Clock, faults: Box<dyn Fn(HealthFault) + Send>) -> std::io::Result<Arc<Self>> {
        let (commands, inbox) = std_mpsc::channel();
        let (batches, seen) = std_mpsc::sync_channel(BATCHES_MAX);
        let (book, changed) = (HealthBook::default(), Arc::new(Notify::new()));
        let feed = Feed { batches, dropped: Arc::default() };
        let mut watcher = Watcher {
            clock,
            seen,
            services: HashMap::new(),
            faults,
            book: book.clone(),
            changed: Arc::clone(&changed),
            ticks: 0,
        };
        let thread = std::thread::Builder::new().name("health".to_owned()).spawn(move || watcher.run(&inbox))?;
        Ok(Arc::new(Self { commands, feed, book, changed, thread: Mutex::new(Some(thread)) }))
    }

    pub fn feed(&self) -> Feed {
        self.feed.clone()
    }

    pub fn book(&self) -> &HealthBook {
        &self.book
    }

    /// Batches of completions that came faster than they were looked at.
    pub fn batches_dropped(&self) -> u64 {
        self.feed.dropped.get()
    }

    /// Resolves after verdicts have come into force that a snapshot does not have yet.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Makes [`Monitor::changed`] resolve: a snapshot does not have an endpoint's fitness, whoever changed it.
    pub fn look_again(&self) {
        self.changed.notify_one();
    }

    /// Resolves when these services are watched like that, and those are not any more.
    pub async fn watch(&self, services: Vec<ServiceWatch>, gone: Vec<ServiceName>) {
        let (reply, done) = oneshot::channel();
        // Without a thread the gateway is ending, and nothing is watched any more.
        if self.commands.send(Command::Watch { services, gone, reply }).is_ok() {
            let _ = done.await;
        }
    }

    /// What the instances of a service have learned; none of those that there are not.
    pub async fn save(&self, service: &ServiceName) -> SavedHealth {
        let (reply, saved) = oneshot::channel();
        match self.commands.send(Command::Save { service: service.clone(), reply }) {
            Ok(()) => saved.await.unwrap_or_default(),
            Err(_) => SavedHealth::default(),
        }
    }

    pub fn checked(&self, result: CheckResult) {
        // As above.
        let _ = self.commands.send(Command::Checked(result));
    }

    /// Ends and joins the thread. Blocks for as long as the call of a policy that is under way.
    pub fn end(&self) {
        let _ = self.commands.send(Command::End);
        let thread = self.thread.lock().expect("no holder of the lock panics").take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that watches over health did not end well");
        }
    }
}

/// What lives on the thread.
struct Watcher {
    clock: Clock,
    seen: std_mpsc::Receiver<Batch>,
    services: HashMap<ServiceName, Watched>,
    faults: Box<dyn Fn(HealthFault) + Send>,
    book: HealthBook,
    changed: Arc<Notify>,
    ticks: u32,
}

impl Watcher {
    fn run(&mut self, inbox: &std_mpsc::Receiver<Command>) {
        let mut next_tick = Instant::now() + TICK;
        loop {
            match inbox.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(Command::Watch { services, gone, reply }) => {
                    self.watch(services, &gone);
                    let _ = reply.send(());
                }
                Ok(Command::Save { service, reply }) => {
                    let _ = reply.send(self.save(&service));
                }
                Ok(Command::Checked(result)) => self.checked(result),
                Ok(Command::End) | Err(std_mpsc::RecvTimeoutError::Disconnected) => return,
                Err(std_mpsc::RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= next_tick {
                self.tick();
                next_tick = Instant::now() + TICK;
            }
        }
    }

    fn watch(&mut self, services: Vec<ServiceWatch>, gone: &[ServiceName]) {
        for service in gone {
            self.services.remove(service);
            self.book.forget(service);
        }
        let now_us = self.clock.now_us();
        for watch in services {
            let name = watch.service.clone();
            let before = self.services.remove(&name);
            let mut watched = Watched::next(before, watch, self.book.of(&name));
            let faults = watched.tell_members(now_us);
            self.report(&name, faults);
            self.services.insert(name, watched);
        }
    }

    fn save(&mut self, service: &ServiceName) -> SavedHealth {
        // What is known but was not looked at yet belongs to what was learned.
        let now_us = self.clock.now_us();
        self.drain(now_us);
        if let Some(watched) = self.services.get_mut(service) {
            let observed = watched.observe(now_us);
            if observed.changed {
                self.changed.notify_one();
            }
            self.report(service, observed.faults);
        }
        let Some(watched) = self.services.get_mut(service) else { return SavedHealth::default() };
        let (saved, faults) = watched.save();
        self.report(service, faults);
        saved
    }

    fn checked(&mut self, result: CheckResult) {
        let service = result.endpoint.service.clone();
        let Some(watched) = self.services.get_mut(&service) else { return };
        if let Some(passes) = result.became {
            let said = if passes { Said::PassesChecks } else { Said::FailsChecks };
            watched.entry().note(&result.endpoint, said, &result.detail);
            self.changed.notify_one();
        }
        watched.take_check(result.completion, result.endpoint);
    }

    /// Shares out what the workers have sent.
    fn drain(&mut self, now_us: InstantUs) {
        // Those that come meanwhile are for the next time.
        for _ in 0..BATCHES_MAX {
            let Ok(batch) = self.seen.try_recv() else { break };
            let watched = batch.leases.first().and_then(|endpoint| self.services.get_mut(&endpoint.service));
            if let Some(watched) = watched {
                watched.take(batch, now_us);
            }
        }
    }

    fn tick(&mut self) {
        self.ticks = self.ticks.wrapping_add(1);
        let now_us = self.clock.now_us();
        self.drain(now_us);
        let idle_too = self.ticks.is_multiple_of(IDLE_TICKS);
        let mut failed = Vec::new();
        let mut changed = false;
        for (name, watched) in &mut self.services {
            watched.shared().budget.roll(now_us);
            watched.measure(now_us);
            if idle_too || watched.has_news() {
                let observed = watched.observe(now_us);
                changed |= observed.changed;
                failed.extend((!observed.faults.is_empty()).then(|| (name.clone(), observed.faults)));
            }
        }
        if changed {
            self.changed.notify_one();
        }
        for (service, faults) in failed {
            self.report(&service, faults);
        }
    }

    fn report(&self, service: &ServiceName, faults: Vec<(VersionId, Fault)>) {
        for (version, fault) in faults {
            tracing::warn!(%service, %version, %fault, "a health policy's instance failed");
            (self.faults)(HealthFault { service: service.clone(), version, fault });
        }
    }
}
