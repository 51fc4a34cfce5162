//! Transaction protocols: what a client's request means, and what comes next. Both are pure functions of what the
//! host gives, and an instance remembers nothing between calls.

use std::{fmt, sync::Arc};

use wasmtime::{
    Store,
    component::{HasSelf, InstancePre, Linker},
};

use super::{
    Fault, InstanceError, LoadError, PolicyContext, Problem,
    bindings::transaction::{
        TransactionPlugin, TransactionPluginPre,
        exports::sluice::plugin::{
            policy::{Context as GuestContext, Problem as GuestProblem},
            transaction::{
                BranchParam, BranchResult, Decision as GuestDecision, OperationParam, OperationResult,
                Phase as GuestPhase, Progress as GuestProgress, Step as GuestStep, View as GuestView,
            },
        },
    },
    instance::{self, Exports, call, kept_problems, settings_problems, store},
    limits::budget,
    version::{Identity, Linked},
};
use crate::model::transaction::{Branch, Decision, Operation, Phase, Progress, Reference, Step, View};

/// What stands behind a protocol's instance. It imports nothing but the log.
pub(super) type State = instance::State<()>;

/// Longest id of a branch, and longest name of an operation, in bytes: DTM's columns for them have 128 and 45.
pub const NAME_BYTES_MAX: usize = 128;

/// Longest target of an operation, in bytes: what RFC 9110 §4.1 asks everybody to support of a URI is 8,000.
pub const TARGET_BYTES_MAX: usize = 8_000;

/// A distributed-commit protocol. `Send`, used by one thread at a time.
pub struct ProtocolInstance {
    store: Store<State>,
    /// Boxed, so that an instance is small to hand about.
    exports: Box<TransactionPlugin>,
}

impl ProtocolInstance {
    /// Instantiates and configures.
    pub(super) fn new(
        pre: &TransactionPluginPre<State>,
        identity: &Arc<Identity>,
        context: &PolicyContext,
    ) -> Result<Self, InstanceError> {
        let mut store = store(pre.engine(), identity, context, ());
        let exports = call(&mut store, "instantiate", budget::PREPARE, |store| pre.instantiate(store))?;
        let mut protocol = Self { store, exports: Box::new(exports) };
        let settings = context.settings.to_string();
        let given = GuestContext { name: &context.name, settings: &settings, seed: context.seed };
        let policy = protocol.exports.sluice_plugin_policy();
        let answer =
            call(&mut protocol.store, "configure", budget::PREPARE, |store| policy.call_configure(store, given))?;
        answer.map_err(settings_problems)?;
        Ok(protocol)
    }

    /// What branches `request` (JSON) adds to those that are `enlisted`, or what is wrong with it: then at least one
    /// problem, each with a JSON Pointer into the request.
    ///
    /// Names and targets are printable and of bounded length; all else is as the guest said, its graph included, and
    /// no more than it can hand over at once (1 MiB).
    pub fn plan(&mut self, request: &str, enlisted: &[Branch]) -> Result<Result<Vec<Branch>, Vec<Problem>>, Fault> {
        let operations = lower_operations(enlisted);
        let enlisted = lower_branches(enlisted, &operations);
        let transaction = self.exports.sluice_plugin_transaction();
        let planned =
            call(&mut self.store, "plan", budget::PLAN, |store| transaction.call_plan(store, request, &enlisted))?;
        Ok(match planned {
            Ok(branches) => {
                branches.into_iter().enumerate().map(|(index, branch)| lift_branch(index, branch)).collect()
            }
            Err(problems) if problems.is_empty() => {
                let message = "the protocol refuses the request, and does not say why".to_owned();
                Err(vec![Problem { path: String::new(), message }])
            }
            Err(problems) => Err(kept_problems(problems)),
        })
    }

    /// What comes next. As the guest said: whether it may be is the caller's to check.
    pub fn next(&mut self, view: &View) -> Result<Step, Fault> {
        let operations = lower_operations(&view.branches);
        let branches = lower_branches(&view.branches, &operations);
        let progress: Vec<Vec<_>> =
            view.progress.iter().map(|branch| branch.iter().map(lower_progress).collect()).collect();
        let progress: Vec<_> = progress.iter().map(Vec::as_slice).collect();
        let given = GuestView {
            gid: &view.gid,
            branches: &branches,
            progress: &progress,
            complete: view.complete,
            asked: view.asked.map(lower_decision),
            decision: view.decision.map(lower_decision),
            expired: view.expired,
        };
        let transaction = self.exports.sluice_plugin_transaction();
        let step = call(&mut self.store, "next", budget::NEXT, |store| transaction.call_next(store, given))?;
        Ok(match step {
            GuestStep::Run(operations) => Step::Run(
                operations
                    .into_iter()
                    .map(|reference| Reference { branch: reference.branch, operation: reference.operation })
                    .collect(),
            ),
            GuestStep::Decide(GuestDecision::Commit) => Step::Decide(Decision::Commit),
            GuestStep::Decide(GuestDecision::Abort) => Step::Decide(Decision::Abort),
            GuestStep::Wait => Step::Wait,
            GuestStep::Finish => Step::Finish,
        })
    }

    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory.bytes()
    }
}

impl fmt::Debug for ProtocolInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProtocolInstance").field("memory_bytes", &self.memory_bytes()).finish_non_exhaustive()
    }
}

/// The problem is the request's: these texts are made of what it names.
fn lift_branch(index: usize, branch: BranchResult) -> Result<Branch, Vec<Problem>> {
    let check = |what: &str, text: String, bytes_max: usize| {
        if text.len() <= bytes_max && !text.contains(char::is_control) {
            return Ok(text);
        }
        let message = format!("{what} of branch {index} must have at most {bytes_max} bytes and no control characters");
        Err(vec![Problem { path: String::new(), message }])
    };
    let operation = |operation: OperationResult| {
        Ok(Operation {
            name: check("an operation's name", operation.name, NAME_BYTES_MAX)?,
            target: check("an operation's target", operation.target, TARGET_BYTES_MAX)?,
            phase: match operation.phase {
                GuestPhase::Undecided => Phase::Undecided,
                GuestPhase::Committed => Phase::Committed,
                GuestPhase::Aborted => Phase::Aborted,
            },
            by_client: operation.by_client,
        })
    };
    Ok(Branch {
        id: check("the id", branch.id, NAME_BYTES_MAX)?,
        operations: branch.operations.into_iter().map(operation).collect::<Result<_, Vec<Problem>>>()?,
        after: branch.after,
        payload: branch.payload,
    })
}

/// Of all branches, one after the other.
fn lower_operations(branches: &[Branch]) -> Vec<OperationParam<'_>> {
    branches.iter().flat_map(|branch| &branch.operations).map(lower_operation).collect()
}

fn lower_operation(operation: &Operation) -> OperationParam<'_> {
    OperationParam {
        name: &operation.name,
        target: &operation.target,
        phase: match operation.phase {
            Phase::Undecided => GuestPhase::Undecided,
            Phase::Committed => GuestPhase::Committed,
            Phase::Aborted => GuestPhase::Aborted,
        },
        by_client: operation.by_client,
    }
}

fn lower_branches<'a>(branches: &'a [Branch], mut operations: &'a [OperationParam<'a>]) -> Vec<BranchParam<'a>> {
    let lower = |branch: &'a Branch| {
        let (own, others) = operations.split_at(branch.operations.len());
        operations = others;
        BranchParam { id: &branch.id, operations: own, after: &branch.after, payload: branch.payload }
    };
    branches.iter().map(lower).collect()
}

fn lower_progress(progress: &Progress) -> GuestProgress<'_> {
    match progress {
        Progress::Idle => GuestProgress::Idle,
        Progress::Running(attempts) => GuestProgress::Running(*attempts),
        Progress::Succeeded => GuestProgress::Succeeded,
        Progress::Refused(why) => GuestProgress::Refused(why),
        Progress::Unknown(why) => GuestProgress::Unknown(why),
    }
}

fn lower_decision(decision: Decision) -> GuestDecision {
    match decision {
        Decision::Commit => GuestDecision::Commit,
        Decision::Abort => GuestDecision::Abort,
    }
}

/// Resolves a protocol's own imports; WASI's are there already.
pub(super) fn define_imports(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    TransactionPlugin::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
}

/// Resolves the exports, and sees by one instance that they have the right types and that it starts.
pub(super) fn link(
    pre: InstancePre<State>,
    identity: &Arc<Identity>,
    context: &PolicyContext,
) -> Result<Linked, LoadError> {
    let pre =
        TransactionPluginPre::new(pre).map_err(|error| LoadError(format!("does not fit its world: {error:#}")))?;
    let mut store = store(pre.engine(), identity, context, ());
    let instance = call(&mut store, "instantiate", budget::PREPARE, |store| pre.instance_pre().instantiate(store))
        .map_err(|fault| LoadError(format!("cannot be instantiated: {}", fault.message)))?;
    let mut exports = Exports { store: &mut store, instance };
    exports.check::<(GuestContext<'_>,), (Result<(), Vec<GuestProblem>>,)>("policy", "configure")?;
    exports.check::<(), (Vec<u8>,)>("policy", "save")?;
    exports.check::<(Vec<u8>,), (Result<(), String>,)>("policy", "restore")?;
    exports.check::<(String, Vec<BranchParam<'_>>), (Result<Vec<BranchResult>, Vec<GuestProblem>>,)>(
        "transaction",
        "plan",
    )?;
    exports.check::<(GuestView<'_>,), (GuestStep,)>("transaction", "next")?;
    Ok(Linked::Transaction { pre })
}
