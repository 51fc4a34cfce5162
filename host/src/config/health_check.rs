//! `health_check = { path = "/health", interval = "2 s" }`: what the gateway asks each endpoint of a service.

use std::{ops::RangeInclusive, time::Duration};

use http::{
    HeaderName, HeaderValue, StatusCode,
    header::HOST,
    uri::{Authority, PathAndQuery},
};

use super::{
    defaults, headers,
    limits::whole,
    reader::{Table, Value},
};
use crate::model::{HealthCheck, Percent, Probe};

/// Ten a second find a dead endpoint as fast as its traffic does; in checks that are an hour apart it may be dead for
/// hours.
const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60 * 60);
/// One that hangs holds a place which all services' checks share.
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
/// With more, and the shortest interval, an endpoint that is gone would still be used after 10 s.
const IN_A_ROW: RangeInclusive<i64> = 1..=100;
/// From half an interval to one and a half: with more, two checks could follow each other at once.
const JITTER_PERCENT: RangeInclusive<i64> = 0..=50;
/// Of a final answer (RFC 9110 §15); 1xx are none.
const STATUS: RangeInclusive<i64> = 200..=599;
/// Far above any health page's address, and below what servers take for a head of their smallest buffer (8 KiB).
const PATH_LEN_MAX: usize = 2048;
/// A word or a line tells a page that is right; a whole page would be compared with itself.
const BODY_LEN_MAX: usize = 1024;
/// With names and values of a usual length a head of 2 KiB.
const HEADERS_MAX: usize = 32;
/// A full name in protobuf's sense is a package and a service; the longest in Google's own APIs have about 100 bytes.
const GRPC_SERVICE_LEN_MAX: usize = 256;

const WANTED: &str = "a table such as { path = \"/health\", interval = \"2 s\" } or { kind = \"tcp\" }";
const HTTP_KEYS: [&str; 4] = ["path", "headers", "status", "body"];
const GRPC_KEYS: [&str; 1] = ["service"];

pub(super) fn read(value: &Value<'_>) -> Option<HealthCheck> {
    let mut table = value.table(WANTED)?;
    let probe = match kind(&mut table) {
        Some(Kind::Http) => http(&mut table),
        Some(Kind::Tcp) => Some(Probe::Tcp),
        Some(Kind::Grpc) => Some(Probe::Grpc { service: table.read("service", grpc_service).unwrap_or_default() }),
        None => None,
    };
    let interval = table.read("interval", |value| value.duration(INTERVAL)).unwrap_or(defaults::CHECK_INTERVAL);
    let timeout = table.read("timeout", |value| within(value, interval));
    let fall = table.read("fall", |value| whole(value, IN_A_ROW));
    let rise = table.read("rise", |value| whole(value, IN_A_ROW));
    let jitter = table.read("jitter", |value| Percent::new(value.integer(JITTER_PERCENT)?));
    let port = table.read("port", |value| whole(value, 1..=i64::from(u16::MAX)));
    table.finish();
    Some(HealthCheck {
        probe: probe?,
        interval,
        timeout: timeout.unwrap_or(interval.min(defaults::CHECK_TIMEOUT)),
        fall: fall.unwrap_or(defaults::CHECK_FALL),
        rise: rise.unwrap_or(defaults::CHECK_RISE),
        jitter: jitter.unwrap_or(defaults::check_jitter()),
        port,
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Http,
    Tcp,
    Grpc,
}

/// Of the check; keys that only another kind has are refused.
fn kind(table: &mut Table<'_>) -> Option<Kind> {
    let wanted = "\"http\", \"tcp\" or \"grpc\"";
    let named = table.get("kind").map(|value| match value.text(wanted)? {
        "http" => Some(Kind::Http),
        "tcp" => Some(Kind::Tcp),
        "grpc" => Some(Kind::Grpc),
        other => {
            value.refuse(format_args!("must be {wanted}, not {other:?}"));
            None
        }
    });
    let kind = match named {
        Some(kind) => kind,
        None if table.has("path") => Some(Kind::Http),
        None => {
            table.refuse(
                "says neither what is asked for, such as path = \"/health\", nor how, such as kind = \"tcp\" or \
                 kind = \"grpc\"",
            );
            None
        }
    };
    let (others_http, others_grpc) = match kind {
        Some(Kind::Http) => (&[][..], &GRPC_KEYS[..]),
        Some(Kind::Tcp) => (&HTTP_KEYS[..], &GRPC_KEYS[..]),
        Some(Kind::Grpc) => (&HTTP_KEYS[..], &[][..]),
        // One problem is enough.
        None => {
            HTTP_KEYS.into_iter().chain(GRPC_KEYS).for_each(|name| drop(table.get(name)));
            return None;
        }
    };
    for (names, owner) in [(others_http, "HTTP"), (others_grpc, "gRPC")] {
        for value in names.iter().filter_map(|&name| table.get(name)) {
            value.refuse(format_args!("is for {owner} checks alone; take it out"));
        }
    }
    kind
}

fn http(table: &mut Table<'_>) -> Option<Probe> {
    let path = table.require("path", "\"/health\"", path);
    let headers = table.read("headers", request_headers);
    let statuses = table.get("status").map(|value| statuses(&value));
    let body = table.read("body", body);
    Some(Probe::Http {
        path: path?,
        headers: headers.unwrap_or_default(),
        statuses: statuses.unwrap_or_default(),
        body: body.unwrap_or_default(),
    })
}

fn path(value: &Value<'_>) -> Option<String> {
    let wanted = "a path with or without a query, such as \"/health\" or \"/health?deep=1\"";
    let text = value.text(wanted)?;
    let right = text.starts_with('/') && !text.contains('#') && text.len() <= PATH_LEN_MAX;
    if !right || text.parse::<PathAndQuery>().is_err() {
        value.refuse(format_args!("must be {wanted}, at most {PATH_LEN_MAX} bytes long"));
        return None;
    }
    Some(text.to_owned())
}

/// `host` is allowed here, other than in a route: the check is a request of the gateway's own.
fn request_headers(value: &Value<'_>) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let pairs = headers::set(value, |name| if *name == HOST { Ok(()) } else { headers::may_edit(name) })?;
    if pairs.len() > HEADERS_MAX {
        value.refuse(format_args!("has {} headers; a check may have {HEADERS_MAX}", pairs.len()));
    }
    let host = pairs.iter().find(|(name, _)| *name == HOST).map(|(_, value)| value.as_bytes());
    if host.is_some_and(|host| host.contains(&b'@') || Authority::try_from(host).is_err()) {
        value.refuse("has a host that is none: right would be a name or an address, with or without a port");
    }
    Some(pairs)
}

fn statuses(value: &Value<'_>) -> Vec<StatusCode> {
    if value.value.as_array().is_some_and(|statuses| statuses.is_empty()) {
        value.refuse("is empty; leave \"status\" out to accept any of 200 to 399");
    }
    value.distinct("a list such as [200, 204]", |item| StatusCode::from_u16(whole(item, STATUS)?).ok())
}

fn body(value: &Value<'_>) -> Option<String> {
    let text = value.text("a text that the answer's body contains")?;
    if !(1..=BODY_LEN_MAX).contains(&text.len()) {
        value.refuse(format_args!("must have 1 to {BODY_LEN_MAX} bytes, not {}", text.len()));
        return None;
    }
    Some(text.to_owned())
}

fn grpc_service(value: &Value<'_>) -> Option<String> {
    let text = value.text("the full name of a gRPC service, such as \"orders.Orders\"")?;
    if text.len() > GRPC_SERVICE_LEN_MAX {
        value.refuse(format_args!("must have at most {GRPC_SERVICE_LEN_MAX} bytes, not {}", text.len()));
        return None;
    }
    Some(text.to_owned())
}

/// So that no endpoint is ever checked twice at once.
fn within(value: &Value<'_>, interval: Duration) -> Option<Duration> {
    let timeout = value.duration(TIMEOUT)?;
    if timeout > interval {
        let interval = humantime::format_duration(interval);
        value.refuse(format_args!("must be no longer than the interval, which is {interval}"));
        return None;
    }
    Some(timeout)
}
