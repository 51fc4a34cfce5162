//! WebAssembly components: the only user of wasmtime.
//!
//! A [`Runtime`] compiles component bytes into a [`Version`]; a version makes instances, one a worker and
//! policy; an instance is called through typed functions that answer with a [`Fault`] where the guest traps,
//! overruns its CPU-time deadline or its memory. After a fault the instance is of no more use: drop it.
//!
//! | file | what |
//! | --- | --- |
//! | `engine`, `ticker` | the one engine, and the thread that its deadlines need |
//! | `load`, `cache`, `version` | from bytes to a version: checks, compiled code on disk, what lives of it |
//! | `instance`, `limits`, `fault` | a call: its CPU time, its memory, how it may end |
//! | `waiting` | the same for kinds whose imports wait |
//! | `balancer`, `failover`, `discovery`, `transaction`, `event_handler` | one a kind: typed calls, and what its imports answer |
//! | `log`, `wasi` | imports that every kind has |
//! | `imports` | imports of kinds that wait: HTTP, DNS, files, the registry, the clock, what is stored |
//! | `policy` | what is done alike with kinds that have an instance a place |
//! | `store`, `stock` | where components come from: uploaded, or brought along |

mod balancer;
mod bindings;
mod cache;
mod discovery;
mod engine;
mod event_handler;
mod failover;
mod fault;
mod imports;
mod instance;
mod limits;
mod load;
mod log;
mod policy;
mod stock;
mod store;
#[cfg(test)]
pub(crate) mod tests;
mod ticker;
mod transaction;
mod version;
mod waiting;
mod wasi;

pub use balancer::{BalancerInstance, Incoming, PickRequest};
pub use discovery::{DiscoveryInstance, SourceMembership, WATCH_GRACE, WatchError};
pub use engine::{CacheCounts, Runtime};
pub use event_handler::{
    Caused, Effect, EventHandlerInstance, GuestDraft, HANDLE_ANSWER_BYTES_MAX, HANDLE_EFFECTS_MAX, HANDLE_WALL,
    HandleFailure, Handled, HandlerCall, READ_BODY_BYTES_MAX, READ_WALL, ReadAnswer, ReadQuery,
};
pub use failover::{FailedAttempt, FailoverInstance, HealthChange, HealthInstance, Observation, Verdict};
pub use imports::{
    BoxFuture, HandlerState, Instance, Outside, OutsideCall, OutsideError, RegistryListing, RegistryLookup,
    STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX, STATE_WRITES_BYTES_MAX, ServiceCalls, StateQuota, StateWrites,
};
pub use load::COMPONENT_BYTES_MAX;
pub use policy::PolicyInstance;
pub use stock::{StockPlugin, stock};
pub use store::{ComponentStore, StoreError, StoredVersion};
pub use transaction::{NAME_BYTES_MAX, ProtocolInstance, TARGET_BYTES_MAX};
pub use version::Version;

use crate::model::{Clock, PluginKind};

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
    /// It came back, with what is not possible. Only of event handlers: what other kinds answer is checked where it is used.
    Answer,
    /// What it has stored could not be read: not the guest's fault. Only of event handlers.
    Storage,
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
