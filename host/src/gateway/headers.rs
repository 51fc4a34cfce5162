//! What is added to, taken from, and rewritten in the heads that pass.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Version, header, request};

use crate::{
    model::HeaderEdits,
    telemetry::trace_context::{self, X_REQUEST_ID},
};

pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// RFC 7239.
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
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

/// Whether the message asks for another protocol on this connection, and which.
///
/// Another HTTP is not offered to the endpoint: whoever agreed to it would be asked for anything, past every
/// route. A server may ignore an upgrade (RFC 9110 §7.8).
pub fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    if !headers.contains_key(header::UPGRADE) || !has_token(headers, &header::CONNECTION, "upgrade") {
        return None;
    }
    let protocols: Vec<&str> = tokens(headers, &header::UPGRADE).filter(|protocol| !is_http(protocol)).collect();
    HeaderValue::try_from(protocols.join(", ")).ok().filter(|protocols| !protocols.is_empty())
}

/// Also TLS (RFC 2817), within which it would be HTTP again.
fn is_http(protocol: &str) -> bool {
    let name = protocol.split('/').next().unwrap_or_default();
    ["h2c", "h2", "http", "tls"].iter().any(|http| name.eq_ignore_ascii_case(http))
}

/// The members of a field that is a list (RFC 9110 §5.6.1), whether it stands in one line or in several.
fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|part| part.eq_ignore_ascii_case(token))
}

/// Takes off what is meant for one connection only: the fixed ones and those that `Connection` names (RFC 9110
/// §7.6.1). `te: trailers` stays, since trailers do.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        remove_named_by_connection(headers);
    }
    if headers.contains_key(header::TE) {
        let trailers = has_token(headers, &header::TE, "trailers");
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
    let named: Vec<HeaderName> = tokens(headers, &header::CONNECTION)
        .filter_map(|token| HeaderName::try_from(token).ok())
        // Taking these away would change the message itself; nobody may ask for that.
        .filter(|name| ![header::HOST, header::CONTENT_LENGTH, header::TE].contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    headers.remove(header::CONNECTION);
}

/// Says to the next hop of HTTP/1 what is meant for it alone: the upgrade that was asked for, and `TE` (RFC 9110
/// §7.8, §10.1.4).
pub fn add_hop_by_hop(headers: &mut HeaderMap, upgrade: Option<&HeaderValue>) {
    let options = match (upgrade, headers.contains_key(header::TE)) {
        (Some(_), true) => "upgrade, te",
        (Some(_), false) => "upgrade",
        (None, true) => "te",
        (None, false) => return,
    };
    headers.insert(header::CONNECTION, HeaderValue::from_static(options));
    if let Some(upgrade) = upgrade {
        headers.insert(header::UPGRADE, upgrade.clone());
    }
}

/// Whether an endpoint's body is in a transfer coding that nobody here can take off. (`TE` is never sent with
/// one, so none may be used: RFC 9112 §7.4.)
pub fn has_unknown_coding(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        && !tokens(headers, &header::TRANSFER_ENCODING).all(|coding| coding.eq_ignore_ascii_case("chunked"))
}

/// Whether this request has been here too often.
pub fn goes_in_circles(headers: &HeaderMap) -> bool {
    let is_ours = |hop: &&str| hop.split_whitespace().nth(1) == Some(VIA_NAME);
    headers.contains_key(header::VIA) && tokens(headers, &header::VIA).filter(is_ours).count() >= HOPS_MAX
}

/// What a forwarded request carries of the client. `host` is none where an HTTP/1.0 client named none.
pub fn add_client(headers: &mut HeaderMap, client: &ClientAddress, host: Option<&HeaderValue>, scheme: &'static str) {
    if client.trusted {
        append_to_chain(headers, &client.text);
        headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static(scheme));
        if let Some(host) = host {
            headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
        }
    } else {
        remove_claims(headers);
        headers.insert(X_FORWARDED_FOR, client.text.clone());
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
        if let Some(host) = host {
            headers.insert(X_FORWARDED_HOST, host.clone());
        }
    }
}

/// What every forwarded request carries of the way that it came.
pub fn add_hop(head: &mut request::Parts, request_id: &HeaderValue, rng: &mut fastrand::Rng) {
    let headers = &mut head.headers;
    headers.append(header::VIA, via(head.version));
    headers.insert(X_REQUEST_ID, request_id.clone());
    trace_context::propagate(headers, rng);
}

/// One line, since many read no more than one.
fn append_to_chain(headers: &mut HeaderMap, last: &HeaderValue) {
    let before = headers.get_all(X_FORWARDED_FOR).into_iter().map(HeaderValue::as_bytes);
    let chain: Vec<&[u8]> = before.chain([last.as_bytes()]).collect();
    let chain = HeaderValue::from_bytes(&chain.join(&b", "[..])).unwrap_or_else(|_| last.clone());
    headers.insert(X_FORWARDED_FOR, chain);
}

/// What frameworks believe about a client and a client may not say itself.
pub fn remove_claims(headers: &mut HeaderMap) {
    let is_claim =
        |name: &HeaderName| name.as_str().starts_with("x-forwarded-") || [FORWARDED, X_REAL_IP].contains(name);
    if headers.keys().any(is_claim) {
        let claims: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name)).cloned().collect();
        claims.into_iter().for_each(|name| drop(headers.remove(name)));
    }
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
/// proxy's, if the connection comes from one. What stands before something that is no address is not believed.
pub fn believed_address(headers: &HeaderMap, client: &ClientAddress, trusted: &[ipnet::IpNet]) -> IpAddr {
    if !client.trusted {
        return client.ip;
    }
    let chain: Vec<&str> = tokens(headers, &X_FORWARDED_FOR).collect();
    let mut believed = client.ip;
    for address in chain.into_iter().rev().map_while(address_of) {
        believed = address;
        if !trusted.iter().any(|net| net.contains(&address)) {
            break;
        }
    }
    believed
}

/// Some proxies add the port.
fn address_of(text: &str) -> Option<IpAddr> {
    let ip = text.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    ip.map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter();
        fields.map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn believed(chain: &'static str) -> String {
        let trusted: Vec<ipnet::IpNet> = vec!["10.0.0.0/8".parse().expect("a network")];
        let ip = "10.0.0.1".parse().expect("an address");
        let client = ClientAddress { ip, text: HeaderValue::from_static("10.0.0.1"), trusted: true };
        believed_address(&headers(&[("x-forwarded-for", chain)]), &client, &trusted).to_string()
    }

    #[test]
    fn a_chain_is_believed_from_its_end_as_far_as_proxies_are_trusted() {
        assert_eq!(believed("192.0.2.1"), "192.0.2.1");
        assert_eq!(believed("192.0.2.1, 10.0.0.2"), "192.0.2.1");
        assert_eq!(believed("198.51.100.1, 192.0.2.1"), "192.0.2.1", "what a stranger says of others is not believed");
        assert_eq!(believed("10.0.0.3, 10.0.0.2"), "10.0.0.3");
        assert_eq!(believed("garbage, 192.0.2.1"), "192.0.2.1", "garbage in front changes nothing");
        assert_eq!(believed("192.0.2.1, garbage, 10.0.0.2"), "10.0.0.2");
        assert_eq!(believed("garbage"), "10.0.0.1");
        assert_eq!(believed("192.0.2.1:4711"), "192.0.2.1");
        assert_eq!(believed("[2001:db8::1]:4711, 10.0.0.2"), "2001:db8::1");
        assert_eq!(believed("::ffff:192.0.2.1"), "192.0.2.1");
    }

    #[test]
    fn an_upgrade_is_one_that_connection_names_and_that_is_not_to_http() {
        let asked = |upgrade, connection| upgrade_of(&headers(&[("upgrade", upgrade), ("connection", connection)]));
        assert_eq!(
            asked("websocket", "keep-alive, Upgrade").as_ref().map(HeaderValue::as_bytes),
            Some(&b"websocket"[..])
        );
        assert_eq!(asked("websocket", "keep-alive"), None);
        assert_eq!(asked("h2c, websocket", "upgrade").as_ref().map(HeaderValue::as_bytes), Some(&b"websocket"[..]));
        for http in ["h2c", "H2C", "HTTP/2.0", "TLS/1.0, HTTP/1.1", ""] {
            assert_eq!(asked(http, "upgrade"), None, "{http}");
        }
    }
}
