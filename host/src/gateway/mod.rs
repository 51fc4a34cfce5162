//! The data path, a file a stage.

pub mod guard;
pub mod router;
pub mod snapshot;

pub use snapshot::{
    PreparedBalancer, PreparedCandidate, PreparedInstance, PreparedService, PreparedState, ServiceIndex,
    ServiceSnapshot, Snapshot,
};

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::sync::mpsc;

use crate::{
    model::{Clock, ListenerOptions, ServiceName, VersionId},
    plugin::Fault,
    telemetry::AccessLogSink,
};

/// What the gateway is started with; what it serves comes with [`Gateway::adopt`].
pub struct StartOptions {
    pub workers: usize,
    pub listeners: Vec<ListenerOptions>,
    pub clock: Clock,
    pub events: mpsc::UnboundedSender<WorkerEvent>,
    pub access_log: AccessLogSink,
    /// Of the workers' randomness.
    pub seed: u64,
}

/// What a worker tells the control plane. At most one of each kind an instance, so the queue is bounded by
/// the number of instances.
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
    /// CPU time that the worker spent away from requests for it.
    pub gap: Duration,
}

/// The worker is gone (the gateway is shutting down).
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the gateway is shutting down")]
pub struct Stopped;

/// The running data path.
pub struct Gateway {
    _private: (),
}

impl Gateway {
    /// Binds every listener and starts every worker; none accepts before its first state is adopted.
    pub fn start(_options: StartOptions) -> Result<Self, StartError> {
        unimplemented!()
    }

    pub fn worker_count(&self) -> usize {
        unimplemented!()
    }

    /// The addresses bound, in the order of the configuration.
    pub fn bound(&self) -> &[SocketAddr] {
        unimplemented!()
    }

    /// What the instances of one service have learned, on one worker: the incumbent's state and the
    /// candidate's; none where there is no instance or its `save` failed (which discards it, with an event).
    pub async fn save(&self, _worker: usize, _service: &ServiceName) -> Result<SavedStates, Stopped> {
        unimplemented!()
    }

    /// Hands each worker its next state (one each, in order) and waits until every worker has adopted it.
    pub async fn adopt(&self, _states: Vec<PreparedState>) -> Result<Vec<Adoption>, Stopped> {
        unimplemented!()
    }

    /// Client connections open now, by worker.
    pub fn connections(&self) -> Vec<usize> {
        unimplemented!()
    }

    /// Stops accepting, lets requests end within `grace`, and joins every worker. Returns how many requests
    /// were cut off.
    pub async fn shutdown(&self, _grace: Duration) -> usize {
        unimplemented!()
    }
}

#[derive(Debug, Default)]
pub struct SavedStates {
    pub incumbent: Option<Vec<u8>>,
    pub candidate: Option<Vec<u8>>,
}
#[allow(unused)]
type _Keep = Arc<()>;
