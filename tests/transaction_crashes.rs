//! Whatever moment kills the gateway, every transaction ends, the ledgers agree, and nothing acknowledged is lost.

#[path = "transactions/flows.rs"]
mod flows;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use fastrand::Rng;
use flows::{END_DEADLINE, Flow, PROTOCOLS};
use sluice_harness::{
    Participants, Sluice, participants::Call, process::third_party, sluice, strace, wait_for, wait_until,
};

/// Before and after everything that must be done in order, and how often a transaction comes by at the most: two branches
/// are called twice each, before the decision and after it.
const POINTS: [(&str, u32); 13] = [
    ("before-begin", 1),
    ("after-begin", 1),
    ("before-progress", 2),
    ("after-progress", 2),
    ("before-enlist", 2),
    ("after-enlist", 2),
    ("before-decide", 1),
    ("after-decide", 1),
    ("before-call", 4),
    ("after-call", 4),
    ("before-end", 1),
    ("after-end", 1),
    ("before-answer", 2),
];

/// What a participant is asked to do once it is decided; a message's actions all come after its decision.
const PHASE_TWO: [&str; 6] = ["commit", "abort", "confirm", "cancel", "compensate", "rollback"];

/// What the path of the store's journal contains.
const JOURNAL: &str = ".jnl";

/// Kills at random moments.
const KILLS: usize = 100;

/// Transactions between two of them, at most.
const FLOWS_BETWEEN: usize = 40;

fn config(participants: &Participants) -> String {
    format!(
        "[transactions]\nallow_hosts = [\"{0}\"]\n[services.ledger]\nendpoints = [\"{0}\"]\n\
         [[route]]\npath = \"/\"\nservice = \"ledger\"\n",
        participants.address()
    )
}

#[test]
fn whatever_step_the_gateway_dies_at_the_transaction_ends_and_the_ledgers_agree() {
    thread::scope(|scope| {
        for protocol in PROTOCOLS {
            scope.spawn(move || die_at_every_step(protocol));
        }
    });
}

/// Flows of one protocol, one after the other, each of which meets what the ones before have left.
fn die_at_every_step(protocol: &'static str) {
    let participants = Participants::start();
    let directory = tempfile::tempdir().expect("a temporary folder");
    let config = config(&participants);
    let mut deaths = BTreeMap::<&str, usize>::new();
    let mut deaths_in_phase_two = BTreeMap::<&str, usize>::new();
    let mut flows = Vec::new();
    for (point, times) in POINTS {
        for (time, succeeds) in (1..=times).flat_map(|time| [(time, true), (time, false)]) {
            let mut gateway = sluice!()
                .config(&config)
                .directory(directory.path())
                .env("SLUICE_CRASH_AT", &format!("{point}:{time}"))
                .start();
            // Counted from the first submission on: whose steps are counted then is this flow's alone.
            wait_for("what the flows before have left to end", END_DEADLINE, || {
                (gateway.metric("sluice_transactions_live", &[]) == 0.0).then_some(())
            });
            let flow = Flow::new(protocol, format!("{point}-{time}-{succeeds}"), succeeds);
            let base = if time % 2 == 1 { "service://ledger".to_owned() } else { participants.url() };
            let answered = flow.run(&gateway.control(), &base, &participants);
            // Some moments lie behind the answer; some never come in this flow.
            let died = answered.is_err() || dies_soon(&mut gateway, &flow);
            let is_called = |call: Call| PHASE_TWO.contains(&&*call.op);
            let in_phase_two = participants.calls_of(&flow.gid).into_iter().any(is_called);
            *deaths.entry(point).or_default() += usize::from(died);
            *deaths_in_phase_two.entry(point).or_default() += usize::from(died && in_phase_two);
            flows.push((flow, base, answered.is_ok()));
            gateway.kill();
        }
    }
    println!("{protocol} was killed at: {deaths:?}, in phase two: {deaths_in_phase_two:?}");
    for (point, count) in &deaths {
        // Branches are enlisted by TCC's clients alone; where all are called at once, no answer is kept before the decision.
        let comes_by = match *point {
            "before-enlist" | "after-enlist" => protocol == "tcc",
            "before-progress" | "after-progress" => protocol == "saga" || protocol == "message",
            _ => true,
        };
        assert_eq!(*count > 0, comes_by, "{protocol} at {point}");
    }
    if protocol != "message" {
        assert!(deaths_in_phase_two["after-call"] > 0, "no {protocol} dies after a call that its decision asks for");
    }
    let gateway = sluice!().config(&config).directory(directory.path()).start();
    for (flow, base, acknowledged) in &flows {
        // A client that had no answer says it once more, and the transaction is the same.
        if !acknowledged && flow.protocol != "tcc" && flow.protocol != "message" {
            assert!(flow.run(&gateway.control(), base, &participants).is_ok(), "{flow:?}");
        }
        let end = flow.await_end(&gateway.control());
        assert!(end.is_some() || !acknowledged, "{flow:?} was acknowledged, and is lost");
        flow.check(end.as_deref(), &participants);
    }
    assert_eq!(participants.violations(), Vec::<String>::new());
}

/// Until it is dead, or the transaction has ended and nothing more happens.
fn dies_soon(gateway: &mut Sluice, flow: &Flow) -> bool {
    let control = gateway.control();
    let path = format!("/transactions/{}", flow.gid);
    let mut ended = 0;
    wait_for(&format!("{flow:?} to end, or the gateway to die"), END_DEADLINE, || {
        let Ok(answer) = control.try_send(http::Method::GET, &path, &[], Vec::new()) else { return Some(true) };
        let status = answer.expect(200).json()["status"].as_str().unwrap_or_default().to_owned();
        ended += usize::from(["succeeded", "failed"].contains(&&*status));
        // The record of the end follows the end.
        (ended > 3).then_some(false)
    })
}

#[test]
fn whenever_the_gateway_dies_while_it_removes_what_has_ended_nothing_is_left_of_it() {
    thread::scope(|scope| {
        for point in ["before-remove", "after-remove"] {
            scope.spawn(|| removal(point));
        }
    });
}

/// Of all protocols at once, as what is due is removed in one commit.
fn removal(point: &'static str) {
    let participants = Participants::start();
    let directory = tempfile::tempdir().expect("a temporary folder");
    let config = config(&participants).replacen("[transactions]\n", "[transactions]\nretention = \"1 s\"\n", 1);
    let flows = PROTOCOLS.into_iter().flat_map(|protocol| [(protocol, true), (protocol, false)]);
    let flow = |(protocol, succeeds)| Flow::new(protocol, format!("{protocol}-{succeeds}"), succeeds);
    let flows: Vec<_> = flows.map(flow).collect();
    let builder = || sluice!().config(&config).directory(directory.path());
    let mut gateway = builder().env("SLUICE_CRASH_AT", point).start();
    for flow in &flows {
        assert!(flow.run(&gateway.control(), "service://ledger", &participants).is_ok(), "{flow:?}");
    }
    gateway.await_exit();
    let gateway = builder().start();
    for flow in &flows {
        wait_for(&format!("{flow:?} to be removed"), END_DEADLINE, || {
            // Those that had not ended when the gateway died end now.
            (gateway.control().get(&format!("/transactions/{}", flow.gid)).status == 404).then_some(())
        });
        flow.check(Some(if flow.succeeds { "succeeded" } else { "failed" }), &participants);
    }
    let left = gateway.control().get("/transactions").expect(200).json();
    assert_eq!(left["transactions"], serde_json::json!([]));
    assert_eq!(participants.violations(), Vec::<String>::new());
}

#[test]
fn a_hundred_kills_at_random_moments_lose_and_tear_no_transaction() {
    let seed =
        std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SLUICE_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let participants = Participants::start();
    let directory = tempfile::tempdir().expect("a temporary folder");
    let config = config(&participants);
    let acknowledged = Mutex::new(Vec::new());
    for round in 0..KILLS {
        let mut gateway = sluice!().config(&config).directory(directory.path()).start();
        let control = gateway.control_address();
        let kill_after = random.usize(0..FLOWS_BETWEEN);
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let seeds: Vec<_> = (0..4).map(|_| random.u64(..)).collect();
        thread::scope(|scope| {
            for seed in seeds {
                let (next, done, acknowledged, participants) = (&next, &done, &acknowledged, &participants);
                scope.spawn(move || {
                    let (client, mut random) = (sluice_harness::Client::to(control), Rng::with_seed(seed));
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= FLOWS_BETWEEN {
                            return;
                        }
                        let protocol = PROTOCOLS[random.usize(..4)];
                        let flow = Flow::new(protocol, format!("r{round}-{number}"), random.u32(..4) > 0);
                        let base = if random.bool() { "service://ledger".to_owned() } else { participants.url() };
                        let answered = flow.run(&client, &base, participants);
                        let is_gone = answered.is_err();
                        acknowledged.lock().expect("unpoisoned").push((flow, !is_gone));
                        if is_gone {
                            return;
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            wait_until("enough to be under way", || done.load(Ordering::Relaxed) >= kill_after);
            gateway.kill();
        });
    }
    let gateway = sluice!().config(&config).directory(directory.path()).start();
    let flows = acknowledged.into_inner().expect("unpoisoned");
    let mut ends = BTreeMap::<String, usize>::new();
    for (flow, acknowledged) in &flows {
        let end = flow.await_end(&gateway.control());
        assert!(end.is_some() || !acknowledged, "{flow:?} was acknowledged, and is lost");
        flow.check(end.as_deref(), &participants);
        *ends.entry(end.unwrap_or_else(|| "unknown".to_owned())).or_default() += 1;
    }
    println!("{} transactions over {KILLS} kills: {ends:?}", flows.len());
    assert_eq!(participants.violations(), Vec::<String>::new());
}

#[test]
fn a_submission_is_synced_before_it_is_acknowledged() {
    if third_party("strace").is_none() {
        return;
    }
    let participants = Participants::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trace = folder.path().join("trace");
    let calls = "fsync,fdatasync,sendto,write,writev,sendmsg";
    let gateway = sluice!().config(config(&participants)).traced(calls, &trace).start();
    let read = || std::fs::read_to_string(&trace).unwrap_or_default();
    let mut flow = Flow::new("saga", "traced".to_owned(), true);
    flow.gid = "traced-submission".to_owned();
    let before = read().lines().count();
    assert!(flow.run(&gateway.control(), "service://ledger", &participants).is_ok());
    wait_until("the acknowledgement to be in the trace", || {
        read().lines().skip(before).any(|line| line.contains("dtm_result"))
    });
    let lines: Vec<String> = read().lines().skip(before).map(str::to_owned).collect();
    let acknowledged = lines.iter().position(|line| line.contains("dtm_result")).expect("it was waited for");
    let synced = strace::syncs(&lines, JOURNAL);
    assert!(synced.iter().any(|&synced| synced < acknowledged), "{}", lines.join("\n"));
}
