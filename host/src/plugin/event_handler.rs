//! Event handlers: what events do to a state of their own and what they cause, and what is read of that state.

mod answer;
mod shown;

pub use answer::{
    Caused, Effect, GuestDraft, HANDLE_ANSWER_BYTES_MAX, HANDLE_EFFECTS_MAX, HandleFailure, Handled, HandlerCall,
    READ_BODY_BYTES_MAX, ReadAnswer,
};

use std::{fmt, sync::Arc, time::Duration};

use wasmtime::{
    Store,
    component::{HasSelf, InstancePre, Linker},
};

use self::shown::Shown;
use super::{
    Fault, FaultKind, HandlerState, InstanceError, LoadError, PolicyContext, StateQuota,
    bindings::event_handler::{
        EventHandlerPlugin, EventHandlerPluginPre,
        exports::sluice::plugin::{
            event_handler::{
                Caused as GuestCaused, Event as GuestEvent, Failure as GuestFailure, Subscription as GuestSubscription,
            },
            policy::{Context as GuestContext, Problem as GuestProblem},
            read_model::{Answer as GuestAnswer, Query as GuestQuery},
        },
    },
    imports::{Imports, Outside, State, Stored},
    instance::{Exports, settings_problems},
    limits::budget,
    version::{Identity, Linked},
    waiting::{Spent, begin, block_on, waiting_store, within},
};
use crate::model::{
    Grants,
    event::{Event, Filter},
};

/// Of `instantiate`, `configure` and `subscribe`, which wait for nothing that takes long.
const PREPARE_WALL: Duration = Duration::from_secs(10);

/// Of one `handle`, what it waits for in `http` included: a service of the gateway's own may take that long, too.
pub const HANDLE_WALL: Duration = Duration::from_secs(60);

/// Of one `read`: a client waits for it.
pub const READ_WALL: Duration = Duration::from_secs(5);

/// What a client asks of a read model (WIT `read-model.query`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadQuery {
    /// Below the projection's own path, without a leading slash, decoded.
    pub path: String,
    pub parameters: Vec<(String, String)>,
}

/// One instance of an event handler: used by one task at a time. A call that is dropped before its end, and one that
/// ended in a fault, leave an instance of no more use.
///
/// `handle` and `read` block their thread where what is stored must be read from the disk.
pub struct EventHandlerInstance {
    store: Store<State>,
    guest: Box<EventHandlerPlugin>,
    spent: Arc<Spent>,
    /// Without it, nothing is reached and nothing waits.
    reaches_out: bool,
}

impl EventHandlerInstance {
    /// Instantiates and configures. Without `outside` it reaches nothing and waits for nothing.
    pub(super) async fn new(
        pre: &EventHandlerPluginPre<State>,
        identity: &Arc<Identity>,
        context: &PolicyContext,
        outside: Option<Arc<Outside>>,
        grants: Arc<Grants>,
    ) -> Result<Self, InstanceError> {
        let reaches_out = outside.is_some();
        let spent = Arc::new(Spent::default());
        let imports = Imports::new(outside, grants, context.clock);
        let mut store = waiting_store(pre.engine(), identity, context, imports, &spent);
        begin(&mut store, &spent, budget::PREPARE);
        let made = within(&spent, wall(reaches_out, PREPARE_WALL), pre.instantiate_async(&mut store)).await;
        let guest = Box::new(made.map_err(|ended| ended.classify("instantiate", store.data()))?);
        let mut instance = Self { store, guest, spent, reaches_out };
        instance.configure(context).await?;
        Ok(instance)
    }

    async fn configure(&mut self, context: &PolicyContext) -> Result<(), InstanceError> {
        let settings = context.settings.to_string();
        let given = GuestContext { name: &context.name, settings: &settings, seed: context.seed };
        begin(&mut self.store, &self.spent, budget::PREPARE);
        let call = self.guest.sluice_plugin_policy().call_configure(&mut self.store, given);
        let answer = within(&self.spent, wall(self.reaches_out, PREPARE_WALL), call).await;
        let answer = answer.map_err(|ended| ended.classify("configure", self.store.data()))?;
        answer.map_err(settings_problems)
    }

    /// Which events it wants. Patterns that are none are a fault of kind [`FaultKind::Answer`].
    pub async fn subscribe(&mut self) -> Result<Filter, Fault> {
        begin(&mut self.store, &self.spent, budget::PREPARE);
        let call = self.guest.sluice_plugin_event_handler().call_subscribe(&mut self.store);
        let answer = within(&self.spent, wall(self.reaches_out, PREPARE_WALL), call).await;
        let answer = answer.map_err(|ended| ended.classify("subscribe", self.store.data()))?;
        answer::filter(answer).map_err(|why| wrong("subscribe", why))
    }

    /// A batch of matching events, in order. What it wrote and caused stands in the answer and nowhere else.
    ///
    /// A fault is of kind [`FaultKind::Answer`] where the guest came back with what is not possible, and of kind
    /// [`FaultKind::Storage`] where `state` could not be read: that says nothing against the guest.
    pub async fn handle(
        &mut self,
        events: &[Arc<Event>],
        state: Arc<dyn HandlerState>,
        quota: StateQuota,
    ) -> Result<Result<Handled, HandleFailure>, Fault> {
        let shown: Vec<_> = events.iter().map(|event| Shown::of(event)).collect();
        let extensions: Vec<_> = shown.iter().map(Shown::extensions).collect();
        let given: Vec<_> = shown.iter().zip(&extensions).map(|(shown, extensions)| shown.param(extensions)).collect();
        self.store.data_mut().imports.stored = Some(Stored::for_writing(state, quota));
        begin(&mut self.store, &self.spent, budget::HANDLE);
        let call = self.guest.sluice_plugin_event_handler().call_handle(&mut self.store, &given);
        let ended = within(&self.spent, wall(self.reaches_out, HANDLE_WALL), call).await;
        let stored = self.store.data_mut().imports.stored.take();
        match ended {
            Err(ended) => Err(with_cause(ended.classify("handle", self.store.data()), stored)),
            Ok(Ok(caused)) => {
                let (writes, state_bytes) = stored.map(Stored::into_writes).unwrap_or_default();
                let caused = answer::caused(caused, events.len()).map_err(|why| wrong("handle", why))?;
                Ok(Ok(Handled { caused, writes, state_bytes }))
            }
            Ok(Err(failure)) => {
                let failure = answer::failure(failure, events.len()).map_err(|why| wrong("handle", why))?;
                Ok(Err(failure))
            }
        }
    }

    /// What a client is told of what is stored. Faults as of [`Self::handle`].
    pub async fn read(&mut self, query: ReadQuery, state: Arc<dyn HandlerState>) -> Result<ReadAnswer, Fault> {
        let parameters: Vec<_> = query.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let given = GuestQuery { path: &query.path, parameters: &parameters };
        self.store.data_mut().imports.stored = Some(Stored::for_reading(state));
        begin(&mut self.store, &self.spent, budget::READ);
        let call = self.guest.sluice_plugin_read_model().call_read(&mut self.store, given);
        let ended = within(&self.spent, wall(self.reaches_out, READ_WALL), call).await;
        let stored = self.store.data_mut().imports.stored.take();
        let answer = ended.map_err(|ended| with_cause(ended.classify("read", self.store.data()), stored))?;
        answer::read(answer).map_err(|why| wrong("read", why))
    }

    /// How often something was asked for that is not granted, and what, since the last time.
    pub fn take_refusals(&mut self) -> (u64, Vec<String>) {
        self.store.data_mut().imports.take_refusals()
    }

    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory.bytes()
    }
}

impl fmt::Debug for EventHandlerInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventHandlerInstance").field("memory_bytes", &self.memory_bytes()).finish_non_exhaustive()
    }
}

/// A trial waits for nothing, and there may be no runtime that could tell the time.
fn wall(reaches_out: bool, wall: Duration) -> Option<Duration> {
    reaches_out.then_some(wall)
}

fn wrong(call: &'static str, message: String) -> Fault {
    Fault { kind: FaultKind::Answer, call, message }
}

/// The fault, or that of the store where that is what ended the call.
fn with_cause(fault: Fault, stored: Option<Stored>) -> Fault {
    match stored.and_then(Stored::into_failure) {
        Some(message) => Fault { kind: FaultKind::Storage, message, ..fault },
        None => fault,
    }
}

/// Resolves an event handler's own imports; WASI's are there already.
pub(super) fn define_imports(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    EventHandlerPlugin::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

/// Resolves the exports, and sees by one instance that they have the right types and that it starts.
pub(super) fn link(
    pre: InstancePre<State>,
    identity: &Arc<Identity>,
    context: &PolicyContext,
) -> Result<Linked, LoadError> {
    let pre =
        EventHandlerPluginPre::new(pre).map_err(|error| LoadError(format!("does not fit its world: {error:#}")))?;
    let imports = Imports::new(None, Arc::default(), context.clock);
    let spent = Arc::new(Spent::default());
    let mut store = waiting_store(pre.engine(), identity, context, imports, &spent);
    begin(&mut store, &spent, budget::PREPARE);
    let instance = block_on(within(&spent, None, pre.instance_pre().instantiate_async(&mut store)))
        .map_err(|ended| ended.classify("instantiate", store.data()))
        .map_err(|fault| LoadError(format!("cannot be instantiated: {}", fault.message)))?;
    let mut exports = Exports { store: &mut store, instance };
    exports.check::<(GuestContext<'_>,), (Result<(), Vec<GuestProblem>>,)>("policy", "configure")?;
    exports.check::<(), (Vec<u8>,)>("policy", "save")?;
    exports.check::<(Vec<u8>,), (Result<(), String>,)>("policy", "restore")?;
    exports.check::<(), (GuestSubscription,)>("event-handler", "subscribe")?;
    exports.check::<(&[GuestEvent<'_>],), (Result<Vec<GuestCaused>, GuestFailure>,)>("event-handler", "handle")?;
    exports.check::<(GuestQuery<'_>,), (GuestAnswer,)>("read-model", "read")?;
    Ok(Linked::EventHandler { pre })
}
