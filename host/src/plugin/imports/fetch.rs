//! Calls of the host's own to hosts that are granted, by the same rules as plugins' are made.

use std::time::Duration;

use ::http::{HeaderMap, Method};
use bytes::{Bytes, BytesMut};
use reqwest::{Client, Response, Url};

use super::{
    Outside,
    clients::{Behind, host_and_port},
};
use crate::model::{HostGrant, OwnAnswer};

/// A request to a host that is no service of the gateway's.
#[derive(Clone, Debug)]
pub struct OutsideCall {
    pub method: Method,
    /// `http://…` or `https://…`. Redirects are not followed.
    pub url: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// To the last byte of the answer.
    pub timeout: Duration,
    /// Of the answer's body.
    pub answer_bytes_max: usize,
    /// What is beyond that is left unread; otherwise there is no answer.
    pub cuts_answer: bool,
}

/// Why there is no answer. [`Self::may_have_run`] tells what the caller has to reckon with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutsideError {
    /// No URL, a host that is not granted, or an address that is never reached. Nothing was sent.
    #[error("{0}")]
    NotAllowed(String),
    /// Not a byte was sent.
    #[error("no connection: {0}")]
    NotConnected(String),
    /// Sent, in part at least, and not answered whole.
    #[error("sent, and not answered: {0}")]
    NoAnswer(String),
    /// Perhaps sent.
    #[error("not answered within {after:?}")]
    TimedOut { after: Duration },
    /// It has run, but its answer is lost.
    #[error("the answer is larger than {bytes_max} bytes")]
    AnswerTooLarge { bytes_max: usize },
}

impl OutsideError {
    /// Whether the host may have acted on it, so that only what is safe to repeat may be repeated.
    pub fn may_have_run(&self) -> bool {
        match self {
            Self::NotAllowed(_) | Self::NotConnected(_) => false,
            Self::NoAnswer(_) | Self::TimedOut { .. } | Self::AnswerTooLarge { .. } => true,
        }
    }
}

impl Outside {
    /// Makes a call to a host that is among `grants`. Connections are kept. Dropping the future cancels it.
    pub async fn fetch(&self, grants: &[HostGrant], call: OutsideCall) -> Result<OwnAnswer, OutsideError> {
        let url = granted(grants, &call.url)?;
        let client = self.http.for_url(&url)?;
        let after = call.timeout;
        let answered = tokio::time::timeout(after, exchange(client, url, call)).await;
        answered.unwrap_or(Err(OutsideError::TimedOut { after }))
    }
}

/// The URL, if its host is granted.
fn granted(grants: &[HostGrant], given: &str) -> Result<Url, OutsideError> {
    let refused = |why: String| OutsideError::NotAllowed(format!("{given:?} {why}"));
    let url = Url::parse(given).map_err(|error| refused(format!("is no URL: {error}")))?;
    if !["http", "https"].contains(&url.scheme()) {
        return Err(refused("must begin with http:// or https://".to_owned()));
    }
    let (host, port) = host_and_port(&url);
    if !grants.iter().any(|grant| grant.allows(host, port)) {
        return Err(refused(format!("is not allowed: {host}:{port} is not among allow_hosts")));
    }
    Ok(url)
}

async fn exchange(client: &Client, url: Url, call: OutsideCall) -> Result<OwnAnswer, OutsideError> {
    let OutsideCall { method, headers, body, answer_bytes_max, cuts_answer, timeout, url: _ } = call;
    let sent = client.request(method, url).headers(headers).body(body).send().await;
    let mut response = sent.map_err(|error| explained(&error, timeout))?;
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let body = read(response, answer_bytes_max, cuts_answer, timeout).await?;
    Ok(OwnAnswer { status, headers, body })
}

async fn read(mut response: Response, bytes_max: usize, cuts: bool, timeout: Duration) -> Result<Bytes, OutsideError> {
    let mut whole = BytesMut::new();
    while let Some(piece) = response.chunk().await.map_err(|error| broke(&error, timeout))? {
        if whole.len() + piece.len() > bytes_max {
            if cuts {
                break;
            }
            return Err(OutsideError::AnswerTooLarge { bytes_max });
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

/// Why there is no head.
fn explained(error: &reqwest::Error, timeout: Duration) -> OutsideError {
    match Behind::of(error) {
        Behind::Refused(why) => OutsideError::NotAllowed(why),
        Behind::NoHttp(why) => OutsideError::NoAnswer(why),
        Behind::Other(why) if error.is_connect() || error.is_builder() => OutsideError::NotConnected(why),
        Behind::Other(_) => broke(error, timeout),
    }
}

fn broke(error: &reqwest::Error, timeout: Duration) -> OutsideError {
    if error.is_timeout() {
        return OutsideError::TimedOut { after: timeout };
    }
    let (Behind::Refused(why) | Behind::NoHttp(why) | Behind::Other(why)) = Behind::of(error);
    OutsideError::NoAnswer(why)
}
