//! What is added to, taken from, and rewritten in the heads that pass.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Version, header, request};

use crate::{
    model::HeaderEdits,
    telemetry::trace_context::{self, X_REQUEST_ID},
};

pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What this gateway calls itself in `Via` (RFC 9110 §7.6.3).
const VIA_NAME: &str = "sluice";

/// A request that has passed so many of us goes in a circle.
const HOPS_MAX: usize = 8;

/// The client, as the connection and `trusted_proxies` have it.
pub struct ClientAddress {
    pub ip: IpAddr,
    /// `ip`, ready to be sent.
    pub text: HeaderValue,
    /// Whether what it says of those before it is believed.
    pub trusted: bool,
}

/// Whether the request asks for another protocol on this connection, and which.
pub fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers.get(header::UPGRADE)?;
    let named = headers.get_all(header::CONNECTION).iter().any(|value| has_token(value, "upgrade"));
    named.then(|| asked.clone())
}

fn has_token(value: &HeaderValue, token: &str) -> bool {
    value.to_str().is_ok_and(|text| text.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
}

/// Takes off what is meant for one connection only: the fixed ones and those that `Connection` names (RFC 9110
/// §7.6.1). `te: trailers` stays, since trailers do.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        remove_named_by_connection(headers);
    }
    if let Some(te) = headers.get(header::TE) {
        let trailers = has_token(te, "trailers");
        headers.remove(header::TE);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        headers.remove(name);
    }
}

fn remove_named_by_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .filter_map(|token| HeaderName::try_from(token.trim()).ok())
        // Taking these away would change the message itself; nobody may ask for that.
        .filter(|name| ![header::HOST, header::CONTENT_LENGTH, header::TE].contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    headers.remove(header::CONNECTION);
}

/// Whether this request has been here too often.
pub fn goes_in_circles(headers: &HeaderMap) -> bool {
    let ours = |value: &HeaderValue| {
        value
            .to_str()
            .map_or(0, |text| text.split(',').filter(|hop| hop.split_whitespace().nth(1) == Some(VIA_NAME)).count())
    };
    headers.contains_key(header::VIA) && headers.get_all(header::VIA).iter().map(ours).sum::<usize>() >= HOPS_MAX
}

/// What every forwarded request carries of the way that it came.
pub fn add_forwarding(
    head: &mut request::Parts,
    client: &ClientAddress,
    host: Option<&HeaderValue>,
    scheme: &'static str,
    request_id: &HeaderValue,
    rng: &mut fastrand::Rng,
) {
    let headers = &mut head.headers;
    let before = headers.get(X_FORWARDED_FOR).filter(|_| client.trusted);
    let chain = match before.and_then(|before| before.to_str().ok()) {
        Some(before) => appended(before, &client.text),
        None => client.text.clone(),
    };
    headers.insert(X_FORWARDED_FOR, chain);
    if !(client.trusted && headers.contains_key(X_FORWARDED_PROTO)) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if let Some(host) = host
        && !(client.trusted && headers.contains_key(X_FORWARDED_HOST))
    {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    let hop = via(head.version);
    let hop = match headers.get(header::VIA).and_then(|before| before.to_str().ok()) {
        Some(before) => appended(before, &hop),
        None => hop,
    };
    headers.insert(header::VIA, hop);
    headers.insert(X_REQUEST_ID, request_id.clone());
    trace_context::propagate(headers, rng);
}

fn appended(before: &str, last: &HeaderValue) -> HeaderValue {
    let text = [before.as_bytes(), b", ", last.as_bytes()].concat();
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| last.clone())
}

fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_10 => "1.0 sluice",
        Version::HTTP_2 => "2 sluice",
        _ => "1.1 sluice",
    })
}

/// HTTP/2 clients may send a cookie in pieces; HTTP/1 has one field (RFC 9113 §8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(header::COOKIE).iter();
    if pieces.next().is_none() || pieces.next().is_none() {
        return;
    }
    let pieces: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        headers.insert(header::COOKIE, whole);
    }
}

/// A route's own edits: removed first, then set.
pub fn edit(headers: &mut HeaderMap, edits: &HeaderEdits) {
    for name in &edits.remove {
        headers.remove(name);
    }
    for (name, value) in &edits.set {
        headers.insert(name.clone(), value.clone());
    }
}

/// The value of a cookie, if the request has it.
pub fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// The client's address as far as it is believed: the last address in `X-Forwarded-For` that is not a trusted
/// proxy's, if the connection comes from one.
pub fn believed_address(headers: &HeaderMap, client: &ClientAddress, trusted: &[ipnet::IpNet]) -> IpAddr {
    if !client.trusted {
        return client.ip;
    }
    let chain: Vec<IpAddr> = headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .map_while(|part| part.trim().parse().ok())
        .collect();
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    chain.iter().rev().find(|ip| !is_trusted(ip)).or(chain.first()).copied().unwrap_or(client.ip)
}
