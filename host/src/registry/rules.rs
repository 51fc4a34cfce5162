//! What is right in a registration. Every problem is found, each with the field that it stands in, in the words of
//! Consul's HTTP API, in which most registrations come.

use std::{fmt, net::IpAddr, ops::RangeInclusive, time::Duration};

use super::registration::{CheckDefinition, CheckKind, HttpCheck, Registration};

/// Longest name of a service: with the domain's labels around it, it still fits a DNS name.
pub const SERVICE_NAME_LEN_MAX: usize = 128;
/// Longest id of an instance or check, and name of a check.
pub const ID_LEN_MAX: usize = 256;
pub const TAGS_MAX: usize = 64;
pub const TAG_LEN_MAX: usize = 256;
/// Pairs of metadata; this and the two below are Consul's limits.
pub const META_MAX: usize = 64;
pub const META_KEY_LEN_MAX: usize = 128;
pub const META_VALUE_LEN_MAX: usize = 512;
pub const TAGGED_ADDRESSES_MAX: usize = 16;
/// Longest host name (RFC 1035, 2.3.4).
pub const ADDRESS_LEN_MAX: usize = 253;
pub const ZONE_LEN_MAX: usize = 64;
pub const WEIGHT_MAX: u32 = 65_535;
/// Of one instance, and of the node. More would be a slip.
pub const CHECKS_MAX: usize = 16;
pub const NOTES_LEN_MAX: usize = 1024;
pub const URL_LEN_MAX: usize = 2048;
pub const CHECK_HEADERS_MAX: usize = 16;
pub const CHECK_HEADER_LEN_MAX: usize = 1024;
pub const CHECK_BODY_LEN_MAX: usize = 4096;
/// Results that must follow each other; more would be a slip.
pub const THRESHOLD_MAX: u32 = 1000;
/// Below, heartbeats would be all that the gateway does; above, nobody would notice anything.
pub const TTL_RANGE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(24 * 60 * 60);
pub const INTERVAL_RANGE: RangeInclusive<Duration> = TTL_RANGE;
pub const TIMEOUT_RANGE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(10 * 60);
/// As in Consul, a shorter time is taken as this one.
pub const DEREGISTER_AFTER_MIN: Duration = Duration::from_secs(60);
pub const DEREGISTER_AFTER_MAX: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// One thing that is wrong with a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// Such as `Port`, `Tags[2]`, `Meta.version` or `Checks[0].TTL`.
    pub field: String,
    /// Says what would be right.
    pub message: String,
}

impl FieldProblem {
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

impl Registration {
    /// Everything that is wrong with it.
    pub fn problems(&self) -> Vec<FieldProblem> {
        let mut found = Found::default();
        // Who names none is known by the service's name, whose problem is enough.
        if self.id != self.service {
            found.check("ID", identifier(&self.id));
        }
        found.check("Name", service_name(&self.service));
        if !self.address.is_empty() {
            found.check("Address", address(&self.address));
        }
        found.check("Tags", at_most(self.tags.len(), TAGS_MAX, "tags"));
        for (at, tag) in self.tags.iter().enumerate() {
            found.check(format_args!("Tags[{at}]"), words(tag, 1..=TAG_LEN_MAX));
        }
        found.check("Meta", at_most(self.meta.len(), META_MAX, "pairs"));
        for (key, value) in &self.meta {
            found.check(format_args!("Meta.{}", shortened(key)), meta_key(key));
            found.check(format_args!("Meta.{}", shortened(key)), words(value, 0..=META_VALUE_LEN_MAX));
        }
        found.check("Weights.Passing", weight(self.weights.passing));
        found.check("Weights.Warning", weight(self.weights.warning));
        found.check("Locality.Zone", words(&self.zone, 0..=ZONE_LEN_MAX));
        found.check("TaggedAddresses", at_most(self.tagged_addresses.len(), TAGGED_ADDRESSES_MAX, "addresses"));
        for (name, tagged) in &self.tagged_addresses {
            found.check("TaggedAddresses", words(name, 1..=META_KEY_LEN_MAX));
            found.check(format_args!("TaggedAddresses.{}.Address", shortened(name)), address(&tagged.address));
        }
        found.check("Checks", at_most(self.checks.len(), CHECKS_MAX, "checks"));
        for (at, check) in self.checks.iter().enumerate() {
            let twice = self.checks[..at].iter().any(|other| other.id == check.id);
            if twice {
                found.check(
                    format_args!("Checks[{at}].CheckID"),
                    Err("another check of this registration has it".to_owned()),
                );
            }
            let problems = check.problems().into_iter();
            found.0.extend(
                problems.map(|problem| FieldProblem { field: format!("Checks[{at}].{}", problem.field), ..problem }),
            );
        }
        found.0
    }
}

impl CheckDefinition {
    /// Everything that is wrong with it.
    pub fn problems(&self) -> Vec<FieldProblem> {
        let mut found = Found::default();
        found.check("CheckID", identifier(&self.id));
        found.check("Name", words(&self.name, 1..=ID_LEN_MAX));
        found.check("Notes", words(&self.notes, 0..=NOTES_LEN_MAX));
        match &self.kind {
            CheckKind::Ttl { ttl } => found.check("TTL", within(*ttl, TTL_RANGE)),
            CheckKind::Http(check) => check.problems(&mut found),
            CheckKind::Tcp { target, interval, timeout } => {
                found.check("TCP", host_and_port(target));
                found.check("Interval", within(*interval, INTERVAL_RANGE));
                found.check("Timeout", within(*timeout, TIMEOUT_RANGE));
            }
        }
        if let Some(after) = self.deregister_after {
            found.check("DeregisterCriticalServiceAfter", within(after, DEREGISTER_AFTER_MIN..=DEREGISTER_AFTER_MAX));
        }
        let thresholds = self.thresholds;
        found.check("SuccessBeforePassing", threshold(thresholds.success_before_passing));
        found.check("FailuresBeforeCritical", threshold(thresholds.failures_before_critical));
        found.check("FailuresBeforeWarning", threshold(thresholds.failures_before_warning));
        if thresholds.failures_before_warning > thresholds.failures_before_critical {
            found.check("FailuresBeforeWarning", Err("must not be above FailuresBeforeCritical".to_owned()));
        }
        found.0
    }
}

impl HttpCheck {
    fn problems(&self, found: &mut Found) {
        found.check("HTTP", url(&self.url));
        let method = self.method.parse::<http::Method>();
        found.check(
            "Method",
            method.map(drop).map_err(|_| format!("must be an HTTP method, not {:?}", shortened(&self.method))),
        );
        found.check("Header", at_most(self.headers.len(), CHECK_HEADERS_MAX, "headers"));
        for (name, value) in &self.headers {
            let right = name.parse::<http::HeaderName>().is_ok()
                && http::HeaderValue::from_str(value).is_ok()
                && name.len() + value.len() <= CHECK_HEADER_LEN_MAX;
            let wrong = || format!("must be an HTTP header of at most {CHECK_HEADER_LEN_MAX} characters");
            found.check(format_args!("Header.{}", shortened(name)), right.then_some(()).ok_or_else(wrong));
        }
        found.check("Body", at_most(self.body.len(), CHECK_BODY_LEN_MAX, "bytes"));
        found.check("Interval", within(self.interval, INTERVAL_RANGE));
        found.check("Timeout", within(self.timeout, TIMEOUT_RANGE));
    }
}

#[derive(Default)]
struct Found(Vec<FieldProblem>);

impl Found {
    fn check(&mut self, field: impl fmt::Display, checked: Result<(), String>) {
        if let Err(message) = checked {
            self.0.push(FieldProblem { field: field.to_string(), message });
        }
    }
}

/// An id: printable, so that it can stand in a path and in a log line.
pub fn identifier(id: &str) -> Result<(), String> {
    words(id, 1..=ID_LEN_MAX)?;
    if id.contains(char::is_whitespace) {
        return Err(format!("must have no spaces: {:?}", shortened(id)));
    }
    Ok(())
}

/// A service's name.
pub fn service_name(name: &str) -> Result<(), String> {
    let right = !name.is_empty()
        && name.len() <= SERVICE_NAME_LEN_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && name.starts_with(|first: char| first.is_ascii_alphanumeric());
    if right {
        return Ok(());
    }
    Err(format!(
        "must be 1 to {SERVICE_NAME_LEN_MAX} characters of a-z, A-Z, 0-9, '-', '_' and '.', and begin with a letter or digit, not {:?}",
        shortened(name)
    ))
}

/// A host name or IP address at which something can be reached.
pub fn address(address: &str) -> Result<(), String> {
    let wrong = |why: &str| {
        Err(format!("must be a host name or IP address that clients can reach: {:?} {why}", shortened(address)))
    };
    if let Ok(ip) = address.parse::<IpAddr>() {
        return match ip {
            ip if ip.is_unspecified() => wrong("is no address of a host"),
            ip if ip.is_multicast() => wrong("is a multicast address"),
            _ => Ok(()),
        };
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = address.strip_suffix('.').unwrap_or(address);
    let numeric = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if address.len() > ADDRESS_LEN_MAX || numeric || !name.split('.').all(label) {
        return wrong("is neither");
    }
    Ok(())
}

/// `host:port`, the host as in [`address`], IPv6 in brackets.
pub fn host_and_port(target: &str) -> Result<(), String> {
    let wrong = || format!("must be a host and port, such as \"10.0.0.7:8080\", not {:?}", shortened(target));
    let (host, port) = target.rsplit_once(':').ok_or_else(wrong)?;
    if port.parse::<u16>().ok().filter(|&port| port > 0).is_none() {
        return Err(wrong());
    }
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) if v6.parse::<std::net::Ipv6Addr>().is_ok() => Ok(()),
        None if !host.contains(':') => address(host),
        _ => Err(wrong()),
    }
}

/// Of an HTTP check.
fn url(url: &str) -> Result<(), String> {
    let wrong =
        || format!("must be an http:// or https:// URL of at most {URL_LEN_MAX} characters, not {:?}", shortened(url));
    let parsed = reqwest::Url::parse(url).map_err(|_| wrong())?;
    if url.len() > URL_LEN_MAX || !["http", "https"].contains(&parsed.scheme()) || !parsed.has_host() {
        return Err(wrong());
    }
    Ok(())
}

fn meta_key(key: &str) -> Result<(), String> {
    let right = (1..=META_KEY_LEN_MAX).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    let wrong = || format!("a key must be 1 to {META_KEY_LEN_MAX} characters of a-z, A-Z, 0-9, '-' and '_'");
    right.then_some(()).ok_or_else(wrong)
}

fn weight(weight: u32) -> Result<(), String> {
    if weight <= WEIGHT_MAX { Ok(()) } else { Err(format!("must be from 0 to {WEIGHT_MAX}, not {weight}")) }
}

fn threshold(threshold: u32) -> Result<(), String> {
    if threshold <= THRESHOLD_MAX { Ok(()) } else { Err(format!("must be from 0 to {THRESHOLD_MAX}, not {threshold}")) }
}

fn within(duration: Duration, range: RangeInclusive<Duration>) -> Result<(), String> {
    if range.contains(&duration) {
        return Ok(());
    }
    let shown = humantime::format_duration;
    Err(format!("must be from {} to {}, not {}", shown(*range.start()), shown(*range.end()), shown(duration)))
}

/// Text of so many bytes, without control characters.
fn words(text: &str, len: RangeInclusive<usize>) -> Result<(), String> {
    if !len.contains(&text.len()) {
        return Err(format!("must have {} to {} characters, not {}", len.start(), len.end(), text.len()));
    }
    if text.contains(|character: char| character.is_control()) {
        return Err("must have no control characters".to_owned());
    }
    Ok(())
}

fn at_most(count: usize, max: usize, what: &str) -> Result<(), String> {
    if count <= max { Ok(()) } else { Err(format!("must be at most {max} {what}, not {count}")) }
}

/// What somebody sent, short enough for a message.
fn shortened(text: &str) -> String {
    const SHOWN_CHARS: usize = 64;
    match text.char_indices().nth(SHOWN_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
