//! A request's one deadline, over all of its attempts, and how it travels on.

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::model::ServiceConfig;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// A `grpc-timeout` has at most eight digits.
const GRPC_TIMEOUT_MAX: u128 = 99_999_999;

/// What an endpoint must have had of a client's own deadline for its end to be held against it: longer than anything but
/// a slow endpoint takes, and short enough for a hanging one to be seen by clients with deadlines of their own.
const CLIENT_DEADLINE_MIN: Duration = Duration::from_millis(100);

/// When a request is over, whoever it was asked of.
pub struct Deadline {
    at: Instant,
    /// What was allowed from the beginning.
    pub timeout: Duration,
    /// Whether the client allows less than the service's timeout.
    by_client: bool,
    is_grpc: bool,
    header: Option<HeaderName>,
}

impl Deadline {
    /// The service's timeout, or the shorter one that the client itself has, as its head says or `own` (of a call that the
    /// gateway itself makes).
    pub fn new(started: Instant, config: &ServiceConfig, headers: &HeaderMap, own: Option<Duration>) -> Self {
        let is_grpc =
            headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        let grpc = headers.get(&GRPC_TIMEOUT).filter(|_| is_grpc).and_then(grpc_timeout);
        let header = config.retry.deadline_header.clone();
        let named = header.as_ref().and_then(|name| headers.get(name)).and_then(milliseconds);
        let timeout = [grpc, named, own].into_iter().flatten().fold(config.timeout, Duration::min);
        Self { at: started + timeout, timeout, by_client: timeout < config.timeout, is_grpc, header }
    }

    pub fn at(&self) -> Instant {
        self.at
    }

    /// Whether its end says something against an endpoint that had so long: a client could otherwise have endpoints
    /// ejected by allowing them no time at all.
    pub fn blames_after(&self, had: Duration) -> bool {
        !self.by_client || had >= CLIENT_DEADLINE_MIN
    }

    pub fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Writes what is left into the head of the next attempt.
    pub fn tell(&self, headers: &mut HeaderMap) {
        if !self.is_grpc && self.header.is_none() {
            return;
        }
        let remaining = self.remaining();
        if self.is_grpc {
            headers.insert(GRPC_TIMEOUT, grpc_value(remaining));
        }
        if let Some(name) = &self.header {
            let ms = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX).max(1);
            headers.insert(name.clone(), HeaderValue::from(ms));
        }
    }
}

/// The finest unit in which it has no more than eight digits.
fn grpc_value(remaining: Duration) -> HeaderValue {
    let micros = remaining.as_micros().max(1);
    let text = [(micros, 'u'), (micros / 1_000, 'm'), (micros / 1_000_000, 'S')]
        .into_iter()
        .find(|(value, _)| *value <= GRPC_TIMEOUT_MAX)
        .map_or_else(|| format!("{GRPC_TIMEOUT_MAX}S"), |(value, unit)| format!("{value}{unit}"));
    HeaderValue::from_str(&text).expect("digits and a letter")
}

/// gRPC over HTTP/2, "Requests": one to eight digits and a unit.
fn grpc_timeout(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

fn milliseconds(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    let ms: u64 = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())??;
    Some(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_timeout_is_read_in_every_unit_and_nothing_else() {
        let read = |text: &'static str| grpc_timeout(&HeaderValue::from_static(text));
        for (text, duration) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("99999999m", Duration::from_millis(99_999_999)),
            ("5u", Duration::from_micros(5)),
            ("7n", Duration::from_nanos(7)),
        ] {
            assert_eq!(read(text), Some(duration), "{text}");
        }
        for wrong in ["", "S", "1", "123456789S", "-1S", "1s", "+5m", " 5m", "1.5S"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_grpc_timeout_is_written_so_that_it_can_be_read_and_is_never_longer() {
        for remaining in [1, 999, 1_000_000, 99_999_999, 100_000_000, 3_600_000_000, 1 << 60].map(Duration::from_micros)
        {
            let value = grpc_value(remaining);
            let read = grpc_timeout(&value).expect("what was written is right");
            assert!(read <= remaining && read > remaining / 2 || remaining.as_secs() > 99_999_999, "{value:?}");
        }
    }
}
