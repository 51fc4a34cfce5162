//! Calls to participants: services of the gateway through its own data path, others where the configuration allows it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{
    gateway::Gateway,
    model::{HostGrant, OwnAnswer, OwnCall, SERVICE_SCHEME, ServiceName, ServiceUrl},
    plugin::{Outside, OutsideCall},
    transactions::{ANSWER_BYTES_MAX, Answered, BranchCall, BranchCaller, CallAnswer, RawAnswer},
};

/// Longest target: what RFC 9110 §4.1 asks everybody to support.
const TARGET_LEN_MAX: usize = 8_000;

/// Whom calls may go to, as the configuration has it now.
#[derive(Debug, Default)]
pub struct Directory(Mutex<Arc<Known>>);

#[derive(Debug, Default)]
struct Known {
    services: BTreeSet<ServiceName>,
    allow_hosts: Vec<HostGrant>,
}

impl Directory {
    pub fn set(&self, services: BTreeSet<ServiceName>, allow_hosts: Vec<HostGrant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(Known { services, allow_hosts });
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

pub struct GatewayCaller {
    gateway: Arc<Gateway>,
    outside: Arc<Outside>,
    directory: Arc<Directory>,
}

impl GatewayCaller {
    pub fn new(gateway: Arc<Gateway>, outside: Arc<Outside>, directory: Arc<Directory>) -> Self {
        Self { gateway, outside, directory }
    }
}

impl BranchCaller for GatewayCaller {
    fn call(&self, call: BranchCall) -> Answered {
        let headers = headers(&call.headers);
        if !call.url.starts_with(SERVICE_SCHEME) {
            let (outside, known) = (Arc::clone(&self.outside), self.directory.known());
            let BranchCall { method, url, body, timeout, .. } = call;
            let call = OutsideCall { method, url, headers, body, timeout, answer_bytes_max: ANSWER_BYTES_MAX };
            return Box::pin(async move { answer(outside.fetch(&known.allow_hosts, call).await) });
        }
        let gateway = Arc::clone(&self.gateway);
        Box::pin(async move {
            let ServiceUrl { service, path_and_query } = match call.url.parse() {
                Ok(url) => url,
                Err(error) => return unclear(&error),
            };
            let BranchCall { method, body, timeout, .. } = call;
            let call = OwnCall {
                service,
                method,
                path_and_query,
                headers,
                body,
                timeout,
                // The coordinator repeats it, and counts how often.
                repeatable: false,
                answer_bytes_max: ANSWER_BYTES_MAX,
            };
            answer(gateway.call(call).await)
        })
    }

    fn check(&self, target: &str) -> Result<(), String> {
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
        Err(format!("{host}:{port} is not among allow_hosts of [transactions]"))
    }
}

fn headers(given: &[(String, String)]) -> HeaderMap {
    let parse = |(name, value): &(String, String)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
    };
    // They were checked when the transaction began.
    given.iter().filter_map(parse).collect()
}

fn answer(answered: Result<OwnAnswer, impl std::error::Error>) -> CallAnswer {
    match answered {
        Ok(OwnAnswer { status, body, .. }) => CallAnswer::of(&RawAnswer { status, body }),
        Err(error) => unclear(&error),
    }
}

fn unclear(error: &dyn std::error::Error) -> CallAnswer {
    CallAnswer::Unclear(error.to_string())
}
