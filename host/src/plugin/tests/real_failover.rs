//! Failover policies, stock and hostile, as their toolchain builds them (`make plugins test-guests`). Where they are not
//! built, these tests say so and prove nothing.

use std::{fs, path::Path, sync::Arc};

use super::guest::{completion, context, member, plugin_name, runtime};
use crate::{
    model::{Completion, Outcome},
    plugin::{
        FailedAttempt, FailoverInstance, Fault, FaultKind, HealthChange, HealthInstance, InstanceError, Observation,
        PolicyContext, Verdict, Version,
    },
};

const STOCK: &str = "../plugins/built/failover";
const GUESTS: &str = "../tests/guests/built";

fn version(folder: &str, name: &str) -> Option<Arc<Version>> {
    let path = Path::new(folder).join(format!("{name}.wasm"));
    let Ok(bytes) = fs::read(&path) else {
        eprintln!("{} is not built: make plugins test-guests", path.display());
        return None;
    };
    Some(runtime().load(&plugin_name(), &bytes).unwrap_or_else(|error| panic!("{name}: {error}")))
}

fn with(settings: serde_json::Value) -> PolicyContext {
    PolicyContext { settings, ..context() }
}

fn both(version: &Version, settings: serde_json::Value) -> Result<(FailoverInstance, HealthInstance), InstanceError> {
    let context = with(settings);
    Ok((version.failover(&context)?, version.health(&context)?))
}

fn failed(outcome: Outcome) -> FailedAttempt {
    FailedAttempt {
        now_us: 1,
        random: 0,
        slot: Some(0),
        outcome,
        status: None,
        grpc_status: None,
        retry_after_ms: None,
        attempts: 1,
        remaining_us: 1_000_000,
        repeatable: true,
        retries_left: 2,
    }
}

/// So many requests to endpoint 1 that ended like this.
fn seen(outcome: Outcome, times: usize) -> Vec<Observation> {
    let completion = Completion { outcome, at_us: 5_000_000, ..completion(1) };
    vec![Observation { by_check: false, completion }; times]
}

#[test]
fn stock_policies_retry_a_refused_connection_and_eject_who_refuses() {
    for (name, failures) in [("standard", 5), ("breaker", 7), ("hedge", 5)] {
        let Some(version) = version(STOCK, name) else { return };
        let (mut worker, mut health) = both(&version, serde_json::json!({})).unwrap();
        let again = worker.decide(&failed(Outcome::ConnectFailed)).unwrap();
        assert_eq!(again, Verdict::Retry { after_us: 0 }, "{name}");
        health.update(&[member(0), member(1)], 1).unwrap();
        assert!(health.observe(&seen(Outcome::ConnectFailed, failures - 1), 5_000_000).unwrap().is_empty(), "{name}");
        let changes = health.observe(&seen(Outcome::Reset, 1), 5_000_001).unwrap();
        assert!(matches!(&changes[..], [HealthChange::Eject { slot: 1, .. }]), "{name}: {changes:?}");
    }
}

#[test]
fn ejections_pass_from_every_stock_policy_to_every_other() {
    let names = ["standard", "breaker", "hedge"];
    for from in names {
        for to in names {
            let (Some(from), Some(to)) = (version(STOCK, from), version(STOCK, to)) else { return };
            let mut old = from.health(&with(serde_json::json!({}))).unwrap();
            old.update(&[member(0), member(1)], 1).unwrap();
            old.observe(&seen(Outcome::Reset, 7), 5_000_000).unwrap();
            let mut new = to.health(&with(serde_json::json!({}))).unwrap();
            new.update(&[member(0), member(1)], 5_000_001).unwrap();
            assert_eq!(new.restore(&old.save().unwrap()).unwrap(), Ok(()));
        }
    }
}

#[test]
fn hedge_measures_on_a_worker_and_its_successor_goes_on_with_that() {
    let Some(version) = version(STOCK, "hedge") else { return };
    let mut worker = version.failover(&with(serde_json::json!({}))).unwrap();
    let answered = Completion { outcome: Outcome::Success, first_byte_us: 10_000, ..completion(0) };
    assert_eq!(worker.complete(&[answered; 50], 5_000_000).unwrap(), None);
    let delay_us = worker.complete(&[answered; 50], 5_000_001).unwrap().expect("100 are enough");
    assert!((10_000..11_000).contains(&delay_us), "{delay_us}");
    let mut next = version.failover(&with(serde_json::json!({}))).unwrap();
    assert_eq!(next.restore(&worker.save().unwrap()).unwrap(), Ok(()));
    assert_eq!(next.complete(&[], 6_000_000).unwrap(), Some(delay_us));
}

#[test]
fn none_does_nothing() {
    let Some(version) = version(STOCK, "none") else { return };
    let (mut worker, mut health) = both(&version, serde_json::json!({})).unwrap();
    assert_eq!(worker.decide(&failed(Outcome::ConnectFailed)).unwrap(), Verdict::GiveUp);
    assert_eq!(worker.complete(&[completion(0)], 1).unwrap(), None);
    health.update(&[member(0), member(1)], 1).unwrap();
    assert!(health.observe(&seen(Outcome::Reset, 1_000), 5_000_000).unwrap().is_empty());
}

#[test]
fn a_misbehaving_failover_policy_is_a_fault_wherever_it_misbehaves() {
    let Some(hostile) = version(GUESTS, "failover-hostile") else { return };
    for (setting, kinds) in [
        ("trap_in", &[FaultKind::Trap][..]),
        ("spin_in", &[FaultKind::Deadline]),
        // What it fills takes time too: whichever limit comes first.
        ("allocate_in", &[FaultKind::Memory, FaultKind::Deadline]),
    ] {
        for call in ["configure", "decide", "complete", "update", "observe", "save", "restore"] {
            let fault = misbehaving(&hostile, setting, call).expect_err("it does what its settings say");
            assert!(kinds.contains(&fault.kind) && fault.call == call, "{setting} {call}: {fault:?}");
        }
    }
    assert_eq!((hostile.live_instances(), hostile.memory_bytes()), (0, 0));
}

/// One of each call.
fn misbehaving(hostile: &Version, setting: &str, call: &str) -> Result<(), Fault> {
    let (mut worker, mut health) = match both(hostile, serde_json::json!({ setting: call })) {
        Ok(instances) => instances,
        Err(InstanceError::Fault(fault)) => return Err(fault),
        Err(other) => panic!("{other}"),
    };
    worker.decide(&failed(Outcome::Reset))?;
    worker.complete(&[completion(0)], 1)?;
    health.update(&[member(0), member(1)], 1)?;
    health.observe(&[], 1)?;
    health.save()?;
    let _ = health.restore(b"something")?;
    Ok(())
}

#[test]
fn a_hostile_policys_nonsense_arrives_as_it_was_said() {
    let Some(hostile) = version(GUESTS, "failover-hostile") else { return };
    let changes = |deed: &str| {
        let mut health = hostile.health(&with(serde_json::json!({ "observe": deed }))).unwrap();
        health.update(&[member(0), member(1)], 1).unwrap();
        health.observe(&[], 1).unwrap()
    };
    let durations = |deed: &str| -> Vec<u32> {
        let of = |change| if let HealthChange::Eject { duration_ms, .. } = change { Some(duration_ms) } else { None };
        changes(deed).into_iter().filter_map(of).collect()
    };
    assert!(changes("nothing").is_empty());
    assert_eq!(durations("ejects-all"), [30_000; 2]);
    assert_eq!(durations("ejects-all-for-nothing"), [0; 2]);
    assert_eq!(durations("ejects-all-for-ever"), [u32::MAX; 2]);
    assert_eq!(durations("never-admits"), [3_600_000; 2]);
    assert_eq!(changes("probes-all"), [HealthChange::Probe(0), HealthChange::Probe(1)]);
    assert_eq!(changes("unknown-slots").len(), 9);
    assert_eq!(changes("floods").len(), 10_000);
    assert_eq!(changes("flaps").len(), 4);
}

#[test]
fn a_hostile_policys_verdicts_are_what_its_settings_say() {
    let Some(hostile) = version(GUESTS, "failover-hostile") else { return };
    for (said, wanted) in [
        ("gives-up", Verdict::GiveUp),
        ("retries-at-once", Verdict::Retry { after_us: 0 }),
        ("retries-never", Verdict::Retry { after_us: u32::MAX }),
        ("falls-back", Verdict::FallBack("nowhere".to_owned())),
    ] {
        let mut worker = hostile.failover(&with(serde_json::json!({ "decide": said }))).unwrap();
        assert_eq!(worker.decide(&failed(Outcome::Reset)).unwrap(), wanted);
    }
    for (said, wanted) in [("never", None), ("hedges-at-once", Some(0)), ("hedges-late", Some(u32::MAX))] {
        let mut worker = hostile.failover(&with(serde_json::json!({ "complete": said }))).unwrap();
        assert_eq!(worker.complete(&[], 1).unwrap(), wanted);
    }
}
