//! Plugins of a few lines, one behaviour each.

use crate::plugin::tests::guest::Guest;

/// Always the first endpoint.
pub fn first() -> Vec<u8> {
    Guest { pick: "(call $answer (i32.const 0))", ..Guest::default() }.component()
}

/// Always the second.
pub fn second() -> Vec<u8> {
    Guest { pick: "(call $answer (i32.const 1))", ..Guest::default() }.component()
}

/// The first, and another component than [`first`].
pub fn first_too() -> Vec<u8> {
    Guest { items: "(func)", pick: "(call $answer (i32.const 0))", ..Guest::default() }.component()
}

/// A slot that no service has.
pub fn nonsense() -> Vec<u8> {
    Guest { pick: "(call $answer (i32.const 999))", ..Guest::default() }.component()
}

/// Traps in every pick.
pub fn traps() -> Vec<u8> {
    Guest { pick: "unreachable", ..Guest::default() }.component()
}

/// Traps in its twentieth pick, once: a fresh instance picks the first.
pub fn traps_at_twenty() -> Vec<u8> {
    let pick = "(i32.store (i32.const 1024) (i32.add (i32.const 1) (i32.load (i32.const 1024))))
        (if (i32.ge_u (i32.load (i32.const 1024)) (i32.const 20)) (then unreachable))
        (call $answer (i32.const 0))";
    Guest { pick, ..Guest::default() }.component()
}

/// Takes no settings at all.
pub fn choosy() -> Vec<u8> {
    let configure = "(if (result i32) (i32.gt_u (local.get $settings_len) (i32.const 2))
        (then
          (i32.store8 (i32.const 64) (i32.const 1))
          (i32.store (i32.const 68) (i32.const 96)) (i32.store (i32.const 72) (i32.const 1))
          (i32.store (i32.const 96) (i32.const 512)) (i32.store (i32.const 100) (i32.const 8))
          (i32.store (i32.const 104) (i32.const 528)) (i32.store (i32.const 108) (i32.const 19))
          (i32.const 64))
        (else (i32.const 0)))";
    let items = r#"(data (i32.const 512) "/choices") (data (i32.const 528) "there is no such ke")"#;
    Guest { items, configure, pick: "(call $answer (i32.const 1))", ..Guest::default() }.component()
}

/// Begins with the first endpoint and goes over to the second once it has learned anything. `variant` makes different
/// components of it.
pub fn learner(variant: &'static str) -> Vec<u8> {
    Guest {
        items: variant,
        complete: "(i32.store8 (i32.const 1024) (i32.const 1))",
        save: "(i32.store (i32.const 16) (i32.const 1024)) (i32.store (i32.const 20) (i32.const 1)) (i32.const 16)",
        restore: "(i32.store8 (i32.const 1024) (i32.load8_u (local.get $state))) (i32.const 0)",
        pick: "(call $answer (i32.load8_u (i32.const 1024)))",
        ..Guest::default()
    }
    .component()
}

/// Traps on whatever it should take over.
pub fn forgetful() -> Vec<u8> {
    Guest { restore: "unreachable", pick: "(call $answer (i32.const 0))", ..Guest::default() }.component()
}

/// Traps when it is told of a single endpoint; else picks the first.
pub fn traps_on_one_member() -> Vec<u8> {
    let update = "(if (i32.eq (local.get $len) (i32.const 1)) (then unreachable))";
    Guest { update, pick: "(call $answer (i32.const 0))", ..Guest::default() }.component()
}

/// The second endpoint, then the first, and so on.
pub fn in_turn() -> Vec<u8> {
    let pick = "(i32.store (i32.const 1024) (i32.add (i32.const 1) (i32.load (i32.const 1024))))
        (call $answer (i32.and (i32.const 1) (i32.load (i32.const 1024))))";
    Guest { pick, ..Guest::default() }.component()
}
