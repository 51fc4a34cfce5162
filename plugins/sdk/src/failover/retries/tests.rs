use super::*;
use crate::{random::mix, testing};

fn retries(settings: &str) -> Retries {
    let mut settings = Settings::parse(settings);
    let retries = Retries::from_settings(&mut settings);
    let problems = settings.finish();
    assert!(problems.is_empty(), "{problems:?}");
    retries
}

fn failure(outcome: Outcome, attempts: u32) -> Failure {
    Failure { attempts, random: u64::MAX, ..testing::failure(outcome) }
}

#[test]
fn the_first_retry_after_a_lost_connection_goes_at_once() {
    for outcome in [Outcome::ConnectFailed, Outcome::Reset] {
        assert_eq!(retries("{}").decide(&failure(outcome, 1)), Verdict::Retry(0));
        assert_eq!(retries("{}").decide(&failure(outcome, 2)), Verdict::Retry(74_999), "the second waits");
    }
}

#[test]
fn the_backoff_is_jittered_between_nothing_and_a_bound_that_doubles_up_to_a_cap() {
    let retries = retries(r#"{"attempts": 10}"#);
    for (attempts, bound_us) in [(1, 25_000), (2, 75_000), (3, 175_000), (4, 250_000), (9, 250_000)] {
        let waits: Vec<u32> = (0..10_000)
            .map(|n| Failure { random: mix(9, n), ..failure(Outcome::GatewayError, attempts) })
            .map(|failure| match retries.decide(&failure) {
                Verdict::Retry(wait_us) => wait_us,
                other => panic!("{other:?}"),
            })
            .collect();
        let mean = waits.iter().map(|wait| f64::from(*wait)).sum::<f64>() / 10_000.0;
        assert!(waits.iter().all(|wait| *wait < bound_us), "attempt {attempts}");
        assert!((0.48..0.52).contains(&(mean / f64::from(bound_us))), "attempt {attempts}: {mean}");
    }
}

#[test]
fn nothing_is_tried_more_often_than_the_setting_says() {
    for outcome in FAILURES {
        assert_eq!(retries("{}").decide(&failure(outcome, 3)), Verdict::GiveUp);
        assert_eq!(retries(r#"{"attempts": 1}"#).decide(&failure(outcome, 1)), Verdict::GiveUp);
    }
}

#[test]
fn what_may_not_be_repeated_is_not() {
    for outcome in FAILURES {
        let failure = Failure { repeatable: false, ..failure(outcome, 1) };
        assert_eq!(retries(r#"{"fall_back": "other"}"#).decide(&failure), Verdict::GiveUp);
    }
}

#[test]
fn only_listed_failures_are_tried_again() {
    let listed = |retries: &Retries| {
        let after = |outcome| Failure { retry_after_ms: Some(1), ..failure(outcome, 1) };
        FAILURES.map(|outcome| retries.decide(&after(outcome)) != Verdict::GiveUp)
    };
    assert_eq!(listed(&retries("{}")), [true, true, true, true, true, false]);
    assert_eq!(
        listed(&retries(r#"{"retry_on": ["server-error", "reset"]}"#)),
        [false, true, false, false, false, true]
    );
    assert_eq!(listed(&retries(r#"{"retry_on": []}"#)), [false; 6]);
    for outcome in [Outcome::ClientError, Outcome::Cancelled, Outcome::Success] {
        assert_eq!(retries("{}").decide(&failure(outcome, 1)), Verdict::GiveUp);
    }
}

#[test]
fn a_push_back_is_waited_for_exactly_or_given_up() {
    let after = |ms, remaining_us| {
        let failure = Failure { retry_after_ms: Some(ms), remaining_us, ..failure(Outcome::Overloaded, 1) };
        retries("{}").decide(&failure)
    };
    assert_eq!(after(700, 700_001), Verdict::Retry(700_000));
    assert_eq!(after(700, 700_000), Verdict::GiveUp, "the deadline comes first");
    assert_eq!(after(0, 1), Verdict::Retry(0));
    assert_eq!(after(u32::MAX, u64::MAX), Verdict::GiveUp, "longer than a verdict can say");
    let unreached = Failure { retry_after_ms: Some(5), ..failure(Outcome::ConnectFailed, 1) };
    assert_eq!(retries("{}").decide(&unreached), Verdict::Retry(5_000));
}

#[test]
fn an_overloaded_endpoint_is_taken_at_its_word_only() {
    assert_eq!(retries("{}").decide(&failure(Outcome::Overloaded, 1)), Verdict::GiveUp);
}

#[test]
fn no_retry_is_begun_that_the_deadline_would_end() {
    let late = Failure { remaining_us: 24_999, ..failure(Outcome::TimedOut, 1) };
    assert_eq!(retries("{}").decide(&late), Verdict::GiveUp);
    assert_eq!(retries("{}").decide(&Failure { remaining_us: 25_000, ..late }), Verdict::Retry(24_999));
}

#[test]
fn what_is_given_up_goes_to_the_service_to_fall_back_to() {
    let retries = retries(r#"{"fall_back": "orders-static"}"#);
    let there = Verdict::FallBack("orders-static".to_owned());
    assert_eq!(retries.decide(&failure(Outcome::ConnectFailed, 1)), Verdict::Retry(0), "not before the last attempt");
    assert_eq!(retries.decide(&failure(Outcome::ConnectFailed, 3)), there);
    assert_eq!(retries.decide(&failure(Outcome::ServerError, 1)), there);
    let nowhere = Failure { slot: None, ..failure(Outcome::ConnectFailed, 1) };
    assert_eq!(retries.decide(&nowhere), there, "without an endpoint at once");
    let left = |retries_left| Failure { retries_left, ..failure(Outcome::ConnectFailed, 1) };
    assert_eq!(retries.decide(&left(0)), there, "the budget is spent");
    assert_eq!(retries.decide(&left(1)), Verdict::Retry(0));
    assert_eq!(retries.decide(&Failure { repeatable: false, ..nowhere }), Verdict::GiveUp, "its body is gone");
    assert_eq!(retries.decide(&failure(Outcome::ClientError, 1)), Verdict::GiveUp, "that is an answer");
    assert_eq!(super::tests::retries("{}").decide(&nowhere), Verdict::GiveUp);
}

#[test]
fn wrong_settings_are_all_reported() {
    let mut settings =
        Settings::parse(r#"{"attempts": 0, "retry_on": ["sometimes"], "backoff": "1 s", "backoff_max": "1 ms"}"#);
    Retries::from_settings(&mut settings);
    let paths: Vec<_> = settings.finish().into_iter().map(|problem| problem.path).collect();
    assert_eq!(paths, ["/attempts", "/retry_on", "/backoff_max"]);
}
