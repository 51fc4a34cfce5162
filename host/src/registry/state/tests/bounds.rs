//! Nothing grows beyond its bound: what is registered, what one commit takes, what is still to be done.

use super::*;
use crate::{
    registry::registration::HttpCheck,
    storage::{BATCH_BYTES_MAX, Write},
};

#[test]
fn what_is_to_be_looked_at_does_not_pile_up() {
    let mut state = state();
    let check = CheckDefinition { deregister_after: Some(Duration::from_secs(86_400)), ..ttl("web-0", 86_400) };
    let (bound, mut now_us) = (2 + AGENDA_SLACK, SECOND);
    for _ in 0..1000 {
        now_us += SECOND;
        state.register(instance("web", "web-0", vec![check.clone()]), false, now_us).expect("right");
        state.report("service:web-0", CheckStatus::Critical, "", now_us).expect("there");
        assert!(state.leases.len() <= bound && state.departures.len() <= bound);
        state.deregister("web-0", now_us);
    }
    state.register(instance("web", "web-0", vec![check]), false, now_us).expect("right");
    let before = state.departures.len();
    for _ in 0..1000 {
        now_us += SECOND;
        state.report("service:web-0", CheckStatus::Passing, "", now_us).expect("there");
        state.report("service:web-0", CheckStatus::Critical, "", now_us).expect("there");
    }
    assert!(state.departures.len() <= before + 1, "one for each check");
    sweep(&mut state, now_us + 86_399 * SECOND);
    assert!(state.instance("web-0").is_some(), "not before its time");
    sweep(&mut state, now_us + 86_400 * SECOND);
    assert!(state.instance("web-0").is_none(), "and then it goes all the same");
}

/// A record of some 600 KiB: as large as bodies of checks make it.
fn large(id: &str) -> Registration {
    let body = "\u{1}".repeat(4096);
    let http = |at: usize| {
        let check = HttpCheck {
            url: "http://127.0.0.1:1/".to_owned(),
            method: "PUT".to_owned(),
            headers: vec![("x-large".to_owned(), "x".repeat(1000)); 15],
            body: body.clone(),
            interval: Duration::from_secs(60),
            timeout: Duration::from_secs(1),
            tls_skip_verify: false,
            disable_redirects: true,
        };
        CheckDefinition { kind: CheckKind::Http(check), ..ttl(&format!("{id}-{at}"), 10) }
    };
    instance("web", id, (0..15).map(http).chain([ttl(id, 10)]).collect())
}

fn batch_bytes(state: &State) -> usize {
    let size = |write: &Write| match write {
        Write::Put { key, value, .. } => key.len() + value.len(),
        Write::Delete { key, .. } => key.len(),
    };
    state.changes().map_or(0, |changes| changes.batch.writes.iter().map(size).sum())
}

#[test]
fn a_pass_ends_before_its_commit_is_larger_than_the_store_takes() {
    let mut state = state();
    for at in 0..40 {
        let was_full = state.is_full();
        state.register(large(&format!("web-{at}")), false, SECOND).expect("right");
        assert!(!was_full || at > 8, "many records of this size fit");
        if state.is_full() {
            assert!(batch_bytes(&state) < BATCH_BYTES_MAX * 3 / 4);
            state.settle();
        }
    }
    state.settle();
    let mut passes = 0;
    state.options.mass_expiry.hold = Duration::ZERO;
    while state.sweep(100, 12 * SECOND) {
        assert!(batch_bytes(&state) < BATCH_BYTES_MAX * 3 / 4);
        state.settle();
        passes += 1;
    }
    assert!(passes >= 2 && state.lapses.len() == 40, "{passes} passes");
}

#[test]
fn a_full_registry_refuses_more_and_goes_on() {
    let mut state = state();
    for at in 0..INSTANCES_MAX {
        state.register(instance("web", &format!("web-{at}"), vec![]), false, SECOND).expect("room");
    }
    let one_more = state.register(instance("web", "one-more", vec![]), false, SECOND);
    assert_eq!(one_more, Err(RegistryError::Full { max: INSTANCES_MAX }));
    state.register(Registration { port: 81, ..instance("web", "web-0", vec![]) }, false, SECOND).expect("it is there");
    assert!(state.deregister("web-1", SECOND));
    state.register(instance("web", "one-more", vec![]), false, SECOND).expect("room again");
}
