//! The data path, a file a stage.
//!
//! A connection comes in at [`listener`], is told HTTP/1 from HTTP/2 in [`client`] and, if HTTP/1, read through
//! the [`guard`]. Each request is one call of [`request::serve_request`]: [`path`] and [`router`] find the service,
//! [`headers`] are made fit, [`pick`] asks the balancer (and [`choice`] decides where it cannot), [`attempt`] sends on a
//! connection of [`upstream`], and [`body`] streams both ways. Of an attempt that fails the failover policy is asked in
//! [`retry`] (and a second copy is sent by [`hedge`]); what fails for good is answered by [`respond`]. All of it
//! happens on one [`worker`]'s thread, on the one [`state`] that the request began with.
//!
//! Calls that the gateway itself makes ([`Gateway::call`]) come in at [`own`], on an inner worker that has no listeners.
//! They name their service and have no route; what else is different is in [`entrance`], and from there on it is the same
//! way.

mod access;
mod asker;
mod attempt;
mod body;
pub mod choice;
mod client;
mod deadline;
mod entrance;
pub mod guard;
mod headers;
mod hedge;
mod io;
mod listener;
mod outbound;
mod own;
mod path;
mod pick;
mod replay;
mod request;
mod respond;
mod retry;
pub mod router;
pub mod snapshot;
mod state;
mod target;
mod timer;
mod tunnel;
mod upstream;
mod worker;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, TryAcquireError, mpsc, oneshot};

pub use own::OWN_CALLS_MAX;
pub use retry::native_verdict;
pub use snapshot::{
    NextService, PreparedCandidate, PreparedInstance, PreparedPolicy, PreparedService, PreparedState, ServiceIndex,
    ServiceSnapshot, Snapshot,
};
pub use state::COMPLETIONS_MAX;

use self::{
    own::{HandedCall, OWN_CALL_TIMEOUT_MAX},
    worker::{Command, Peers, Seat},
};
use crate::{
    failover::Feed,
    model::{Clock, Limits, ListenerOptions, OwnAnswer, OwnCall, OwnCallError, ServiceName, VersionId},
    plugin::{BoxFuture, Fault, ServiceCalls},
    telemetry::{AccessLogSink, Metrics, OWN_CALLS, UNROUTED, WorkerCells},
};

/// What the gateway is started with; what it serves comes with [`Gateway::adopt`].
pub struct StartOptions {
    /// Those with listeners, at least one; the inner worker comes beside them.
    pub workers: usize,
    pub listeners: Vec<ListenerOptions>,
    pub clock: Clock,
    pub limits: Limits,
    pub events: mpsc::UnboundedSender<WorkerEvent>,
    /// To the health policies.
    pub feed: Feed,
    pub access_log: AccessLogSink,
    pub metrics: Arc<Metrics>,
    /// Of the workers' randomness.
    pub seed: u64,
}

/// What a worker tells the control plane. At most one an instance, so the queue is bounded by their number.
#[derive(Debug)]
pub enum WorkerEvent {
    /// The instance is discarded; the native fallback decides until another is adopted.
    Fault { worker: usize, service: ServiceName, version: VersionId, fault: Fault },
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot start a worker: {0}")]
    Spawn(std::io::Error),
}

/// One worker's answer to a new state.
#[derive(Clone, Copy, Debug)]
pub struct Adoption {
    /// CPU time that the worker spent away from requests for it: to save what its instances had learned, and to
    /// adopt.
    pub gap: Duration,
}

/// The workers are gone.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the gateway is shutting down")]
pub struct Stopped;

/// The kinds of policies that have an instance on each worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerPolicy {
    Balancer,
    Failover,
}

/// What a service's instances on one worker have learned.
#[derive(Debug, Default)]
pub struct SavedStates {
    pub incumbent: Option<Vec<u8>>,
    pub candidate: Option<Vec<u8>>,
}

/// The running data path.
#[derive(Debug)]
pub struct Gateway {
    peers: Arc<Peers>,
    bound: Vec<SocketAddr>,
    threads: Mutex<Vec<JoinHandle<std::io::Result<()>>>>,
    /// Places of own calls; closed when no more are taken.
    own_calls: Arc<Semaphore>,
}

impl Gateway {
    /// Binds every listener and starts every worker; none accepts before its first state is adopted.
    pub fn start(options: StartOptions) -> Result<Self, StartError> {
        let mut bound = Vec::new();
        let mut sockets: Vec<Vec<std::net::TcpListener>> = (0..options.workers).map(|_| Vec::new()).collect();
        for ListenerOptions { address } in options.listeners {
            let listen = |source| StartError::Listen { address, source };
            let of_address = listener::bind(address, options.workers).map_err(listen)?;
            bound.extend(of_address.first().map(std::net::TcpListener::local_addr).transpose().map_err(listen)?);
            sockets.iter_mut().zip(of_address).for_each(|(worker, socket)| worker.push(socket));
        }
        // The last is the inner worker's.
        sockets.push(Vec::new());
        let (commands, inboxes): (Vec<_>, Vec<_>) = sockets.iter().map(|_| mpsc::unbounded_channel()).unzip();
        let connections = (0..options.workers).map(|_| Default::default()).collect();
        let peers = Arc::new(Peers { connections, commands });
        let retired = undertaker().map_err(StartError::Spawn)?;
        let mut threads = Vec::new();
        for (id, (listeners, inbox)) in sockets.into_iter().zip(inboxes).enumerate() {
            let is_inner = id == options.workers;
            let seat = Seat {
                id,
                listeners,
                clock: options.clock,
                limits: options.limits.clone(),
                peers: Arc::clone(&peers),
                commands: inbox,
                events: options.events.clone(),
                retired: retired.clone(),
                feed: options.feed.clone(),
                access_log: options.access_log.clone(),
                cells: match is_inner {
                    // It has no connections to count.
                    true => Arc::new(WorkerCells::new(guard::Refusal::REASONS)),
                    false => options.metrics.worker(id, guard::Refusal::REASONS),
                },
                unrouted: options.metrics.route(id, if is_inner { OWN_CALLS } else { UNROUTED }),
                seed: options.seed.wrapping_add(id as u64),
            };
            let name = if is_inner { "worker-inner".to_owned() } else { format!("worker-{id}") };
            let named = std::thread::Builder::new().name(name);
            threads.push(named.spawn(move || worker::run(seat)).map_err(StartError::Spawn)?);
        }
        let own_calls = Arc::new(Semaphore::new(OWN_CALLS_MAX));
        Ok(Self { peers, bound, threads: Mutex::new(threads), own_calls })
    }

    /// Of all that have plugin instances: those with listeners, and the inner worker, which is the last.
    pub fn worker_count(&self) -> usize {
        self.peers.commands.len()
    }

    /// Of those with listeners.
    pub fn listening_count(&self) -> usize {
        self.peers.connections.len()
    }

    /// Calls a service as any client's request does, by its name instead of a route: balanced, within its limits, repeated
    /// as its failover policy says. Dropping the future cancels it. Waits while [`OWN_CALLS_MAX`] are under way.
    pub async fn call(&self, mut call: OwnCall) -> Result<OwnAnswer, OwnCallError> {
        let started = Instant::now();
        call.timeout = call.timeout.min(OWN_CALL_TIMEOUT_MAX);
        let permit = match Arc::clone(&self.own_calls).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::Closed) => return Err(OwnCallError::ShuttingDown),
            Err(TryAcquireError::NoPermits) => {
                let waiting = Arc::clone(&self.own_calls).acquire_owned();
                let waited = tokio::time::timeout_at((started + call.timeout).into(), waiting).await;
                let permit = waited.map_err(|_| OwnCallError::TimedOut { after: call.timeout, sent: false })?;
                permit.map_err(|_| OwnCallError::ShuttingDown)?
            }
        };
        let (reply, answer) = oneshot::channel();
        let handed = HandedCall { call, started, reply, permit };
        let told = self.tell(self.listening_count(), Command::Call(Box::new(handed)));
        told.map_err(|_| OwnCallError::ShuttingDown)?;
        // Without an answer it was cut off when the gateway ended.
        answer.await.unwrap_or_else(|_| Err(OwnCallError::NoAnswer("the gateway was shut down".to_owned())))
    }

    /// The addresses bound, in the order of the configuration.
    pub fn bound(&self) -> &[SocketAddr] {
        &self.bound
    }

    /// What the instances of one service have learned, on one worker: the incumbent's state and the
    /// candidate's; none where there is no instance or its `save` failed (which discards it, with an event).
    pub async fn save(&self, worker: usize, service: &ServiceName, kind: WorkerPolicy) -> Result<SavedStates, Stopped> {
        let (reply, saved) = oneshot::channel();
        self.tell(worker, Command::Save { service: service.clone(), kind, reply })?;
        saved.await.map_err(|_| Stopped)
    }

    /// Hands each worker its next state (one each, in order) and waits until every worker has adopted it.
    pub async fn adopt(&self, states: Vec<PreparedState>) -> Result<Vec<Adoption>, Stopped> {
        let mut replies = Vec::with_capacity(states.len());
        for (worker, state) in states.into_iter().enumerate() {
            let (reply, adopted) = oneshot::channel();
            self.tell(worker, Command::Adopt { state: Box::new(state), reply })?;
            replies.push(adopted);
        }
        let mut adoptions = Vec::with_capacity(replies.len());
        for adopted in replies {
            adoptions.push(adopted.await.map_err(|_| Stopped)?);
        }
        Ok(adoptions)
    }

    /// Client connections open now, by worker with listeners.
    pub fn connections(&self) -> Vec<usize> {
        self.peers.connections.iter().map(|count| count.load(std::sync::atomic::Ordering::Relaxed)).collect()
    }

    /// Stops accepting, lets requests end within `grace`, and joins every worker. Returns how many connections were cut
    /// off. Own calls are taken until the last request has ended, and have what is left of the grace.
    pub async fn shutdown(&self, grace: Duration) -> usize {
        let over = Instant::now() + grace;
        let (listening, inner) = (0..self.listening_count(), self.listening_count()..self.worker_count());
        // First all stop: as long as one accepts, it may hand a connection to another.
        self.tell_all(listening.clone(), |reply| Command::StopAccepting { reply }).await;
        let cut_off = self.tell_all(listening, |reply| Command::Drain { grace, reply }).await.into_iter().sum();
        self.own_calls.close();
        let grace = over.saturating_duration_since(Instant::now());
        let cut_off_calls: usize =
            self.tell_all(inner, |reply| Command::Drain { grace, reply }).await.into_iter().sum();
        if cut_off_calls > 0 {
            tracing::warn!(calls = cut_off_calls, "the grace period is over: calls of the gateway's own were cut off");
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let joining = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if !matches!(thread.join(), Ok(Ok(()))) {
                    tracing::error!("a worker did not end well");
                }
            }
        });
        // Only a panic in the closure above could be told here, and it has none.
        let _ = joining.await;
        cut_off
    }

    /// Tells each of the workers before it waits for the first answer. A worker that is gone has none.
    async fn tell_all<T>(
        &self,
        workers: std::ops::Range<usize>,
        command: impl Fn(oneshot::Sender<T>) -> Command,
    ) -> Vec<T> {
        let mut replies = Vec::new();
        for worker in workers {
            let (reply, answer) = oneshot::channel();
            if self.tell(worker, command(reply)).is_ok() {
                replies.push(answer);
            }
        }
        let mut answers = Vec::new();
        for answer in replies {
            answers.extend(answer.await);
        }
        answers
    }

    fn tell(&self, worker: usize, command: Command) -> Result<(), Stopped> {
        self.peers.commands.get(worker).ok_or(Stopped)?.send(command).map_err(|_| Stopped)
    }
}

impl ServiceCalls for Gateway {
    fn call_service(&self, call: OwnCall) -> BoxFuture<'_, Result<OwnAnswer, OwnCallError>> {
        Box::pin(self.call(call))
    }
}

/// A thread that drops what workers are done with. Ends when the last worker has.
fn undertaker() -> std::io::Result<mpsc::UnboundedSender<Box<dyn Send>>> {
    let (retired, mut instances) = mpsc::unbounded_channel::<Box<dyn Send>>();
    std::thread::Builder::new()
        .name("retired".to_owned())
        .spawn(move || while instances.blocking_recv().is_some() {})?;
    Ok(retired)
}
