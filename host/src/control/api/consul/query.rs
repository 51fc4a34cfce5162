//! What stands behind the `?` of a request, and waiting for a change.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::{FromRequestParts, Query as Pairs},
    http::{StatusCode, request::Parts},
};
use serde_json::Value;

use super::{duration, error::Error, filter::Filter, output::DATACENTER};
use crate::control::handle::Control;

/// Requests that wait for a change at once; the control listener's other connections stay free for those that do not, and
/// for who follows events.
pub const WAITS_MAX: usize = 3328;
/// Consul's.
const WAIT_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// Consul's.
const WAIT_MAX: Duration = Duration::from_secs(10 * 60);
/// A wait is longer by a random part of up to its 16th, so that not all clients come back together. Consul's.
const JITTER_DIVISOR: u32 = 16;

/// What Consul's queries have in common. Parameters that are not known are ignored, as Consul ignores them.
#[derive(Debug, Default)]
pub struct Query {
    pub pretty: bool,
    /// Only passing instances.
    pub passing: bool,
    /// All of which an instance must have.
    pub tags: Vec<String>,
    pub filter: Option<Filter>,
    pub note: String,
    pub reason: Option<String>,
    /// Of maintenance; None: not given, or neither true nor false.
    pub enable: Option<bool>,
    pub replace_existing_checks: bool,
    /// The index that the client knows; 0: it knows none and does not wait.
    index: u64,
    /// Of the content that the client knows, where its path waits by content.
    pub hash: Option<String>,
    wait: Duration,
}

/// An error is kept until [`Asked::query`], so that it is answered as Consul would.
pub struct Asked(Result<Query, Error>);

impl Asked {
    pub fn query(self) -> Result<Query, Error> {
        self.0
    }
}

impl<S: Sync> FromRequestParts<S> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let pairs = Pairs::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let read = |Pairs(pairs): Pairs<Vec<(String, String)>>| Query::of(pairs);
        Ok(Self(pairs.map_err(|error| Error::bad_request(error.to_string())).and_then(read)))
    }
}

impl Query {
    fn of(pairs: Vec<(String, String)>) -> Result<Self, Error> {
        let mut query = Self { wait: WAIT_DEFAULT, ..Self::default() };
        for (name, value) in pairs {
            match name.as_str() {
                "pretty" => query.pretty = true,
                "passing" => query.passing = boolean(&value, "passing")?,
                "replace-existing-checks" => {
                    query.replace_existing_checks = boolean(&value, "replace-existing-checks")?
                }
                "tag" => query.tags.push(value),
                "note" => query.note = value,
                "reason" => query.reason = Some(value),
                "enable" if !value.is_empty() => query.enable = boolean(&value, "enable").ok(),
                "hash" if !value.is_empty() => query.hash = Some(value),
                "index" => query.index = value.parse().map_err(|_| Error::bad_request("Invalid index"))?,
                "wait" => {
                    let wait = duration::parse(&value).ok_or_else(|| Error::bad_request("Invalid wait time"))?;
                    query.wait = if wait.is_zero() { WAIT_DEFAULT } else { wait.min(WAIT_MAX) };
                }
                "dc" if !value.is_empty() && value != DATACENTER => {
                    return Err(Error::new(StatusCode::INTERNAL_SERVER_ERROR, "No path to datacenter"));
                }
                "filter" if !value.is_empty() => query.filter = Some(Filter::parse(&value)?),
                _ => {}
            }
        }
        Ok(query)
    }

    /// Waits with `wait(known index, how long)` where the client knows an index.
    pub async fn wait<W: Future<Output = ()>>(
        &self,
        control: &Control,
        wait: impl FnOnce(u64, Duration) -> W,
    ) -> Result<(), Error> {
        if self.index == 0 {
            return Ok(());
        }
        self.wait_in_any_case(control, |how_long| wait(self.index, how_long)).await
    }

    /// Waits with `wait(how long)`.
    pub async fn wait_in_any_case<W: Future<Output = ()>>(
        &self,
        control: &Control,
        wait: impl FnOnce(Duration) -> W,
    ) -> Result<(), Error> {
        let too_many = "too many requests wait for changes of the registry already";
        let _permit = control.waits.try_acquire().map_err(|_| Error::new(StatusCode::TOO_MANY_REQUESTS, too_many))?;
        let jitter = (self.wait / JITTER_DIVISOR).mul_f64(fastrand::f64());
        wait(self.wait + jitter).await;
        Ok(())
    }

    /// Those of the values that the client's filter lets through.
    pub fn filtered(&self, values: impl Iterator<Item = Value>) -> Vec<Value> {
        values.filter(|value| self.filter.as_ref().is_none_or(|filter| filter.matches(value))).collect()
    }
}

/// A flag is true where it stands alone.
fn boolean(value: &str, name: &str) -> Result<bool, Error> {
    match value {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::bad_request(format!("Invalid value for ?{name}"))),
    }
}
