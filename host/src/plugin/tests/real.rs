//! The guests of the end-to-end tests, as their toolchain builds them (`make test-guests`). Where they are not built,
//! these tests say so and prove nothing.

use std::{fs, path::Path, sync::Arc};

use super::guest::{completion, context, member, pick, plugin_name, runtime};
use crate::plugin::{BalancerInstance, Fault, FaultKind, InstanceError, PolicyContext, Version};

fn built(name: &str) -> Option<Vec<u8>> {
    let path = Path::new("../tests/guests/built").join(format!("{name}.wasm"));
    let bytes = fs::read(&path).ok();
    if bytes.is_none() {
        eprintln!("{} is not built: make test-guests", path.display());
    }
    bytes
}

fn version(name: &str) -> Option<Arc<Version>> {
    built(name).map(|bytes| runtime().load(&plugin_name(), &bytes).unwrap_or_else(|error| panic!("{name}: {error}")))
}

fn with(version: &Version, settings: serde_json::Value) -> Result<BalancerInstance, InstanceError> {
    version.balancer(&PolicyContext { settings, ..context() })
}

#[test]
fn a_misbehaving_guest_is_a_fault_wherever_it_misbehaves() {
    let Some(hostile) = version("hostile") else { return };
    for (setting, kinds) in [
        ("trap_in", &[FaultKind::Trap][..]),
        ("spin_in", &[FaultKind::Deadline]),
        // What it fills takes time too: whichever limit comes first.
        ("allocate_in", &[FaultKind::Memory, FaultKind::Deadline]),
    ] {
        for call in ["configure", "update", "pick", "complete", "save", "restore"] {
            let fault = misbehaving(&hostile, setting, call).expect_err("it does what its settings say");
            assert!(kinds.contains(&fault.kind) && fault.call == call, "{setting} {call}: {fault:?}");
            assert!(fault.message.contains("behaviour::Behaviour") || fault.message.contains(call), "{fault}");
        }
    }
    assert_eq!((hostile.live_instances(), hostile.memory_bytes()), (0, 0));
}

/// One of each call.
fn misbehaving(hostile: &Version, setting: &str, call: &str) -> Result<(), Fault> {
    let mut instance = match with(hostile, serde_json::json!({ setting: call })) {
        Ok(instance) => instance,
        Err(InstanceError::Fault(fault)) => return Err(fault),
        Err(other) => panic!("{other}"),
    };
    instance.update(&[member(0), member(1)], 1)?;
    pick(&mut instance)?;
    instance.complete(&[completion(0)], 1)?;
    instance.save()?;
    let _ = instance.restore(b"tame")?;
    Ok(())
}

#[test]
fn a_panic_names_its_place() {
    let Some(hostile) = version("hostile") else { return };
    let fault = misbehaving(&hostile, "trap_in", "pick").unwrap_err();
    assert!(fault.message.starts_with("trapped: it panicked or aborted (unreachable code), in "), "{fault}");
    assert!(!fault.message.contains("core::") && !fault.message.contains("std::"), "{fault}");
}

#[test]
fn a_state_that_is_too_large_is_a_fault_and_one_of_noise_is_not() {
    let Some(hostile) = version("hostile") else { return };
    let mut huge = with(&hostile, serde_json::json!({ "state": "huge" })).unwrap();
    assert_eq!(huge.save().unwrap_err().message, "gave the host more than 1 MiB at once");
    let mut noise = with(&hostile, serde_json::json!({ "state": "noise" })).unwrap();
    let state = noise.save().unwrap();
    assert_eq!(noise.restore(&state).unwrap(), Err("the saved state is not a tame one".to_owned()));
}

#[test]
fn unknown_settings_are_listed_with_their_pointers() {
    let Some(tame) = version("tame") else { return };
    match with(&tame, serde_json::json!({ "colour": "red", "trap_every": -1, "answer": "maybe" })) {
        Err(InstanceError::Settings(problems)) => {
            let mut paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
            paths.sort_unstable();
            assert_eq!(paths, ["/answer", "/colour", "/trap_every"], "{problems:?}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_import_that_nobody_grants_is_named() {
    let Some(bytes) = built("imports-unknown") else { return };
    let error = runtime().load(&plugin_name(), &bytes).unwrap_err().to_string();
    assert!(error.starts_with("imports intruder:host/shell, which a balancer may not: "), "{error}");
}

#[test]
fn a_guest_that_uses_wasi_works_without_seeing_anything() {
    let Some(wasi) = version("wasi-user") else { return };
    let mut instance = with(&wasi, serde_json::json!({})).unwrap();
    instance.update(&[member(4)], 1).unwrap();
    assert_eq!(pick(&mut instance).unwrap(), Some(4));
    with(&wasi, serde_json::json!({ "then": "files" })).unwrap();
    match with(&wasi, serde_json::json!({ "then": "exit" })) {
        Err(InstanceError::Fault(fault)) => assert!(fault.message.starts_with("called exit with failure"), "{fault}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_no_plugin_is_refused_in_its_own_words() {
    let refused = |name: &str| {
        let text = fs::read(Path::new("../tests/guests/wat").join(name)).unwrap();
        runtime().load(&plugin_name(), &wat::parse_bytes(&text).unwrap()).unwrap_err().to_string()
    };
    assert!(refused("core-module.wat").starts_with("is a core module, not a component: "));
    let half = refused("half-a-balancer.wat");
    assert!(half.starts_with("lacks exports that every balancer must have: "), "{half}");
    assert!(half.contains("sluice:plugin/policy") && half.contains("pick") && half.contains("update"), "{half}");
    let wrong = refused("wrong-world.wat");
    assert!(wrong.starts_with("is no plugin: ") && wrong.ends_with("(it exports answer)"), "{wrong}");
}
