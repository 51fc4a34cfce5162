//! Whether and when a failed attempt is made again, as gRPC and Envoy have it.

use super::{Failure, Verdict, outcome_in_words};
use crate::{Outcome, Settings, random::below};

/// What may be listed in `retry_on`.
const FAILURES: [Outcome; 6] = [
    Outcome::ConnectFailed,
    Outcome::Reset,
    Outcome::GatewayError,
    Outcome::Overloaded,
    Outcome::TimedOut,
    Outcome::ServerError,
];

/// All but `server-error`: a 500 is mostly the request's own fault, and another endpoint would say the same.
const RETRY_ON: u32 = 0b1_1111;

/// Attempts in all: the first, and two more. gRPC's examples have 4 (A6), Envoy 2, Finagle leaves it to the budget.
const ATTEMPTS: u32 = 3;
const ATTEMPTS_MAX: u32 = 10;

/// Envoy's `base_interval` and `max_interval` of a route's retry policy.
const BACKOFF_US: u64 = 25_000;
const BACKOFF_MAX_US: u64 = 250_000;

/// The usual rules for retries.
///
/// What may be repeated and has attempts left is tried again if its failure is among `retry_on`: at once, at another
/// endpoint, the first time that there was no connection or that it broke; else after a random time below
/// `(2^n - 1) * backoff` for the `n`-th retry, but at most `backoff_max` (Envoy's "fully jittered exponential
/// back-off"). If the endpoint said when to come back, then exactly then. An endpoint that is overloaded is only taken
/// at such a word: without it a 429 is mostly the caller's own limit, the same at every endpoint. No retry is begun
/// that would wait beyond the deadline.
///
/// What is given up, and what finds no endpoint at all, goes to the service `fall_back`, if one is named.
#[derive(Clone, Debug)]
pub struct Retries {
    attempts: u32,
    /// Bit `n` is the `n`-th of [`FAILURES`].
    retry_on: u32,
    backoff_us: u64,
    backoff_max_us: u64,
    fall_back: Option<String>,
}

impl Retries {
    /// `attempts` (3), `retry_on` (all but `server-error`), `backoff` ("25 ms"), `backoff_max` ("250 ms") and
    /// `fall_back` (none).
    pub fn from_settings(settings: &mut Settings) -> Self {
        let retries = Self {
            attempts: settings.integer("attempts", ATTEMPTS, 1..=ATTEMPTS_MAX),
            retry_on: settings.some_of("retry_on", &FAILURES.map(outcome_in_words), RETRY_ON),
            backoff_us: settings.duration_us("backoff", BACKOFF_US, 0..=60_000_000),
            backoff_max_us: settings.duration_us("backoff_max", BACKOFF_MAX_US, 0..=60_000_000),
            fall_back: Some(settings.text("fall_back", "")).filter(|name| !name.is_empty()),
        };
        if retries.backoff_max_us < retries.backoff_us {
            settings.problem("backoff_max", "must not be less than backoff");
        }
        retries
    }

    pub fn decide(&self, failure: &Failure) -> Verdict {
        match (self.wait_us(failure), &self.fall_back) {
            (Some(wait_us), _) => Verdict::Retry(wait_us),
            (None, Some(service)) if may_fall_back(failure) => Verdict::FallBack(service.clone()),
            (None, _) => Verdict::GiveUp,
        }
    }

    /// None: it is not tried again.
    fn wait_us(&self, failure: &Failure) -> Option<u32> {
        // Where the service had no endpoint to give, there is none to try either.
        failure.slot?;
        let may_be = failure.repeatable && failure.retries_left > 0 && failure.attempts < self.attempts;
        if !may_be || !self.is_retried(failure.outcome) {
            return None;
        }
        let unreached = matches!(failure.outcome, Outcome::ConnectFailed | Outcome::Reset);
        let wait_us = match failure.retry_after_ms {
            Some(wait_ms) => u64::from(wait_ms) * 1_000,
            None if failure.outcome == Outcome::Overloaded => return None,
            None if unreached && failure.attempts <= 1 => 0,
            None => self.backoff_us(failure.attempts, failure.random),
        };
        if wait_us < failure.remaining_us { u32::try_from(wait_us).ok() } else { None }
    }

    fn is_retried(&self, outcome: Outcome) -> bool {
        FAILURES.iter().position(|listed| *listed == outcome).is_some_and(|n| self.retry_on >> n & 1 == 1)
    }

    /// For the `n`-th retry.
    fn backoff_us(&self, n: u32, random: u64) -> u64 {
        let steps = (1_u64 << n.min(ATTEMPTS_MAX)) - 1;
        let bound_us = (steps * self.backoff_us).min(self.backoff_max_us);
        u64::from(below(random, bound_us as u32))
    }
}

/// Another service must not repeat what may not be repeated either, and an answer that blames the client is its answer.
fn may_fall_back(failure: &Failure) -> bool {
    FAILURES.contains(&failure.outcome) && failure.repeatable
}

#[cfg(test)]
mod tests;
