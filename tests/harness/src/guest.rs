//! Plugins of a few lines: a core module in text, wrapped by `wit-component` against `wit/`. For tests that need one
//! behaviour exactly, and a new binary of it at any moment; what is built from Rust comes from [`built`].

use std::{fs, path::Path};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

use crate::process::workspace_root;

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
}

/// A failover policy that tries again at once whatever may be repeated, and finds every endpoint fit. It takes any
/// settings, and saves four bytes that it takes back.
pub fn tame_failover() -> Vec<u8> {
    failover_that_observes("(i32.const 0)")
}

/// As [`tame_failover`], but for what it makes of `$len` observations at `$observations`: a body in WebAssembly text.
/// Addresses from 1024 to 4096 are for it to use.
pub fn failover_that_observes(observe: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
  (memory (export "memory") 1)
  (global $heap (mut i32) (i32.const 4096))
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
  (func $free_all (global.set $heap (i32.const 4096)))
  (func (export "sluice:plugin/policy@0.1.0#configure") (param i32 i32 i32 i32 i64) (result i32) (i32.const 0))
  (func (export "sluice:plugin/policy@0.1.0#save") (result i32)
    (i32.store (i32.const 64) (i32.const 0)) (i32.store (i32.const 68) (i32.const 4)) (i32.const 64))
  (func (export "sluice:plugin/policy@0.1.0#restore") (param i32 i32) (result i32) (call $free_all) (i32.const 0))
  (func (export "sluice:plugin/failover@0.1.0#decide")
    (param i64 i64 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i64) (param $repeatable i32) (param $retries_left i32)
    (result i32)
    (i32.store (i32.const 72) (local.get $repeatable)) (i32.const 72))
  (func (export "sluice:plugin/failover@0.1.0#complete") (param i32 i32 i64) (result i32)
    (call $free_all) (i32.const 0))
  (func (export "sluice:plugin/health@0.1.0#update") (param i32 i32 i64) (call $free_all))
  (func $observe (param $observations i32) (param $len i32) (param $now i64) (result i32) {observe})
  (func (export "sluice:plugin/health@0.1.0#observe") (param i32 i32 i64) (result i32)
    (call $observe (local.get 0) (local.get 1) (local.get 2)) (call $free_all)))"#
    );
    component(&text, "failover-plugin")
}

/// A crate of `tests/guests` as `make test-guests` builds it.
pub fn built(name: &str) -> Vec<u8> {
    read(&workspace_root().join("tests/guests/built").join(name).with_extension("wasm"), "make test-guests")
}

/// A stock balancer as `make plugins` builds it.
pub fn stock_balancer(name: &str) -> Vec<u8> {
    read(&workspace_root().join("plugins/built/balancer").join(name).with_extension("wasm"), "make plugins")
}

/// A stock failover policy as `make plugins` builds it.
pub fn stock_failover(name: &str) -> Vec<u8> {
    read(&workspace_root().join("plugins/built/failover").join(name).with_extension("wasm"), "make plugins")
}

/// A stock source of endpoints as `make plugins` builds it.
pub fn stock_discovery(name: &str) -> Vec<u8> {
    read(&workspace_root().join("plugins/built/discovery").join(name).with_extension("wasm"), "make plugins")
}

/// A stock protocol of transactions as `make plugins` builds it.
pub fn stock_transaction(name: &str) -> Vec<u8> {
    read(&workspace_root().join("plugins/built/transaction").join(name).with_extension("wasm"), "make plugins")
}

/// Another build of a component: the same code, and another version, as after a change of a comment.
pub fn rebuilt(component: &[u8], build: u32) -> Vec<u8> {
    // A custom section: id 0, its length, its name's length, name, content (all lengths here below 128).
    let mut content = vec![5];
    content.extend_from_slice(b"build");
    content.extend_from_slice(&build.to_le_bytes());
    let len = u8::try_from(content.len()).expect("ten bytes");
    [component, &[0, len], &content].concat()
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

/// The packages that a component is wrapped against, and the world in them; see [`component_of`].
pub fn resolve(wit: &[&str], ours: bool, world: &str) -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    let mut package = None;
    if ours {
        package = Some(resolve.push_path(workspace_root().join("wit")).expect("the WIT parses").0);
    }
    for text in wit {
        package = Some(resolve.push_source("test.wit", text).expect("the test's WIT parses"));
    }
    let world = resolve.select_world(package.as_slice(), Some(world)).expect("the world is there");
    (resolve, world)
}

fn read(path: &Path, made_by: &str) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}; `{made_by}` makes it", path.display()))
}
