//! Balancers: the typed calls, and what their imports answer from.

use std::{fmt, sync::Arc};

use http::{HeaderName, HeaderValue, uri::PathAndQuery};
use smallvec::SmallVec;
use wasmtime::{
    Store,
    component::{HasSelf, InstancePre, Linker},
};

use super::{
    Fault, InstanceError, LoadError, PolicyContext,
    bindings::balancer::{
        BalancerPlugin, BalancerPluginPre,
        exports::sluice::plugin::{
            balancer::{Completion as GuestCompletion, Endpoint as GuestEndpoint, Request as GuestRequest},
            policy::{Context as GuestContext, Problem as GuestProblem},
        },
        sluice::plugin::{incoming, load, types},
    },
    instance::{self, Exports, TEXT_BYTES_MAX, call, settings_problems, store},
    limits::budget,
    log::printable,
    version::{Asks, Identity, Linked},
};
use crate::model::{Completion, Endpoint, EndpointState, InstantUs, Outcome, Slot};

/// What stands behind a balancer's instance.
pub(super) type State = instance::State<Imports>;

/// What a pick may depend on (WIT `balancer.request`).
#[derive(Clone, Copy, Debug)]
pub struct PickRequest {
    pub now_us: InstantUs,
    pub random: u64,
    pub hash: u64,
    pub attempt: u32,
}

/// What the `incoming` import answers during a pick.
#[derive(Clone, Debug, Default)]
pub struct Incoming {
    pub tried: SmallVec<[Slot; 4]>,
    pub path: Option<PathAndQuery>,
    /// Only those that the route exposes.
    pub headers: SmallVec<[(HeaderName, HeaderValue); 2]>,
}

/// One instance of a balancer: `Send`, used by one thread at a time.
pub struct BalancerInstance {
    store: Store<State>,
    /// Boxed, so that an instance is small to hand about.
    guest: Box<BalancerPlugin>,
    asks: Asks,
    /// Kept, so that a batch allocates nothing on the host.
    batch: Vec<GuestCompletion>,
}

impl BalancerInstance {
    /// Instantiates and configures.
    pub(super) fn new(
        pre: &BalancerPluginPre<State>,
        asks: Asks,
        identity: &Arc<Identity>,
        context: &PolicyContext,
    ) -> Result<Self, InstanceError> {
        let mut instance = Self::instantiate(pre, asks, identity, context)?;
        instance.configure(context)?;
        Ok(instance)
    }

    fn instantiate(
        pre: &BalancerPluginPre<State>,
        asks: Asks,
        identity: &Arc<Identity>,
        context: &PolicyContext,
    ) -> Result<Self, Fault> {
        let mut store = store(pre.engine(), identity, context, Imports::default());
        let guest = call(&mut store, "instantiate", budget::PREPARE, |store| pre.instantiate(store))?;
        Ok(Self { store, guest: Box::new(guest), asks, batch: Vec::new() })
    }

    fn configure(&mut self, context: &PolicyContext) -> Result<(), InstanceError> {
        let given =
            GuestContext { name: context.name.clone(), settings: context.settings.to_string(), seed: context.seed };
        let policy = self.guest.sluice_plugin_policy();
        let answer = call(&mut self.store, "configure", budget::PREPARE, |store| policy.call_configure(store, &given))?;
        answer.map_err(settings_problems)
    }

    /// The whole membership; also what `load.in-flight` answers from.
    pub fn update(&mut self, members: &[EndpointState], now_us: InstantUs) -> Result<(), Fault> {
        self.store.data_mut().imports.set_members(members);
        let given: Vec<GuestEndpoint> = members.iter().map(endpoint).collect();
        let balancer = self.guest.sluice_plugin_balancer();
        call(&mut self.store, "update", budget::PREPARE, |store| balancer.call_update(store, &given, now_us))
    }

    /// The guest's answer as it is: whether the slot exists, is available and untried is the caller's to check.
    pub fn pick(&mut self, request: PickRequest, incoming: &Incoming) -> Result<Option<Slot>, Fault> {
        let PickRequest { now_us: now, random, hash, attempt } = request;
        let given = GuestRequest { now, random, hash, attempt };
        let shown = self.store.data_mut().imports.show(incoming, self.asks);
        let balancer = self.guest.sluice_plugin_balancer();
        let answer = call(&mut self.store, "pick", budget::PICK, |store| balancer.call_pick(store, given));
        if shown {
            self.store.data_mut().imports.hide();
        }
        answer
    }

    pub fn complete(&mut self, completions: &[Completion], now_us: InstantUs) -> Result<(), Fault> {
        self.batch.clear();
        self.batch.extend(completions.iter().map(completion));
        let balancer = self.guest.sluice_plugin_balancer();
        let batch = &self.batch;
        call(&mut self.store, "complete", budget::COMPLETE, |store| balancer.call_complete(store, batch, now_us))
    }

    /// At most 1 MiB (`limits::GUEST_BYTES_MAX`, which holds for all that a guest hands over); more is a fault.
    pub fn save(&mut self) -> Result<Vec<u8>, Fault> {
        let policy = self.guest.sluice_plugin_policy();
        call(&mut self.store, "save", budget::SAVE, |store| policy.call_save(store))
    }

    /// The inner error is the guest's own word that it starts fresh. An empty state is nothing to take over (WIT
    /// `policy.save`), and the guest is not asked.
    pub fn restore(&mut self, state: &[u8]) -> Result<Result<(), String>, Fault> {
        if state.is_empty() {
            return Ok(Ok(()));
        }
        let policy = self.guest.sluice_plugin_policy();
        let answer = call(&mut self.store, "restore", budget::PREPARE, |store| policy.call_restore(store, state))?;
        Ok(answer.map_err(|message| printable(&message, TEXT_BYTES_MAX)))
    }

    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory.bytes()
    }
}

impl fmt::Debug for BalancerInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalancerInstance").field("memory_bytes", &self.memory_bytes()).finish_non_exhaustive()
    }
}

/// Resolves a balancer's own imports; WASI's are there already.
pub(super) fn define_imports(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    BalancerPlugin::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

/// What a balancer's imports answer from.
#[derive(Default)]
pub(super) struct Imports {
    /// By slot.
    members: Vec<Option<Arc<Endpoint>>>,
    /// Empty outside of a pick.
    incoming: Incoming,
}

impl Imports {
    fn set_members(&mut self, members: &[EndpointState]) {
        let slots = members.iter().map(|member| member.endpoint.slot as usize + 1).max().unwrap_or(0);
        self.members.clear();
        self.members.resize(slots, None);
        for member in members {
            self.members[member.endpoint.slot as usize] = Some(Arc::clone(&member.endpoint));
        }
    }

    /// Copies what the component could ask for, if anything: false where there is nothing to hide afterwards.
    #[inline]
    fn show(&mut self, incoming: &Incoming, asks: Asks) -> bool {
        let tried = asks.tried && !incoming.tried.is_empty();
        let header = asks.header && !incoming.headers.is_empty();
        let path = asks.path && incoming.path.is_some();
        if tried {
            self.incoming.tried.extend_from_slice(&incoming.tried);
        }
        if header {
            self.incoming.headers.clone_from(&incoming.headers);
        }
        if path {
            self.incoming.path.clone_from(&incoming.path);
        }
        tried || header || path
    }

    fn hide(&mut self) {
        self.incoming.tried.clear();
        self.incoming.headers.clear();
        self.incoming.path = None;
    }
}

impl load::Host for State {
    fn in_flight(&mut self, slot: Slot) -> u32 {
        self.imports.members.get(slot as usize).and_then(Option::as_ref).map_or(0, |endpoint| endpoint.in_flight())
    }
}

impl incoming::Host for State {
    fn tried(&mut self, slot: Slot) -> bool {
        self.imports.incoming.tried.contains(&slot)
    }

    fn header(&mut self, name: String) -> Option<String> {
        let (_, value) = self.imports.incoming.headers.iter().find(|(exposed, _)| exposed.as_str() == name)?;
        value.to_str().ok().map(str::to_owned)
    }

    fn path(&mut self) -> String {
        self.imports.incoming.path.as_ref().map_or_else(String::new, |path| path.path().to_owned())
    }
}

pub(super) fn endpoint(member: &EndpointState) -> GuestEndpoint {
    GuestEndpoint {
        slot: member.endpoint.slot,
        key: member.endpoint.key,
        address: member.endpoint.label.to_string(),
        weight: member.weight.get(),
        priority: member.priority,
        zone: member.zone.clone(),
        metadata: member.metadata.clone(),
        available: member.available,
        since: member.since_us,
    }
}

pub(super) fn completion(completion: &Completion) -> GuestCompletion {
    GuestCompletion {
        slot: completion.slot,
        outcome: outcome(completion.outcome),
        at: completion.at_us,
        first_byte_us: completion.first_byte_us,
        total_us: completion.total_us,
        load_permille: completion.load_permille,
    }
}

pub(super) fn outcome(outcome: Outcome) -> types::Outcome {
    match outcome {
        Outcome::Success => types::Outcome::Success,
        Outcome::ClientError => types::Outcome::ClientError,
        Outcome::ServerError => types::Outcome::ServerError,
        Outcome::GatewayError => types::Outcome::GatewayError,
        Outcome::Overloaded => types::Outcome::Overloaded,
        Outcome::ConnectFailed => types::Outcome::ConnectFailed,
        Outcome::Reset => types::Outcome::Reset,
        Outcome::TimedOut => types::Outcome::TimedOut,
        Outcome::Cancelled => types::Outcome::Cancelled,
    }
}

/// Resolves the exports, and sees by one instance that they have the right types and that it starts.
pub(super) fn link(
    pre: InstancePre<State>,
    asks: Asks,
    identity: &Arc<Identity>,
    context: &PolicyContext,
) -> Result<Linked, LoadError> {
    let pre = BalancerPluginPre::new(pre).map_err(|error| LoadError(format!("does not fit its world: {error:#}")))?;
    let mut store = store(pre.engine(), identity, context, Imports::default());
    let instance = call(&mut store, "instantiate", budget::PREPARE, |store| pre.instance_pre().instantiate(store))
        .map_err(|fault| LoadError(format!("cannot be instantiated: {}", fault.message)))?;
    let mut exports = Exports { store: &mut store, instance };
    exports.check::<(GuestContext,), (Result<(), Vec<GuestProblem>>,)>("policy", "configure")?;
    exports.check::<(), (Vec<u8>,)>("policy", "save")?;
    exports.check::<(Vec<u8>,), (Result<(), String>,)>("policy", "restore")?;
    exports.check::<(Vec<GuestEndpoint>, InstantUs), ()>("balancer", "update")?;
    exports.check::<(GuestRequest,), (Option<Slot>,)>("balancer", "pick")?;
    exports.check::<(Vec<GuestCompletion>, InstantUs), ()>("balancer", "complete")?;
    Ok(Linked::Balancer { pre, asks })
}
