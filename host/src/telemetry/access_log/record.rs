//! What a line of the access log tells.

use std::{borrow::Cow, net::IpAddr, sync::Arc, time::SystemTime};

use http::{HeaderValue, Method, uri::PathAndQuery};
use serde::Serialize;

use crate::model::{ServiceName, VersionId};

/// One request, as it ended.
#[derive(Clone, Debug)]
pub struct AccessRecord {
    /// When the request's head had arrived.
    pub at: SystemTime,
    pub request_id: HeaderValue,
    /// After `trusted_proxies`.
    pub client: IpAddr,
    pub method: Method,
    pub host: String,
    /// Logged without its query, in which secrets may stand.
    pub path: PathAndQuery,
    pub protocol: http::Version,
    /// None where no route matched.
    pub route: Option<Arc<str>>,
    pub service: Option<ServiceName>,
    /// Of the last attempt.
    pub endpoint: Option<Arc<str>>,
    /// The plugin version that picked it; none where the native fallback did.
    pub picked_by: Option<VersionId>,
    pub attempts: u32,
    pub status: u16,
    /// Of the bodies.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// From the request's head to the end of the exchange.
    pub duration_us: u64,
    /// From the request's head to the response's; none where the client went away before.
    pub first_byte_us: Option<u64>,
    /// The stage that failed, where one did.
    pub error: Option<&'static str>,
    pub user_agent: Option<HeaderValue>,
}

/// A record as it is written. Absent values are left out.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    time: String,
    request_id: Cow<'a, str>,
    client: IpAddr,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    picked_by: Option<VersionId>,
    attempts: u32,
    status: u16,
    bytes_in: u64,
    bytes_out: u64,
    duration_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<Cow<'a, str>>,
}

impl<'a> Line<'a> {
    pub fn of(record: &'a AccessRecord) -> Self {
        Self {
            time: humantime::format_rfc3339_micros(record.at).to_string(),
            request_id: String::from_utf8_lossy(record.request_id.as_bytes()),
            client: record.client,
            method: record.method.as_str(),
            host: &record.host,
            path: record.path.path(),
            protocol: protocol_name(record.protocol),
            route: record.route.as_deref(),
            service: record.service.as_ref().map(ServiceName::as_str),
            endpoint: record.endpoint.as_deref(),
            picked_by: record.picked_by,
            attempts: record.attempts,
            status: record.status,
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            duration_us: record.duration_us,
            first_byte_us: record.first_byte_us,
            error: record.error,
            user_agent: record.user_agent.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes())),
        }
    }
}

fn protocol_name(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}
