//! Bodies of registrations: Consul's JSON to the registry's own values.

use std::{collections::BTreeMap, time::Duration};

use axum::extract::Request;
use serde_json::{Map, Value};

use super::{error::Error, fields::Fields};
use crate::{
    control::api::body,
    registry::{
        CheckDefinition, CheckKind, CheckStatus, FieldProblem, HttpCheck, Registration, RegistryError, TaggedAddress,
        Thresholds, Weights,
        rules::{THRESHOLD_MAX, WEIGHT_MAX},
    },
};

/// Largest body of a registration, in bytes: what every limit allows of each field fits.
pub const BODY_BYTES_MAX: usize = 128 * 1024;
/// Consul's default of an active check.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Of the service mesh, of other editions, or told by clients that send back what they were answered.
const SERVICE_IGNORED: [&str; 15] = [
    "Kind",
    "Proxy",
    "Connect",
    "SocketPath",
    "Namespace",
    "Partition",
    "PeerName",
    "Datacenter",
    "Token",
    "ContentHash",
    "CreateIndex",
    "ModifyIndex",
    "RaftIndex",
    "EnterpriseMeta",
    "Ports",
];
const CHECK_IGNORED: [&str; 9] = [
    "OutputMaxSize",
    "Namespace",
    "Partition",
    "Token",
    "EnterpriseMeta",
    "ExposedPort",
    "SessionName",
    "Shell",
    "AliasNode",
];
const CHECK_UNSUPPORTED: [&str; 14] = [
    "Script",
    "Args",
    "ScriptArgs",
    "DockerContainerID",
    "GRPC",
    "GRPCUseTLS",
    "UDP",
    "H2PING",
    "H2PingUseTLS",
    "AliasService",
    "OSService",
    "TCPUseTLS",
    "TLSServerName",
    "ProxyHTTP",
];

/// The body as a JSON object, at most [`BODY_BYTES_MAX`].
pub async fn object(request: Request) -> Result<Map<String, Value>, Error> {
    let bytes = body::bytes(request, BODY_BYTES_MAX).await?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::bad_request("Request decode failed: the body must be a JSON object")),
        Err(error) => Err(Error::bad_request(format!("Request decode failed: {error}"))),
    }
}

/// Of `agent/service/register`.
pub fn registration(body: Map<String, Value>) -> Result<Registration, RegistryError> {
    let mut problems = Vec::new();
    let mut fields = Fields::of(body, String::new(), &mut problems);
    let service = fields.text("Name").unwrap_or_default();
    let id = fields.text("ID").filter(|id| !id.is_empty()).unwrap_or_else(|| service.clone());
    let mut registration = Registration {
        address: fields.text("Address").unwrap_or_default(),
        port: fields.number("Port", u32::from(u16::MAX)).map(|port| port as u16).unwrap_or_default(),
        tags: fields.texts("Tags"),
        meta: meta(&mut fields),
        weights: weights(&mut fields),
        zone: zone(&mut fields),
        enable_tag_override: fields.flag("EnableTagOverride"),
        tagged_addresses: tagged_addresses(&mut fields),
        ..Registration::default()
    };
    if registration.zone.is_empty() {
        registration.zone = registration.meta.get("zone").cloned().unwrap_or_default();
    }
    let single = fields.object("Check").filter(|check| !check.is_empty());
    let several = fields.list("Checks");
    let only = single.is_some() && several.is_empty();
    let of = Of { service: &service, id: &id, count: several.len() + usize::from(single.is_some()) };
    for (at, check) in single.into_iter().map(Value::Object).chain(several).enumerate() {
        let place = if only { "Check".to_owned() } else { format!("Checks[{at}]") };
        match check {
            Value::Object(object) => {
                let check = check_of_service(fields.within(&place, object), &of, at);
                registration.checks.extend(check);
            }
            _ => fields.refuse(&place, "must be an object"),
        }
    }
    fields.ignore(&SERVICE_IGNORED);
    fields.finish();
    (registration.id, registration.service) = (id, service);
    let named = |mut problem: FieldProblem| {
        if only && let Some(rest) = problem.field.strip_prefix("Checks[0]") {
            problem.field = format!("Check{rest}");
        }
        problem
    };
    finish(problems, registration.problems().into_iter().map(named).collect()).map(|()| registration)
}

/// Of `agent/check/register`: the check, and the id of the instance that it is of; none: of the node.
pub fn check(body: Map<String, Value>) -> Result<(Option<String>, CheckDefinition), RegistryError> {
    let mut problems = Vec::new();
    let mut fields = Fields::of(body, String::new(), &mut problems);
    let instance = fields.text("ServiceID").filter(|id| !id.is_empty());
    // Consul calls the type and the definition of a check so where it answers with one.
    fields.ignore(&["Node", "Type", "Definition", "ServiceName", "ServiceTags"]);
    let name = fields.text("Name").unwrap_or_default();
    let check = check_fields(fields, name.clone(), name);
    let found = check.as_ref().map(CheckDefinition::problems).unwrap_or_default();
    finish(problems, found)?;
    check.map(|check| (instance, check)).ok_or_else(|| RegistryError::Invalid(Vec::new()))
}

/// Problems of the JSON first; the values' own where it had none of that name.
fn finish(mut problems: Vec<FieldProblem>, found: Vec<FieldProblem>) -> Result<(), RegistryError> {
    for problem in found {
        if !problems.iter().any(|other| other.field == problem.field) {
            problems.push(problem);
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(RegistryError::Invalid(problems)) }
}

/// What a check without a name or id is called after.
struct Of<'a> {
    service: &'a str,
    id: &'a str,
    count: usize,
}

fn check_of_service(mut fields: Fields<'_>, of: &Of<'_>, at: usize) -> Option<CheckDefinition> {
    // Consul's names, on which clients rely in `agent/check/pass/service:<id>`.
    let id = if of.count == 1 { format!("service:{}", of.id) } else { format!("service:{}:{}", of.id, at + 1) };
    fields.ignore(&["ServiceID"]);
    let name = fields.text("Name").filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| format!("Service '{}' check", of.service));
    check_fields(fields, id, name)
}

fn check_fields(mut fields: Fields<'_>, default_id: String, name: String) -> Option<CheckDefinition> {
    let (check_id, id) = (fields.text("CheckID"), fields.text("ID"));
    let id = check_id.or(id).filter(|id| !id.is_empty()).unwrap_or(default_id);
    let notes = fields.text("Notes").unwrap_or_default();
    let initial = status(&mut fields);
    let critical = fields.number("FailuresBeforeCritical", THRESHOLD_MAX).unwrap_or_default().max(1);
    let thresholds = Thresholds {
        success_before_passing: fields.number("SuccessBeforePassing", THRESHOLD_MAX).unwrap_or_default().max(1),
        failures_before_warning: fields
            .number("FailuresBeforeWarning", THRESHOLD_MAX)
            .filter(|n| *n > 0)
            .unwrap_or(critical),
        failures_before_critical: critical,
    };
    let after = fields.duration("DeregisterCriticalServiceAfter").filter(|after| !after.is_zero());
    let deregister_after = after.map(|after| after.max(crate::registry::rules::DEREGISTER_AFTER_MIN));
    let kind = kind(&mut fields);
    fields.ignore(&CHECK_IGNORED);
    fields.unsupported(
        &CHECK_UNSUPPORTED,
        "is not supported: checks are of the kinds TTL, HTTP and TCP, without a TLS name",
    );
    fields.finish();
    kind.map(|kind| CheckDefinition { id, name, notes, kind, initial, deregister_after, thresholds })
}

fn status(fields: &mut Fields<'_>) -> CheckStatus {
    let text = fields.text("Status").filter(|status| !status.is_empty());
    let status = text.map(|text| text.parse());
    match status {
        Some(Ok(status)) => status,
        Some(Err(rule)) => {
            fields.refuse("Status", rule);
            CheckStatus::Critical
        }
        // Until the check has said otherwise, an instance is not believed to be there.
        None => CheckStatus::Critical,
    }
}

fn kind(fields: &mut Fields<'_>) -> Option<CheckKind> {
    let ttl = fields.duration("TTL");
    let (http, tcp) = (fields.text("HTTP"), fields.text("TCP"));
    let (http, tcp) = (http.filter(|text| !text.is_empty()), tcp.filter(|text| !text.is_empty()));
    let interval = fields.duration("Interval");
    let timeout = fields.duration("Timeout").filter(|timeout| !timeout.is_zero()).unwrap_or(TIMEOUT_DEFAULT);
    let method = fields.text("Method").filter(|method| !method.is_empty()).unwrap_or_else(|| "GET".to_owned());
    let (headers, body) = (headers(fields), fields.text("Body").unwrap_or_default());
    let (tls_skip_verify, disable_redirects) = (fields.flag("TLSSkipVerify"), fields.flag("DisableRedirects"));
    let kinds = usize::from(ttl.is_some()) + usize::from(http.is_some()) + usize::from(tcp.is_some());
    if kinds != 1 {
        fields.refuse("TTL", "a check must have one of TTL, HTTP and TCP, and no two of them");
        return None;
    }
    if let Some(ttl) = ttl {
        return Some(CheckKind::Ttl { ttl });
    }
    let Some(interval) = interval else {
        fields.refuse("Interval", "is missing: an HTTP or TCP check needs one, such as \"10s\"");
        return None;
    };
    match (http, tcp) {
        (Some(url), _) => Some(CheckKind::Http(HttpCheck {
            url,
            method,
            headers,
            body,
            interval,
            timeout,
            tls_skip_verify,
            disable_redirects,
        })),
        (None, Some(target)) => Some(CheckKind::Tcp { target, interval, timeout }),
        (None, None) => None,
    }
}

/// `{"name": ["value", …]}`; a value alone is taken too.
fn headers(fields: &mut Fields<'_>) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, values) in fields.object("Header").unwrap_or_default() {
        let values = if let Value::Array(values) = values { values } else { vec![values] };
        for value in values {
            match value {
                Value::String(value) => headers.push((name.clone(), value)),
                _ => fields.refuse(&format!("Header.{name}"), "must be a list of strings"),
            }
        }
    }
    headers
}

fn meta(fields: &mut Fields<'_>) -> BTreeMap<String, String> {
    let mut meta = BTreeMap::new();
    for (key, value) in fields.object("Meta").unwrap_or_default() {
        match value {
            Value::String(value) => drop(meta.insert(key, value)),
            _ => fields.refuse(&format!("Meta.{key}"), "must be a string"),
        }
    }
    meta
}

fn weights(fields: &mut Fields<'_>) -> Weights {
    let mut weights = Weights::default();
    if let Some(object) = fields.object("Weights") {
        let mut within = fields.within("Weights", object);
        weights.passing = within.number("Passing", WEIGHT_MAX).unwrap_or(weights.passing);
        weights.warning = within.number("Warning", WEIGHT_MAX).unwrap_or(weights.warning);
        within.finish();
    }
    weights
}

fn zone(fields: &mut Fields<'_>) -> String {
    let Some(object) = fields.object("Locality") else { return String::new() };
    let mut within = fields.within("Locality", object);
    let zone = within.text("Zone").unwrap_or_default();
    within.ignore(&["Region"]);
    within.finish();
    zone
}

fn tagged_addresses(fields: &mut Fields<'_>) -> BTreeMap<String, TaggedAddress> {
    let mut addresses = BTreeMap::new();
    for (name, value) in fields.object("TaggedAddresses").unwrap_or_default() {
        let place = format!("TaggedAddresses.{name}");
        let Value::Object(object) = value else {
            fields.refuse(&place, "must be an object with Address and Port");
            continue;
        };
        let mut within = fields.within(&place, object);
        let address = within.text("Address").unwrap_or_default();
        let port = within.number("Port", u32::from(u16::MAX)).map(|port| port as u16).unwrap_or_default();
        within.finish();
        addresses.insert(name, TaggedAddress { address, port });
    }
    addresses
}
