//! Whom a request is for, and how that is written for an endpoint.

use http::{HeaderValue, Uri, Version, header, request, uri};

use super::{headers, path::PathError};
use crate::model::Protocol;

/// The host that the request is for: the target's authority, else the `Host` field (RFC 9112 §3.2.2).
pub fn authority(head: &request::Parts) -> Option<&str> {
    match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => head.headers.get(header::HOST)?.to_str().ok(),
    }
}

/// The same target with another path.
pub fn with_path(uri: &Uri, path: &str) -> Result<Uri, PathError> {
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query.parse().map_err(|_| PathError::Unusable)?);
    Uri::from_parts(parts).map_err(|_| PathError::Unusable)
}

/// Puts target, version and `Host` into the form of the endpoint's protocol. `host` is what [`authority`] found.
pub fn address_to(protocol: Protocol, head: &mut request::Parts, host: &HeaderValue) -> Result<(), PathError> {
    let mut parts = uri::Parts::default();
    parts.path_and_query = head.uri.path_and_query().cloned();
    match protocol {
        Protocol::Http1 => {
            if head.uri.authority().is_some() {
                head.uri = Uri::from_parts(parts).map_err(|_| PathError::Unusable)?;
            }
            head.headers.insert(header::HOST, host.clone());
            headers::join_cookies(&mut head.headers);
            head.version = Version::HTTP_11;
        }
        Protocol::H2 => {
            parts.scheme = Some(uri::Scheme::HTTP);
            parts.authority = Some(host.as_bytes().try_into().map_err(|_| PathError::Unusable)?);
            head.uri = Uri::from_parts(parts).map_err(|_| PathError::Unusable)?;
            head.headers.remove(header::HOST);
            head.version = Version::HTTP_2;
        }
    }
    Ok(())
}

/// The first value of a query parameter, as it stands (not decoded: only its equality matters).
pub fn query_value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}
