//! Who may ask: nobody by way of somebody else's browser, and only operators where a token is set.
//!
//! A web page that a developer has open can send requests to 127.0.0.1. Three things stop it: a `Host` that is not
//! this listener's own (a name that an attacker rebinds to 127.0.0.1 is sent as it is), an `Origin` of another site, and
//! changes that only come with a content type which a page cannot send elsewhere without being asked first (CORS).
//!
//! Consul's clients send no such content type, and a `PUT` under `/v1/` needs none: a page can send `PUT` and `DELETE`
//! to another origin only after a preflight request, whatever their type, and none is ever granted (`OPTIONS` is no
//! method of any path, and no answer carries a CORS header). `Host` and `Origin` are looked at there as everywhere.
//! Events may have data of any type: they come with a header or a type of CloudEvents', and neither can a page send
//! elsewhere without that preflight.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};

use super::{consul, events, groups, problem::Problem, projections, transactions};

/// What a listener asks of its clients.
#[derive(Clone, Debug)]
pub struct Access {
    bound: SocketAddr,
    /// SHA-256 of the tokens: comparing digests takes the same time wherever they differ.
    operator: Option<[u8; 32]>,
    service: Option<[u8; 32]>,
}

/// The tokens of the configuration.
#[derive(Clone, Default)]
pub struct Tokens {
    /// None: everybody who can connect is an operator.
    pub operator: Option<String>,
    /// For [`is_for_services`] only.
    pub service: Option<String>,
}

/// Who asks, as far as the token tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Everybody, where no operators' token is set.
    Operator,
    /// May change what is a service's, and nothing that holds for the node and so for the services of others.
    Service,
}

/// What services may do with a token of their own: register, send heartbeats, look up, use transactions, and append, read and
/// consume events.
fn is_for_services(path: &str) -> bool {
    let is_registry = is_consul(path) || path == "/register" || path.starts_with("/register/");
    is_registry
        || transactions::is_for_services(path)
        || events::is_for_services(path)
        || groups::is_for_services(path)
        || projections::is_for_services(path)
}

/// Whether Consul's clients ask, who expect its plain-text errors.
fn is_consul(path: &str) -> bool {
    path.starts_with(consul::PREFIX)
}

/// They hold nothing secret: the dashboard's figures come from paths that do need the token.
const WITHOUT_TOKEN: [&str; 6] = ["/", "/dashboard.js", "/elements.js", "/dashboard.css", "/healthz", "/readyz"];

/// In which Consul's clients send theirs.
const CONSUL_TOKEN: &str = "x-consul-token";

/// Media types that a page cannot send to another origin without a preflight request, which is never granted.
const CHANGE_TYPES: [&str; 2] = ["application/json", "application/wasm"];

impl Access {
    pub fn new(bound: SocketAddr, tokens: &Tokens) -> Arc<Self> {
        let digest = |token: &Option<String>| token.as_ref().map(|token| Sha256::digest(token).into());
        Arc::new(Self { bound, operator: digest(&tokens.operator), service: digest(&tokens.service) })
    }

    fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Caller, Problem> {
        let host = self.check_host(uri, headers)?;
        check_origin(&host, headers)?;
        let is_open = WITHOUT_TOKEN.contains(&uri.path());
        let caller = if is_open { Caller::Service } else { self.check_token(uri.path(), headers)? };
        check_content_type(method, uri.path(), headers)?;
        Ok(caller)
    }

    /// The authority that the client believes to talk to.
    fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<Authority, Problem> {
        let wrong = |detail: String| Problem::new(StatusCode::FORBIDDEN, detail);
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "exactly one Host header is needed"));
        };
        let host: Authority = host
            .to_str()
            .ok()
            .and_then(|host| host.parse().ok())
            .ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "the Host header is no host and port"))?;
        if uri.authority().is_some_and(|authority| *authority != host) {
            return Err(Problem::new(StatusCode::BAD_REQUEST, "the Host header and the address asked for differ"));
        }
        if !self.bound.ip().is_loopback() {
            return Ok(host);
        }
        let name = host.host();
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let loopback = name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback());
        if loopback && host.port_u16().unwrap_or(80) == self.bound.port() {
            return Ok(host);
        }
        Err(wrong(format!("the Host {host} is not this listener's: ask for http://{}", self.bound)))
    }

    fn check_token(&self, path: &str, headers: &HeaderMap) -> Result<Caller, Problem> {
        let Some(operator) = &self.operator else { return Ok(Caller::Operator) };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let consul = headers.get(CONSUL_TOKEN).and_then(|value| value.to_str().ok()).map(str::trim);
        let is = |expected: &[u8; 32]| {
            let digest: [u8; 32] = Sha256::digest(token.or(consul).unwrap_or_default()).into();
            digest.iter().zip(expected).fold(0, |difference, (one, other)| difference | (one ^ other)) == 0
        };
        if !is_for_services(path) {
            let right = token.is_some() && is(operator);
            let needed = "the operators' token is needed: Authorization: Bearer …";
            return right.then_some(Caller::Operator).ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, needed));
        }
        if token.is_some() || consul.is_some() {
            if is(operator) {
                return Ok(Caller::Operator);
            }
            if self.service.as_ref().is_some_and(is) {
                return Ok(Caller::Service);
            }
        }
        // As Consul answers, whose clients know no other status.
        let status = if is_consul(path) { StatusCode::FORBIDDEN } else { StatusCode::UNAUTHORIZED };
        let needed = "Permission denied: a service's token is needed: X-Consul-Token, or Authorization: Bearer …";
        Err(Problem::new(status, needed))
    }
}

/// Absent, or the page that this listener itself served.
fn check_origin(host: &Authority, headers: &HeaderMap) -> Result<(), Problem> {
    let mut origins = headers.get_all(header::ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    if origins.next().is_none() && authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_str())) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "pages of other origins may not use this listener"))
}

fn check_content_type(method: &Method, path: &str, headers: &HeaderMap) -> Result<(), Problem> {
    if is_consul(path) && matches!(*method, Method::PUT | Method::DELETE) {
        return Ok(());
    }
    if events::takes_cloud_events(method, path) && events::brings_cloud_events(headers) {
        return Ok(());
    }
    let given = headers.get(header::CONTENT_TYPE);
    // Browsers ask before they send a DELETE elsewhere, so it needs no body to have a type.
    if matches!(*method, Method::GET | Method::HEAD) || (*method == Method::DELETE && given.is_none()) {
        return Ok(());
    }
    let media_type = given
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    if media_type.is_some_and(|media_type| CHANGE_TYPES.contains(&media_type.as_str())) {
        return Ok(());
    }
    let detail = "a change needs Content-Type: application/json, or application/wasm for a component";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}

/// In front of everything.
pub async fn guard(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    match access.check(request.method(), request.uri(), request.headers()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) if is_consul(request.uri().path()) => consul::Error::from(problem).into_response(),
        Err(problem) => problem.into_response(),
    }
}
