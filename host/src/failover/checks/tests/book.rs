//! When what is checked, in virtual time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{SECOND_US, check, endpoint_at};
use crate::{
    failover::checks::{
        CheckedService,
        book::{Book, Due},
        probe::Look,
    },
    model::{Endpoint, HealthCheck, Percent, Probe, Protocol, Slot},
};

const SEED: u64 = 0x5111;
const NOW_US: u64 = 77 * SECOND_US;

fn endpoints(count: Slot) -> Vec<Arc<Endpoint>> {
    (0..count).map(|slot| endpoint_at(slot, "127.0.0.1:9001".parse().expect("an address"))).collect()
}

fn tcp() -> HealthCheck {
    check(Probe::Tcp)
}

fn service(name: &str, check: HealthCheck, endpoints: &[Arc<Endpoint>]) -> CheckedService {
    let service = name.parse().expect("a name");
    CheckedService { service, check, protocol: Protocol::Http1, endpoints: endpoints.to_vec() }
}

/// Everything due until `until_us`, with the time of each; `found` says what each check finds, 1 ms later.
fn run(book: &mut Book, until_us: u64, mut found: impl FnMut(&Due) -> bool) -> Vec<(u64, Slot)> {
    let mut made = Vec::new();
    while let Some(next_us) = book.next_us().filter(|&next_us| next_us < until_us) {
        for due in book.take_due(next_us, usize::MAX) {
            made.push((next_us, due.endpoint.slot));
            let look = if found(&due) { Look::passes("well") } else { Look::wrong("ill") };
            book.finish(due.serial, look, 1_000, next_us + 1_000);
        }
    }
    made
}

#[test]
fn first_checks_come_soon_and_never_all_at_once() {
    for (count, within_us) in [(1, 10_000), (3, 30_000), (100, SECOND_US), (1_000, 2 * SECOND_US)] {
        let mut book = Book::new(SEED);
        book.set(vec![service("orders", tcp(), &endpoints(count))], NOW_US);
        let made = run(&mut book, NOW_US + 2 * SECOND_US, |_| true);
        assert_eq!(made.len(), count as usize, "each once");
        assert!(made.iter().all(|(us, _)| (NOW_US..NOW_US + within_us).contains(us)), "{made:?}");
        let mut each_100_ms = HashMap::new();
        made.iter().for_each(|(us, _)| *each_100_ms.entry((us - NOW_US) / 100_000).or_insert(0u64) += 1);
        // What is to be done in the interval anyway, but not less than 10 in 100 ms; one more at each end.
        let most = 2 + 10.max(u64::from(count) / 20);
        assert!(each_100_ms.values().all(|&checks| checks <= most), "{each_100_ms:?}");
    }
}

#[test]
fn services_that_come_one_after_the_other_share_the_first_seconds() {
    let mut book = Book::new(SEED);
    let mut services = Vec::new();
    for number in 0..20 {
        services.push(service(&format!("s{number}"), tcp(), &endpoints(10)));
        assert!(book.set(services.clone(), NOW_US + number));
    }
    let made = run(&mut book, NOW_US + 2 * SECOND_US, |_| true);
    let early = made.iter().filter(|(us, _)| *us < NOW_US + SECOND_US / 10).count();
    assert_eq!(made.len(), 200);
    assert!(early < 60, "{early} of 200 in the first tenth of a second");
}

#[test]
fn later_checks_follow_at_the_interval_give_or_take_the_jitter() {
    let mut check = tcp();
    check.jitter = Percent::new(10).expect("at most 100");
    let mut book = Book::new(SEED);
    book.set(vec![service("orders", check, &endpoints(20))], NOW_US);
    let made = run(&mut book, NOW_US + 60 * SECOND_US, |_| true);
    let mut last: HashMap<Slot, u64> = HashMap::new();
    let (mut least, mut most) = (u64::MAX, 0);
    for (us, slot) in made {
        if let Some(before) = last.insert(slot, us) {
            (least, most) = (least.min(us - before), most.max(us - before));
        }
    }
    assert!((1_800_000..1_850_000).contains(&least), "{least}");
    assert!((2_150_000..=2_200_000).contains(&most), "{most}");
}

#[test]
fn what_is_overdue_longest_is_checked_first_and_no_more_than_there_are_places() {
    let mut book = Book::new(SEED);
    book.set(vec![service("orders", tcp(), &endpoints(50))], NOW_US);
    let late_us = NOW_US + 10 * SECOND_US;
    let first = book.next_us().expect("there are some");
    assert_eq!(book.take_due(late_us, 0).len(), 0);
    let taken = book.take_due(late_us, 20);
    assert_eq!(taken.len(), 20);
    assert!(book.next_us().is_some_and(|next_us| next_us > first && next_us < late_us));
    assert_eq!(book.take_due(late_us, 100).len(), 30);
    assert_eq!(book.next_us(), None, "none is checked twice at once");
    book.finish(taken[0].serial, Look::passes(""), 1, late_us + 5 * SECOND_US);
    assert_eq!(book.next_us(), Some(late_us + 5 * SECOND_US), "an answer that took so long has used up its interval");
}

#[test]
fn fall_and_rise_take_an_endpoint_out_and_in() {
    let endpoints = endpoints(2);
    let mut book = Book::new(SEED);
    book.set(vec![service("orders", tcp(), &endpoints)], NOW_US);
    run(&mut book, NOW_US + SECOND_US, |_| true);
    assert!(endpoints.iter().all(|endpoint| endpoint.fitness.is_fit()));
    // Checks after 2, 4 and 6 s fail, and those after 8 and 10 s are well again.
    run(&mut book, NOW_US + 5 * SECOND_US, |due| due.endpoint.slot == 0);
    assert!(endpoints[1].fitness.is_fit(), "twice is not yet three times");
    run(&mut book, NOW_US + 7 * SECOND_US, |due| due.endpoint.slot == 0);
    assert!(endpoints[1].fitness.fails_checks() && endpoints[0].fitness.is_fit());
    let report = book.report(&"orders".parse().unwrap(), 1).expect("it is checked");
    assert_eq!((report.passing, report.consecutive, report.detail.as_str()), (false, 3, "ill"));
    assert!(report.since_us > NOW_US + 6 * SECOND_US && report.since_us == report.at_us, "{report:?}");
    run(&mut book, NOW_US + 9 * SECOND_US, |_| true);
    assert!(endpoints[1].fitness.fails_checks());
    run(&mut book, NOW_US + 11 * SECOND_US, |_| true);
    assert!(endpoints[1].fitness.is_fit());
    assert!(book.report(&"orders".parse().unwrap(), 1).is_some_and(|report| report.passing));
}

#[test]
fn what_is_no_longer_checked_counts_as_passing() {
    let endpoints = endpoints(3);
    let mut book = Book::new(SEED);
    book.set(vec![service("orders", tcp(), &endpoints)], NOW_US);
    run(&mut book, NOW_US + SECOND_US, |_| false);
    assert!(endpoints.iter().all(|endpoint| endpoint.fitness.fails_checks()), "a first check decides");
    // One leaves, and another endpoint has its slot at once.
    let other = super::endpoint_at(2, "127.0.0.1:9002".parse().unwrap());
    let remaining = [Arc::clone(&endpoints[0]), Arc::clone(&endpoints[1]), Arc::clone(&other)];
    assert!(book.set(vec![service("orders", tcp(), &remaining)], NOW_US + SECOND_US));
    assert!(endpoints[2].fitness.is_fit() && other.fitness.is_fit() && endpoints[0].fitness.fails_checks());
    assert_eq!(book.report(&"orders".parse().unwrap(), 2), None, "it has not been checked yet");
    // One leaves while its check is under way.
    let due = book.take_due(NOW_US + 4 * SECOND_US, 10);
    assert_eq!(due.len(), 3);
    assert!(book.set(vec![service("orders", tcp(), &remaining[..1])], NOW_US + 4 * SECOND_US));
    for due in due {
        let found = book.finish(due.serial, Look::wrong("ill"), 1, NOW_US + 5 * SECOND_US);
        assert_eq!(found.is_some(), due.endpoint.slot == 0);
    }
    assert!(endpoints[1].fitness.is_fit() && other.fitness.is_fit());
    // The check is taken out of the configuration.
    assert!(book.set(Vec::new(), NOW_US + 6 * SECOND_US));
    assert!(endpoints[0].fitness.is_fit());
    assert_eq!(book.next_us(), None);
}

#[test]
fn what_stays_the_same_goes_on_undisturbed() {
    let endpoints = endpoints(100);
    let mut book = Book::new(SEED);
    let all = || vec![service("orders", tcp(), &endpoints)];
    assert!(book.set(all(), NOW_US));
    run(&mut book, NOW_US + SECOND_US, |_| false);
    let next_us = book.next_us();
    for _ in 0..5_000 {
        assert!(!book.set(all(), NOW_US + SECOND_US), "nothing is new");
    }
    assert_eq!(book.next_us(), next_us);
    assert!(endpoints.iter().all(|endpoint| endpoint.fitness.fails_checks()));
}

#[test]
fn another_question_keeps_the_verdict_until_it_is_answered_and_ignores_answers_to_the_old_one() {
    let endpoints = endpoints(1);
    let mut book = Book::new(SEED);
    book.set(vec![service("orders", tcp(), &endpoints)], NOW_US);
    run(&mut book, NOW_US + SECOND_US, |_| false);
    let old = book.take_due(NOW_US + 3 * SECOND_US, 1).remove(0);
    let mut check = tcp();
    (check.rise, check.port) = (1, Some(9000));
    assert!(book.set(vec![service("orders", check.clone(), &endpoints)], NOW_US + 3 * SECOND_US));
    assert!(endpoints[0].fitness.fails_checks());
    assert!(book.finish(old.serial, Look::passes("well"), 1, NOW_US + 4 * SECOND_US).is_none());
    assert!(endpoints[0].fitness.fails_checks(), "what was asked before says nothing");
    let mut asked = Vec::new();
    run(&mut book, NOW_US + 6 * SECOND_US, |due| {
        asked.push(due.check.port);
        true
    });
    assert!(endpoints[0].fitness.is_fit());
    assert_eq!(asked.first(), Some(&Some(9000)));
    // Waiting ones ask the new question soon, not only after what may be an hour.
    check.interval = Duration::from_millis(500);
    assert!(book.set(vec![service("orders", check, &endpoints)], NOW_US + 6 * SECOND_US));
    assert!(book.next_us().is_some_and(|next_us| next_us < NOW_US + 6 * SECOND_US + SECOND_US / 2));
}

#[test]
fn endpoints_that_come_and_go_leave_nothing_behind() {
    let mut book = Book::new(SEED);
    for round in 0..200 {
        book.set(vec![service("orders", tcp(), &endpoints(100))], NOW_US + round);
    }
    assert!(book.times_len() <= 100 + 1024 + 100, "{}", book.times_len());
}
