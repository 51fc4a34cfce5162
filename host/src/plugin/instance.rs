//! What stands behind every instance, whatever its kind: the store, its limits, and calls that end in a [`Fault`]
//! where they do not come back.

use std::{sync::Arc, time::Duration};

use wasmtime::{
    Engine, Store, UpdateDeadline,
    component::{ComponentNamedList, Instance, Lift, Lower},
};

use super::{
    Fault, InstanceError, LoadError, PolicyContext, Problem,
    bindings::balancer::sluice::plugin::types::Problem as GuestProblem,
    fault, limits, load,
    log::{LogLines, printable},
    version::Identity,
    wasi::Wasi,
};

/// What the host keeps for one instance; its imports answer from this.
pub(super) struct State<I> {
    pub deadline: limits::Deadline,
    pub memory: limits::MemoryLimit,
    pub log: LogLines,
    pub wasi: Wasi,
    /// What the kind's own imports answer from.
    pub imports: I,
}

/// A store for one instance of `identity`, with all limits in force and its deadlines by the thread's CPU clock.
pub(super) fn store<I: 'static>(
    engine: &Engine,
    identity: &Arc<Identity>,
    context: &PolicyContext,
    imports: I,
) -> Store<State<I>> {
    let mut store = bare_store(engine, identity, context, imports);
    let ticker = Arc::clone(&identity.ticker);
    store.epoch_deadline_callback(move |mut store| {
        let verdict = store.data_mut().deadline.look(limits::thread_cpu());
        if let UpdateDeadline::Continue(ticks) = verdict {
            ticker.watch(ticks);
        }
        Ok(verdict)
    });
    store
}

/// The same without anybody who looks at the epoch: that is the lane's own.
pub(super) fn bare_store<I: 'static>(
    engine: &Engine,
    identity: &Arc<Identity>,
    context: &PolicyContext,
    imports: I,
) -> Store<State<I>> {
    let usage = Arc::clone(&identity.usage);
    let state = State {
        deadline: limits::Deadline::new(identity.patience),
        memory: limits::MemoryLimit::new(context.memory_bytes_max, usage),
        log: LogLines::new(Arc::clone(identity), &context.name, context.clock),
        wasi: Wasi::new(context.clock, context.seed),
        imports,
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.memory);
    store.set_hostcall_fuel(limits::GUEST_BYTES_MAX);
    store
}

/// One call into the guest: with its CPU budget, and with its end turned into a fault if it is a bad one.
#[inline]
pub(super) fn call<I, R>(
    store: &mut Store<State<I>>,
    name: &'static str,
    budget: Duration,
    guest: impl FnOnce(&mut Store<State<I>>) -> wasmtime::Result<R>,
) -> Result<R, Fault> {
    store.set_epoch_deadline(1);
    let state = store.data_mut();
    state.deadline.begin(budget);
    state.memory.forget_refusal();
    guest(store).map_err(|error| fault::classify(name, &error, store.data()))
}

/// An instance's exports, to be checked one by one: the generated code would not say which one is wrong.
pub(super) struct Exports<'a, I: 'static> {
    pub store: &'a mut Store<State<I>>,
    pub instance: Instance,
}

impl<I> Exports<'_, I> {
    /// Whether `function` of our `interface` takes and gives these types.
    pub fn check<P, R>(&mut self, interface: &str, function: &str) -> Result<(), LoadError>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift,
    {
        let name = format!("{}/{interface}@{}.0", load::PACKAGE, load::PACKAGE_VERSION);
        let index = self.instance.get_export_index(&mut *self.store, None, &name);
        let index = index.and_then(|index| self.instance.get_export_index(&mut *self.store, Some(&index), function));
        let func = index.and_then(|index| self.instance.get_func(&mut *self.store, index));
        let typed = func.map(|func| func.typed::<P, R>(&*self.store));
        match typed {
            Some(Ok(_)) => Ok(()),
            Some(Err(error)) => Err(LoadError(format!("has another {name}.{function} than the interface: {error:#}"))),
            None => Err(LoadError(format!("lacks the function {function} of {name}"))),
        }
    }
}

/// Problems of one `configure` or `plan` that are kept; more help nobody.
const PROBLEMS_MAX: usize = 100;

/// Longest text of a guest that is shown to operators, in bytes.
pub(super) const TEXT_BYTES_MAX: usize = 1024;

/// What a guest has against its settings.
pub(super) fn settings_problems(problems: Vec<GuestProblem>) -> InstanceError {
    InstanceError::Settings(kept_problems(problems))
}

/// What is kept of what a guest has against something.
pub(super) fn kept_problems(problems: Vec<GuestProblem>) -> Vec<Problem> {
    let shown = problems.into_iter().take(PROBLEMS_MAX).map(|problem| Problem {
        path: printable(&problem.path, TEXT_BYTES_MAX),
        message: printable(&problem.message, TEXT_BYTES_MAX),
    });
    shown.collect()
}
