//! Calls that the gateway itself makes: what is asked of one of its services, and what comes of it.

use std::{str::FromStr, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, uri::PathAndQuery};

use super::ServiceName;

/// A request of the gateway's own to one of its services.
#[derive(Clone, Debug)]
pub struct OwnCall {
    pub service: ServiceName,
    pub method: Method,
    /// Begins with `/`.
    pub path_and_query: PathAndQuery,
    /// Without what belongs to one connection, and without a length: both are the gateway's.
    pub headers: HeaderMap,
    pub body: Bytes,
    /// To the last byte of the answer, waiting for its turn included. The service's own timeout holds too.
    pub timeout: Duration,
    /// Whether it may be sent again although it may have arrived. Otherwise, whatever its method, only if nothing of it was
    /// sent.
    pub repeatable: bool,
    /// Of the answer's body.
    pub answer_bytes_max: usize,
    /// What is beyond that is left unread; otherwise there is no answer.
    pub cuts_answer: bool,
}

/// The whole answer to a call of the gateway's own, to a service or to somebody outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer. [`Self::may_have_run`] tells what the caller has to reckon with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnCallError {
    #[error("there is no service {0}")]
    NoService(ServiceName),
    /// No endpoint, or no room for it at any. Nothing was sent.
    #[error("{0}")]
    Unavailable(String),
    /// Not a byte of it has left the gateway.
    #[error("nothing was sent: {0}")]
    NotSent(String),
    /// Sent, in part at least, and not answered whole.
    #[error("sent, and not answered: {0}")]
    NoAnswer(String),
    #[error("not answered within {after:?}")]
    TimedOut { after: Duration, sent: bool },
    /// It has run, but its answer is lost.
    #[error("the answer is larger than {bytes_max} bytes")]
    AnswerTooLarge { bytes_max: usize },
    /// Nothing was sent.
    #[error("the gateway is shutting down")]
    ShuttingDown,
}

impl OwnCallError {
    /// Whether a service may have acted on it, so that only what is safe to repeat may be repeated.
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::NoService(_) | Self::Unavailable(_) | Self::NotSent(_) | Self::ShuttingDown => false,
            Self::NoAnswer(_) | Self::AnswerTooLarge { .. } => true,
            Self::TimedOut { sent, .. } => *sent,
        }
    }
}

/// What a `service://NAME/path?query` means: one of the gateway's own services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceUrl {
    pub service: ServiceName,
    pub path_and_query: PathAndQuery,
}

/// Begins the URL of one of the gateway's own services.
pub const SERVICE_SCHEME: &str = "service://";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no URL of a service: it must be service://NAME/path, such as \"service://orders/prepare\"")]
pub struct ServiceUrlError(String);

impl FromStr for ServiceUrl {
    type Err = ServiceUrlError;

    fn from_str(given: &str) -> Result<Self, ServiceUrlError> {
        let wrong = || ServiceUrlError(given.to_owned());
        let rest = given.strip_prefix(SERVICE_SCHEME).ok_or_else(wrong)?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (name, path) = rest.split_at(end);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { service: name.parse().map_err(|_| wrong())?, path_and_query: path.parse().map_err(|_| wrong())? })
    }
}

/// Whether a request with this method may be sent a second time although the first may have arrived (RFC 9110 §9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_of_a_service_is_its_name_and_a_path() {
        let read = |url: &str| {
            let ServiceUrl { service, path_and_query } = url.parse().unwrap_or_else(|error| panic!("{error}"));
            (service.to_string(), path_and_query.to_string())
        };
        let is = |name: &str, path: &str| (name.to_owned(), path.to_owned());
        assert_eq!(read("service://orders/a/b?c=d"), is("orders", "/a/b?c=d"));
        assert_eq!(read("service://orders"), is("orders", "/"));
        assert_eq!(read("service://orders?c=d"), is("orders", "/?c=d"));
        assert_eq!(read("service://orders/a#b"), is("orders", "/a"));
        for wrong in ["service://", "service:///a", "service://a b/", "service://orders:80/", "service://u@orders/a"] {
            assert!(wrong.parse::<ServiceUrl>().is_err(), "{wrong}");
        }
        for wrong in ["http://orders/", "orders", "service://orders/a b", "service://orders/\n"] {
            assert!(wrong.parse::<ServiceUrl>().is_err(), "{wrong}");
        }
    }
}
