//! Plugins in WebAssembly text: what no compiler would make, or what must be known to the last instruction. The others
//! are crates beside this file.

use crate::{
    guest::{Guest, component_of},
    process::workspace_root,
};

/// A component of `tests/guests/wat`.
pub fn wat(name: &str) -> Vec<u8> {
    let path = workspace_root().join("tests/guests/wat").join(name).with_extension("wat");
    wat::parse_file(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The first slot until an instance has made so many picks, from then on the second. It saves nothing, so an instance
/// that answers with the second has lived all the time.
pub fn remembers_by_living(picks_until: u32) -> Vec<u8> {
    picks(format!(
        "(i32.store (i32.const 1024) (i32.add (i32.const 1) (i32.load (i32.const 1024))))
        (call $answer (i32.ge_u (i32.load (i32.const 1024)) (i32.const {picks_until})))"
    ))
}

/// The first slot, after so many rounds of a loop.
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

/// The first slot, with so many pages of 64 KiB, written to when it is configured.
pub fn fills_pages(pages: u32) -> Vec<u8> {
    let take = format!(
        "(if (i32.eq (i32.const -1) (memory.grow (i32.const {pages}))) (then unreachable))
        (memory.fill (i32.const 65536) (i32.const 7) (i32.mul (i32.const {pages}) (i32.const 65536)))
        (i32.const 0)"
    );
    Guest { configure: take.leak(), pick: "(call $answer (i32.const 0))", ..Guest::default() }.component()
}

/// A plugin of a kind that this gateway does not have yet.
pub fn of_kind(kind: &str) -> Vec<u8> {
    let wit = format!("package sluice:plugin@0.1.0; world w {{ export {kind}; }} interface {kind} {{ act: func(); }}");
    let text = format!(r#"(module (func (export "sluice:plugin/{kind}@0.1.0#act")))"#);
    component_of(&text, &[&wit], false, "w")
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

fn picks(pick: String) -> Vec<u8> {
    // A test's text lives as long as the test.
    Guest { pick: pick.leak(), ..Guest::default() }.component()
}
