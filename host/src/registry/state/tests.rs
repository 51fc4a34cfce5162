//! The registry's promises on a clock of the tests' own.

mod bounds;

use std::time::Duration;

use super::*;
use crate::{
    model::{MassExpiry, Percent},
    registry::registration::{CheckDefinition, CheckKind, Registration, Thresholds},
};

const SECOND: u64 = 1_000_000;

fn options() -> RegistryOptions {
    let mass_expiry = MassExpiry { percent: Percent::new(50).expect("a share"), hold: Duration::from_secs(600) };
    RegistryOptions { node_name: "sluice".to_owned(), node_address: "127.0.0.1".to_owned(), mass_expiry }
}

fn state() -> State {
    State::new(options(), SECOND, 7)
}

fn ttl(id: &str, seconds: u64) -> CheckDefinition {
    CheckDefinition {
        id: format!("service:{id}"),
        name: "alive".to_owned(),
        notes: String::new(),
        kind: CheckKind::Ttl { ttl: Duration::from_secs(seconds) },
        initial: CheckStatus::Passing,
        deregister_after: None,
        thresholds: Thresholds::default(),
    }
}

fn tcp(id: &str, thresholds: Thresholds) -> CheckDefinition {
    let second = Duration::from_secs(1);
    let kind = CheckKind::Tcp { target: "127.0.0.1:1".to_owned(), interval: second, timeout: second };
    CheckDefinition { kind, thresholds, initial: CheckStatus::Passing, ..ttl(id, 1) }
}

fn instance(service: &str, id: &str, checks: Vec<CheckDefinition>) -> Registration {
    Registration { id: id.to_owned(), service: service.to_owned(), port: 80, checks, ..Registration::default() }
}

/// With a TTL of 10 s each, ids `0` to `count`, passing.
fn service_of(state: &mut State, service: &str, count: usize) {
    for at in 0..count {
        let id = format!("{service}-{at}");
        state.register(instance(service, &id, vec![ttl(&id, 10)]), false, SECOND).expect("right");
    }
}

fn passing(state: &State, service: &str) -> usize {
    state.listing(service).map_or(0, |listing| listing.passing().count())
}

/// What the keeper does: until nothing is due any more.
fn sweep(state: &mut State, now_us: InstantUs) {
    while state.sweep(3, now_us) {}
}

#[test]
fn an_instance_lives_as_long_as_its_heartbeats_come() {
    let mut state = state();
    service_of(&mut state, "web", 1);
    for second in [8, 15, 24, 33] {
        sweep(&mut state, second * SECOND);
        state.report("service:web-0", CheckStatus::Passing, "", second * SECOND).expect("there");
        assert_eq!(passing(&state, "web"), 1, "at {second} s");
    }
    sweep(&mut state, 42 * SECOND);
    assert_eq!(passing(&state, "web"), 1);
    sweep(&mut state, 44 * SECOND);
    assert_eq!(passing(&state, "web"), 0, "10 s after the last heartbeat");
    state.report("service:web-0", CheckStatus::Passing, "", 45 * SECOND).expect("there");
    assert_eq!(passing(&state, "web"), 1, "and back with the next");
    sweep(&mut state, 56 * SECOND);
    assert_eq!(passing(&state, "web"), 0, "with a lease as before");
}

#[test]
fn a_heartbeat_in_the_moment_of_its_leases_end_prolongs_it_once() {
    let mut state = state();
    service_of(&mut state, "web", 1);
    state.note_lapses_at(12 * SECOND);
    let live = Arc::clone(&state.instance("web-0").expect("there").checks[0].live);
    assert!(live.renew(22 * SECOND));
    let masses = state.masses();
    assert!(!state.judge("service:web-0", &masses), "it is not over");
    sweep(&mut state, 13 * SECOND);
    assert_eq!(passing(&state, "web"), 1);
    sweep(&mut state, 23 * SECOND);
    assert_eq!(passing(&state, "web"), 0, "and is looked at again when the heartbeat's own time is over");
}

#[test]
fn heartbeats_change_nothing_that_is_durable() {
    let mut state = state();
    service_of(&mut state, "web", 3);
    state.settle();
    let index = state.index();
    state.report("service:web-1", CheckStatus::Passing, "fine", 2 * SECOND).expect("there");
    assert!(state.changes().is_none() && state.index() == index);
    assert_eq!(&*state.instance("web-1").expect("there").checks[0].output(), "fine");
}

#[test]
fn the_index_grows_with_each_change_and_a_services_own_only_with_its_own() {
    let mut state = state();
    service_of(&mut state, "web", 1);
    service_of(&mut state, "api", 1);
    let (web, api, all) = (state.listing("web").unwrap().index, state.listing("api").unwrap().index, state.index());
    state.report("service:web-0", CheckStatus::Warning, "", SECOND).expect("there");
    assert!(state.listing("web").unwrap().index > web && state.index() > all);
    assert_eq!(state.listing("api").unwrap().index, api);
    let before = state.index();
    service_of(&mut state, "api", 1);
    assert_eq!(state.index(), before, "the same registration again is no change");
    assert!(state.deregister("web-0", SECOND));
    assert!(state.absent_index() > web, "and a service that went has an index that grew");
}

#[test]
fn few_leases_that_run_out_are_believed() {
    let mut state = state();
    service_of(&mut state, "web", 4);
    sweep(&mut state, 12 * SECOND);
    assert_eq!(passing(&state, "web"), 0);
    assert!(state.held().is_empty());
}

#[test]
fn a_mass_expiry_keeps_the_last_membership_and_says_so() {
    let mut state = state();
    service_of(&mut state, "web", 10);
    for at in 0..4 {
        state.report(&format!("service:web-{at}"), CheckStatus::Passing, "", 8 * SECOND).expect("there");
    }
    sweep(&mut state, 12 * SECOND);
    assert_eq!(passing(&state, "web"), 10, "6 of 10 leases ran out at once");
    assert_eq!(state.held()["web"], HeldLeases { held: 6, of: 10 });
    for at in 4..8 {
        state.report(&format!("service:web-{at}"), CheckStatus::Passing, "", 14 * SECOND).expect("there");
    }
    sweep(&mut state, 15 * SECOND);
    assert_eq!(passing(&state, "web"), 8, "heartbeats are back, so the 2 that are silent are gone");
    assert!(state.held().is_empty());
}

#[test]
fn those_that_went_first_in_a_mass_expiry_come_back() {
    let mut state = state();
    service_of(&mut state, "web", 10);
    for at in 0..6 {
        state.report(&format!("service:web-{at}"), CheckStatus::Passing, "", 8 * SECOND).expect("there");
    }
    sweep(&mut state, 12 * SECOND);
    assert_eq!(passing(&state, "web"), 6, "4 of 10 are no mass yet");
    sweep(&mut state, 19 * SECOND);
    assert_eq!(passing(&state, "web"), 10, "all of them are");
    assert_eq!(state.held()["web"].held, 10);
    sweep(&mut state, (19 + 601) * SECOND);
    assert_eq!(passing(&state, "web"), 0, "but not for ever");
}

#[test]
fn a_mass_over_all_services_is_one_too() {
    let mut state = state();
    for service in ["a", "b", "c", "d", "e", "f"] {
        service_of(&mut state, service, 1);
    }
    sweep(&mut state, 12 * SECOND);
    assert_eq!(state.held().len(), 6);
    assert!(["a", "f"].iter().all(|service| passing(&state, service) == 1));
}

#[test]
fn an_instance_that_is_critical_for_long_leaves() {
    let mut state = state();
    let check = CheckDefinition { deregister_after: Some(Duration::from_secs(60)), ..ttl("web-0", 10) };
    state.register(instance("web", "web-0", vec![check]), false, SECOND).expect("right");
    sweep(&mut state, 12 * SECOND);
    state.report("service:web-0", CheckStatus::Passing, "", 40 * SECOND).expect("there");
    sweep(&mut state, 51 * SECOND);
    sweep(&mut state, 100 * SECOND);
    assert!(state.listing("web").is_some(), "critical since 51 s only");
    sweep(&mut state, 112 * SECOND);
    assert!(state.listing("web").is_none());
    assert!(state.report("service:web-0", CheckStatus::Passing, "", 113 * SECOND).is_err());
}

#[test]
fn an_active_check_follows_after_as_many_results_as_asked_for() {
    let mut state = state();
    let thresholds = Thresholds { success_before_passing: 2, failures_before_warning: 2, failures_before_critical: 3 };
    let check = tcp("web-0", thresholds);
    state.register(instance("web", "web-0", vec![check]), false, SECOND).expect("right");
    let definition = Arc::clone(&state.instance("web-0").expect("there").checks[0].definition);
    let mut after = |status| {
        state.found(&definition, status, "", SECOND);
        state.instance("web-0").expect("there").status
    };
    use CheckStatus::{Critical, Passing, Warning};
    let results = [Critical, Critical, Critical, Passing, Passing, Critical, Passing];
    let followed = [Passing, Warning, Critical, Critical, Passing, Passing, Passing];
    assert_eq!(results.map(&mut after), followed);
    let other = Arc::new(tcp("web-0", thresholds));
    for _ in 0..5 {
        state.found(&other, Critical, "", SECOND);
    }
    assert_eq!(state.instance("web-0").expect("there").status, Passing, "a check that was replaced has no say");
}

#[test]
fn maintenance_is_critical_and_ends() {
    let mut state = state();
    service_of(&mut state, "web", 2);
    state.set_maintenance("web-0", Some("a new disk".to_owned()), SECOND).expect("there");
    assert_eq!(passing(&state, "web"), 1);
    state.set_node_maintenance(Some("a new floor".to_owned()), SECOND);
    assert_eq!(passing(&state, "web"), 0);
    state.set_node_maintenance(None, SECOND);
    assert_eq!(passing(&state, "web"), 1);
    service_of(&mut state, "web", 2);
    assert_eq!(passing(&state, "web"), 1, "a registration does not end it");
    state.set_maintenance("web-0", None, SECOND).expect("there");
    assert_eq!(passing(&state, "web"), 2);
    assert!(state.set_maintenance("other", None, SECOND).is_err());
}

#[test]
fn a_registration_again_keeps_the_status_of_its_checks() {
    let mut state = state();
    let critical = CheckDefinition { initial: CheckStatus::Critical, ..ttl("web-0", 10) };
    let extra = CheckDefinition { id: "extra".to_owned(), ..ttl("web-0", 10) };
    state.register(instance("web", "web-0", vec![critical.clone()]), false, SECOND).expect("right");
    state.register_check(Some("web-0"), extra, SECOND).expect("right");
    state.report("service:web-0", CheckStatus::Passing, "", SECOND).expect("there");
    let again = Registration { tags: vec!["blue".to_owned()], ..instance("web", "web-0", vec![critical.clone()]) };
    state.register(again.clone(), false, SECOND).expect("right");
    let now = state.instance("web-0").expect("there");
    assert_eq!((now.status, now.checks.len(), now.has_tag("blue")), (CheckStatus::Passing, 2, true));
    state.register(again, true, SECOND).expect("right");
    assert_eq!(state.instance("web-0").expect("there").checks.len(), 1, "where the others shall go, they go");
    let thief = instance("api", "api-0", vec![critical]);
    assert!(matches!(state.register(thief, false, SECOND), Err(RegistryError::Invalid(_))), "a check has one owner");
}

#[test]
fn a_check_that_is_no_lease_any_more_never_runs_out() {
    let mut state = state();
    service_of(&mut state, "web", 6);
    for at in 0..6 {
        let id = format!("web-{at}");
        let check = tcp(&id, Thresholds::default());
        state.register(instance("web", &id, vec![check]), false, 2 * SECOND).expect("right");
    }
    for second in [12, 30, 900] {
        sweep(&mut state, second * SECOND);
        assert!(state.held().is_empty() && state.lapses.is_empty(), "at {second} s");
        assert_eq!(passing(&state, "web"), 6, "at {second} s");
    }
    service_of(&mut state, "web", 6);
    sweep(&mut state, 911 * SECOND);
    assert_eq!(state.held()["web"], HeldLeases { held: 6, of: 6 }, "and has a lease again where it is one again");
}

/// All that can be seen of it.
fn seen(state: &State) -> Vec<String> {
    let mut seen: Vec<_> = state
        .instances()
        .map(|it| {
            let checks: Vec<_> = it.checks.iter().map(|check| (check.id().to_owned(), check.status)).collect();
            format!("{} {} {:?} {:?} {:?} {}", it.id, it.service, it.status, it.maintenance, checks, it.modify_index)
        })
        .collect();
    seen.extend(state.service_names().map(|name| format!("{name} {:?}", state.listing(name).map(|it| it.index))));
    seen.push(format!("{:?} {:?}", state.marks, state.node));
    seen.sort();
    seen
}

#[test]
fn what_the_store_did_not_take_never_was() {
    let mut state = state();
    service_of(&mut state, "web", 2);
    service_of(&mut state, "api", 1);
    state.settle();
    let before = seen(&state);
    state.deregister("web-0", SECOND);
    state.deregister("api-0", SECOND);
    state.register(instance("web", "web-1", vec![]), true, SECOND).expect("right");
    service_of(&mut state, "new", 2);
    state.set_node_maintenance(Some("why".to_owned()), SECOND);
    sweep(&mut state, 20 * SECOND);
    assert_ne!(seen(&state), before);
    state.undo(20 * SECOND);
    assert_eq!(seen(&state), before);
    assert!(state.changes().is_none());
    state.report("service:web-0", CheckStatus::Passing, "", 20 * SECOND).expect("back");
    sweep(&mut state, 29 * SECOND);
    assert_eq!(state.instance("web-0").expect("there").status, CheckStatus::Passing, "its lease runs again");
    sweep(&mut state, 31 * SECOND);
    assert_eq!(state.instance("web-0").expect("there").status, CheckStatus::Critical);
}

#[test]
fn a_check_that_moved_in_what_was_undone_is_looked_after_where_it_was() {
    let mut state = state();
    let owner = |at: usize, turn: usize| format!("web-{}", (at + turn) % 16);
    let moved = |at: usize, turn: usize| instance("web", &owner(at, turn), vec![ttl(&at.to_string(), 10)]);
    for at in 0..16 {
        state.register(moved(at, 0), true, SECOND).expect("right");
    }
    state.register_check(None, ttl("node", 10), SECOND).expect("right");
    state.settle();
    let before = seen(&state);
    for at in 0..16 {
        state.register(instance("web", &owner(at, 0), vec![]), true, SECOND).expect("right");
    }
    state.deregister_check("service:node", SECOND).expect("there");
    for at in 0..16 {
        state.register(moved(at, 1), true, SECOND).expect("each is free");
    }
    state.register_check(Some("web-0"), ttl("node", 10), SECOND).expect("it is free");
    state.undo(2 * SECOND);
    assert_eq!(seen(&state), before);
    for id in (0..16).map(|at| at.to_string()).chain(["node".to_owned()]) {
        state.report(&format!("service:{id}"), CheckStatus::Warning, "", 3 * SECOND).expect("it is known");
    }
    assert_eq!(passing(&state, "web"), 0);
    assert_eq!(state.node_checks()[0].status, CheckStatus::Warning);
}

/// What stands in the store after all of these batches.
fn stored(store: &mut BTreeMap<bytes::Bytes, bytes::Bytes>, state: &mut State) {
    for write in state.changes().map(|changes| changes.batch.writes).unwrap_or_default() {
        match write {
            crate::storage::Write::Put { key, value, .. } => store.insert(key, value),
            crate::storage::Write::Delete { key, .. } => store.remove(&key),
        };
    }
    state.settle();
}

#[test]
fn after_a_restart_everything_is_there_and_leases_run_on_apart() {
    let (mut state, mut store) = (state(), BTreeMap::new());
    service_of(&mut state, "web", 20);
    service_of(&mut state, "gone", 1);
    stored(&mut store, &mut state);
    state.deregister("gone-0", SECOND);
    state.deregister("web-19", SECOND);
    state.set_maintenance("web-0", Some("why".to_owned()), SECOND).expect("there");
    state.report("service:web-1", CheckStatus::Critical, "ill", SECOND).expect("there");
    stored(&mut store, &mut state);

    let entries = || store.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let start = 1_000_000 * SECOND;
    let mut again = State::restore(options(), entries(), start, 3).expect("readable");
    assert_eq!(seen(&again), seen(&state));
    assert_eq!(&*again.instance("web-1").expect("there").checks[0].output(), "ill");
    sweep(&mut again, start + 10 * SECOND - 1);
    assert_eq!(passing(&again, "web"), 17, "each has its full TTL");
    let lapsed = |now| {
        let mut state = State::restore(options(), entries(), start, 3).expect("readable");
        state.note_lapses_at(now);
        state.lapses.len()
    };
    let (half, all) = (lapsed(start + 12 * SECOND), lapsed(start + 15 * SECOND));
    assert!(half > 0 && half < all && all == 18, "{half} of {all} after 12 s: they do not end at once");
}

impl State {
    /// The first step of a sweep alone.
    fn note_lapses_at(&mut self, now_us: InstantUs) {
        self.now_us = now_us;
        self.note_lapses();
    }
}
