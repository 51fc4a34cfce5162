//! Whatever moment kills the gateway, every transaction ends, the ledgers agree, and nothing acknowledged is lost.

#[path = "transactions/flows.rs"]
mod flows;

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use fastrand::Rng;
use flows::{Flow, PROTOCOLS};
use sluice_harness::{Participants, Sluice, process::third_party, sluice, wait_until};

/// Before and after everything that must be done in order.
const POINTS: [&str; 13] = [
    "before-begin",
    "after-begin",
    "before-progress",
    "after-progress",
    "before-enlist",
    "after-enlist",
    "before-decide",
    "after-decide",
    "before-call",
    "after-call",
    "before-end",
    "after-end",
    "before-answer",
];

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
    let participants = Participants::start();
    let directory = tempfile::tempdir().expect("a temporary folder");
    let config = config(&participants);
    let mut deaths = BTreeMap::<&str, usize>::new();
    let mut flows = Vec::new();
    for point in POINTS {
        // The second time round is another moment for the points that a transaction comes by more than once.
        for (time, protocol, succeeds) in moments() {
            let mut gateway = sluice!()
                .config(&config)
                .directory(directory.path())
                .env("SLUICE_CRASH_AT", &format!("{point}:{time}"))
                .start();
            let flow = Flow::new(protocol, format!("{point}-{time}-{protocol}-{succeeds}"), succeeds);
            let base = if time == 1 { "service://ledger".to_owned() } else { participants.url() };
            let answered = flow.run(&gateway.control(), &base, &participants);
            // Some moments lie behind the answer; some never come in this flow.
            let died = answered.is_err() || dies_soon(&mut gateway, &flow);
            *deaths.entry(point).or_default() += usize::from(died);
            flows.push((flow, base, answered.is_ok()));
            gateway.kill();
        }
    }
    println!("killed at: {deaths:?}");
    for point in POINTS {
        assert!(deaths[point] > 0, "no flow comes by {point}");
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

/// Which flows die at a point, at which time that it comes by.
fn moments() -> impl Iterator<Item = (u32, &'static str, bool)> {
    let times = [1, 2];
    times.into_iter().flat_map(|time| {
        PROTOCOLS.into_iter().flat_map(move |protocol| [true, false].map(|succeeds| (time, protocol, succeeds)))
    })
}

/// Until it is dead, or the transaction has ended and nothing more happens.
fn dies_soon(gateway: &mut Sluice, flow: &Flow) -> bool {
    let control = gateway.control();
    let mut ended = 0;
    loop {
        let path = format!("/transactions/{}", flow.gid);
        let Ok(answer) = control.try_send(http::Method::GET, &path, &[], Vec::new()) else { return true };
        let status = answer.json()["status"].as_str().unwrap_or_default().to_owned();
        if ["succeeded", "failed"].contains(&&*status) {
            ended += 1;
        }
        // The record of the end follows the end.
        if ended > 3 {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
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
    let gateway = sluice!().config(config(&participants)).start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let trace = folder.path().join("trace");
    let mut strace = Command::new("strace")
        .args(["-f", "-tt", "-e", "trace=fsync,fdatasync,sendto,write,writev,sendmsg", "-s", "200", "-o"])
        .arg(&trace)
        .args(["-p", &gateway.pid().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .expect("strace starts");
    let read = || std::fs::read_to_string(&trace).unwrap_or_default();
    // Attached once it shows anything at all: the gateway's threads are never silent for long when they are asked.
    wait_until("strace to follow", || {
        gateway.control().get("/healthz");
        read().contains("200 OK")
    });
    let mut flow = Flow::new("saga", "traced".to_owned(), true);
    flow.gid = "traced-submission".to_owned();
    let before = read().lines().count();
    assert!(flow.run(&gateway.control(), "service://ledger", &participants).is_ok());
    wait_until("the acknowledgement to be in the trace", || {
        read().lines().skip(before).any(|line| line.contains("dtm_result"))
    });
    let lines: Vec<String> = read().lines().skip(before).map(str::to_owned).collect();
    // Ends what was started here, by its id.
    let _ = strace.kill();
    let _ = strace.wait();
    let acknowledged = lines.iter().position(|line| line.contains("dtm_result")).expect("it was waited for");
    let synced = lines
        .iter()
        .position(|line| (line.contains("fdatasync") || line.contains("fsync")) && line.trim_end().ends_with("= 0"));
    assert!(synced.is_some_and(|synced| synced < acknowledged), "{}", lines.join("\n"));
}
