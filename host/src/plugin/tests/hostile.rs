use std::sync::LazyLock;

use proptest::prelude::*;

use super::guest::{Guest, InProcess, context, pick, runtime};
use crate::plugin::{Version, limits::GUEST_BYTES_MAX};

/// Answers with whatever it is told: the state that is restored begins with the addresses that `pick`, `save` and
/// `restore` return, and what follows is laid at address 16.
static OBEYS: LazyLock<std::sync::Arc<Version>> = LazyLock::new(|| {
    Guest {
        restore: "(memory.copy (i32.const 1024) (local.get $state) (i32.const 12))
            (memory.copy (i32.const 16) (i32.add (local.get $state) (i32.const 12))
              (i32.sub (local.get $len) (i32.const 12)))
            (i32.load (i32.const 1032))",
        pick: "(i32.load (i32.const 1024))",
        save: "(i32.load (i32.const 1028))",
        ..Guest::default()
    }
    .version(&runtime())
});

/// Addresses and lengths that are near something, and any.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        0..160_u32,
        (0..4_u32).prop_map(|n| n * 4),
        65_500..65_560_u32,
        0x000f_fff0..0x0010_0010_u32,
        any::<u32>()
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_of_a_guest_breaks_the_host(words in proptest::collection::vec(word(), 3..40)) {
        let state: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let instance = || {
            let mut instance = OBEYS.balancer(&context()).expect("it configures");
            let restored = instance.restore(&state);
            (instance, restored)
        };
        let (mut obeys, restored) = instance();
        if let Ok(Err(message)) = &restored {
            prop_assert!(message.len() <= 2000 && !message.contains(char::is_control));
        }
        let picked = pick(&mut obeys);
        // After a fault there is no more of it: a fresh one for the next call.
        let (mut obeys, _) = instance();
        let saved = obeys.save();
        prop_assert!(saved.as_ref().map_or(0, Vec::len) <= GUEST_BYTES_MAX);
        for fault in [restored.err(), picked.err(), saved.err()].into_iter().flatten() {
            prop_assert!(!fault.message.is_empty() && !fault.message.contains('\n'), "{fault}");
        }
    }
}
