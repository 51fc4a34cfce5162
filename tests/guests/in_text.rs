//! Plugins of one behaviour each, in WebAssembly text: needed as many different binaries, or as something that no
//! compiler would make.

use crate::guest::{Guest, component_of};

/// Picks one slot, whatever is there.
pub fn always(slot: u32) -> Vec<u8> {
    picks(format!("(call $answer (i32.const {slot}))"))
}

/// Picks with these instructions.
pub fn picks(pick: impl Into<String>) -> Vec<u8> {
    Guest { pick: leak(pick.into()), ..Guest::default() }.component()
}

/// One endpoint after the other, of so many from slot 0 on: as good as any for endpoints that are equal.
pub fn in_turn(endpoints: u32) -> Vec<u8> {
    picks(format!("{COUNT} (call $answer (i32.rem_u (i32.load (i32.const 1024)) (i32.const {endpoints})))"))
}

/// One endpoint after the other, but every so many picks of an instance are a trap.
pub fn traps_every(picks_a_trap: u32, endpoints: u32) -> Vec<u8> {
    picks(format!(
        "{COUNT}
        (if (i32.ge_u (i32.load (i32.const 1024)) (i32.const {picks_a_trap})) (then unreachable))
        (call $answer (i32.rem_u (i32.load (i32.const 1024)) (i32.const {endpoints})))"
    ))
}

/// The first slot until this instance has made so many picks, from then on the second. It saves nothing: one that
/// answers with the second has lived since.
pub fn remembers_by_living(picks_until: u32) -> Vec<u8> {
    picks(format!("{COUNT} (call $answer (i32.ge_u (i32.load (i32.const 1024)) (i32.const {picks_until})))"))
}

/// Needs this many rounds of a loop for each pick of the first slot.
pub fn works_hard(rounds: u32) -> Vec<u8> {
    picks(format!(
        "(local $left i32)
        (local.set $left (i32.const {rounds}))
        (loop $again
          (i32.store (i32.const 1024) (i32.add (local.get $left) (i32.load (i32.const 1024))))
          (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (call $answer (i32.const 0))"
    ))
}

/// Takes no settings but `{}`: what is wrong stands at `/choices`.
pub fn takes_no_settings(slot: u32) -> Vec<u8> {
    let configure = "(if (result i32) (i32.gt_u (local.get $settings_len) (i32.const 2))
        (then
          (i32.store8 (i32.const 64) (i32.const 1))
          (i32.store (i32.const 68) (i32.const 96)) (i32.store (i32.const 72) (i32.const 1))
          (i32.store (i32.const 96) (i32.const 512)) (i32.store (i32.const 100) (i32.const 8))
          (i32.store (i32.const 104) (i32.const 528)) (i32.store (i32.const 108) (i32.const 20))
          (i32.const 64))
        (else (i32.const 0)))";
    let items = r#"(data (i32.const 512) "/choices") (data (i32.const 528) "there is no such key")"#;
    let pick = leak(format!("(call $answer (i32.const {slot}))"));
    Guest { items, configure, pick, ..Guest::default() }.component()
}

/// Which call of a guest misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    Configure,
    Update,
    Pick,
    Complete,
    Save,
    Restore,
}

impl Export {
    pub const ALL: [Self; 6] =
        [Self::Configure, Self::Update, Self::Pick, Self::Complete, Self::Save, Self::Restore];

    pub fn name(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Update => "update",
            Self::Pick => "pick",
            Self::Complete => "complete",
            Self::Save => "save",
            Self::Restore => "restore",
        }
    }
}

/// How it misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misdeed {
    Trap,
    Spin,
    /// Takes memory until there is no more, and traps.
    Hoard,
}

/// Picks the first slot and saves a byte; in one of its calls it does something that no call may.
pub fn misbehaves(export: Export, misdeed: Misdeed) -> Vec<u8> {
    let deed = match misdeed {
        Misdeed::Trap => "unreachable",
        Misdeed::Spin => "(loop $for_ever (br $for_ever)) unreachable",
        Misdeed::Hoard => "(call $hoard) unreachable",
    };
    let items = "(func $hoard (loop $more
        (br_if $more (i32.ne (i32.const -1) (memory.grow (i32.const 16))))))";
    let saves = "(i32.store (i32.const 16) (i32.const 1024)) (i32.store (i32.const 20) (i32.const 1)) (i32.const 16)";
    let good = Guest { items, pick: "(call $answer (i32.const 0))", save: saves, ..Guest::default() };
    match export {
        Export::Configure => Guest { configure: deed, ..good },
        Export::Update => Guest { update: deed, ..good },
        Export::Pick => Guest { pick: deed, ..good },
        Export::Complete => Guest { complete: deed, ..good },
        Export::Save => Guest { save: deed, ..good },
        Export::Restore => Guest { restore: deed, ..good },
    }
    .component()
}

/// Has this many pages of 64 KiB, taken and touched when it is configured, and picks the first slot.
pub fn has_pages(pages: u32) -> Vec<u8> {
    let items = leak(format!(
        "(func $take
          (if (i32.eq (i32.const -1) (memory.grow (i32.const {pages}))) (then unreachable))
          (memory.fill (i32.const 65536) (i32.const 7) (i32.mul (i32.const {pages}) (i32.const 65536))))"
    ));
    let pick = "(call $answer (i32.const 0))";
    Guest { items, configure: "(call $take) (i32.const 0)", pick, ..Guest::default() }.component()
}

/// A plugin of a kind that this gateway does not have yet.
pub fn of_kind(kind: &str) -> Vec<u8> {
    let wit = format!("package sluice:plugin@0.1.0; world w {{ export {kind}; }} interface {kind} {{ act: func(); }}");
    let text = format!(r#"(module (func (export "sluice:plugin/{kind}@0.1.0#act")))"#);
    component_of(&text, &[&wit], false, "w")
}

/// A component that is no plugin at all.
pub fn greeter() -> Vec<u8> {
    component_of(
        r#"(module (func (export "test:t/greeter#hello")))"#,
        &["package test:t; interface greeter { hello: func(); } world greets { export greeter; }"],
        false,
        "greets",
    )
}

/// A balancer that wants to open sockets, ask other hosts and start programs.
pub fn wants_the_world() -> Vec<u8> {
    let items = r#"(import "wasi:sockets/tcp@0.2.3" "connect" (func))
        (import "sluice:plugin/clock@0.1.0" "now" (func (result i64)))
        (import "$root" "shell" (func))"#;
    let wit = [
        "package wasi:sockets@0.2.3; interface tcp { connect: func(); }",
        "package test:t; world w { include sluice:plugin/balancer-plugin@0.1.0; import wasi:sockets/tcp@0.2.3;
            import sluice:plugin/clock@0.1.0; import shell: func(); }",
    ];
    component_of(&Guest { items, ..Guest::default() }.text(), &wit, true, "w")
}

/// A balancer without `policy`.
pub fn half_a_balancer() -> Vec<u8> {
    component_of(
        r#"(module (func (export "sluice:plugin/balancer@0.1.0#pick")))"#,
        &["package sluice:plugin@0.1.0; world w { export balancer; } interface balancer { pick: func(); }"],
        false,
        "w",
    )
}

/// A core module: what a compiler makes before it is wrapped.
pub fn core_module() -> Vec<u8> {
    wat::parse_str(Guest::default().text()).expect("the text parses")
}

/// Bytes of no meaning, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    // Xorshift (Marsaglia 2003), which must not begin at 0.
    let mut state = seed | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(len.div_ceil(8)).flatten().take(len).collect()
}

/// Counts the picks of an instance at address 1024.
const COUNT: &str = "(i32.store (i32.const 1024) (i32.add (i32.const 1) (i32.load (i32.const 1024))))";

/// A test's text lives as long as the test.
fn leak(text: String) -> &'static str {
    text.leak()
}
