//! The data path, a file a stage.
//!
//! A connection comes in at [`listener`], is told HTTP/1 from HTTP/2 in [`client`] and, if HTTP/1, read through
//! the [`guard`]. Each request is one call of [`request::serve_request`]: [`path`] and [`router`] find the service,
//! [`headers`] are made fit, [`pick`] asks the balancer (and [`choice`] decides where it cannot), [`attempt`] sends on a
//! connection of [`upstream`], and [`body`] streams both ways. Of an attempt that fails the failover policy is asked in
//! [`retry`] (and a second copy is sent by [`hedge`]); what fails for good is answered by [`respond`]. All of it
//! happens on one [`worker`]'s thread, on the one [`state`] that the request began with.

mod access;
mod attempt;
mod body;
pub mod choice;
mod client;
mod deadline;
pub mod guard;
mod headers;
mod hedge;
mod io;
mod listener;
mod outbound;
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
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

pub use retry::native_verdict;
pub use snapshot::{
    NextService, PreparedCandidate, PreparedInstance, PreparedPolicy, PreparedService, PreparedState, ServiceIndex,
    ServiceSnapshot, Snapshot,
};
pub use state::COMPLETIONS_MAX;

use self::worker::{Command, Peers, Seat};
use crate::{
    failover::Feed,
    model::{Clock, Limits, ListenerOptions, ServiceName, VersionId},
    plugin::Fault,
    telemetry::{AccessLogSink, Metrics, UNROUTED},
};

/// What the gateway is started with; what it serves comes with [`Gateway::adopt`].
pub struct StartOptions {
    /// At least one.
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
        let (commands, inboxes): (Vec<_>, Vec<_>) = (0..options.workers).map(|_| mpsc::unbounded_channel()).unzip();
        let connections = (0..options.workers).map(|_| Default::default()).collect();
        let peers = Arc::new(Peers { connections, commands });
        let retired = undertaker().map_err(StartError::Spawn)?;
        let mut threads = Vec::new();
        for (id, (listeners, inbox)) in sockets.into_iter().zip(inboxes).enumerate() {
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
                cells: options.metrics.worker(id, guard::Refusal::REASONS),
                unrouted: options.metrics.route(id, UNROUTED),
                seed: options.seed.wrapping_add(id as u64),
            };
            let named = std::thread::Builder::new().name(format!("worker-{id}"));
            threads.push(named.spawn(move || worker::run(seat)).map_err(StartError::Spawn)?);
        }
        Ok(Self { peers, bound, threads: Mutex::new(threads) })
    }

    pub fn worker_count(&self) -> usize {
        self.peers.commands.len()
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

    /// Client connections open now, by worker.
    pub fn connections(&self) -> Vec<usize> {
        self.peers.connections.iter().map(|count| count.load(std::sync::atomic::Ordering::Relaxed)).collect()
    }

    /// Stops accepting, lets requests end within `grace`, and joins every worker. Returns how many
    /// connections were cut off.
    pub async fn shutdown(&self, grace: Duration) -> usize {
        // First all stop: as long as one accepts, it may hand a connection to another.
        self.tell_all(|reply| Command::StopAccepting { reply }).await;
        let cut_off = self.tell_all(|reply| Command::Drain { grace, reply }).await.into_iter().sum();
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

    /// Tells every worker before it waits for the first answer. A worker that is gone has none.
    async fn tell_all<T>(&self, command: impl Fn(oneshot::Sender<T>) -> Command) -> Vec<T> {
        let mut replies = Vec::new();
        for worker in 0..self.worker_count() {
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

/// A thread that drops what workers are done with. Ends when the last worker has.
fn undertaker() -> std::io::Result<mpsc::UnboundedSender<Box<dyn Send>>> {
    let (retired, mut instances) = mpsc::unbounded_channel::<Box<dyn Send>>();
    std::thread::Builder::new()
        .name("retired".to_owned())
        .spawn(move || while instances.blocking_recv().is_some() {})?;
    Ok(retired)
}
