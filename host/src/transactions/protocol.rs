//! The protocols: which plugin plans and steps for which kind of transaction, and how it is asked.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_64;

use super::Gid;
use crate::{
    model::{
        Clock, Percent, PluginName, VersionId,
        transaction::{Branch, Step, View},
    },
    plugin::{Fault, InstanceError, PolicyContext, Problem, ProtocolInstance, Version},
};

/// Instances of one protocol that stand ready; as many calls at once are rare on the few threads of the control plane.
const IDLE_MAX: usize = 4;

/// What a transaction keeps to until it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    pub plugin: PluginName,
    pub version: VersionId,
    pub settings: Map<String, Value>,
    pub memory_bytes_max: usize,
}

/// Plans and steps: pure functions.
pub trait Protocol: Send + Sync + 'static {
    fn plan(&self, request: &str, enlisted: &[Branch]) -> Result<Result<Vec<Branch>, Vec<Problem>>, Fault>;

    /// `moves`: whether a step would change anything. What does must be the answer to the same question asked again.
    fn next(&self, view: &View, moves: &dyn Fn(&Step) -> bool) -> Result<Step, StepError>;
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum StepError {
    #[error("{0}")]
    Fault(Fault),
    #[error("to the same question it answers {first:?}, and then {then:?}")]
    Differs { first: Step, then: Step },
}

/// A component's instances, taken in turns.
pub struct ComponentProtocol {
    version: Arc<Version>,
    context: PolicyContext,
    idle: Mutex<Vec<ProtocolInstance>>,
}

impl fmt::Debug for ComponentProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComponentProtocol").field("version", &self.version).finish_non_exhaustive()
    }
}

impl ComponentProtocol {
    /// Makes one instance, so that settings that it does not take are found out here; it goes again, as many a gateway
    /// never coordinates anything.
    pub fn new(version: Arc<Version>, pin: &Pin, clock: Clock, seed: u64) -> Result<Self, InstanceError> {
        let context = PolicyContext {
            name: pin.plugin.to_string(),
            settings: Value::Object(pin.settings.clone()),
            seed,
            memory_bytes_max: pin.memory_bytes_max,
            clock,
        };
        drop(version.protocol(&context)?);
        Ok(Self { version, context, idle: Mutex::default() })
    }

    fn with<T>(&self, call: impl FnOnce(&mut ProtocolInstance) -> Result<T, Fault>) -> Result<T, Fault> {
        let ready = self.lock().pop();
        let mut instance = match ready {
            Some(instance) => instance,
            None => self.version.protocol(&self.context).map_err(|error| self.unmade(error))?,
        };
        // One that failed is of no more use, and goes.
        let answer = call(&mut instance)?;
        let mut idle = self.lock();
        if idle.len() < IDLE_MAX {
            idle.push(instance);
        }
        Ok(answer)
    }

    /// One could be made before, so this is the machine's fault: memory, say.
    fn unmade(&self, error: InstanceError) -> Fault {
        match error {
            InstanceError::Fault(fault) => fault,
            other => Fault { kind: crate::plugin::FaultKind::Trap, call: "configure", message: other.to_string() },
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<ProtocolInstance>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Protocol for ComponentProtocol {
    fn plan(&self, request: &str, enlisted: &[Branch]) -> Result<Result<Vec<Branch>, Vec<Problem>>, Fault> {
        self.with(|instance| instance.plan(request, enlisted))
    }

    /// What is no function of the view would not be the same after a crash; where it only waits, nothing hangs on it.
    fn next(&self, view: &View, moves: &dyn Fn(&Step) -> bool) -> Result<Step, StepError> {
        let answers = self.with(|instance| {
            let first = instance.next(view)?;
            let then = if moves(&first) { Some(instance.next(view)?) } else { None };
            Ok((first, then))
        });
        match answers.map_err(StepError::Fault)? {
            (first, Some(then)) if first != then => Err(StepError::Differs { first, then }),
            (first, _) => Ok(first),
        }
    }
}

/// A protocol as new transactions get it.
#[derive(Clone)]
pub struct ProtocolInForce {
    pub incumbent: Pinned,
    /// On trial, for its share of the new transactions.
    pub candidate: Option<(Percent, Pinned)>,
    /// A transaction that names no timeout expires after this, unless its client has asked for an end.
    pub timeout: Duration,
}

/// A protocol with what it was made of.
#[derive(Clone)]
pub struct Pinned {
    pub pin: Pin,
    pub protocol: Arc<dyn Protocol>,
}

impl ProtocolInForce {
    /// The same for the same id.
    pub fn for_transaction(&self, gid: &Gid) -> &Pinned {
        match &self.candidate {
            Some((percent, candidate)) if xxh3_64(gid.as_str().as_bytes()) % 100 < u64::from(percent.get()) => {
                candidate
            }
            _ => &self.incumbent,
        }
    }
}

/// All of them, by DTM's `trans_type`.
pub type Protocols = BTreeMap<String, ProtocolInForce>;

/// Brings back what a transaction was begun with, after a restart.
pub trait Versions: Send + Sync + 'static {
    /// Takes milliseconds to seconds: not for an async task.
    fn load(&self, pin: &Pin) -> Result<Arc<dyn Protocol>, String>;
}
