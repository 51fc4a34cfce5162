//! What a pick costs: an empty component call, and each stock policy at 3, 100 and 1,000 endpoints.
//!
//! A policy without imports may cost 1.3 times the empty call of the same run, least-request and peak-ewma 2.5
//! times, all of them the same at any number of endpoints (DESIGN.md §8). `cargo bench --bench pick`, after
//! `make plugins`: the policies are those that the build embedded.

use std::{hint::black_box, sync::Arc};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sluice::{
    model::{Clock, Completion, Endpoint, EndpointState, Outcome, PluginKind, Slot, Weight},
    plugin::{BalancerInstance, Incoming, PickRequest, PolicyContext, Runtime, stock},
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const ENDPOINTS: [u32; 3] = [3, 100, 1000];

/// Answers every call with nothing: what is left is the price of the component model and of the host's own part.
const EMPTY: &str = r#"(module
  (memory (export "memory") 16)
  (global $heap (mut i32) (i32.const 64))
  (func (export "cabi_realloc") (param i32 i32 i32) (param $len i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get $len)))
    (local.get $at))
  (func (export "sluice:plugin/policy@0.1.0#configure") (param i32 i32 i32 i32 i64) (result i32) (i32.const 0))
  (func (export "sluice:plugin/policy@0.1.0#save") (result i32) (i32.const 0))
  (func (export "sluice:plugin/policy@0.1.0#restore") (param i32 i32) (result i32) (i32.const 0))
  (func (export "sluice:plugin/balancer@0.1.0#update") (param i32 i32 i64))
  (func (export "sluice:plugin/balancer@0.1.0#pick") (param i64 i64 i64 i32) (result i32) (i32.const 0))
  (func (export "sluice:plugin/balancer@0.1.0#complete") (param i32 i32 i64)))"#;

fn picks(criterion: &mut Criterion) {
    let runtime = Runtime::new(None).expect("the engine starts");
    let empty = empty_component();
    let balancers = stock().iter().filter(|plugin| plugin.kind == PluginKind::Balancer);
    let policies: Vec<_> = [("empty", empty.as_slice())]
        .into_iter()
        .chain(balancers.map(|plugin| (plugin.name, plugin.component)))
        .collect();
    if policies.len() == 1 {
        eprintln!("no stock policies are built in: `make plugins` first");
    }
    let mut group = criterion.benchmark_group("pick");
    for (name, component) in policies {
        for endpoints in ENDPOINTS {
            let mut instance = instance(&runtime, name, component, endpoints);
            let mut random = fastrand::Rng::with_seed(1);
            let mut now_us = 2_000_000;
            let incoming = Incoming { path: Some("/orders/7".parse().expect("a path")), ..Incoming::default() };
            group.bench_function(BenchmarkId::new(name, endpoints), |bencher| {
                bencher.iter(|| {
                    now_us += 20;
                    let drawn = random.u64(..);
                    let request = PickRequest { now_us, random: drawn, hash: drawn, attempt: 0 };
                    black_box(instance.pick(request, &incoming)).expect("a stock policy does not trap")
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, picks);
criterion_main!(benches);

/// An instance that has its endpoints, and has learned something of each.
fn instance(runtime: &Runtime, name: &str, component: &[u8], endpoints: u32) -> BalancerInstance {
    let version = runtime.load(&name.parse().expect("a plugin's name"), component).expect("a stock policy loads");
    let context = PolicyContext {
        name: "orders".to_owned(),
        settings: serde_json::json!({}),
        seed: 1,
        memory_bytes_max: 16 << 20,
        clock: Clock::start(),
    };
    let mut instance = version.balancer(&context).expect("a stock policy configures");
    let members: Vec<_> = (0..endpoints).map(member).collect();
    instance.update(&members, 1_000_000).expect("a stock policy updates");
    for slots in Vec::from_iter(0..endpoints).chunks(64) {
        let completions: Vec<_> = slots.iter().map(|&slot| completion(slot)).collect();
        instance.complete(&completions, 1_500_000).expect("a stock policy learns");
    }
    instance
}

fn member(slot: Slot) -> EndpointState {
    let label: sluice::model::HostPort =
        format!("10.0.{}.{}:9001", slot / 250, slot % 250).parse().expect("an address");
    let address = label.socket_addr().expect("an address without a name");
    let service = "orders".parse().expect("a service's name");
    let endpoint: Arc<Endpoint> =
        Endpoint::new(service, slot, fastrand::Rng::with_seed(slot.into()).u64(..), address, label);
    EndpointState {
        endpoint,
        weight: Weight::ONE,
        priority: 0,
        zone: String::new(),
        metadata: Vec::new(),
        healthy: true,
        available: true,
        // Long ago: no slow start.
        since_us: 1,
    }
}

fn completion(slot: Slot) -> Completion {
    Completion {
        slot,
        outcome: Outcome::Success,
        at_us: 1_400_000,
        first_byte_us: 1000 + slot,
        total_us: 1200 + slot,
        load_permille: None,
    }
}

fn empty_component() -> Vec<u8> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path("../wit").expect("the WIT parses");
    let world = resolve.select_world(&[package], Some("balancer-plugin")).expect("the world is there");
    let mut module = wat::parse_str(EMPTY).expect("the text parses");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).expect("the world fits");
    let mut encoder = ComponentEncoder::default();
    encoder.module(&module).expect("the module fits").encode().expect("the module fits its world")
}
