//! What an answer changes.

use std::time::Duration;

use super::{
    call::CallAnswer,
    calls::Ended,
    core::Counts,
    driver::Driver,
    machine::Answer,
    record::{EventKind, Trouble},
};
use crate::model::transaction::{Phase, Progress, Reference};

/// Takes it. Answers which operation is to be tried again, and after which pause, if it is.
pub fn take(driver: &mut Driver, Ended { at, answer }: Ended) -> Option<(Reference, Duration)> {
    let (branch, operation) = driver.machine.operation(at)?;
    let names = || (branch.id.clone(), operation.name.clone());
    let ((branch, operation), phase) = (names(), operation.phase);
    let counts = &driver.core.counts;
    match answer {
        CallAnswer::Succeeded => {
            Counts::add(&counts.calls_succeeded);
            driver.standing.no_trouble(at);
            if driver.machine.answer(at, Answer::Succeeded) {
                driver.note(EventKind::Succeeded { branch, operation });
            }
            None
        }
        CallAnswer::Refused(why) => {
            Counts::add(&counts.calls_refused);
            driver.standing.no_trouble(at);
            if driver.machine.answer(at, Answer::Refused(why.clone())) {
                driver.note(EventKind::Refused { branch, operation, why });
            }
            if let Some(reason) = driver.machine.facts().hazard.clone().filter(|_| phase != Phase::Undecided) {
                driver.endanger(reason);
            }
            None
        }
        CallAnswer::Ongoing => {
            let pause = driver.pause(1);
            let attempts = attempts(driver, at);
            trouble(driver, at, attempts, "425: it is still going on".to_owned(), Some(pause));
            Some((at, pause))
        }
        CallAnswer::Unclear(why) => {
            Counts::add(&counts.calls_unclear);
            if !driver.machine.answer(at, Answer::Unclear) {
                return None;
            }
            driver.unkept = true;
            let attempts = attempts(driver, at);
            let limit = driver.submitted.options.attempts_max.filter(|_| phase == Phase::Undecided);
            if limit.is_some_and(|limit| attempts >= limit) {
                driver.machine.give_up(at, &format!("{attempts} attempts without a clear answer; the last: {why}"));
                trouble(driver, at, attempts, why, None);
                return None;
            }
            let pause = driver.pause(attempts);
            trouble(driver, at, attempts, why, Some(pause));
            Some((at, pause))
        }
    }
}

fn attempts(driver: &Driver, at: Reference) -> u32 {
    match &driver.machine.facts().progress[at.branch as usize][at.operation as usize] {
        Progress::Running(attempts) => *attempts,
        _ => 0,
    }
}

fn trouble(driver: &mut Driver, at: Reference, attempts: u32, last_error: String, pause: Option<Duration>) {
    let now_ms = driver.core.wall.now_ms();
    let next_ms = pause.map(|pause| now_ms.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)));
    driver.standing.trouble(at, Trouble { attempts, last_error, next_ms });
}
