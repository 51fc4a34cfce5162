//! Discovery: the typed calls of sources of membership, which wait in their imports.

use std::{fmt, sync::Arc, time::Duration};

use wasmtime::{
    Store,
    component::{HasSelf, InstancePre, Linker},
};

use super::{
    Fault, InstanceError, LoadError, PolicyContext,
    bindings::discovery::{
        DiscoveryPlugin, DiscoveryPluginPre,
        exports::sluice::plugin::{
            discovery::{Membership as GuestMembership, WatchError as GuestWatchError},
            policy::{Context as GuestContext, Problem as GuestProblem},
        },
    },
    imports::{Imports, Instance, Outside, State},
    instance::{Exports, TEXT_BYTES_MAX, settings_problems},
    limits::budget,
    log::printable,
    version::{Identity, Linked},
    waiting::{Ended, Spent, begin, block_on, waiting_store, within},
};
use crate::model::Grants;

/// How long after its `wait-ms` a guest must have answered (WIT `discovery.watch`).
pub const WATCH_GRACE: Duration = Duration::from_secs(10);

/// Of `instantiate` and `configure`, which wait for nothing that takes long.
const PREPARE_WALL: Duration = Duration::from_secs(10);

/// What a source knows of a service, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceMembership {
    pub instances: Vec<Instance>,
    /// Where the source goes on from; opaque.
    pub cursor: String,
}

/// Why a source gave no membership; each with its own sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    #[error("{0}")]
    Unavailable(String),
    /// The cursor means nothing any more.
    #[error("{0}")]
    Lost(String),
    /// Until settings or grants change.
    #[error("{0}")]
    Refused(String),
}

/// One instance of a source: used by one task at a time. A call that is dropped before its end leaves an instance of no
/// more use.
pub struct DiscoveryInstance {
    store: Store<State>,
    guest: Box<DiscoveryPlugin>,
    spent: Arc<Spent>,
}

impl DiscoveryInstance {
    /// Instantiates and configures. Without `outside` it reaches nothing and waits for nothing.
    pub(super) async fn new(
        pre: &DiscoveryPluginPre<State>,
        identity: &Arc<Identity>,
        context: &PolicyContext,
        outside: Option<Arc<Outside>>,
        grants: Arc<Grants>,
    ) -> Result<Self, InstanceError> {
        let wall = outside.is_some().then_some(PREPARE_WALL);
        let mut instance =
            Self::instantiate(pre, identity, context, Imports::new(outside, grants, context.clock)).await?;
        instance.configure(context, wall).await?;
        Ok(instance)
    }

    async fn instantiate(
        pre: &DiscoveryPluginPre<State>,
        identity: &Arc<Identity>,
        context: &PolicyContext,
        imports: Imports,
    ) -> Result<Self, Fault> {
        let wall = imports.reaches_out().then_some(PREPARE_WALL);
        let spent = Arc::new(Spent::default());
        let mut store = waiting_store(pre.engine(), identity, context, imports, &spent);
        begin(&mut store, &spent, budget::PREPARE);
        let made = within(&spent, wall, pre.instantiate_async(&mut store)).await;
        match made {
            Ok(guest) => Ok(Self { store, guest: Box::new(guest), spent }),
            Err(ended) => Err(ended.classify("instantiate", store.data())),
        }
    }

    async fn configure(&mut self, context: &PolicyContext, wall: Option<Duration>) -> Result<(), InstanceError> {
        let given =
            GuestContext { name: context.name.clone(), settings: context.settings.to_string(), seed: context.seed };
        begin(&mut self.store, &self.spent, budget::PREPARE);
        let policy = self.guest.sluice_plugin_policy();
        let answer = within(&self.spent, wall, policy.call_configure(&mut self.store, &given)).await;
        let answer = answer.map_err(|ended| ended.classify("configure", self.store.data()))?;
        answer.map_err(settings_problems)
    }

    /// WIT `discovery.watch`. None where nothing changed within `wait`; the guest's answer as it is otherwise: whether
    /// the instances are possible is the caller's to check.
    pub async fn watch(
        &mut self,
        cursor: Option<&str>,
        wait: Duration,
    ) -> Result<Result<Option<SourceMembership>, WatchError>, Fault> {
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        let cursor = cursor.map(str::to_owned);
        begin(&mut self.store, &self.spent, budget::WATCH);
        let discovery = self.guest.sluice_plugin_discovery();
        let call = discovery.call_watch(&mut self.store, cursor.as_deref(), wait_ms);
        let answer = within(&self.spent, Some(wait + WATCH_GRACE), call).await;
        let answer = answer.map_err(|ended: Ended| ended.classify("watch", self.store.data()))?;
        Ok(answer.map(|membership| membership.map(source_membership)).map_err(watch_error))
    }

    /// How often something was asked for that is not granted, and what, since the last time.
    pub fn take_refusals(&mut self) -> (u64, Vec<String>) {
        self.store.data_mut().imports.take_refusals()
    }

    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory.bytes()
    }
}

impl fmt::Debug for DiscoveryInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiscoveryInstance").field("memory_bytes", &self.memory_bytes()).finish_non_exhaustive()
    }
}

fn source_membership(given: GuestMembership) -> SourceMembership {
    SourceMembership { instances: given.instances.into_iter().map(Instance::from).collect(), cursor: given.cursor }
}

fn watch_error(error: GuestWatchError) -> WatchError {
    let shown = |text: String| printable(&text, TEXT_BYTES_MAX);
    match error {
        GuestWatchError::Unavailable(text) => WatchError::Unavailable(shown(text)),
        GuestWatchError::Lost(text) => WatchError::Lost(shown(text)),
        GuestWatchError::Refused(text) => WatchError::Refused(shown(text)),
    }
}

/// Resolves a discovery plugin's own imports; WASI's are there already.
pub(super) fn define_imports(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    DiscoveryPlugin::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

/// Resolves the exports, and sees by one instance that they have the right types and that it starts.
pub(super) fn link(
    pre: InstancePre<State>,
    identity: &Arc<Identity>,
    context: &PolicyContext,
) -> Result<Linked, LoadError> {
    let pre = DiscoveryPluginPre::new(pre).map_err(|error| LoadError(format!("does not fit its world: {error:#}")))?;
    let imports = Imports::new(None, Arc::default(), context.clock);
    let spent = Arc::new(Spent::default());
    let mut store = waiting_store(pre.engine(), identity, context, imports, &spent);
    begin(&mut store, &spent, budget::PREPARE);
    let instance = block_on(within(&spent, None, pre.instance_pre().instantiate_async(&mut store)))
        .map_err(|ended| ended.classify("instantiate", store.data()))
        .map_err(|fault| LoadError(format!("cannot be instantiated: {}", fault.message)))?;
    let mut exports = Exports { store: &mut store, instance };
    exports.check::<(GuestContext,), (Result<(), Vec<GuestProblem>>,)>("policy", "configure")?;
    exports.check::<(), (Vec<u8>,)>("policy", "save")?;
    exports.check::<(Vec<u8>,), (Result<(), String>,)>("policy", "restore")?;
    type Watched = Result<Option<GuestMembership>, GuestWatchError>;
    exports.check::<(Option<String>, u32), (Watched,)>("discovery", "watch")?;
    Ok(Linked::Discovery { pre })
}
