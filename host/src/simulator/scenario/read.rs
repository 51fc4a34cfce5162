//! From the file to a [`Scenario`], or to everything that is wrong with it.

use std::{num::NonZeroUsize, ops::RangeInclusive, time::Duration};

use super::{
    Arrivals, ENDPOINTS_MAX, EndpointModel, Failure, FailureKind, Phase, Process, REQUESTS_MAX, Scenario, ServiceTime,
    Slowness,
};
use crate::{
    config::{self, Table, Value, defaults},
    model::Weight,
};

/// Virtual time costs nothing, its requests do.
const DURATION: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);
const SINCE_BEGIN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 60 * 60);
/// As a service's: latencies are counted in microseconds in 32 bits.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60 * 60);
const SERVICE_TIME: RangeInclusive<Duration> = Duration::from_micros(1)..=Duration::from_secs(60 * 60);
const WORKERS: RangeInclusive<i64> = 1..=64;
const SLOTS: RangeInclusive<i64> = 1..=100_000;
const QUEUE: RangeInclusive<i64> = 0..=1_000_000;
const QUEUE_DEFAULT: usize = 10_000;
/// Far beyond what one gateway serves.
const RATE_MAX: f64 = 1e6;
const FACTOR_MAX: f64 = 1e4;

pub(super) fn scenario(root: &mut Table<'_>) -> Option<Scenario> {
    let seed = root.read("seed", |value| u64::try_from(value.integer(0..=i64::MAX)?).ok());
    let duration = root.require("duration", "\"60 s\"", |value| value.duration(DURATION));
    let warm_up = root.read("warm_up", |value| shorter_than(value, duration)).unwrap_or_default();
    let workers = root.read("workers", |value| NonZeroUsize::new(whole(value, WORKERS)?));
    let timeout = root.read("timeout", |value| value.duration(TIMEOUT)).unwrap_or(defaults::TIMEOUT);
    let success_within = root.read("success_within", |value| value.duration(TIMEOUT));
    let idempotent = root.read("idempotent", share);
    let cancelled_stops = root.read("cancelled", cancelled_stops);
    let retry = root.read("retry", config::read_retry_limits);
    let ejection = root.read("ejection", config::read_ejection_limits);
    let settings = root.read("settings", |value| {
        let entries = value.entries("a table of plugins' settings: [settings.NAME]")?;
        entries.iter().map(|(key, value)| Some((key.text.to_owned(), config::read_settings(value)?))).collect()
    });
    let arrivals = root.require("arrivals", "{ rate = 1000 }", |value| arrivals(value, duration));
    let endpoints = root.require("endpoints", ENDPOINTS_EXAMPLE, endpoints);
    let count = endpoints.as_ref().map(Vec::len);
    let failures = root.read("failures", |value| failures(value, count)).unwrap_or_default();
    Some(Scenario {
        seed: seed.unwrap_or(1),
        duration: duration?,
        warm_up,
        workers: workers.unwrap_or(NonZeroUsize::new(2).expect("two is not zero")),
        timeout,
        success_within: success_within.unwrap_or(timeout),
        idempotent: idempotent.unwrap_or(1.0),
        cancelled_stops: cancelled_stops.unwrap_or(false),
        retry: retry.unwrap_or_default(),
        ejection: ejection.unwrap_or_default(),
        settings: settings.unwrap_or_default(),
        arrivals: arrivals?,
        endpoints: endpoints?,
        failures,
    })
}

const ENDPOINTS_EXAMPLE: &str =
    "[{ count = 3, slots = 8, service = { distribution = \"exponential\", mean = \"10 ms\" } }]";

fn shorter_than(value: &Value<'_>, duration: Option<Duration>) -> Option<Duration> {
    let given = value.duration(SINCE_BEGIN)?;
    if duration.is_some_and(|duration| given >= duration) {
        value.refuse("must be shorter than \"duration\": nothing would be left to be counted");
        return None;
    }
    Some(given)
}

fn cancelled_stops(value: &Value<'_>) -> Option<bool> {
    let wanted = "\"finishes\" or \"stops\"";
    match value.text(wanted)? {
        "finishes" => Some(false),
        "stops" => Some(true),
        other => {
            value.refuse(format_args!("must be {wanted}, not {other:?}"));
            None
        }
    }
}

fn arrivals(value: &Value<'_>, duration: Option<Duration>) -> Option<Arrivals> {
    let mut table = value.table("a table such as { rate = 1000, process = \"poisson\" }")?;
    let base = table.require("rate", "1000", rate);
    let process = table.read("process", |value| {
        let wanted = "\"poisson\" or \"constant\"";
        match value.text(wanted)? {
            "poisson" => Some(Process::Poisson),
            "constant" => Some(Process::Constant),
            other => {
                value.refuse(format_args!("must be {wanted}, not {other:?}"));
                None
            }
        }
    });
    let phases = table.read("phases", |value| {
        let items = value.items("a list such as [{ from = \"10 s\", until = \"20 s\", rate = 2000 }]")?;
        items.iter().map(phase).collect::<Option<Vec<Phase>>>()
    });
    table.finish();
    let arrivals =
        Arrivals { rate: base?, process: process.unwrap_or(Process::Poisson), phases: phases.unwrap_or_default() };
    let most = arrivals.phases.iter().map(|phase| phase.rate).fold(arrivals.rate, f64::max);
    if duration.is_some_and(|duration| duration.as_secs_f64() * most > REQUESTS_MAX) {
        value.refuse(format_args!("are more than {REQUESTS_MAX:.0} requests within \"duration\"; make it shorter"));
    }
    Some(arrivals)
}

fn phase(value: &Value<'_>) -> Option<Phase> {
    let mut table = value.table("a table such as { from = \"10 s\", until = \"20 s\", rate = 2000 }")?;
    let window = window(&mut table);
    let rate = table.require("rate", "2000", rate);
    table.finish();
    let (from, until) = window?;
    Some(Phase { from_s: from.as_secs_f64(), until_s: until.as_secs_f64(), rate: rate? })
}

fn window(table: &mut Table<'_>) -> Option<(Duration, Duration)> {
    let from = table.require("from", "\"15 s\"", |value| value.duration(SINCE_BEGIN));
    let until = table.require("until", "\"45 s\"", |value| value.duration(SINCE_BEGIN));
    let (from, until) = (from?, until?);
    if from >= until {
        table.refuse("\"until\" must be later than \"from\"");
        return None;
    }
    Some((from, until))
}

fn endpoints(value: &Value<'_>) -> Option<Vec<EndpointModel>> {
    let items = value.items("a list of tables: [[endpoints]]")?;
    let mut endpoints = Vec::new();
    for item in &items {
        let (count, model) = endpoint(item)?;
        if endpoints.len() + count > ENDPOINTS_MAX {
            item.refuse(format_args!("makes more than {ENDPOINTS_MAX} endpoints"));
            return None;
        }
        endpoints.extend(std::iter::repeat_n(model, count));
    }
    if endpoints.is_empty() {
        value.refuse("is empty; give at least one endpoint");
        return None;
    }
    Some(endpoints)
}

fn endpoint(value: &Value<'_>) -> Option<(usize, EndpointModel)> {
    let mut table = value.table("a table: [[endpoints]]")?;
    let count = table.read("count", |value| whole(value, 1..=ENDPOINTS_MAX as i64));
    let slots = table.read("slots", |value| whole(value, SLOTS));
    let queue_max = table.read("queue_max", |value| whole(value, QUEUE));
    let weight = table.read("weight", |value| Weight::new(value.integer(1..=i64::from(u16::MAX))?));
    let service = table.require("service", SERVICE_EXAMPLE, service);
    table.finish();
    let model = EndpointModel {
        slots: slots.unwrap_or(1),
        queue_max: queue_max.unwrap_or(QUEUE_DEFAULT),
        weight: weight.unwrap_or(Weight::ONE),
        service: service?,
    };
    Some((count.unwrap_or(1), model))
}

const SERVICE_EXAMPLE: &str = "{ distribution = \"exponential\", mean = \"10 ms\" }";

fn service(value: &Value<'_>) -> Option<ServiceTime> {
    let mut table = value.table(&format!("a table such as {SERVICE_EXAMPLE}"))?;
    let time = |table: &mut Table<'_>, name| table.require(name, "\"10 ms\"", |value| value.duration(SERVICE_TIME));
    let kind = table.require("distribution", "\"exponential\"", |value| {
        Some((value.clone(), value.text("a distribution's name, such as \"exponential\"")?))
    });
    let (kind_value, kind) = kind?;
    let service = match kind {
        "constant" => time(&mut table, "mean").map(|mean| ServiceTime::Constant { mean }),
        "exponential" => time(&mut table, "mean").map(|mean| ServiceTime::Exponential { mean }),
        "normal" => {
            let (mean, sd) = (time(&mut table, "mean"), time(&mut table, "sd"));
            mean.zip(sd).map(|(mean, sd)| ServiceTime::Normal { mean, sd })
        }
        "lognormal" => {
            let (median, p99) = (time(&mut table, "median"), time(&mut table, "p99"));
            let (median, p99) = median.zip(p99)?;
            if p99 < median {
                table.refuse("\"p99\" must not be less than \"median\"");
            }
            Some(ServiceTime::LogNormal { median, p99 })
        }
        "bimodal" => {
            let (fast, slow) = (time(&mut table, "fast"), time(&mut table, "slow"));
            let slow_share = table.require("slow_share", "0.1", share);
            let (fast, slow) = fast.zip(slow)?;
            slow_share.map(|slow_share| ServiceTime::Bimodal { fast, slow, slow_share })
        }
        other => {
            let known = ["constant", "exponential", "normal", "lognormal", "bimodal"];
            let hint = kind_value.cx.hint(other, known);
            kind_value.refuse(format_args!("no distribution is named {other:?}{hint}"));
            return None;
        }
    };
    table.finish();
    service
}

fn failures(value: &Value<'_>, endpoints: Option<usize>) -> Option<Vec<Failure>> {
    let items = value.items("a list of tables: [[failures]]")?;
    Some(items.iter().filter_map(|item| failure(item, endpoints)).flatten().collect())
}

fn failure(value: &Value<'_>, count: Option<usize>) -> Option<Vec<Failure>> {
    let mut table = value.table("a table: [[failures]]")?;
    let endpoints = table.require("endpoints", "[0]", |value| failing(value, count));
    let window = window(&mut table);
    let kind = table
        .require("kind", "\"slow\"", |value| Some((value.clone(), value.text("a failure's kind, such as \"slow\"")?)));
    let (kind_value, kind) = kind?;
    let kind = match kind {
        "slow" => slowness(&mut table).map(FailureKind::Slow),
        "dead" => Some(FailureKind::Dead),
        "black-hole" => Some(FailureKind::BlackHole),
        "errors" => Some(FailureKind::Errors {
            share: table.read("share", share).unwrap_or(1.0),
            status: table.read("status", |value| whole(value, 500..=599)).unwrap_or(503),
            service: table.read("service", service),
        }),
        other => {
            let hint = kind_value.cx.hint(other, ["slow", "dead", "black-hole", "errors"]);
            kind_value.refuse(format_args!("no failure is of the kind {other:?}{hint}"));
            return None;
        }
    };
    table.finish();
    let ((from, until), kind) = (window?, kind?);
    let of = |endpoint| Failure { endpoint, from, until, kind: kind.clone() };
    Some(endpoints?.into_iter().map(of).collect())
}

fn slowness(table: &mut Table<'_>) -> Option<Slowness> {
    if table.has("service") {
        return table.read("service", service).map(Slowness::Service);
    }
    let factor = |value: &Value<'_>| number(value, 0.0, FACTOR_MAX);
    table.require("factor", "10", factor).map(Slowness::Times)
}

/// Which endpoints fail; any number will do where the endpoints themselves are wrong.
fn failing(value: &Value<'_>, count: Option<usize>) -> Option<Vec<usize>> {
    if value.value.as_str() == Some("all") {
        return Some((0..count.unwrap_or(0)).collect());
    }
    let last = count.unwrap_or(ENDPOINTS_MAX) as i64 - 1;
    Some(value.distinct("a list of endpoints' numbers, such as [0], or \"all\"", |item| whole(item, 0..=last)))
}

fn whole<T: TryFrom<i64>>(value: &Value<'_>, range: RangeInclusive<i64>) -> Option<T> {
    T::try_from(value.integer(range)?).ok()
}

fn share(value: &Value<'_>) -> Option<f64> {
    number(value, 0.0, 1.0)
}

fn rate(value: &Value<'_>) -> Option<f64> {
    number(value, 0.0, RATE_MAX)
}

fn number(value: &Value<'_>, least: f64, most: f64) -> Option<f64> {
    let wanted = format!("a number from {least} to {most}");
    let number = value.number(&wanted)?;
    if !(least..=most).contains(&number) {
        value.refuse(format_args!("must be {wanted}, not {number}"));
        return None;
    }
    Some(number)
}
