//! Transaction protocols, stock and hostile, as their toolchain builds them (`make plugins test-guests`). Where they are
//! not built, these tests say so and prove nothing.

use std::{fs, path::Path, sync::Arc};

use serde_json::{Value, json};

use super::guest::{context, plugin_name, runtime};
use crate::{
    model::{
        PluginKind,
        transaction::{Branch, Decision, Phase, Progress, Reference, Step, View},
    },
    plugin::{Fault, FaultKind, InstanceError, PolicyContext, Problem, ProtocolInstance, Version},
};

const STOCK: &str = "../plugins/built/transaction";
const GUESTS: &str = "../tests/guests/built";

fn version(folder: &str, name: &str) -> Option<Arc<Version>> {
    let path = Path::new(folder).join(format!("{name}.wasm"));
    let Ok(bytes) = fs::read(&path) else {
        let missing = format!("{} is not built: make plugins test-guests", path.display());
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("{missing}");
        return None;
    };
    Some(runtime().load(&plugin_name(), &bytes).unwrap_or_else(|error| panic!("{name}: {error}")))
}

fn protocol(version: &Version, settings: Value) -> Result<ProtocolInstance, InstanceError> {
    version.protocol(&PolicyContext { settings, ..context() })
}

fn stock(name: &str) -> Option<ProtocolInstance> {
    let version = version(STOCK, name)?;
    Some(protocol(&version, json!({})).expect("it configures"))
}

fn lying(lie: &str) -> Option<ProtocolInstance> {
    let version = version(GUESTS, "transaction-hostile")?;
    Some(protocol(&version, json!({ "lie": lie })).expect("it configures"))
}

fn planned(protocol: &mut ProtocolInstance, request: &Value) -> Vec<Branch> {
    protocol.plan(&request.to_string(), &[]).expect("it comes back").expect("the request is right")
}

/// How often a call may be made until one is within its time.
const ATTEMPTS: usize = 5;

/// By a new instance each time. What else a machine does makes a call's CPU time longer, and never shorter.
fn in_time<T>(attempt: impl Fn() -> Result<T, Fault>) -> T {
    let early = (1..ATTEMPTS).find_map(|_| attempt().ok());
    early.unwrap_or_else(|| attempt().unwrap_or_else(|fault| panic!("{fault:?}, {ATTEMPTS} times")))
}

fn refused(protocol: &mut ProtocolInstance, request: &str) -> Vec<Problem> {
    protocol.plan(request, &[]).expect("it comes back").expect_err("the request is wrong")
}

/// Submitted, and nothing has run.
fn submitted(branches: Vec<Branch>) -> View {
    let progress = branches.iter().map(|branch| vec![Progress::Idle; branch.operations.len()]).collect();
    let asked = Some(Decision::Commit);
    View {
        gid: "g-1".to_owned(),
        branches: branches.into(),
        progress,
        complete: true,
        asked,
        decision: None,
        expired: false,
    }
}

fn run(references: &[(u32, u32)]) -> Step {
    Step::Run(references.iter().map(|&(branch, operation)| Reference { branch, operation }).collect())
}

fn two_services() -> Value {
    json!({"gid": "g-1", "branches": [{"service": "orders"}, {"service": "stock"}], "payloads": ["{\"n\": 1}"]})
}

fn steps(count: usize) -> Value {
    let step = |n| json!({"action": format!("service://s{n}/do"), "compensate": format!("service://s{n}/undo")});
    json!({"gid": "g-1", "steps": (0..count).map(step).collect::<Vec<_>>(), "concurrent": true})
}

#[test]
fn two_phase_commit_plans_prepares_decides_and_commits() {
    let Some(mut protocol) = stock("two-phase-commit") else { return };
    let branches = planned(&mut protocol, &two_services());
    let first: Vec<_> =
        branches[0].operations.iter().map(|op| (op.name.as_str(), op.target.as_str(), op.phase)).collect();
    assert_eq!(
        first,
        [
            ("prepare", "service://orders/prepare", Phase::Undecided),
            ("commit", "service://orders/commit", Phase::Committed),
            ("abort", "service://orders/abort", Phase::Aborted),
        ]
    );
    assert_eq!((branches[0].payload, branches[1].payload), (Some(0), None));
    let mut view = submitted(branches);
    assert_eq!(protocol.next(&view).unwrap(), run(&[(0, 0), (1, 0)]));
    view.progress[0][0] = Progress::Succeeded;
    view.progress[1][0] = Progress::Succeeded;
    assert_eq!(protocol.next(&view).unwrap(), Step::Decide(Decision::Commit));
    view.decision = Some(Decision::Commit);
    assert_eq!(protocol.next(&view).unwrap(), run(&[(0, 1), (1, 1)]));
    view.progress[0][1] = Progress::Succeeded;
    view.progress[1][1] = Progress::Succeeded;
    assert_eq!(protocol.next(&view).unwrap(), Step::Finish);
}

#[test]
fn a_saga_undoes_what_may_have_been_done() {
    let Some(mut protocol) = stock("saga") else { return };
    let mut view = submitted(planned(&mut protocol, &steps(3)));
    view.progress[0][0] = Progress::Succeeded;
    view.progress[1][0] = Progress::Refused("sold out".to_owned());
    view.progress[2][0] = Progress::Running(2);
    assert_eq!(protocol.next(&view).unwrap(), Step::Decide(Decision::Abort));
    view.decision = Some(Decision::Abort);
    view.progress[2][0] = Progress::Unknown("decided meanwhile".to_owned());
    let Step::Run(mut undone) = protocol.next(&view).unwrap() else { panic!("it undoes") };
    undone.sort_unstable();
    assert_eq!(Step::Run(undone), run(&[(0, 1), (2, 1)]));
}

#[test]
fn tcc_registers_branches_and_message_asks_the_client() {
    let (Some(mut tcc), Some(mut message)) = (stock("tcc"), stock("message")) else { return };
    let branch = json!({"branch_id": "01", "confirm": "http://a/c", "cancel": "http://a/x", "data": "{}"}).to_string();
    let first = tcc.plan(&branch, &[]).unwrap().unwrap();
    assert!(first[0].operations[0].by_client);
    assert_eq!(tcc.plan(&branch, &first).unwrap(), Ok(Vec::new()));
    assert_eq!(
        tcc.plan(&branch.replace("http://a/c", "http://b/c"), &first).unwrap().unwrap_err()[0].path,
        "/branch_id"
    );

    let request = json!({"query_prepared": "http://c/q", "steps": [{"action": "http://a/do"}]});
    let branches = planned(&mut message, &request);
    let waiting = View { complete: false, asked: None, expired: true, ..submitted(branches) };
    assert_eq!(message.next(&waiting).unwrap(), run(&[(0, 0)]));
}

#[test]
fn every_stock_protocol_tells_what_is_wrong_with_requests_and_settings() {
    for name in ["two-phase-commit", "saga", "tcc", "message"] {
        let Some(version) = version(STOCK, name) else { return };
        assert_eq!(version.kind(), PluginKind::Transaction);
        assert!(matches!(version.balancer(&context()), Err(InstanceError::WrongKind { .. })));
        let Err(InstanceError::Settings(problems)) = protocol(&version, json!({"unknown": 1})) else {
            panic!("{name} takes unknown settings")
        };
        assert_eq!(problems[0].path, "/unknown");
        let mut protocol = protocol(&version, json!({})).unwrap();
        assert_eq!(refused(&mut protocol, "{")[0].message, "the request must be a JSON object");
        assert!(!refused(&mut protocol, r#"{"steps": 1, "branches": 1}"#).is_empty());
    }
}

#[test]
fn a_thousand_branches_are_within_a_calls_time_and_memory() {
    for (name, request) in
        [("saga", steps(1_000)), ("two-phase-commit", json!({"branches": vec![json!({"service": "orders"}); 1_000]}))]
    {
        if stock(name).is_none() {
            return;
        }
        let stock = || stock(name).expect("it is there");
        let branches = in_time(|| stock().plan(&request.to_string(), &[])).expect("the request is right");
        let mut view = submitted(branches);
        assert_eq!(view.branches.len(), 1_000);
        let Step::Run(all) = in_time(|| stock().next(&view)) else { panic!("all begin") };
        assert_eq!(all.len(), 1_000);
        for progress in &mut view.progress {
            progress[0] = Progress::Unknown("decided meanwhile".to_owned());
        }
        view.decision = Some(Decision::Abort);
        let Step::Run(all) = in_time(|| stock().next(&view)) else { panic!("all are undone") };
        assert_eq!(all.len(), 1_000);
    }
}

#[test]
fn a_saga_of_a_thousand_steps_in_a_row_is_too() {
    if stock("saga").is_none() {
        return;
    }
    let stock = || stock("saga").expect("it is there");
    let mut request = steps(1_000);
    request["concurrent"] = json!(false);
    let mut view = submitted(in_time(|| stock().plan(&request.to_string(), &[])).expect("the request is right"));
    for progress in &mut view.progress[..999] {
        progress[0] = Progress::Succeeded;
    }
    assert_eq!(in_time(|| stock().next(&view)), run(&[(999, 0)]));
    view.decision = Some(Decision::Abort);
    assert_eq!(in_time(|| stock().next(&view)), run(&[(998, 1)]));
}

#[test]
fn a_request_of_a_mebibyte_is_read_in_time() {
    if stock("saga").is_none() {
        return;
    }
    let stock = || stock("saga").expect("it is there");
    let mut request = steps(3);
    request["payloads"] = json!(vec!["x".repeat(100); 9_900]);
    assert!((1 << 20) - 30_000 < request.to_string().len());
    let branches = in_time(|| stock().plan(&request.to_string(), &[])).expect("the request is right");
    assert_eq!(branches.len(), 3);
}

#[test]
fn without_a_lie_a_hostile_protocol_is_a_two_phase_commit() {
    let Some(mut protocol) = lying("none") else { return };
    let view = submitted(planned(&mut protocol, &two_services()));
    assert_eq!(protocol.next(&view).unwrap(), run(&[(0, 0), (1, 0)]));
}

#[test]
fn a_protocol_that_does_not_come_back_is_a_fault() {
    let Some(version) = version(GUESTS, "transaction-hostile") else { return };
    for (lie, call, kinds) in [
        ("traps-in-plan", "plan", &[FaultKind::Trap][..]),
        ("spins-in-plan", "plan", &[FaultKind::Deadline]),
        // More than it may hand over; on a slow machine its time is over first.
        ("plans-a-flood", "plan", &[FaultKind::Trap, FaultKind::Deadline]),
        ("traps-in-next", "next", &[FaultKind::Trap]),
        ("spins-in-next", "next", &[FaultKind::Deadline]),
        ("allocates-in-next", "next", &[FaultKind::Memory, FaultKind::Deadline]),
    ] {
        let mut protocol = protocol(&version, json!({ "lie": lie })).unwrap();
        let fault = life(&mut protocol).expect_err("it does what its settings say");
        assert!(kinds.contains(&fault.kind) && fault.call == call, "{lie}: {fault:?}");
    }
    assert_eq!((version.live_instances(), version.memory_bytes()), (0, 0));
}

/// One of each call.
fn life(protocol: &mut ProtocolInstance) -> Result<Step, Fault> {
    let branches = protocol.plan(&two_services().to_string(), &[])?.expect("the request is right");
    protocol.next(&submitted(branches))
}

#[test]
fn a_protocols_lies_arrive_as_they_were_told() {
    let step = |lie: &str, decision: Option<Decision>| {
        let mut protocol = lying(lie)?;
        let branches = planned(&mut protocol, &two_services());
        Some(protocol.next(&View { decision, ..submitted(branches) }).expect("it comes back"))
    };
    let (commit, abort) = (Some(Decision::Commit), Some(Decision::Abort));
    for (lie, decision, told) in [
        ("decides-both", commit, Step::Decide(Decision::Abort)),
        ("decides-both", abort, Step::Decide(Decision::Commit)),
        ("decides-again", abort, Step::Decide(Decision::Abort)),
        ("commits-unprepared", None, Step::Decide(Decision::Commit)),
        ("finishes-undecided", None, Step::Finish),
        ("finishes-with-debts", commit, Step::Finish),
        ("runs-invented-branches", None, run(&[(4_000_000_000, 0)])),
        ("runs-invented-operations", None, run(&[(0, 4_000_000_000)])),
        ("runs-the-wrong-phase", None, run(&[(0, 1), (1, 1)])),
        ("undoes-the-untouched", abort, run(&[(0, 2), (1, 2)])),
        ("runs-nothing", None, run(&[])),
        ("runs-a-flood", None, run(&[(0, 0); 20_000])),
        ("waits-for-ever", None, Step::Wait),
    ] {
        let Some(step) = step(lie, decision) else { return };
        assert!(step == told, "{lie}");
    }
    let Some(mut fickle) = lying("changes-its-mind") else { return };
    let view = submitted(planned(&mut fickle, &two_services()));
    assert_ne!(fickle.next(&view).unwrap(), fickle.next(&view).unwrap());
}

#[test]
fn wrong_plans_arrive_as_they_were_made() {
    let plan = |lie: &str| Some(planned(&mut lying(lie)?, &two_services()));
    let after = |branches: &[Branch]| branches.iter().map(|branch| branch.after.clone()).collect::<Vec<_>>();
    let Some(cycle) = plan("plans-a-cycle") else { return };
    assert_eq!(after(&cycle), [[1], [0]]);
    assert_eq!(after(&plan("plans-itself-after-itself").unwrap()), [vec![0], vec![]]);
    assert_eq!(after(&plan("plans-after-nothing").unwrap()), [vec![4_000_000_000], vec![]]);
    assert!(plan("plans-duplicate-branches").unwrap().iter().all(|branch| branch.id == "same"));
    assert_eq!(plan("plans-duplicate-operations").unwrap()[0].operations.len(), 6);
    assert_eq!(plan("plans-too-many-branches").unwrap().len(), 1_001);
    assert_eq!(plan("plans-too-many-operations").unwrap()[0].operations.len(), 9);
    assert_eq!(plan("plans-an-unknown-payload").unwrap()[1].payload, Some(4_000_000_000));
    assert_eq!(plan("plans-nameless").unwrap()[0].id, "");
    assert_eq!(plan("plans-nowhere").unwrap()[0].operations[0].target, "nowhere at all");
    assert!(plan("plans-debts-of-the-client").unwrap()[0].operations[1].by_client);
}

#[test]
fn names_without_bound_do_not_get_past_the_plan() {
    let Some(mut protocol) = lying("plans-long-names") else { return };
    let problems = refused(&mut protocol, &two_services().to_string());
    let told = "the id of branch 0 must have at most 128 bytes and no control characters";
    assert_eq!(problems, [Problem { path: String::new(), message: told.to_owned() }]);
    let Some(mut saga) = stock("saga") else { return };
    let forged = json!({"steps": [{"action": "http://a/\n", "compensate": ""}]}).to_string();
    let told = "an operation's target of branch 0 must have at most 8000 bytes and no control characters";
    assert_eq!(refused(&mut saga, &forged)[0].message, told);
}
