//! The lane of guests that wait: what they compute is measured, what they wait is not, and a thread is never theirs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hickory_resolver::{TokioResolver, config::ResolverConfig, net::runtime::TokioRuntimeProvider};

use super::guest::{component, context, plugin_name, runtime};
use crate::{
    model::{Grants, PluginKind},
    plugin::{DiscoveryInstance, FaultKind, InstanceError, Outside, SourceMembership},
};

/// A source that does in `watch` what `body` says; at address 0 stands the answer "nothing changed".
fn source(imports: &str, body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module {imports}
  (memory (export "memory") 1)
  (global $heap (mut i32) (i32.const 4096))
  (func (export "cabi_realloc") (param i32 i32 i32) (param $len i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $heap))
    (global.set $heap (i32.and (i32.add (i32.add (local.get $at) (local.get $len)) (i32.const 7)) (i32.const -8)))
    (local.get $at))
  (func (export "sluice:plugin/policy@0.1.0#configure") (param i32 i32 i32 i32 i64) (result i32) (i32.const 0))
  (func (export "sluice:plugin/policy@0.1.0#save") (result i32) (i32.const 0))
  (func (export "sluice:plugin/policy@0.1.0#restore") (param i32 i32) (result i32) (i32.const 0))
  (func (export "sluice:plugin/discovery@0.1.0#watch") (param i32 i32 i32) (param $wait i32) (result i32)
    {body} (i32.const 0)))"#
    );
    component(&text, "discovery-plugin")
}

async fn instance(component: &[u8]) -> DiscoveryInstance {
    let version = runtime().load(&plugin_name(), component).expect("the guest is right");
    assert_eq!(version.kind(), PluginKind::Discovery);
    version.discovery(&context(), &outside(), &Arc::new(Grants::default())).await.expect("the guest configures")
}

/// Nothing is asked of it here.
pub fn outside() -> Arc<Outside> {
    let config = ResolverConfig::default();
    let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build();
    Outside::new(
        resolver.expect("a resolver without servers"),
        "127.0.0.1:9180".parse().expect("an address"),
        None,
        None,
    )
}

const SLEEP: &str = r#"(import "sluice:plugin/clock@0.1.0" "sleep-ms" (func $sleep (param i32)))"#;

#[tokio::test]
async fn a_guest_that_spins_gives_its_thread_up_and_is_ended() {
    let mut spinning = instance(&source("", "(loop $for_ever (br $for_ever))")).await;
    // The runtime has this one thread: others can only run when the guest lets them.
    let others = tokio::spawn(async { tokio::time::sleep(Duration::from_millis(50)).await });
    let watched = tokio::spawn(async move { spinning.watch(None, Duration::from_secs(60)).await });
    others.await.expect("it does not panic");
    assert!(!watched.is_finished(), "another task had to wait for all its CPU time");
    let fault = watched.await.expect("it does not panic").expect_err("it spins");
    assert_eq!(fault.kind, FaultKind::Deadline);
    assert!(fault.message.contains("2s of CPU time"), "{fault}");
}

#[tokio::test]
async fn waiting_costs_no_cpu_time() {
    let mut patient = instance(&source(SLEEP, "(call $sleep (local.get $wait))")).await;
    let begun = Instant::now();
    let answer = patient.watch(Some("1"), Duration::from_millis(2_100)).await.expect("it comes back");
    assert_eq!(answer, Ok(None::<SourceMembership>));
    assert!(begun.elapsed() > Duration::from_secs(2), "longer than its CPU budget");
}

#[test]
fn a_trial_needs_no_runtime_and_a_balancer_is_no_source() {
    let version = runtime().load(&plugin_name(), &source(SLEEP, "(call $sleep (i32.const 1))")).expect("it is right");
    version.try_discovery(&context()).expect("it configures");
    let error = version.balancer(&context()).expect_err("another kind");
    assert!(matches!(error, InstanceError::WrongKind { found: PluginKind::Discovery, wanted: PluginKind::Balancer }));
    let balancer = runtime().load(&plugin_name(), &super::guest::Guest::default().component()).expect("it is right");
    assert!(matches!(balancer.try_discovery(&context()), Err(InstanceError::WrongKind { .. })));
}
