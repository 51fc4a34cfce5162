//! Calls that the gateway makes for others: to its services through its own data path, to others where the configuration
//! allows it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::{
    gateway::Gateway,
    model::{HostGrant, OwnAnswer, OwnCall, SERVICE_SCHEME, ServiceName, ServiceUrl, ServiceUrlError},
    plugin::{BoxFuture, Outside, OutsideCall},
};

/// Longest target: what RFC 9110 §4.1 asks everybody to support.
const TARGET_LEN_MAX: usize = 8_000;

/// Whom calls may go to, as the configuration has it now.
#[derive(Debug)]
pub struct Directory {
    /// Of the configuration, where `allow_hosts` stands.
    section: &'static str,
    known: Mutex<Arc<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    services: BTreeSet<ServiceName>,
    allow_hosts: Vec<HostGrant>,
}

impl Directory {
    pub fn of(section: &'static str) -> Self {
        Self { section, known: Mutex::default() }
    }

    pub fn set(&self, services: BTreeSet<ServiceName>, allow_hosts: Vec<HostGrant>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Known { services, allow_hosts });
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub struct GatewayCaller {
    gateway: Arc<Gateway>,
    outside: Arc<Outside>,
    directory: Arc<Directory>,
}

/// A call, to a service or to somebody outside.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    /// `service://NAME/path`, `http://…` or `https://…`.
    pub url: String,
    /// What is no header is left out.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub timeout: Duration,
    pub answer_bytes_max: usize,
    /// What is beyond that is left unread; otherwise there is no answer.
    pub cuts_answer: bool,
}

impl GatewayCaller {
    pub fn new(gateway: Arc<Gateway>, outside: Arc<Outside>, directory: Arc<Directory>) -> Self {
        Self { gateway, outside, directory }
    }

    /// Makes it once; why there is no answer otherwise.
    pub fn send(&self, call: Call) -> BoxFuture<'static, Result<OwnAnswer, String>> {
        let Call { method, url, headers, body, timeout, answer_bytes_max, cuts_answer } = call;
        let headers = header_map(&headers);
        if !url.starts_with(SERVICE_SCHEME) {
            let (outside, known) = (Arc::clone(&self.outside), self.directory.known());
            let call = OutsideCall { method, url, headers, body, timeout, answer_bytes_max, cuts_answer };
            return Box::pin(async move {
                outside.fetch(&known.allow_hosts, call).await.map_err(|error| error.to_string())
            });
        }
        let gateway = Arc::clone(&self.gateway);
        Box::pin(async move {
            let ServiceUrl { service, path_and_query } =
                url.parse().map_err(|error: ServiceUrlError| error.to_string())?;
            let call = OwnCall {
                service,
                method,
                path_and_query,
                headers,
                body,
                timeout,
                // Whoever asks repeats it, and counts how often.
                repeatable: false,
                answer_bytes_max,
                cuts_answer,
            };
            gateway.call(call).await.map_err(|error| error.to_string())
        })
    }

    /// Whether it may be called; why not otherwise.
    pub fn check_target(&self, target: &str) -> Result<(), String> {
        if target.len() > TARGET_LEN_MAX {
            return Err(format!("is longer than {TARGET_LEN_MAX} bytes"));
        }
        let known = self.directory.known();
        if target.starts_with(SERVICE_SCHEME) {
            let url: ServiceUrl = target.parse().map_err(|error| format!("{error}"))?;
            if known.services.contains(&url.service) {
                return Ok(());
            }
            return Err(format!("there is no service {}", url.service));
        }
        let wrong = |_| "must be service://NAME/path or a URL such as \"http://127.0.0.1:8000/prepare\"".to_owned();
        let url = target.parse::<http::Uri>().map_err(|error| wrong(error.to_string()))?;
        let (scheme, host) = (url.scheme_str().unwrap_or_default(), url.host().unwrap_or_default());
        if host.is_empty() || !["http", "https"].contains(&scheme) {
            return Err(wrong(String::new()));
        }
        let port = url.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
        let host = host.trim_matches(['[', ']']);
        if known.allow_hosts.iter().any(|grant| grant.allows(host, port)) {
            return Ok(());
        }
        Err(format!("{host}:{port} is not among allow_hosts of [{}]", self.directory.section))
    }
}

fn header_map(given: &[(String, String)]) -> HeaderMap {
    let parse = |(name, value): &(String, String)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
    };
    given.iter().filter_map(parse).collect()
}
