//! A check over HTTP: a `GET` is answered with an expected status and, where one is given, an expected text.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode, Uri,
    header::{CONNECTION, HOST, USER_AGENT},
};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::{net::TcpStream, task::JoinSet};

use super::probe::Look;
use crate::model::HostPort;

/// Within which the expected text must stand.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// What the gateway calls itself, so that an endpoint's log can tell checks from requests.
pub const AGENT: &str = concat!("sluice-check/", env!("CARGO_PKG_VERSION"));

pub struct Question<'a> {
    pub path: &'a str,
    pub headers: &'a [(HeaderName, HeaderValue)],
    pub statuses: &'a [StatusCode],
    pub body: &'a str,
}

pub async fn ask_http1(io: TokioIo<TcpStream>, asked: &Question<'_>, label: &HostPort) -> Look {
    let request = match request(asked, label, false) {
        Ok(request) => request,
        Err(look) => return look,
    };
    let (mut sender, driver) = match http1::handshake::<_, Full<Bytes>>(io).await {
        Ok(connected) => connected,
        Err(error) => return unanswered(&error),
    };
    let exchange = async {
        match sender.send_request(request).await {
            Ok(response) => judge(asked, response).await,
            Err(error) => unanswered(&error),
        }
    };
    tokio::pin!(exchange);
    tokio::select! {
        look = &mut exchange => return look,
        // Why it ended reaches the exchange.
        _ = driver => {}
    }
    exchange.await
}

pub async fn ask_h2(io: TokioIo<TcpStream>, asked: &Question<'_>, label: &HostPort) -> Look {
    let request = match request(asked, label, true) {
        Ok(request) => request,
        Err(look) => return look,
    };
    match over_h2(io, request, |response| judge(asked, response)).await {
        Ok(look) => look,
        Err(error) => unanswered(&error),
    }
}

/// Sends a request on a connection of HTTP/2 with prior knowledge, and lets `read` have the answer. The connection and
/// all that drives it are gone when this is, however it ends.
pub async fn over_h2<T, R: Future<Output = T>>(
    io: TokioIo<TcpStream>,
    request: Request<Full<Bytes>>,
    read: impl FnOnce(Response<Incoming>) -> R,
) -> hyper::Result<T> {
    let tasks = Arc::new(Mutex::new(JoinSet::new()));
    let (mut sender, driver) = http2::handshake(Within(Arc::downgrade(&tasks)), io).await?;
    let exchange = async { Ok(read(sender.send_request(request).await?).await) };
    tokio::pin!(exchange);
    tokio::select! {
        read = &mut exchange => return read,
        // Why it ended reaches the exchange.
        _ = driver => {}
    }
    exchange.await
}

/// Runs what hyper does beside the exchange until the check is over; dropped, the set aborts it.
#[derive(Clone)]
struct Within(Weak<Mutex<JoinSet<()>>>);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Within {
    fn execute(&self, future: F) {
        if let Some(tasks) = self.0.upgrade() {
            tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(future);
        }
    }
}

/// The gateway's own mistake where there is none to be made of what the configuration has.
fn request(asked: &Question<'_>, label: &HostPort, is_h2: bool) -> Result<Request<Full<Bytes>>, Look> {
    let label = label.to_string();
    let given = asked.headers.iter().find(|(name, _)| *name == HOST).map(|(_, value)| value.as_bytes());
    let host = given.unwrap_or(label.as_bytes());
    let uri = if is_h2 {
        Uri::builder().scheme("http").authority(host).path_and_query(asked.path).build()
    } else {
        Uri::builder().path_and_query(asked.path).build()
    };
    let mut request = Request::get(uri.map_err(|error| Look::wrong(format_args!("cannot be asked: {error}")))?);
    if !is_h2 {
        // The connection is not kept, and the endpoint need not wait for more.
        request = request.header(HOST, host).header(CONNECTION, "close");
    }
    if !asked.headers.iter().any(|(name, _)| *name == USER_AGENT) {
        request = request.header(USER_AGENT, AGENT);
    }
    for (name, value) in asked.headers.iter().filter(|(name, _)| *name != HOST) {
        request = request.header(name, value);
    }
    request.body(Full::default()).map_err(|error| Look::wrong(format_args!("cannot be asked: {error}")))
}

async fn judge(asked: &Question<'_>, response: Response<Incoming>) -> Look {
    let status = response.status();
    let expected = if asked.statuses.is_empty() {
        (200..400).contains(&status.as_u16())
    } else {
        asked.statuses.contains(&status)
    };
    if !expected {
        let wanted = if asked.statuses.is_empty() {
            "200 to 399".to_owned()
        } else {
            let codes: Vec<&str> = asked.statuses.iter().map(StatusCode::as_str).collect();
            codes.join(", ")
        };
        return Look::wrong(format_args!("answered {status} where {wanted} was expected"));
    }
    if asked.body.is_empty() {
        return Look::passes(format_args!("answered {status}"));
    }
    match contains(response.into_body(), asked.body.as_bytes()).await {
        Ok(true) => Look::passes(format_args!("answered {status} with the expected text")),
        Ok(false) => Look::wrong(format_args!("answered {status} without the expected text {:?}", asked.body)),
        Err(error) => Look::wrong(format_args!("answered {status}, and its body broke off: {}", in_full(&error))),
    }
}

/// Whether a text stands in as much of a body as is looked at.
async fn contains(mut body: Incoming, text: &[u8]) -> hyper::Result<bool> {
    let mut seen = Vec::new();
    while seen.len() < BODY_BYTES_MAX
        && let Some(frame) = body.frame().await
    {
        let Ok(data) = frame?.into_data() else { continue };
        // The text may have begun in what came before.
        let from = seen.len().saturating_sub(text.len());
        seen.extend_from_slice(&data[..data.len().min(BODY_BYTES_MAX - seen.len())]);
        if memmem::find(&seen[from..], text).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

pub fn unanswered(error: &hyper::Error) -> Look {
    Look::wrong(format_args!("connected, but gave no answer: {}", in_full(error)))
}

/// hyper's own words only name the step that failed.
pub fn in_full(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
