//! Failover policies: what becomes of a failed attempt, and which endpoints are fit. One component, of which each
//! instance is asked for one of the two.

use std::{fmt, sync::Arc};

use wasmtime::{
    Store,
    component::{HasSelf, InstancePre, Linker},
};

use super::{
    Fault, InstanceError, LoadError, PolicyContext,
    balancer::{completion, endpoint, outcome},
    bindings::{
        balancer::sluice::plugin::types::{Completion as GuestCompletion, Endpoint as GuestEndpoint},
        failover::{
            FailoverPlugin, FailoverPluginPre,
            exports::sluice::plugin::{
                failover::{Failure as GuestFailure, Verdict as GuestVerdict},
                health::{Change as GuestChange, Observation as GuestObservation, Source as GuestSource},
                policy::{Context as GuestContext, Problem as GuestProblem},
            },
        },
    },
    instance::{self, Exports, TEXT_BYTES_MAX, call, settings_problems, store},
    limits::budget,
    log::printable,
    version::{Identity, Linked},
};
use crate::model::{Completion, EndpointState, InstantUs, Outcome, Slot};

/// What stands behind a failover policy's instance. It imports nothing but the log.
pub(super) type State = instance::State<()>;

/// A failed attempt, as the policy is told of it (WIT `failover.failure`).
#[derive(Clone, Copy, Debug)]
pub struct FailedAttempt {
    pub now_us: InstantUs,
    pub random: u64,
    /// None: the service had no endpoint to give.
    pub slot: Option<Slot>,
    pub outcome: Outcome,
    pub status: Option<u16>,
    pub grpc_status: Option<u8>,
    pub retry_after_ms: Option<u32>,
    pub attempts: u32,
    pub remaining_us: u64,
    pub repeatable: bool,
    pub retries_left: u32,
}

/// What a policy wants to become of it. As the guest said: whether it may be is the caller's to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    GiveUp,
    Retry {
        after_us: u32,
    },
    /// A service's name, as far as the policy knows.
    FallBack(String),
}

/// What a policy wants to become of an endpoint. As the guest said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthChange {
    Eject { slot: Slot, duration_ms: u32, reason: String },
    Probe(Slot),
    Admit(Slot),
}

/// Something that one endpoint has shown.
#[derive(Clone, Copy, Debug)]
pub struct Observation {
    /// Whether it is an active check's, not traffic's.
    pub by_check: bool,
    pub completion: Completion,
}

/// What both have in common: a component's instance that has taken its settings.
struct Guest {
    store: Store<State>,
    /// Boxed, so that an instance is small to hand about.
    exports: Box<FailoverPlugin>,
}

impl Guest {
    fn new(
        pre: &FailoverPluginPre<State>,
        identity: &Arc<Identity>,
        context: &PolicyContext,
    ) -> Result<Self, InstanceError> {
        let mut store = store(pre.engine(), identity, context, ());
        let exports = call(&mut store, "instantiate", budget::PREPARE, |store| pre.instantiate(store))?;
        let mut guest = Self { store, exports: Box::new(exports) };
        let given =
            GuestContext { name: context.name.clone(), settings: context.settings.to_string(), seed: context.seed };
        let policy = guest.exports.sluice_plugin_policy();
        let answer =
            call(&mut guest.store, "configure", budget::PREPARE, |store| policy.call_configure(store, &given))?;
        answer.map_err(settings_problems)?;
        Ok(guest)
    }

    fn save(&mut self) -> Result<Vec<u8>, Fault> {
        let policy = self.exports.sluice_plugin_policy();
        call(&mut self.store, "save", budget::SAVE, |store| policy.call_save(store))
    }

    fn restore(&mut self, state: &[u8]) -> Result<Result<(), String>, Fault> {
        if state.is_empty() {
            return Ok(Ok(()));
        }
        let policy = self.exports.sluice_plugin_policy();
        let answer = call(&mut self.store, "restore", budget::PREPARE, |store| policy.call_restore(store, state))?;
        Ok(answer.map_err(|message| printable(&message, TEXT_BYTES_MAX)))
    }

    fn memory_bytes(&self) -> usize {
        self.store.data().memory.bytes()
    }
}

/// Decides what becomes of failed attempts. `Send`, used by one thread at a time.
pub struct FailoverInstance {
    guest: Guest,
    /// Kept, so that a batch allocates nothing on the host.
    batch: Vec<GuestCompletion>,
}

impl FailoverInstance {
    /// Instantiates and configures.
    pub(super) fn new(
        pre: &FailoverPluginPre<State>,
        identity: &Arc<Identity>,
        context: &PolicyContext,
    ) -> Result<Self, InstanceError> {
        Ok(Self { guest: Guest::new(pre, identity, context)?, batch: Vec::new() })
    }

    pub fn decide(&mut self, failed: &FailedAttempt) -> Result<Verdict, Fault> {
        let given = GuestFailure {
            now: failed.now_us,
            random: failed.random,
            slot: failed.slot,
            outcome: outcome(failed.outcome),
            status: failed.status,
            grpc_status: failed.grpc_status,
            retry_after_ms: failed.retry_after_ms,
            attempts: failed.attempts,
            remaining_us: failed.remaining_us,
            repeatable: failed.repeatable,
            retries_left: failed.retries_left,
        };
        let failover = self.guest.exports.sluice_plugin_failover();
        let verdict = call(&mut self.guest.store, "decide", budget::DECIDE, |store| failover.call_decide(store, given));
        Ok(match verdict? {
            GuestVerdict::GiveUp => Verdict::GiveUp,
            GuestVerdict::Retry(after_us) => Verdict::Retry { after_us },
            GuestVerdict::FallBack(service) => Verdict::FallBack(printable(&service, TEXT_BYTES_MAX)),
        })
    }

    /// After how many microseconds without a response head a second copy is sent from now on; none: never.
    pub fn complete(&mut self, completions: &[Completion], now_us: InstantUs) -> Result<Option<u32>, Fault> {
        self.batch.clear();
        self.batch.extend(completions.iter().map(completion));
        let failover = self.guest.exports.sluice_plugin_failover();
        let batch = &self.batch;
        call(&mut self.guest.store, "complete", budget::COMPLETE, |store| failover.call_complete(store, batch, now_us))
    }

    pub fn save(&mut self) -> Result<Vec<u8>, Fault> {
        self.guest.save()
    }

    /// As a balancer's.
    pub fn restore(&mut self, state: &[u8]) -> Result<Result<(), String>, Fault> {
        self.guest.restore(state)
    }

    pub fn memory_bytes(&self) -> usize {
        self.guest.memory_bytes()
    }
}

/// Judges which endpoints of a service are fit. `Send`, used by one thread at a time.
pub struct HealthInstance {
    guest: Guest,
    batch: Vec<GuestObservation>,
}

impl HealthInstance {
    /// Instantiates and configures.
    pub(super) fn new(
        pre: &FailoverPluginPre<State>,
        identity: &Arc<Identity>,
        context: &PolicyContext,
    ) -> Result<Self, InstanceError> {
        Ok(Self { guest: Guest::new(pre, identity, context)?, batch: Vec::new() })
    }

    /// The whole membership.
    pub fn update(&mut self, members: &[EndpointState], now_us: InstantUs) -> Result<(), Fault> {
        let given: Vec<GuestEndpoint> = members.iter().map(endpoint).collect();
        let health = self.guest.exports.sluice_plugin_health();
        call(&mut self.guest.store, "update", budget::UPDATE_HEALTH, |store| health.call_update(store, &given, now_us))
    }

    pub fn observe(&mut self, observations: &[Observation], now_us: InstantUs) -> Result<Vec<HealthChange>, Fault> {
        self.batch.clear();
        self.batch.extend(observations.iter().map(|observation| GuestObservation {
            source: if observation.by_check { GuestSource::ActiveCheck } else { GuestSource::Traffic },
            completion: completion(&observation.completion),
        }));
        let health = self.guest.exports.sluice_plugin_health();
        let batch = &self.batch;
        let changes =
            call(&mut self.guest.store, "observe", budget::COMPLETE, |store| health.call_observe(store, batch, now_us));
        Ok(changes?.into_iter().map(health_change).collect())
    }

    pub fn save(&mut self) -> Result<Vec<u8>, Fault> {
        self.guest.save()
    }

    /// As a balancer's.
    pub fn restore(&mut self, state: &[u8]) -> Result<Result<(), String>, Fault> {
        self.guest.restore(state)
    }

    pub fn memory_bytes(&self) -> usize {
        self.guest.memory_bytes()
    }
}

fn health_change(change: GuestChange) -> HealthChange {
    match change {
        GuestChange::Eject(ejection) => HealthChange::Eject {
            slot: ejection.slot,
            duration_ms: ejection.duration_ms,
            reason: printable(&ejection.reason, REASON_BYTES_MAX),
        },
        GuestChange::Probe(slot) => HealthChange::Probe(slot),
        GuestChange::Admit(slot) => HealthChange::Admit(slot),
    }
}

/// Of the sentence that says why an endpoint is ejected: it stands in a line of the log.
const REASON_BYTES_MAX: usize = 200;

impl fmt::Debug for FailoverInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailoverInstance").field("memory_bytes", &self.memory_bytes()).finish_non_exhaustive()
    }
}

impl fmt::Debug for HealthInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthInstance").field("memory_bytes", &self.memory_bytes()).finish_non_exhaustive()
    }
}

/// Resolves a failover policy's own imports; WASI's are there already.
pub(super) fn define_imports(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    FailoverPlugin::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

/// Resolves the exports, and sees by one instance that they have the right types and that it starts.
pub(super) fn link(
    pre: InstancePre<State>,
    identity: &Arc<Identity>,
    context: &PolicyContext,
) -> Result<Linked, LoadError> {
    let pre = FailoverPluginPre::new(pre).map_err(|error| LoadError(format!("does not fit its world: {error:#}")))?;
    let mut store = store(pre.engine(), identity, context, ());
    let instance = call(&mut store, "instantiate", budget::PREPARE, |store| pre.instance_pre().instantiate(store))
        .map_err(|fault| LoadError(format!("cannot be instantiated: {}", fault.message)))?;
    let mut exports = Exports { store: &mut store, instance };
    exports.check::<(GuestContext,), (Result<(), Vec<GuestProblem>>,)>("policy", "configure")?;
    exports.check::<(), (Vec<u8>,)>("policy", "save")?;
    exports.check::<(Vec<u8>,), (Result<(), String>,)>("policy", "restore")?;
    exports.check::<(GuestFailure,), (GuestVerdict,)>("failover", "decide")?;
    exports.check::<(Vec<GuestCompletion>, InstantUs), (Option<u32>,)>("failover", "complete")?;
    exports.check::<(Vec<GuestEndpoint>, InstantUs), ()>("health", "update")?;
    exports.check::<(Vec<GuestObservation>, InstantUs), (Vec<GuestChange>,)>("health", "observe")?;
    Ok(Linked::Failover { pre })
}
