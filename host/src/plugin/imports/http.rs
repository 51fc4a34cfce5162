//! The `http` import: hosts of `allow_hosts` and services of `allow_services`, responses read piece by piece.

use std::{fmt, sync::Arc, time::Duration};

use ::http::{HeaderMap, HeaderName, HeaderValue, Method};
use bytes::Bytes;
use reqwest::{Response, Url};
use wasmtime::component::Resource;

use super::{
    Outside, OutsideError, State,
    clients::{Behind, host_and_port},
};
use crate::{
    model::{OwnCall, OwnCallError, SERVICE_SCHEME, ServiceUrl, is_idempotent},
    plugin::bindings::discovery::sluice::plugin::http::{self, Error, Request},
};

/// Responses that one instance may have open: a watch, and what it asks beside it.
const RESPONSES_MAX: usize = 8;

/// Of one piece of a body, whatever the guest asks for.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// Of the answer of one of the gateway's own services, which is held whole.
const SERVICE_ANSWER_BYTES_MAX: usize = 1 << 20;

/// Of a call of one of them, where the guest names none.
const SERVICE_TIMEOUT: Duration = Duration::from_secs(60);

/// A response whose body is read as the guest asks for it.
pub struct OpenResponse {
    response: Response,
    /// What came and was not asked for yet.
    rest: Bytes,
}

impl http::Host for State {
    async fn send(&mut self, request: Request) -> Result<Resource<OpenResponse>, Error> {
        let Some(outside) = self.imports.outside.clone() else {
            return Err(Error::NotAllowed("nothing is reached while a plugin is tried".to_owned()));
        };
        let target = self.granted_target(&request.url)?;
        if self.imports.open_responses >= RESPONSES_MAX {
            let sentence = format!("more than {RESPONSES_MAX} responses would be open; drop one first");
            return Err(Error::NotAllowed(sentence));
        }
        let url = request.url.clone();
        let sent = match target {
            Target::Outside(url) => send(&outside, url, request).await,
            Target::Service(url) => call(&outside, url, request).await,
        };
        match sent {
            Ok(response) => {
                let open = self.imports.table.push(OpenResponse { response, rest: Bytes::new() });
                let open = open.map_err(|error| Error::Unreachable(error.to_string()))?;
                self.imports.open_responses += 1;
                Ok(open)
            }
            Err(Error::NotAllowed(why)) => Err(Error::NotAllowed(self.imports.refuse(format_args!("{url}: {why}")))),
            Err(other) => Err(other),
        }
    }
}

/// What a URL means, where it is granted.
enum Target {
    Outside(Url),
    /// One of the gateway's own services.
    Service(ServiceUrl),
}

impl State {
    fn granted_target(&mut self, given: &str) -> Result<Target, Error> {
        let grants = Arc::clone(&self.imports.grants);
        let why = if given.starts_with(SERVICE_SCHEME) {
            match given.parse::<ServiceUrl>() {
                Ok(url) if grants.services.contains(&url.service) => return Ok(Target::Service(url)),
                Ok(url) => format!("{} is not among allow_services", url.service),
                Err(error) => return Err(Error::NotAllowed(error.to_string())),
            }
        } else {
            let url = Url::parse(given);
            let url = url.map_err(|error| Error::NotAllowed(format!("{given:?} is no URL: {error}")))?;
            let (host, port) = host_and_port(&url);
            match url.scheme() {
                "http" | "https" if grants.allows_host(host, port) => return Ok(Target::Outside(url)),
                "http" | "https" => format!("{host}:{port} is not among allow_hosts"),
                other => format!("the scheme {other:?} is none of http, https and service"),
            }
        };
        Err(Error::NotAllowed(self.imports.refuse(format_args!("{given}: {why}"))))
    }
}

async fn send(outside: &Outside, url: Url, given: Request) -> Result<Response, Error> {
    let client = outside.http.for_url(&url)?;
    let request = client.request(method(&given)?, url).headers(fields(&given)?);
    let head = request.body(given.body).send();
    let head = match given.timeout_ms {
        0 => head.await,
        ms => tokio::time::timeout(Duration::from_millis(ms.into()), head).await.map_err(|_| Error::TimedOut)?,
    };
    head.map_err(|error| explained(&error))
}

/// The whole answer of one of the gateway's own services.
async fn call(outside: &Outside, url: ServiceUrl, given: Request) -> Result<Response, Error> {
    let Some(services) = &outside.services else {
        return Err(Error::Unreachable("there is no gateway here".to_owned()));
    };
    let method = method(&given)?;
    let timeout = match given.timeout_ms {
        0 => SERVICE_TIMEOUT,
        ms => Duration::from_millis(ms.into()),
    };
    let call = OwnCall {
        service: url.service,
        path_and_query: url.path_and_query,
        headers: fields(&given)?,
        body: given.body.into(),
        timeout,
        repeatable: is_idempotent(&method),
        method,
        answer_bytes_max: SERVICE_ANSWER_BYTES_MAX,
        cuts_answer: false,
    };
    let answer = services.call_service(call).await.map_err(|error| match error {
        OwnCallError::TimedOut { .. } => Error::TimedOut,
        other => Error::Unreachable(other.to_string()),
    })?;
    let mut response = ::http::Response::new(answer.body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    Ok(response.into())
}

fn method(given: &Request) -> Result<Method, Error> {
    Method::from_bytes(given.method.as_bytes()).map_err(|_| unfit(format_args!("method {:?}", given.method)))
}

fn fields(given: &Request) -> Result<HeaderMap, Error> {
    let mut fields = HeaderMap::new();
    for (name, value) in &given.headers {
        let field = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
        let (name, value) = field.ok_or_else(|| unfit(format_args!("header {name:?}")))?;
        fields.append(name, value);
    }
    Ok(fields)
}

fn unfit(what: impl fmt::Display) -> Error {
    Error::Unreachable(format!("{what} cannot be sent"))
}

fn explained(error: &reqwest::Error) -> Error {
    if error.is_timeout() {
        return Error::TimedOut;
    }
    match Behind::of(error) {
        Behind::Refused(why) => Error::NotAllowed(why),
        Behind::NoHttp(why) => Error::Malformed(why),
        Behind::Other(why) => Error::Unreachable(why),
    }
}

impl From<OutsideError> for Error {
    fn from(error: OutsideError) -> Self {
        match error {
            OutsideError::NotAllowed(why) => Self::NotAllowed(why),
            OutsideError::TimedOut { .. } => Self::TimedOut,
            other => Self::Unreachable(other.to_string()),
        }
    }
}

impl http::HostResponse for State {
    fn status(&mut self, open: Resource<OpenResponse>) -> wasmtime::Result<u16> {
        Ok(self.imports.table.get(&open)?.response.status().as_u16())
    }

    fn header(&mut self, open: Resource<OpenResponse>, name: String) -> wasmtime::Result<Option<String>> {
        let headers = self.imports.table.get(&open)?.response.headers();
        Ok(headers.get(&name).and_then(|value| value.to_str().ok()).map(str::to_owned))
    }

    async fn read(
        &mut self,
        open: Resource<OpenResponse>,
        max_bytes: u32,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        let OpenResponse { response, rest } = self.imports.table.get_mut(&open)?;
        while rest.is_empty() {
            let next = tokio::time::timeout(Duration::from_millis(timeout_ms.into()), response.chunk()).await;
            *rest = match next {
                Err(_) => return Ok(Err(Error::TimedOut)),
                Ok(Err(error)) => return Ok(Err(explained(&error))),
                Ok(Ok(None)) => return Ok(Ok(None)),
                Ok(Ok(Some(bytes))) => bytes,
            };
        }
        let wanted = usize::try_from(max_bytes).unwrap_or(PIECE_BYTES_MAX).clamp(1, PIECE_BYTES_MAX);
        let piece = rest.split_to(wanted.min(rest.len()));
        Ok(Ok(Some(piece.to_vec())))
    }

    fn drop(&mut self, open: Resource<OpenResponse>) -> wasmtime::Result<()> {
        self.imports.table.delete(open)?;
        self.imports.open_responses -= 1;
        Ok(())
    }
}
