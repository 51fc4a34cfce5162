//! Protocols that lie, and participants that say no when it is too late: the one transaction stands in hazard, visibly, and
//! nothing else is touched.

#[path = "transactions/flows.rs"]
mod flows;

use std::{
    collections::BTreeMap,
    path::Path,
    thread,
    time::{Duration, SystemTime},
};

use flows::{Flow, PROTOCOLS};
use serde_json::{Value, json};
use sluice_harness::{
    Participants, Refused, Sluice, control::text, process::workspace_root, sluice, wait_for, wait_until,
};

/// Lies of `tests/guests/transaction-hostile` while a transaction is under way: what is said of them, the answer that is
/// kept, and how many of its two participants had prepared at the most.
const LIES: [(&str, &str, &str, usize); 16] = [
    ("decides-both", "it decides abort, and commit is decided", "Decide(Abort)", 2),
    ("decides-again", "it decides commit, and commit is decided", "Decide(Commit)", 2),
    ("finishes-undecided", "it has finished without a decision", "Finish", 0),
    ("finishes-with-debts", "operation \"commit\" of branch \"01\" has not succeeded", "Finish", 2),
    ("runs-invented-branches", "operation 0 of branch 4000000000, which do not exist", "branch: 4000000000", 0),
    ("runs-invented-operations", "operation 4000000000 of branch 0", "operation: 4000000000", 0),
    ("runs-the-wrong-phase", "not of the phase that the decision has begun", "Run([", 0),
    ("undoes-the-untouched", "undo branch \"01\", of which nothing has run", "Run([", 0),
    ("runs-nothing", "it asks for no operation at all", "Run([])", 0),
    ("runs-a-flood", "it waits, and there is nothing that could still happen", "Run([", 1),
    ("runs-in-circles", "it waits, and there is nothing that could still happen", "Run([", 1),
    ("waits-for-ever", "it waits, and there is nothing that could still happen", "Wait", 0),
    ("changes-its-mind", "to the same question it answers", "and then Wait", 0),
    ("traps-in-next", "its protocol failed: next: trapped", "", 0),
    ("spins-in-next", "its protocol failed: next: took more than 20ms of CPU time", "", 0),
    ("allocates-in-next", "its protocol failed: next: ", "MiB", 0),
];

/// Lies in a plan, and what is said of them: 502 where the plugin fails, 422 where it answers nonsense.
const PLANS: [(&str, u16, &str); 15] = [
    ("traps-in-plan", 502, "trapped"),
    ("spins-in-plan", 502, "took more than 50ms of CPU time"),
    ("plans-a-cycle", 422, "in a circle"),
    ("plans-itself-after-itself", 422, "in a circle"),
    ("plans-after-nothing", 422, "comes after branch 4000000000, and there are 2"),
    ("plans-duplicate-branches", 422, "has the id of another one"),
    ("plans-duplicate-operations", 422, "has two operations named"),
    ("plans-too-many-branches", 422, "makes 1001 branches, and 1000 are the most"),
    ("plans-too-many-operations", 422, "has 9 operations"),
    ("plans-a-flood", 502, ""),
    ("plans-an-unknown-payload", 422, "payload that is not there"),
    ("plans-nameless", 422, "must have an id"),
    ("plans-long-names", 422, "the id of branch 0 must have at most 128 bytes"),
    ("plans-nowhere", 422, "nowhere at all"),
    ("plans-debts-of-the-client", 422, "to the client, which does nothing after the decision"),
];

/// How often the participants were asked for each operation: of which transaction, of which branch, and which.
type Asked = BTreeMap<(String, String, String), usize>;

/// Participants, and a gateway with a protocol for every lie.
struct Bed {
    participants: Participants,
    folder: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        Self { participants: Participants::start(), folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn start(&self) -> Sluice {
        let address = self.participants.address();
        let liar = workspace_root().join("tests/guests/built/transaction-hostile.wasm");
        let mut config = format!(
            "[transactions]\nallow_hosts = [\"{address}\"]\n[services.ledger]\nendpoints = [\"{address}\"]\n\
             [[route]]\npath = \"/\"\nservice = \"ledger\"\n[plugins.liar]\npath = {:?}\n",
            Path::new(&liar)
        );
        for lie in LIES.iter().map(|lie| lie.0).chain(PLANS.iter().map(|plan| plan.0)) {
            config += &format!("[transactions.protocols.{lie}]\nplugin = \"liar\"\nsettings = {{ lie = {lie:?} }}\n");
        }
        sluice!().config(config).directory(self.folder.path()).start()
    }

    /// Two branches that would succeed.
    fn submission(&self, gid: &str, protocol: &str) -> Value {
        let branch = json!({
            "prepare": "service://ledger/a", "commit": "service://ledger/a",
            "abort": format!("{}/a", self.participants.url()),
        });
        json!({"gid": gid, "trans_type": protocol, "branches": [branch, branch], "payloads": ["{}", "{}"]})
    }

    /// All that the participants were asked to do for one transaction, in order.
    fn asked(&self, gid: &str) -> Vec<String> {
        self.participants.calls_of(gid).into_iter().map(|call| call.op).collect()
    }

    fn asked_of_all(&self) -> Asked {
        let mut asked = Asked::new();
        for call in self.participants.calls() {
            *asked.entry((call.gid, call.branch, call.op)).or_default() += 1;
        }
        asked
    }

    /// Nobody was called since. What was under way then may have been noted later, and once.
    #[track_caller]
    fn expect_nothing_more(&self, before: &Asked) {
        let now = self.asked_of_all();
        let is_as_before = now.iter().all(|(of, times)| *times == before.get(of).copied().unwrap_or(1));
        assert!(is_as_before, "{now:?}, and before {before:?}");
    }

    fn expect_agreement(&self) {
        assert_eq!(self.participants.violations(), Vec::<String>::new());
    }
}

fn all(gateway: &Sluice, status: &str) -> Vec<Value> {
    let page = gateway.control().get(&format!("/transactions?status={status}&limit=1000")).expect(200).json();
    page["transactions"].as_array().cloned().expect("a list")
}

fn hazards(gateway: &Sluice) -> f64 {
    gateway.metric("sluice_transaction_hazards_total", &[])
}

/// Asks an operator's wish of a transaction; where it stands then.
#[track_caller]
fn wish(gateway: &Sluice, gid: &str, what: &str) -> String {
    let answer = gateway.control().post(&format!("/transactions/{gid}/{what}"), &json!({}));
    text(&answer.expect(200).json()["status"])
}

#[test]
fn a_protocol_that_lies_leaves_its_own_transaction_in_hazard_and_all_others_end_well() {
    let bed = Bed::new();
    let mut gateway = bed.start();
    let control = gateway.control();
    let others: Vec<_> =
        (0..40).map(|n| Flow::new(PROTOCOLS[n % PROTOCOLS.len()], format!("honest-{n}"), n % 3 > 0)).collect();
    thread::scope(|scope| {
        scope.spawn(|| {
            let client = gateway.control();
            for flow in &others {
                assert!(flow.run(&client, "service://ledger", &bed.participants).is_ok(), "{flow:?}");
            }
        });
        for (lie, ..) in LIES {
            let begun = control.post("/transactions", &bed.submission(&format!("of-{lie}"), lie));
            assert!([200, 202].contains(&begun.status.as_u16()), "{lie}: {begun}");
        }
    });
    for (lie, words, answer, prepared_max) in LIES {
        let gid = format!("of-{lie}");
        let shown = gateway.await_transaction(&gid, "hazard");
        let said = text(&shown["hazard"]);
        println!("{lie}: {said}");
        assert!(said.contains(words) && said.contains(answer), "{lie}: {said}");
        assert!(said.contains("its answer: ") || !words.starts_with("it "), "{lie}: {said}");
        let last = shown["events"].as_array().and_then(|events| events.last()).cloned().unwrap_or_default();
        assert_eq!((&last["what"], &last["reason"]), (&json!("hazard"), &shown["hazard"]), "{lie}");
        gateway.await_history("hazard", &[&gid, &said]);
        let asked = bed.asked(&gid);
        assert!(asked.iter().all(|op| op == "prepare") && asked.len() <= prepared_max, "{lie}: {asked:?}");
    }
    for flow in &others {
        let end = flow.await_end(&control);
        flow.check(end.as_deref(), &bed.participants);
    }
    assert_eq!((hazards(&gateway) as usize, all(&gateway, "hazard").len()), (LIES.len(), LIES.len()));
    bed.expect_agreement();

    let before: Vec<_> =
        LIES.iter().map(|(lie, ..)| text(&gateway.transaction(&format!("of-{lie}"))["hazard"])).collect();
    gateway.kill();
    let gateway = bed.start();
    for ((lie, ..), said) in LIES.iter().zip(&before) {
        let gid = format!("of-{lie}");
        let asked = bed.asked(&gid).len();
        let shown = gateway.transaction(&gid);
        assert_eq!((&shown["status"], &shown["hazard"]), (&json!("hazard"), &json!(said)), "{lie} after a restart");
        assert_eq!(bed.asked(&gid).len(), asked, "{lie}: nobody is called for it");
    }
    // Who is asked again lies again, and ends where an operator says so.
    for (n, (lie, ..)) in LIES.iter().enumerate() {
        let gid = format!("of-{lie}");
        wish(&gateway, &gid, "retry");
        wait_until("it to stand in hazard again", || hazards(&gateway) as usize > n);
        assert_eq!(gateway.await_transaction(&gid, "hazard")["hazard"], json!(before[n]), "{lie} once more");
        assert_eq!(wish(&gateway, &gid, "stop"), "stopped");
        let asked = bed.asked(&gid);
        assert!(asked.iter().all(|op| op == "prepare"), "{lie}: {asked:?}");
        gateway.control().post(&format!("/transactions/{gid}/retry"), &json!({})).expect(409);
    }
    assert!(all(&gateway, "hazard").is_empty());
    assert_eq!(all(&gateway, "stopped").len(), LIES.len());
    // Said once more they are told that it is too late, and nobody is alarmed.
    let alarms = (hazards(&gateway), gateway.history("hazard").len());
    for (lie, ..) in LIES {
        gateway.control().post("/transactions", &bed.submission(&format!("of-{lie}"), lie)).expect(409);
    }
    assert_eq!((hazards(&gateway), gateway.history("hazard").len()), alarms);
    bed.expect_agreement();
}

#[test]
fn a_plan_that_is_nonsense_is_refused_with_what_is_wrong_and_nothing_of_it_is_stored() {
    let bed = Bed::new();
    let mut gateway = bed.start();
    for (lie, status, words) in PLANS {
        let gid = format!("of-{lie}");
        let answer = gateway.control().post("/transactions", &bed.submission(&gid, lie)).expect(status);
        let refused = Refused::of(answer).says(&[words]);
        println!("{lie}: {:.200}", refused.words());
        assert!(refused.words().len() < 100_000, "{lie}");
        gateway.control().get(&format!("/transactions/{gid}")).expect(404);
    }
    let nothing = |gateway: &Sluice| {
        let page = gateway.control().get("/transactions").expect(200).json();
        assert_eq!(page["transactions"], json!([]));
    };
    nothing(&gateway);
    assert_eq!(bed.participants.calls(), []);
    assert_eq!((hazards(&gateway), gateway.metric("sluice_transactions_live", &[])), (0.0, 0.0));
    gateway.kill();
    let gateway = bed.start();
    nothing(&gateway);
    // Their ids are as good as new.
    for (lie, ..) in PLANS {
        let gid = format!("of-{lie}");
        let begun = gateway.control().post("/transactions?wait=30s", &bed.submission(&gid, "two-phase-commit"));
        assert_eq!(begun.expect(200).json()["status"], "succeeded", "{lie}");
    }
    bed.expect_agreement();
}

/// Submissions to the stock protocols of which a participant says no after the decision: which operation that is, how it
/// ends once the participant is mended.
fn refused_after_the_decision() -> [(Value, &'static str, &'static str); 5] {
    let at = |path: &str| format!("service://ledger/{path}");
    let (fine, no) = (at("a"), at("refuse"));
    let (no_commit, no_undo) = (at("refuse-commit"), at("refuse-undo"));
    let payloads = ["{}", "{}"];
    [
        (
            json!({"gid": "commit", "trans_type": "two-phase-commit", "payloads": payloads, "branches": [
                {"prepare": fine, "commit": fine, "abort": fine},
                {"prepare": fine, "commit": no_commit, "abort": fine},
            ]}),
            "commit",
            "succeeded",
        ),
        (
            json!({"gid": "abort", "trans_type": "two-phase-commit", "payloads": payloads, "branches": [
                {"prepare": fine, "commit": fine, "abort": no_undo},
                {"prepare": no, "commit": fine, "abort": fine},
            ]}),
            "abort",
            "failed",
        ),
        (
            json!({"gid": "confirm", "trans_type": "tcc", "payloads": payloads, "branches": [
                {"try": fine, "confirm": fine, "cancel": fine},
                {"try": fine, "confirm": no_commit, "cancel": fine},
            ]}),
            "confirm",
            "succeeded",
        ),
        (
            json!({"gid": "compensate", "trans_type": "saga", "payloads": payloads, "steps": [
                {"action": fine, "compensate": no_undo}, {"action": no, "compensate": fine},
            ]}),
            "compensate",
            "failed",
        ),
        (
            json!({"gid": "message", "trans_type": "message", "payloads": payloads, "query_prepared": fine, "steps": [
                {"action": fine}, {"action": no_commit},
            ]}),
            "action",
            "succeeded",
        ),
    ]
}

/// The operation of that name that was refused.
fn refused_operation(shown: &Value, op: &str) -> Option<Value> {
    let branches = shown["branches"].as_array()?;
    let mut operations = branches.iter().filter_map(|branch| branch["operations"].as_array()).flatten();
    operations.find(|operation| operation["op"] == op && operation["progress"] == "refused").cloned()
}

#[test]
fn a_refusal_after_the_decision_is_a_hazard_that_survives_a_restart_and_ends_when_the_participant_is_mended() {
    let bed = Bed::new();
    let mut gateway = bed.start();
    let cases = refused_after_the_decision();
    for (submission, op, _) in &cases {
        gateway.control().post("/transactions", submission).expect(202);
        let gid = text(&submission["gid"]);
        let shown = gateway.await_transaction(&gid, "hazard");
        let said = text(&shown["hazard"]);
        println!("{gid}: {said}");
        assert!(
            said.contains(&format!("operation {op:?}")) && said.contains("refused after the decision: 409"),
            "{said}"
        );
        let refused = refused_operation(&shown, op).unwrap_or_else(|| panic!("{op} was refused: {shown}"));
        assert!(text(&refused["reason"]).starts_with("409"), "{refused}");
        gateway.await_history("hazard", &[&gid, &said]);
    }
    assert_eq!(hazards(&gateway) as usize, cases.len());
    // Another one, meanwhile.
    let begun = gateway.control().post("/transactions?wait=30s", &bed.submission("meanwhile", "two-phase-commit"));
    begun.expect(200);
    assert_eq!(gateway.metric("sluice_transactions_live", &[]) as usize, cases.len(), "only hazards are left");
    // Its client is told of its end before that is written down, which is with the next commit.
    gateway.control().post("/event", &json!({"event_type": "written"})).expect(201);
    let asked = bed.asked_of_all();
    gateway.kill();
    let gateway = bed.start();
    assert_eq!(all(&gateway, "hazard").len(), cases.len());
    bed.expect_nothing_more(&asked);

    // As long as the participant says no, so does the hazard.
    for (n, (submission, ..)) in cases.iter().enumerate() {
        let gid = text(&submission["gid"]);
        wish(&gateway, &gid, "retry");
        wait_until("the refusal to be heard again", || hazards(&gateway) as usize > n);
        gateway.await_transaction(&gid, "hazard");
    }
    bed.participants.mend();
    for (submission, _, end) in &cases {
        let gid = text(&submission["gid"]);
        wish(&gateway, &gid, "retry");
        let shown = gateway.await_transaction(&gid, end);
        assert!(shown["hazard"].is_null(), "{shown}");
        let ledger = bed.participants.ledger(&gid);
        if *end == "succeeded" {
            assert!(ledger.len() == 2 && ledger.values().all(|entry| entry.confirmed), "{gid}: {ledger:?}");
        } else {
            assert!(
                ledger.values().all(|entry| !entry.confirmed && (entry.undone || !entry.done)),
                "{gid}: {ledger:?}"
            );
        }
    }
    bed.expect_agreement();
}

#[test]
fn an_operator_ends_a_hazard_and_nobody_is_called_for_it_any_more() {
    let bed = Bed::new();
    let mut gateway = bed.start();
    let (submission, ..) = &refused_after_the_decision()[0];
    gateway.control().post("/transactions", submission).expect(202);
    gateway.await_transaction("commit", "hazard");
    // The other commit may be under way yet.
    let asked = bed.asked_of_all();
    assert_eq!(wish(&gateway, "commit", "stop"), "stopped");
    wait_until("nothing to be under way", || gateway.metric("sluice_transactions_live", &[]) == 0.0);
    let shown = gateway.transaction("commit");
    assert_eq!((&shown["status"], &shown["decision"]), (&json!("stopped"), &json!("commit")), "{shown}");
    assert!(refused_operation(&shown, "commit").is_some(), "what had happened stays to be seen: {shown}");
    for what in ["retry", "stop"] {
        gateway.control().post(&format!("/transactions/commit/{what}"), &json!({})).expect(409);
    }
    gateway.kill();
    let gateway = bed.start();
    assert_eq!(gateway.transaction("commit")["status"], "stopped");
    bed.expect_nothing_more(&asked);
    bed.expect_agreement();
}

/// The operation `op` of a transaction's second branch.
fn second(shown: &Value, op: &str) -> Value {
    let operations = shown["branches"][1]["operations"].as_array().cloned().unwrap_or_default();
    operations.into_iter().find(|operation| operation["op"] == op).expect("it is planned")
}

#[test]
fn what_is_tried_again_shows_its_attempts_and_is_tried_at_once_when_an_operator_says_so() {
    /// Further away than everything that the test does from then on.
    const FAR: Duration = Duration::from_secs(10);
    let bed = Bed::new();
    let mut gateway = bed.start();
    let fine = "service://ledger/a";
    let submission = json!({
        "gid": "slow", "trans_type": "two-phase-commit", "payloads": ["{}", "{}"], "retry_interval": 60,
        "branches": [
            {"prepare": fine, "commit": fine, "abort": fine},
            {"prepare": fine, "commit": "service://ledger/unavailable", "abort": fine},
        ],
    });
    gateway.control().post("/transactions", &submission).expect(202);
    let next_at = |shown: &Value| humantime::parse_rfc3339(&text(&second(shown, "commit")["next_at"])).ok();
    // Pauses are random below a minute: the first that is long.
    let waiting = |gateway: &Sluice| {
        wait_for("an attempt that is far away", Duration::from_secs(120), || {
            let shown = gateway.transaction("slow");
            next_at(&shown).is_some_and(|at| at > SystemTime::now() + FAR).then_some(shown)
        })
    };
    let shown = waiting(&gateway);
    let commit = second(&shown, "commit");
    println!("{commit}");
    assert_eq!((&shown["status"], &commit["progress"]), (&json!("committing"), &json!("running")));
    assert!(text(&commit["last_error"]).starts_with("503"), "{commit}");
    assert_eq!(shown["last_error"], commit["last_error"]);
    let attempts = commit["attempts"].as_u64().expect("a count");
    assert_eq!(attempts as usize, bed.asked("slow").len() - 3, "two prepares and the other commit did well");
    assert_eq!(all(&gateway, "committing")[0]["last_error"], commit["last_error"], "the list shows it too");

    // Asked again while it still fails: one attempt more, and soon another one where the pause behind it is short.
    wish(&gateway, "slow", "retry");
    wait_until("another attempt", || {
        second(&gateway.transaction("slow"), "commit")["attempts"].as_u64() > Some(attempts)
    });
    // What was learned of it is durable.
    gateway.kill();
    let gateway = bed.start();
    let restarted = second(&gateway.transaction("slow"), "commit");
    assert!(restarted["attempts"].as_u64() > Some(attempts), "{restarted}");
    let shown = waiting(&gateway);
    bed.participants.mend();
    assert_eq!(gateway.transaction("slow")["status"], "committing");
    wish(&gateway, "slow", "retry");
    let ended = gateway.await_transaction("slow", "succeeded");
    let ended_at = humantime::parse_rfc3339(&text(&ended["updated_at"])).expect("a time");
    assert!(Some(ended_at) < next_at(&shown), "it has not waited for its next attempt");
    assert!(second(&ended, "commit")["last_error"].is_null(), "{ended}");
    bed.expect_agreement();
}
