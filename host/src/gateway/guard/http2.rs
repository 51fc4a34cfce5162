//! What HTTP/2 can carry and HTTP/1 would read otherwise.
//!
//! hyper's HTTP/2 has checked frames, pseudo-fields and the connection's own fields (RFC 9113 §8.2, §8.3). What is
//! left is what an endpoint may read in two ways once the request is written as HTTP/1 (§10.3).

use http::{HeaderMap, Method, Uri, header};

use super::{
    Refusal,
    bytes::{self, PATH, QUERY},
    field,
    host::is_authority,
};

/// Checks a request's head by the same rules as [`super::Guard`].
pub fn check_http2(method: &Method, uri: &Uri, headers: &HeaderMap, fields_max: usize) -> Result<(), Refusal> {
    if method == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    if headers.len() > fields_max {
        return Err(Refusal::TooManyFields);
    }
    check_target(method, uri)?;
    check_host(uri, headers)?;
    if headers.keys().any(|name| field::is_lookalike(name.as_str().as_bytes())) {
        return Err(Refusal::FramingLookalike);
    }
    match headers.get(header::EXPECT) {
        Some(expectation) if !expectation.as_bytes().eq_ignore_ascii_case(b"100-continue") => Err(Refusal::Expectation),
        _ => Ok(()),
    }
}

fn check_target(method: &Method, uri: &Uri) -> Result<(), Refusal> {
    let (path, query) = (uri.path().as_bytes(), uri.query().unwrap_or_default().as_bytes());
    match path.first() {
        Some(b'/') => {}
        Some(b'*') if path.len() == 1 && method == Method::OPTIONS => {}
        _ => return Err(Refusal::TargetForm),
    }
    let is_clear = bytes::span(path, PATH) == path.len() && bytes::span(query, QUERY) == query.len();
    if is_clear { Ok(()) } else { Err(Refusal::TargetByte) }
}

/// RFC 9113 §8.3.1: `:authority` without a user, and `Host`, where both are there, the same.
fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter().map(|host| host.as_bytes());
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::HostRepeated);
    }
    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
    match (authority, host) {
        (None, None) => Err(Refusal::HostMissing),
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => Err(Refusal::HostMismatch),
        (Some(authority), _) if !is_authority(authority) => Err(Refusal::HostInvalid),
        (None, Some(host)) if !is_authority(host) => Err(Refusal::HostInvalid),
        _ => Ok(()),
    }
}
