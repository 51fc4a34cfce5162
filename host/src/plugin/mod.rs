//! WebAssembly components: the only user of wasmtime.
//!
//! A [`Runtime`] compiles component bytes into a [`Version`]; a version makes instances, one a worker and
//! policy; an instance is called through typed functions that answer with a [`Fault`] where the guest traps,
//! overruns its CPU-time deadline or its memory. After a fault the instance is of no more use: drop it.

use std::{path::Path, sync::Arc};

use http::{HeaderName, HeaderValue, uri::PathAndQuery};
use smallvec::SmallVec;

use crate::model::{Clock, Completion, EndpointState, InstantUs, PluginKind, PluginName, Slot, VersionId};

/// The engine, its ticker and the cache of compiled code. One a process.
#[derive(Debug)]
pub struct Runtime {}

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("the WebAssembly engine does not start: {0}")]
    Engine(String),
    #[error("the cache of compiled plugins at {path}: {source}")]
    Cache { path: std::path::PathBuf, source: std::io::Error },
}

/// Why bytes are no plugin. One clear sentence each, fit for a problem document.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub String);

/// One thing wrong with settings (WIT `types.problem`).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Problem {
    /// JSON Pointer into the settings; empty for the whole.
    pub path: String,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// Any trap that is none of the others.
    Trap,
    /// More CPU time than the call's deadline.
    Deadline,
    /// Linear memory or a table grew beyond the limit.
    Memory,
}

/// A call that did not come back. The instance must be dropped.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{call}: {message}")]
pub struct Fault {
    pub kind: FaultKind,
    /// The export, such as `pick`.
    pub call: &'static str,
    /// With the guest's function names where it has a name section.
    pub message: String,
}

#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    #[error("it is a {found}, not a {wanted}")]
    WrongKind { found: PluginKind, wanted: PluginKind },
    #[error("its settings are wrong: {}", .0.iter().map(|p| format!("{}: {}", p.path, p.message)).collect::<Vec<_>>().join("; "))]
    Settings(Vec<Problem>),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What an instance is told of itself (WIT `policy.context`).
#[derive(Clone, Debug)]
pub struct PolicyContext {
    pub name: String,
    /// An object.
    pub settings: serde_json::Value,
    pub seed: u64,
    /// Linear memory that one instance may have.
    pub memory_bytes_max: usize,
    pub clock: Clock,
}

impl Runtime {
    /// `cache_dir` is made private (0700) and holds compiled code; none: nothing is cached.
    pub fn new(_cache_dir: Option<&Path>) -> Result<Arc<Self>, RuntimeError> {
        unimplemented!()
    }

    /// Compiles (or takes from the cache) and checks: a component, of one kind, complete, importing no more
    /// than its kind grants. Takes milliseconds to seconds: not for a worker or an async task.
    pub fn load(&self, _plugin: &PluginName, _component: &[u8]) -> Result<Arc<Version>, LoadError> {
        unimplemented!()
    }
}

/// A compiled, linked component; its instances are made from it in microseconds.
#[derive(Debug)]
pub struct Version {}

impl Version {
    pub fn plugin(&self) -> &PluginName {
        unimplemented!()
    }

    pub fn id(&self) -> VersionId {
        unimplemented!()
    }

    pub fn kind(&self) -> PluginKind {
        unimplemented!()
    }

    /// Instances alive now.
    pub fn live_instances(&self) -> usize {
        unimplemented!()
    }

    /// Linear memory of all instances alive now, in bytes.
    pub fn memory_bytes(&self) -> usize {
        unimplemented!()
    }

    /// Instantiates and configures.
    pub fn balancer(&self, _context: &PolicyContext) -> Result<BalancerInstance, InstanceError> {
        unimplemented!()
    }
}

/// What a pick may depend on (WIT `balancer.request`).
#[derive(Clone, Copy, Debug)]
pub struct PickRequest {
    pub now_us: InstantUs,
    pub random: u64,
    pub hash: u64,
    pub attempt: u32,
}

/// What the `incoming` import answers during a pick.
#[derive(Debug, Default)]
pub struct Incoming {
    pub tried: SmallVec<[Slot; 4]>,
    pub path: Option<PathAndQuery>,
    /// Only those that the route exposes.
    pub headers: SmallVec<[(HeaderName, HeaderValue); 2]>,
}

/// One instance of a balancer: `Send`, used by one thread at a time.
#[derive(Debug)]
pub struct BalancerInstance {}

impl BalancerInstance {
    /// The whole membership; also what `load.in-flight` answers from.
    pub fn update(&mut self, _members: &[EndpointState], _now_us: InstantUs) -> Result<(), Fault> {
        unimplemented!()
    }

    /// The guest's answer as it is: whether the slot exists, is available and untried is the caller's to check.
    pub fn pick(&mut self, _request: PickRequest, _incoming: &Incoming) -> Result<Option<Slot>, Fault> {
        unimplemented!()
    }

    pub fn complete(&mut self, _completions: &[Completion], _now_us: InstantUs) -> Result<(), Fault> {
        unimplemented!()
    }

    /// At most 1 MiB; more is a fault.
    pub fn save(&mut self) -> Result<Vec<u8>, Fault> {
        unimplemented!()
    }

    /// The inner error is the guest's own word that it starts fresh.
    pub fn restore(&mut self, _state: &[u8]) -> Result<Result<(), String>, Fault> {
        unimplemented!()
    }

    pub fn memory_bytes(&self) -> usize {
        unimplemented!()
    }
}
