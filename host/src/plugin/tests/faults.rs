use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::guest::{Guest, InProcess, completion, context, member, pick, runtime};
use crate::plugin::{
    BalancerInstance, Fault, FaultKind, InstanceError, PolicyContext,
    limits::{budget, thread_cpu},
    ticker::{ROUND, TICK},
};

const SPIN: &str = "(loop $for_ever (br $for_ever)) unreachable";

fn kind<T: std::fmt::Debug>(answer: Result<T, Fault>) -> (FaultKind, &'static str, String) {
    let fault = answer.expect_err("the call does not come back");
    (fault.kind, fault.call, fault.message)
}

#[test]
fn a_trap_in_any_export_is_a_fault_of_that_call() {
    let trap = "unreachable";
    let guest = Guest { save: trap, restore: trap, update: trap, pick: trap, complete: trap, ..Guest::default() };
    let version = guest.version(&runtime());
    let instance = || version.balancer(&context()).unwrap();
    let all = [
        kind(instance().save()),
        kind(instance().restore(b"x")),
        kind(instance().update(&[member(0)], 1)),
        kind(pick(&mut instance())),
        kind(instance().complete(&[completion(0)], 1)),
    ];
    for ((kind, call, message), wanted) in all.iter().zip(["save", "restore", "update", "pick", "complete"]) {
        assert_eq!((*kind, *call), (FaultKind::Trap, wanted));
        assert!(message.contains("unreachable") && message.ends_with(&format!("in {wanted}")), "{message}");
    }
    assert_eq!(version.live_instances(), 0);
    match (Guest { configure: trap, ..Guest::default() }).version(&runtime()).balancer(&context()) {
        Err(InstanceError::Fault(fault)) => assert_eq!(fault.call, "configure"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_trap_says_in_which_functions_it_happened() {
    let guest = Guest {
        items: r#"(func $_ZN4ring5Table6lookup17h0123456789abcdefE (call $deepest))
            (func $deepest (drop (i32.div_u (i32.const 1) (i32.const 0))))"#,
        pick: "(call $_ZN4ring5Table6lookup17h0123456789abcdefE) (i32.const 0)",
        ..Guest::default()
    };
    let (_, _, message) = kind(pick(&mut guest.instance()));
    assert_eq!(message, "trapped: integer divide by zero, in deepest < ring::Table::lookup < pick");
}

#[test]
fn a_panic_says_who_panicked() {
    let guest = Guest {
        items: "(func $_ZN4core9panicking9panic_fmt17h0123456789abcdefE unreachable)
            (func $choose (call $_ZN4core9panicking9panic_fmt17h0123456789abcdefE))",
        pick: "(call $choose) (i32.const 0)",
        ..Guest::default()
    };
    let (_, _, message) = kind(pick(&mut guest.instance()));
    assert_eq!(message, "trapped: it panicked or aborted (unreachable code), in choose < pick");
}

#[test]
fn endless_recursion_is_a_trap() {
    let guest = Guest {
        items: "(func $again (param i64) (result i64)
            (i64.add (i64.const 1) (call $again (i64.add (local.get 0) (i64.const 1)))))",
        pick: "(drop (call $again (i64.const 0))) (i32.const 0)",
        ..Guest::default()
    };
    let (kind, _, message) = kind(pick(&mut guest.instance()));
    assert_eq!(kind, FaultKind::Trap);
    assert!(message.contains("call stack exhausted") && message.ends_with("< …"), "{message}");
}

/// Held by the tests that measure time, so that one does not starve the other's ticker.
static CLOCKED: Mutex<()> = Mutex::new(());

#[test]
fn a_spinning_call_is_stopped_within_its_bound() {
    let _alone = CLOCKED.lock().unwrap_or_else(PoisonError::into_inner);
    let guest = Guest { save: SPIN, restore: SPIN, pick: SPIN, complete: SPIN, update: SPIN, ..Guest::default() };
    let version = guest.version(&runtime());
    let check = |name, budget: Duration, call: &dyn Fn(&mut BalancerInstance) -> Result<(), Fault>| {
        let attempt = || {
            let mut instance = version.balancer(&context()).unwrap();
            let begin = thread_cpu();
            let (kind, at, message) = kind(call(&mut instance));
            let took = thread_cpu() - begin;
            assert_eq!((kind, at), (FaultKind::Deadline, name));
            assert!(message.ends_with(&format!("of CPU time, in {name}")), "{message}");
            assert!(took >= budget, "{name} was stopped after {took:?}");
            took
        };
        // On a busy machine the ticker itself comes late: then again.
        let give_up = Instant::now() + Duration::from_secs(10);
        let mut least = attempt();
        while least > budget + ROUND + 2 * TICK {
            assert!(Instant::now() < give_up, "{name} was stopped after {least:?} at best");
            least = least.min(attempt());
        }
    };
    check("pick", budget::PICK, &|instance| pick(instance).map(drop));
    check("complete", budget::COMPLETE, &|instance| instance.complete(&[completion(0)], 1));
    check("save", budget::SAVE, &|instance| instance.save().map(drop));
}

#[test]
fn a_spinning_preparation_is_stopped_after_a_second() {
    let _alone = CLOCKED.lock().unwrap_or_else(PoisonError::into_inner);
    let version = Guest { update: SPIN, ..Guest::default() }.version(&runtime());
    let mut instance = version.balancer(&context()).unwrap();
    let begin = thread_cpu();
    let (kind, call, message) = kind(instance.update(&[member(0)], 1));
    assert_eq!(
        (kind, call, message.as_str()),
        (FaultKind::Deadline, "update", "took more than 1s of CPU time, in update")
    );
    // Whatever else runs here: ticks come late, but they come.
    assert!(thread_cpu() - begin < 2 * budget::PREPARE);
}

#[test]
fn a_starved_worker_is_no_overrun() {
    let _alone = CLOCKED.lock().unwrap_or_else(PoisonError::into_inner);
    // As many rounds as `now` says.
    let update = "(loop $again
        (local.set $now (i64.sub (local.get $now) (i64.const 1)))
        (br_if $again (i64.gt_s (local.get $now) (i64.const 0))))";
    let mut instance = Guest { update, ..Guest::default() }.instance();
    let mut timed = |rounds| {
        let (cpu, wall) = (thread_cpu(), Instant::now());
        instance.update(&[], rounds).map(|()| (thread_cpu() - cpu, wall.elapsed()))
    };
    // Rounds that take three tenths of the budget when nothing is in the way.
    let sample = 10_000_000;
    let (sampled, _) = timed(sample).unwrap();
    let rounds = sample * 300 / u64::try_from(sampled.as_millis().max(1)).unwrap();
    // Five threads a core: the call takes half as long again as its budget by the clock on the wall.
    let stop = Arc::new(AtomicBool::new(false));
    let busy = |stop: Arc<AtomicBool>| {
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        })
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let others: Vec<_> = (0..cores * 5).map(|_| busy(Arc::clone(&stop))).collect();
    let give_up = Instant::now() + Duration::from_secs(20);
    let mut longest = Duration::ZERO;
    let mut answer = Ok(());
    while answer.is_ok() && longest < budget::PREPARE && Instant::now() < give_up {
        answer = timed(rounds).map(|(_, wall)| longest = longest.max(wall));
    }
    stop.store(true, Ordering::Relaxed);
    others.into_iter().for_each(|thread| thread.join().unwrap());
    answer.expect("it was descheduled, and did not overrun");
    assert!(longest >= budget::PREPARE, "nothing starved the call: {longest:?} at most");
}

/// Grows the memory page by page until that fails.
const HOG: &str = "(func $hog (loop $again (br_if $again (i32.ne (i32.const -1) (memory.grow (i32.const 1))))))";

#[test]
fn more_memory_than_allowed_is_a_fault_of_its_own() {
    let guest = Guest { pick: "(call $hog) unreachable", items: HOG, ..Guest::default() };
    let version = guest.version(&runtime());
    let context = PolicyContext { memory_bytes_max: 1 << 20, ..context() };
    let mut instance = version.balancer(&context).unwrap();
    let (kind, call, message) = kind(pick(&mut instance));
    assert_eq!((kind, call), (FaultKind::Memory, "pick"));
    assert_eq!(message, "wanted more than its 1 MiB of memory, in pick");
    assert_eq!(instance.memory_bytes(), 1 << 20);
    drop(instance);
    assert_eq!(version.memory_bytes(), 0);
}

#[test]
fn a_guest_that_lives_with_a_refused_growth_goes_on() {
    let guest = Guest { pick: "(call $hog) (call $answer (i32.const 3))", items: HOG, ..Guest::default() };
    let mut instance = guest.instance();
    assert_eq!(pick(&mut instance).unwrap(), Some(3));
    assert_eq!(pick(&mut instance).unwrap(), Some(3));
    assert_eq!(instance.memory_bytes(), 16 << 20);
}

#[test]
fn a_component_that_begins_with_too_much_memory_is_refused_by_its_limit() {
    let version = Guest::default().version(&runtime());
    match version.balancer(&PolicyContext { memory_bytes_max: 1000, ..context() }) {
        Err(InstanceError::Fault(fault)) => assert_eq!((fault.kind, fault.call), (FaultKind::Memory, "instantiate")),
        other => panic!("{other:?}"),
    }
    assert_eq!(version.live_instances(), 0);
}

#[test]
fn a_table_that_grows_without_end_is_a_fault_of_memory() {
    let guest = Guest {
        items: "(table $t 1 funcref)",
        pick: "(loop $again (br_if $again (i32.ne (i32.const -1) (table.grow $t (ref.null func) (i32.const 1000)))))
            unreachable",
        ..Guest::default()
    };
    assert_eq!(kind(pick(&mut guest.instance())).0, FaultKind::Memory);
}

#[test]
fn a_state_of_more_than_a_mebibyte_is_a_fault() {
    let saves = |save| Guest { save, ..Guest::default() };
    let most = saves(
        "(drop (memory.grow (i32.const 64))) (i32.store (i32.const 16) (i32.const 0))
         (i32.store (i32.const 20) (i32.const 0x100000)) (i32.const 16)",
    );
    assert_eq!(most.instance().save().unwrap().len(), 1 << 20);
    let more = saves(
        "(drop (memory.grow (i32.const 64))) (i32.store (i32.const 16) (i32.const 0))
         (i32.store (i32.const 20) (i32.const 0x100001)) (i32.const 16)",
    );
    let (kind, call, message) = kind(more.instance().save());
    assert_eq!((kind, call, message.as_str()), (FaultKind::Trap, "save", "gave the host more than 1 MiB at once"));
}

#[test]
fn answers_that_point_outside_of_memory_are_faults() {
    for pick in ["(i32.const 0x7ffffff0)", "(i32.const 17)", "(i32.const -4)"] {
        assert_eq!(kind(super::guest::pick(&mut Guest { pick, ..Guest::default() }.instance())).0, FaultKind::Trap);
    }
    let save =
        "(i32.store (i32.const 16) (i32.const 0x7ffffff0)) (i32.store (i32.const 20) (i32.const 100)) (i32.const 16)";
    assert_eq!(kind(Guest { save, ..Guest::default() }.instance().save()).0, FaultKind::Trap);
    // An option that is neither none nor some.
    let pick = "(i32.store (i32.const 16) (i32.const 2)) (i32.const 16)";
    assert_eq!(kind(super::guest::pick(&mut Guest { pick, ..Guest::default() }.instance())).0, FaultKind::Trap);
}

#[test]
fn an_instance_answers_nothing_more_after_a_fault() {
    let mut instance = Guest { pick: "unreachable", ..Guest::default() }.instance();
    assert!(pick(&mut instance).is_err());
    assert!(instance.save().is_err());
}

#[test]
fn deadlines_hold_when_the_runtime_is_gone() {
    let runtime = runtime();
    let version = Guest { pick: SPIN, ..Guest::default() }.version(&runtime);
    let mut instance = version.balancer(&context()).unwrap();
    drop((runtime, version));
    assert_eq!(kind(pick(&mut instance)).0, FaultKind::Deadline);
}
