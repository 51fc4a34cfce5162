//! `retry`, `ejection` and `circuit` of a service: what its failover policy may do at most, and how much is let
//! through.

use std::{ops::RangeInclusive, time::Duration};

use http::HeaderName;

use super::{
    headers,
    limits::whole,
    reader::{Table, Value},
    service::TIMEOUT,
};
use crate::model::{CircuitLimits, EjectionLimits, Percent, RetryLimits};

/// The first one included. Gateways that stand behind each other multiply theirs: three with ten make a thousand.
const ATTEMPTS: RangeInclusive<i64> = 1..=10;
/// All that goes on may be repeated once; more would make a storm of any failure.
const BUDGET_PERCENT: RangeInclusive<i64> = 0..=100;
/// 0: the share alone. More than the upper end is more than the requests of most gateways.
const BUDGET_MIN_PER_SECOND: RangeInclusive<i64> = 0..=10_000;
/// 0: bodies are never kept. Each request under way may take so much memory.
const BODY_BYTES: RangeInclusive<u64> = 0..=16 * 1024 * 1024;

/// One endpoint may always be ejected, so 0 would not do what it says: the failover policy "none" ejects nothing.
const EJECTED_PERCENT: RangeInclusive<i64> = 1..=100;
/// From the period in which verdicts are given, to the longest that a plugin may ask for (WIT `health.ejection`).
const EJECTION: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60 * 60);

/// As many file descriptors as Linux gives a process at most (`fs.nr_open`), and each request needs one.
const IN_FLIGHT: RangeInclusive<i64> = 1..=1_048_576;
/// 0: none waits. Each holds some 10 KiB, so that the most take 640 MiB.
const PENDING: RangeInclusive<i64> = 0..=65_536;
/// A client that shall come back after more than an hour has gone somewhere else.
const RETRY_AFTER: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60 * 60);

pub(crate) fn retry(value: &Value<'_>) -> Option<RetryLimits> {
    let mut table = value.table("a table such as { attempts = 3, per_try_timeout = \"500 ms\" }")?;
    let mut limits = RetryLimits::default();
    table.set(&mut limits.attempts_max, "attempts", |value| whole(value, ATTEMPTS));
    limits.per_try_timeout = table.read("per_try_timeout", |value| value.duration(TIMEOUT));
    table.set(&mut limits.budget, "budget", |value| Percent::new(value.integer(BUDGET_PERCENT)?));
    table.set(&mut limits.budget_min_per_second, "budget_min", |value| whole(value, BUDGET_MIN_PER_SECOND));
    table.set(&mut limits.body_bytes_max, "body", |value| usize::try_from(value.size(BODY_BYTES)?).ok());
    limits.deadline_header = table.read("deadline_header", deadline_header);
    table.finish();
    Some(limits)
}

fn deadline_header(value: &Value<'_>) -> Option<HeaderName> {
    let name = value.header_name()?;
    headers::may_edit(&name).map_err(|why| value.refuse(why)).ok()?;
    if name == "grpc-timeout" {
        value.refuse("grpc-timeout has units of its own, and gRPC requests have it anyway; take another name");
        return None;
    }
    Some(name)
}

pub(crate) fn ejection(value: &Value<'_>) -> Option<EjectionLimits> {
    let mut table = value.table("a table such as { max_percent = 50, max_duration = \"5 min\" }")?;
    let mut limits = EjectionLimits::default();
    table.set(&mut limits.percent_max, "max_percent", |value| Percent::new(value.integer(EJECTED_PERCENT)?));
    table.set(&mut limits.duration_max, "max_duration", |value| value.duration(EJECTION));
    table.finish();
    Some(limits)
}

pub(super) fn circuit(value: &Value<'_>) -> Option<CircuitLimits> {
    let mut table = value.table("a table such as { requests = 1024, endpoint_requests = 8 }")?;
    let mut limits = CircuitLimits {
        requests_max: in_flight(&mut table, "requests"),
        endpoint_requests_max: in_flight(&mut table, "endpoint_requests"),
        endpoint_connections_max: in_flight(&mut table, "endpoint_connections"),
        ..CircuitLimits::default()
    };
    table.set(&mut limits.adaptive, "adaptive", Value::boolean);
    let limited = limits.adaptive || ["requests", "endpoint_requests"].into_iter().any(|name| table.has(name));
    table.set(&mut limits.pending_max, "pending", |value| {
        let pending = whole(value, PENDING)?;
        if pending > 0 && !limited {
            value.refuse(
                "has nothing to wait for: no limit of requests stands beside it, such as endpoint_requests = 8",
            );
        }
        Some(pending)
    });
    table.set(&mut limits.pending_timeout, "pending_timeout", |value| value.duration(TIMEOUT));
    table.set(&mut limits.retry_after, "retry_after", whole_seconds);
    table.finish();
    Some(limits)
}

fn in_flight(table: &mut Table<'_>, name: &'static str) -> Option<u32> {
    table.read(name, |value| whole(value, IN_FLIGHT))
}

fn whole_seconds(value: &Value<'_>) -> Option<Duration> {
    let given = value.duration(RETRY_AFTER)?;
    if given.subsec_nanos() > 0 {
        value.refuse("must be whole seconds, as `Retry-After` knows no others (RFC 9110 §10.2.3), such as \"2 s\"");
        return None;
    }
    Some(given)
}
