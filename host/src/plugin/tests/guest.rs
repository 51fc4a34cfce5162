//! Components of a few lines: a core module in text, wrapped by `wit-component` against `wit/`.

use std::sync::Arc;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

use crate::{
    model::{Clock, Completion, Endpoint, EndpointState, Outcome, Slot, Weight},
    plugin::{BalancerInstance, Fault, Incoming, PickRequest, PolicyContext, Runtime, Version},
};

/// A balancer whose functions do nothing but what the test puts in: bodies in WebAssembly text.
pub struct Guest {
    /// Imports and further functions of the module.
    pub items: &'static str,
    pub configure: &'static str,
    pub save: &'static str,
    pub restore: &'static str,
    pub update: &'static str,
    pub pick: &'static str,
    pub complete: &'static str,
}

/// Addresses below [`HEAP`] are for the bodies to use. What stands at address 0 is zero: the answers "fine", "none"
/// and "empty"; `(call $answer slot)` answers a pick with a slot.
impl Default for Guest {
    fn default() -> Self {
        Self {
            items: "",
            configure: "(i32.const 0)",
            save: "(i32.const 0)",
            restore: "(i32.const 0)",
            update: "",
            pick: "(i32.const 0)",
            complete: "",
        }
    }
}

const HEAP: u32 = 4096;

impl Guest {
    /// The core module.
    pub fn text(&self) -> String {
        let Self { items, configure, save, restore, update, pick, complete } = self;
        format!(
            r#"(module
  {items}
  (memory (export "memory") 1)
  (global $heap (mut i32) (i32.const {HEAP}))
  (func $realloc (export "cabi_realloc") (param i32 i32) (param $align i32) (param $len i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and
      (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
      (i32.sub (i32.const 0) (local.get $align))))
    (global.set $heap (i32.add (local.get $at) (local.get $len)))
    (block $fits
      (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $fits (i32.ne (i32.const -1) (memory.grow (i32.add (i32.const 1)
        (i32.shr_u (local.get $len) (i32.const 16))))))
      unreachable)
    (local.get $at))
  (func $answer (param $slot i32) (result i32)
    (i32.store (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (local.get $slot)) (i32.const 16))
  (func $free_all (global.set $heap (i32.const {HEAP})))
  (func $configure (export "sluice:plugin/policy@0.1.0#configure")
    (param $name i32) (param $name_len i32) (param $settings i32) (param $settings_len i32) (param $seed i64)
    (result i32) {configure})
  (func $save (export "sluice:plugin/policy@0.1.0#save") (result i32) {save})
  (func $restore (export "sluice:plugin/policy@0.1.0#restore") (param $state i32) (param $len i32) (result i32)
    {restore})
  (func $update (export "sluice:plugin/balancer@0.1.0#update") (param $members i32) (param $len i32) (param $now i64)
    {update} (call $free_all))
  (func $pick (export "sluice:plugin/balancer@0.1.0#pick")
    (param $now i64) (param $random i64) (param $hash i64) (param $attempt i32) (result i32)
    {pick})
  (func $complete (export "sluice:plugin/balancer@0.1.0#complete")
    (param $completions i32) (param $len i32) (param $now i64) {complete} (call $free_all)))"#
        )
    }

    /// The component, of world `balancer-plugin`.
    pub fn component(&self) -> Vec<u8> {
        component(&self.text(), "balancer-plugin")
    }

    /// The component as a toolchain for WASI 0.1 makes it: with the adapter from that to 0.2.
    pub fn component_with_adapter(&self) -> Vec<u8> {
        use wasi_preview1_component_adapter_provider::{
            WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
        };
        let (resolve, world) = resolve(&[], true, "balancer-plugin");
        let mut module = wat::parse_str(self.text()).expect("the text parses");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).expect("the world fits");
        let mut encoder = ComponentEncoder::default();
        let adapter = (WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER);
        encoder.module(&module).expect("the module fits").adapter(adapter.0, adapter.1).expect("the adapter fits");
        encoder.encode().expect("the module fits its world")
    }

    pub fn version(&self, runtime: &Runtime) -> Arc<Version> {
        runtime.load(&plugin_name(), &self.component()).expect("the guest is right")
    }

    /// One instance in a runtime of its own.
    pub fn instance(&self) -> BalancerInstance {
        self.version(&runtime()).balancer(&context()).expect("the guest configures")
    }
}

/// Wraps a core module in text into a component of a world of ours.
pub fn component(text: &str, world: &str) -> Vec<u8> {
    component_of(text, &[], true, world)
}

/// Wraps a core module in text into a component of a world. `wit` are packages of the test's own, in order of need;
/// `ours` says whether they stand upon the real `sluice:plugin`.
pub fn component_of(text: &str, wit: &[&str], ours: bool, world: &str) -> Vec<u8> {
    let (resolve, world) = resolve(wit, ours, world);
    let mut module = wat::parse_str(text).expect("the text parses");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).expect("the world fits");
    let mut encoder = ComponentEncoder::default();
    encoder.module(&module).expect("the module fits").encode().expect("the module fits its world")
}

fn resolve(wit: &[&str], ours: bool, world: &str) -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    let mut package = None;
    if ours {
        package = Some(resolve.push_path("../wit").expect("the WIT parses").0);
    }
    for text in wit {
        package = Some(resolve.push_source("test.wit", text).expect("the test's WIT parses"));
    }
    let world = resolve.select_world(package.as_slice(), Some(world)).expect("the world is there");
    (resolve, world)
}

pub fn runtime() -> Arc<Runtime> {
    Runtime::new(None).expect("the engine starts")
}

pub fn plugin_name() -> crate::model::PluginName {
    "tested".parse().expect("a plugin's name")
}

pub fn context() -> PolicyContext {
    PolicyContext {
        name: "orders".to_owned(),
        settings: serde_json::json!({}),
        seed: 7,
        memory_bytes_max: 16 << 20,
        clock: Clock::start(),
    }
}

pub fn pick(instance: &mut BalancerInstance) -> Result<Option<Slot>, Fault> {
    pick_for(instance, 0, &Incoming::default())
}

/// A pick whose `hash` says what shall be done.
pub fn pick_for(instance: &mut BalancerInstance, hash: u64, incoming: &Incoming) -> Result<Option<Slot>, Fault> {
    instance.pick(PickRequest { now_us: 1_000_000, random: 42, hash, attempt: 0 }, incoming)
}

pub fn member(slot: Slot) -> EndpointState {
    let label: crate::model::HostPort = format!("127.0.0.1:{}", 9000 + slot).parse().expect("an address");
    let address = label.socket_addr().expect("an address without a name");
    let service = "orders".parse().expect("a service's name");
    EndpointState {
        endpoint: Endpoint::new(service, slot, u64::from(slot) * 1000, address, label),
        weight: Weight::ONE,
        priority: 0,
        zone: "b".to_owned(),
        metadata: vec![("rack".to_owned(), "7".to_owned())],
        available: true,
        since_us: 1,
    }
}

pub fn completion(slot: Slot) -> Completion {
    Completion { slot, outcome: Outcome::TimedOut, at_us: 5, first_byte_us: 0, total_us: 9, load_permille: Some(100) }
}
