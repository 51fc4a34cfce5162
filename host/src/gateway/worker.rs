//! A worker: one thread with its own runtime, listeners, pools and plugin instances.
//!
//! Nothing here takes a lock or crosses a thread while a request is served. What crosses are the commands of the
//! control plane, a connection handed to a less loaded worker, and the events reported back.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::Future,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderValue};
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};

use super::{
    Adoption, SavedStates, WorkerEvent, WorkerPolicy,
    client::Client,
    guard::CoarseClock,
    listener::{self, Accepted},
    own::{self, HandedCall},
    snapshot::PreparedState,
    state::{self, Arm, CompletionQueue, Policy, Retired, ServiceState, WorkerState},
};
use crate::{
    failover::Feed,
    model::{Clock, Completion, Endpoint, Limits, ServiceName, VersionId},
    plugin::{Fault, PolicyInstance},
    telemetry::{
        AccessLogSink, RouteCells, WorkerCells,
        trace_context::{X_REQUEST_ID, request_id},
    },
};

/// How often time limits of connections are looked at and the coarse clock moves: a limit is kept to within this.
const TICK: Duration = Duration::from_millis(100);

/// Completions wait at most so long (WIT `balancer.complete`).
const COMPLETIONS_WAIT: Duration = Duration::from_millis(10);

/// How many ticks between two looks at the pools' idle connections.
const SWEEP_TICKS: u32 = 20;

/// What the control plane tells a worker.
pub enum Command {
    Save {
        service: ServiceName,
        kind: WorkerPolicy,
        reply: oneshot::Sender<SavedStates>,
    },
    Adopt {
        state: Box<PreparedState>,
        reply: oneshot::Sender<Adoption>,
    },
    /// A connection that another worker accepted.
    Take(Accepted),
    /// A call that the gateway itself makes. Only to the inner worker.
    Call(Box<HandedCall>),
    /// Take what is queued, and then no more connections. Answered when none can come any more, neither to this
    /// worker nor from it to another.
    StopAccepting {
        reply: oneshot::Sender<()>,
    },
    /// End when the last request has ended or the grace is over. Answers with how many connections and own calls were cut
    /// off. Comes when all
    /// workers have stopped accepting.
    Drain {
        grace: Duration,
        reply: oneshot::Sender<usize>,
    },
}

/// What all workers see of each other: enough to spread connections.
#[derive(Debug)]
pub struct Peers {
    /// Of those that have listeners.
    pub connections: Vec<AtomicUsize>,
    /// The last one's are the inner worker's.
    pub commands: Vec<mpsc::UnboundedSender<Command>>,
}

// A sender has no `Debug` of its own worth printing, and `Command` none at all.
impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Save { .. } => "Save",
            Self::Adopt { .. } => "Adopt",
            Self::Take(_) => "Take",
            Self::Call(_) => "Call",
            Self::StopAccepting { .. } => "StopAccepting",
            Self::Drain { .. } => "Drain",
        })
    }
}

impl Peers {
    pub fn total(&self) -> usize {
        self.connections.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// What a worker's thread is started with.
pub struct Seat {
    pub id: usize,
    pub listeners: Vec<std::net::TcpListener>,
    pub clock: Clock,
    pub limits: Limits,
    pub peers: Arc<Peers>,
    pub commands: mpsc::UnboundedReceiver<Command>,
    pub events: mpsc::UnboundedSender<WorkerEvent>,
    pub retired: Retired,
    /// To the health policies.
    pub feed: Feed,
    pub access_log: AccessLogSink,
    pub cells: Arc<WorkerCells>,
    pub unrouted: Arc<RouteCells>,
    pub seed: u64,
}

/// The worker's own things; lives on its thread alone.
pub struct Worker {
    pub id: usize,
    pub clock: Clock,
    pub coarse: CoarseClock,
    pub access_log: AccessLogSink,
    pub cells: Arc<WorkerCells>,
    /// Of requests that have no route: they matched none, or the gateway itself makes them.
    pub unrouted: Arc<RouteCells>,
    pub peers: Arc<Peers>,
    pub clients: RefCell<HashMap<u64, Rc<Client>>>,
    /// Of the gateway's own, under way.
    pub own_calls: Cell<usize>,
    /// Told when a connection or an own call ends.
    pub one_gone: Notify,
    pub draining: Cell<bool>,
    state: RefCell<Rc<WorkerState>>,
    rng: RefCell<fastrand::Rng>,
    completions_due: Notify,
    /// CPU time that saving states has taken since a state was adopted.
    saving: Cell<Duration>,
    /// Whether the delivering task is told already.
    delivery_armed: Cell<bool>,
    /// Told of each new state, and when draining begins.
    changed: Notify,
    next_client: Cell<u64>,
    events: mpsc::UnboundedSender<WorkerEvent>,
    retired: Retired,
    feed: Feed,
}

/// Runs hyper's HTTP/2 streams on the worker's own thread.
#[derive(Clone, Copy, Debug)]
pub struct LocalExecutor;

impl<F: Future + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// Runs the worker until it is shut down.
pub fn run(seat: Seat) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(serve(seat));
    Ok(())
}

async fn serve(seat: Seat) {
    let worker = Rc::new(Worker {
        id: seat.id,
        clock: seat.clock,
        coarse: CoarseClock::starting_at(seat.clock.now_us()),
        access_log: seat.access_log,
        cells: seat.cells,
        unrouted: seat.unrouted,
        peers: seat.peers,
        clients: RefCell::default(),
        own_calls: Cell::new(0),
        one_gone: Notify::new(),
        draining: Cell::new(false),
        state: RefCell::new(Rc::new(WorkerState::empty(state::nothing(seat.limits)))),
        rng: RefCell::new(fastrand::Rng::with_seed(seat.seed)),
        completions_due: Notify::new(),
        saving: Cell::default(),
        delivery_armed: Cell::new(false),
        changed: Notify::new(),
        next_client: Cell::new(0),
        events: seat.events,
        retired: seat.retired,
        feed: seat.feed,
    });
    let ticking = tokio::task::spawn_local(tick(Rc::clone(&worker)));
    let delivering = tokio::task::spawn_local(deliver_completions(Rc::clone(&worker)));
    let listeners: Vec<_> = seat
        .listeners
        .into_iter()
        .map(|listener| tokio::task::spawn_local(listener::accept(Rc::clone(&worker), listener)))
        .collect();
    obey(&worker, seat.commands, listeners).await;
    ticking.abort();
    delivering.abort();
}

/// Does what the control plane says, until the worker has drained.
async fn obey(
    worker: &Rc<Worker>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    mut listeners: Vec<tokio::task::JoinHandle<()>>,
) {
    while let Some(command) = commands.recv().await {
        match command {
            Command::Save { service, kind, reply } => {
                let _ = reply.send(worker.save(&service, kind));
            }
            Command::Adopt { state, reply } => {
                let _ = reply.send(worker.adopt(*state));
            }
            Command::Take(accepted) => listener::take_over(worker, accepted),
            Command::Call(handed) => own::begin(worker, *handed),
            Command::StopAccepting { reply } => {
                worker.stop_accepting(std::mem::take(&mut listeners)).await;
                let _ = reply.send(());
            }
            Command::Drain { grace, reply } => {
                let _ = reply.send(worker.drain(grace).await);
                return;
            }
        }
    }
}

impl Worker {
    /// The state now. Cheap: one reference count of this thread's own.
    pub fn state(&self) -> Rc<WorkerState> {
        Rc::clone(&self.state.borrow())
    }

    pub fn random(&self) -> u64 {
        self.rng.borrow_mut().u64(..)
    }

    pub fn with_rng<T>(&self, use_it: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        use_it(&mut self.rng.borrow_mut())
    }

    /// To within a [`TICK`].
    pub fn coarse_now_us(&self) -> u64 {
        self.coarse.now_us()
    }

    /// The client's own id, where it is one, else a new one.
    pub fn request_id(&self, headers: &HeaderMap) -> HeaderValue {
        request_id(headers.get(X_REQUEST_ID), &mut self.rng.borrow_mut())
    }

    pub fn next_client_id(&self) -> u64 {
        let id = self.next_client.get();
        self.next_client.set(id + 1);
        id
    }

    /// Resolves once there is something to serve, or the worker drains.
    pub async fn ready(&self) {
        self.changed_until(|| self.state.borrow().snapshot.generation > 0 || self.draining.get()).await;
    }

    /// Resolves once the worker drains.
    pub async fn drains(&self) {
        self.changed_until(|| self.draining.get()).await;
    }

    async fn changed_until(&self, is_so: impl Fn() -> bool) {
        while !is_so() {
            self.changed.notified().await;
        }
    }

    pub fn report_fault(&self, service: &ServiceName, version: VersionId, fault: Fault) {
        tracing::warn!(worker = self.id, %service, %version, %fault, "a plugin instance failed");
        // Without a receiver the gateway is shutting down, and nobody restarts anything.
        let _ = self.events.send(WorkerEvent::Fault { worker: self.id, service: service.clone(), version, fault });
    }

    /// Takes the account of one attempt, for the instances in use when the batch goes out.
    pub fn complete(
        &self,
        service: &ServiceName,
        queue: &CompletionQueue,
        completion: Completion,
        endpoint: &Arc<Endpoint>,
    ) {
        if queue.push(completion, Arc::clone(endpoint)) {
            match self.state().service(service) {
                Some(service) if std::ptr::eq(&*service.completions, queue) => self.deliver(service),
                // The service is gone, and so is whoever wanted to know.
                _ => drop(queue.take()),
            }
        } else if !self.delivery_armed.replace(true) {
            self.completions_due.notify_one();
        }
    }

    fn deliver(&self, service: &ServiceState) {
        let Some(batch) = service.completions.take() else { return };
        let (completions, now_us) = (&batch.completions, self.clock.now_us());
        for arm in service.balancer.arms() {
            self.call(service, arm, |instance| instance.complete(completions, now_us));
        }
        for arm in service.failover.arms() {
            let hedge_after_us = self.call(service, arm, |instance| instance.complete(completions, now_us));
            arm.hedge_after_us.set(hedge_after_us.flatten());
        }
        self.feed.send(batch);
    }

    /// Calls an instance; a fault discards it and is reported. None also where there is no instance.
    pub fn call<I: Send, T>(
        &self,
        service: &ServiceState,
        arm: &Arm<I>,
        call: impl FnOnce(&mut I) -> Result<T, Fault>,
    ) -> Option<T> {
        let mut borrowed = arm.instance.borrow_mut();
        match call(borrowed.as_mut()?) {
            Ok(answer) => Some(answer),
            Err(fault) => {
                arm.count(&fault);
                if let Some(broken) = borrowed.take() {
                    arm.discard(broken);
                }
                self.report_fault(&service.snapshot.config.name, arm.id, fault);
                None
            }
        }
    }

    fn save(&self, service: &ServiceName, kind: WorkerPolicy) -> SavedStates {
        let state = self.state();
        let Some(service) = state.service(service) else { return SavedStates::default() };
        // What is known but not delivered yet belongs to what was learned.
        self.deliver(service);
        let before = thread_cpu_time();
        let saved = match kind {
            WorkerPolicy::Balancer => self.save_arms(service, &service.balancer),
            WorkerPolicy::Failover => self.save_arms(service, &service.failover),
        };
        let took = thread_cpu_time().saturating_sub(before);
        self.saving.set(self.saving.get() + took);
        saved
    }

    fn save_arms<I: PolicyInstance>(&self, service: &ServiceState, policy: &Policy<I>) -> SavedStates {
        let save = |arm: &Arm<I>| self.call(service, arm, I::save);
        let candidate = policy.candidate.as_ref().and_then(|(_, arm)| save(arm));
        SavedStates { incumbent: save(&policy.incumbent), candidate }
    }

    fn adopt(&self, prepared: PreparedState) -> Adoption {
        let before = thread_cpu_time();
        let next = Rc::new(self.state.borrow().succeed(prepared, &self.retired));
        self.state.replace(next);
        let adopting = thread_cpu_time().saturating_sub(before);
        self.changed.notify_waiters();
        Adoption { gap: self.saving.take() + adopting }
    }

    async fn stop_accepting(&self, listeners: Vec<tokio::task::JoinHandle<()>>) {
        self.draining.set(true);
        self.changed.notify_waiters();
        for listener in listeners {
            // Ends by itself, once it has taken what was queued.
            let _ = listener.await;
        }
    }

    /// Waits for the requests there are. Returns how many connections and own calls were cut off.
    async fn drain(&self, grace: Duration) -> usize {
        for client in self.clients.borrow().values() {
            client.begin_drain();
        }
        let over = Instant::now() + grace;
        let left = || self.clients.borrow().len() + self.own_calls.get();
        while left() > 0 {
            if tokio::time::timeout_at(over, self.one_gone.notified()).await.is_err() {
                break;
            }
        }
        left()
    }
}

/// Keeps the coarse clock and the time limits of connections.
async fn tick(worker: Rc<Worker>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ticks = 0_u32;
    loop {
        interval.tick().await;
        let now_us = worker.clock.now_us();
        worker.coarse.set(now_us);
        let state = worker.state();
        for client in worker.clients.borrow().values() {
            client.check_time(now_us, &state.snapshot.limits);
        }
        ticks = ticks.wrapping_add(1);
        if ticks.is_multiple_of(SWEEP_TICKS) {
            state.services.iter().flat_map(|service| &service.lanes).flatten().for_each(|lane| lane.sweep(now_us));
        }
    }
}

/// Delivers what has waited for the longest allowed time. Sleeps while there is nothing.
async fn deliver_completions(worker: Rc<Worker>) {
    loop {
        worker.completions_due.notified().await;
        tokio::time::sleep(COMPLETIONS_WAIT).await;
        worker.delivery_armed.set(false);
        let state = worker.state();
        state.services.iter().for_each(|service| worker.deliver(service));
    }
}

/// CPU time that this thread has used.
fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}
