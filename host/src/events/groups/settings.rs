//! What is set for a group. What is checked here is checked for whoever sets it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Filter, Position, backoff};

/// Deliveries of a take that names no limit, as in KurrentDB's persistent subscriptions.
pub const BATCH: usize = 20;

/// Events of a group that are read and not settled: KurrentDB's default buffer.
pub const BUFFER_MAX: usize = 500;

const ACK_TIMEOUT: Duration = Duration::from_secs(30);

/// A consumer that is given less has no time to answer over a network, and one that is given more is not missed for a day.
const ACK_TIMEOUT_RANGE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(24 * 60 * 60));

const ATTEMPTS: u32 = 10;
const ATTEMPTS_MAX: u32 = 1_000;

/// Longest name of a webhook's sender, as DNS has it.
const ORIGIN_LEN_MAX: usize = 253;

/// Whom a webhook's receiver is told that it is asked by, where nothing else is set.
const ORIGIN: &str = "sluice";

/// Deliveries a minute that a receiver may be asked for.
const RATE_MAX: u32 = 60_000_000;

/// Where a new group begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupStart {
    /// With the first event there is.
    #[default]
    Start,
    /// With what comes.
    Now,
    /// Behind this position.
    Position(Position),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub filter: Filter,
    /// Means nothing once the group is there.
    pub from: GroupStart,
    pub ack_timeout: Duration,
    /// Of one event; then it is parked.
    pub attempts_max: u32,
    /// Deliveries of a take that names no limit.
    pub batch: usize,
    /// Longest pause before the second attempt.
    pub backoff: Duration,
    pub webhook: Option<Webhook>,
}

/// Where a group is pushed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// `service://NAME/path`, or a URL.
    pub url: String,
    /// `WebHook-Request-Origin`: whom the receiver allows.
    pub origin: String,
    /// `WebHook-Request-Rate`: deliveries a minute that it is asked to allow.
    pub rate: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            from: GroupStart::default(),
            ack_timeout: ACK_TIMEOUT,
            attempts_max: ATTEMPTS,
            batch: BATCH,
            backoff: backoff::BASE,
            webhook: None,
        }
    }
}

impl Settings {
    pub fn check_ack_timeout(given: Duration) -> Result<Duration, String> {
        let (least, most) = ACK_TIMEOUT_RANGE;
        if (least..=most).contains(&given) { Ok(given) } else { Err("must be from \"100ms\" to \"1day\"".to_owned()) }
    }

    pub fn check_attempts_max(given: u64) -> Result<u32, String> {
        let fits = u32::try_from(given).ok().filter(|given| (1..=ATTEMPTS_MAX).contains(given));
        fits.ok_or_else(|| format!("must be 1 to {ATTEMPTS_MAX}"))
    }

    pub fn check_batch(given: u64) -> Result<usize, String> {
        let fits = usize::try_from(given).ok().filter(|given| (1..=BUFFER_MAX).contains(given));
        fits.ok_or_else(|| format!("must be 1 to {BUFFER_MAX}"))
    }

    pub fn check_backoff(given: Duration) -> Result<Duration, String> {
        let fits = (Duration::from_millis(10)..=backoff::CAP).contains(&given);
        if fits { Ok(given) } else { Err("must be from \"10ms\" to \"60s\"".to_owned()) }
    }
}

impl Webhook {
    /// To this URL, with nothing else set.
    pub fn to(url: String) -> Self {
        Self { url, origin: ORIGIN.to_owned(), rate: None }
    }

    pub fn check_origin(given: String) -> Result<String, String> {
        let fits = |byte: u8| byte.is_ascii_graphic() && !b"*,\"".contains(&byte);
        if (1..=ORIGIN_LEN_MAX).contains(&given.len()) && given.bytes().all(fits) {
            return Ok(given);
        }
        Err("must be a DNS name, such as \"sluice.example.com\"".to_owned())
    }

    pub fn check_rate(given: u64) -> Result<u32, String> {
        let fits = u32::try_from(given).ok().filter(|given| (1..=RATE_MAX).contains(given));
        fits.ok_or_else(|| format!("must be 1 to {RATE_MAX} deliveries a minute"))
    }
}
