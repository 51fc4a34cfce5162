use super::guest::{Guest, InProcess, completion, context, member, pick, pick_for, runtime};
use crate::plugin::{Incoming, InstanceError, PickRequest, Problem};

#[test]
fn a_pick_has_all_four_scalars_and_its_answer_comes_back() {
    // The slot is the sum of the four.
    let pick = "(call $answer (i32.wrap_i64 (i64.add (i64.add (local.get $now) (local.get $random))
        (i64.add (local.get $hash) (i64.extend_i32_u (local.get $attempt))))))";
    let mut instance = Guest { pick, ..Guest::default() }.instance();
    let request = PickRequest { now_us: 1, random: 20, hash: 300, attempt: 4000 };
    assert_eq!(instance.pick(request, &Incoming::default()).unwrap(), Some(4321));
}

#[test]
fn nothing_to_choose_is_an_answer() {
    assert_eq!(pick(&mut Guest::default().instance()).unwrap(), None);
}

#[test]
fn a_state_saved_is_restored_in_another_version() {
    // The state is one byte at 1024, which `complete` counts up; a pick answers with it.
    let keeps = |items| Guest {
        items,
        complete: "(i32.store8 (i32.const 1024)
            (i32.add (i32.load8_u (i32.const 1024)) (local.get $len)))",
        save: "(i32.store (i32.const 16) (i32.const 1024)) (i32.store (i32.const 20) (i32.const 1)) (i32.const 16)",
        restore: "(i32.store8 (i32.const 1024) (i32.load8_u (local.get $state))) (i32.const 0)",
        pick: "(call $answer (i32.load8_u (i32.const 1024)))",
        ..Guest::default()
    };
    let runtime = runtime();
    let old = keeps("").version(&runtime);
    let new = keeps("(func)").version(&runtime);
    assert_ne!(old.id(), new.id());
    let mut old = old.balancer(&context()).unwrap();
    old.complete(&[completion(0), completion(1), completion(2)], 1).unwrap();
    let state = old.save().unwrap();
    assert_eq!(state, [3]);
    let mut new = new.balancer(&context()).unwrap();
    new.restore(&state).unwrap().unwrap();
    assert_eq!(pick(&mut new).unwrap(), Some(3));
    // Saving changes nothing.
    assert_eq!(pick(&mut old).unwrap(), Some(3));
}

#[test]
fn a_refused_state_is_the_guests_own_word() {
    let restore = r#"(i32.store (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const 1024))
        (i32.store (i32.const 24) (i32.const 3)) (i32.store (i32.const 1024) (i32.const 0x0a6f6e)) (i32.const 16)"#;
    let mut instance = Guest { restore, ..Guest::default() }.instance();
    assert_eq!(instance.restore(b"?").unwrap(), Err("no ".to_owned()), "control characters are taken out");
}

#[test]
fn nothing_saved_is_nothing_to_restore() {
    let mut instance = Guest { restore: "unreachable", ..Guest::default() }.instance();
    let saved = instance.save().unwrap();
    instance.restore(&saved).unwrap().unwrap();
    assert!(instance.restore(b"x").is_err());
}

#[test]
fn every_wrong_setting_is_listed() {
    // Two problems, each {path: "/a", message: "no"}.
    let configure = r#"(i32.store (i32.const 1024) (i32.const 0x612f)) (i32.store (i32.const 1028) (i32.const 0x6f6e))
        (i32.store (i32.const 32) (i32.const 1024)) (i32.store (i32.const 36) (i32.const 2))
        (i32.store (i32.const 40) (i32.const 1028)) (i32.store (i32.const 44) (i32.const 2))
        (memory.copy (i32.const 48) (i32.const 32) (i32.const 16))
        (i32.store (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const 32))
        (i32.store (i32.const 24) (i32.const 2)) (i32.const 16)"#;
    let version = Guest { configure, ..Guest::default() }.version(&runtime());
    let problem = Problem { path: "/a".to_owned(), message: "no".to_owned() };
    match version.balancer(&context()) {
        Err(InstanceError::Settings(problems)) => assert_eq!(problems, [problem.clone(), problem]),
        other => panic!("{other:?}"),
    }
    assert_eq!(version.live_instances(), 0);
}

#[test]
fn settings_and_name_arrive_as_they_were_given() {
    // Saves what it was configured with: `name`, then `settings`.
    let guest = Guest {
        configure: "(memory.copy (i32.const 1024) (local.get $name) (local.get $name_len))
            (memory.copy (i32.add (i32.const 1024) (local.get $name_len)) (local.get $settings) (local.get $settings_len))
            (i32.store (i32.const 32) (i32.const 1024))
            (i32.store (i32.const 36) (i32.add (local.get $name_len) (local.get $settings_len))) (i32.const 0)",
        save: "(i32.const 32)",
        ..Guest::default()
    };
    let settings = serde_json::json!({"choices": 3});
    let mut instance =
        guest.version(&runtime()).balancer(&crate::plugin::PolicyContext { settings, ..context() }).unwrap();
    assert_eq!(instance.save().unwrap(), br#"orders{"choices":3}"#);
}

#[test]
fn the_membership_arrives_whole() {
    // Saves the list of endpoints as it lies in memory (64 bytes each), so offsets of the canonical ABI are seen.
    let guest = Guest {
        update: "(memory.copy (i32.const 1024) (local.get $members) (i32.mul (local.get $len) (i32.const 64)))
            (i32.store (i32.const 32) (i32.const 1024))
            (i32.store (i32.const 36) (i32.mul (local.get $len) (i32.const 64)))",
        save: "(i32.const 32)",
        ..Guest::default()
    };
    let mut instance = guest.instance();
    instance.update(&[member(3), member(5)], 77).unwrap();
    let saved = instance.save().unwrap();
    assert_eq!(saved.len(), 128);
    let u32_at = |at: usize| u32::from_le_bytes(saved[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(saved[at..at + 8].try_into().unwrap());
    assert_eq!((u32_at(0), u64_at(8), u32_at(24)), (3, 3000, 1));
    assert_eq!((u32_at(64), u64_at(64 + 8), u64_at(64 + 56)), (5, 5000, 1));
    instance.update(&[], 78).unwrap();
    assert_eq!(instance.save().unwrap(), b"");
}

#[test]
fn instances_and_their_memory_are_counted_until_they_are_dropped() {
    let version = Guest::default().version(&runtime());
    assert_eq!((version.live_instances(), version.memory_bytes()), (0, 0));
    let one = version.balancer(&context()).unwrap();
    let two = version.balancer(&context()).unwrap();
    assert_eq!(one.memory_bytes(), 65_536);
    assert_eq!((version.live_instances(), version.memory_bytes()), (2, 131_072));
    drop(one);
    assert_eq!((version.live_instances(), version.memory_bytes()), (1, 65_536));
    std::thread::spawn(move || drop(two)).join().unwrap();
    assert_eq!((version.live_instances(), version.memory_bytes()), (0, 0));
}

#[test]
fn instances_do_not_share_memory() {
    let counts = Guest {
        pick: "(i32.store (i32.const 1024) (i32.add (i32.load (i32.const 1024)) (i32.const 1)))
            (call $answer (i32.load (i32.const 1024)))",
        ..Guest::default()
    };
    let version = counts.version(&runtime());
    let (mut one, mut two) = (version.balancer(&context()).unwrap(), version.balancer(&context()).unwrap());
    assert_eq!(pick(&mut one).unwrap(), Some(1));
    assert_eq!(pick(&mut one).unwrap(), Some(2));
    assert_eq!(pick(&mut two).unwrap(), Some(1));
}

#[test]
fn thousands_of_instances_live_at_once() {
    let version = Guest { pick: "unreachable", ..Guest::default() }.version(&runtime());
    let mut instances: Vec<_> = (0..4000).map(|_| version.balancer(&context()).unwrap()).collect();
    assert_eq!(version.live_instances(), 4000);
    // One that traps leaves the others as they are.
    assert!(pick_for(&mut instances[0], 0, &Incoming::default()).is_err());
    instances[1].update(&[member(0)], 1).unwrap();
}
