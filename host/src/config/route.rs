//! `[[route]]`: which requests go to which services.

use std::collections::{HashMap, HashSet};

use http::{HeaderName, Method};

use super::{
    endpoint::weight,
    headers, path,
    reader::{Table, Value},
    service::Services,
};
use crate::model::{HashOn, HostPort, RouteConfig, RouteTarget, ServiceName, Weight};

/// The routes in the order of the file.
pub(super) fn read(root: &mut Table<'_>, services: &Services) -> Vec<RouteConfig> {
    let items = root.read("route", |value| value.items("a list of tables: [[route]]")).unwrap_or_default();
    let mut routes = Vec::with_capacity(items.len());
    let mut claimed = Claims::default();
    for item in &items {
        let Some(mut table) = item.table("a table: [[route]]") else { continue };
        let route = route(&mut table, services);
        if let Some(route) = &route {
            claimed.claim(route, &item.key, &table);
        }
        table.finish();
        routes.extend(route);
    }
    routes
}

fn route(table: &mut Table<'_>, services: &Services) -> Option<RouteConfig> {
    let host = table.get("host").map(|value| host(&value));
    let decode_slash = table.read("decode_slash", Value::boolean).unwrap_or(false);
    let path = table.require("path", "\"/\", which matches every path", |value| {
        let text = value.text("a path such as \"/orders/\"")?;
        path::normal_prefix(text, decode_slash).map_err(|why| value.refuse(why)).ok()
    });
    let methods = table.get("methods").map(|value| methods(&value));
    let targets = targets(table, services);
    let strip_prefix = table.read("strip_prefix", Value::boolean).unwrap_or(false);
    let request_headers = table.read("request_headers", headers::read);
    let response_headers = table.read("response_headers", headers::read);
    let hash_on = table.read("hash_on", hash_on);
    let expose: Option<Vec<HeaderName>> =
        table.read("expose", |value| Some(value.distinct("a list such as [\"x-tenant\"]", Value::header_name)));
    let repeatable = table.read("repeatable", Value::boolean).unwrap_or(false);
    Some(RouteConfig {
        host: host.map_or(Some(None), |host| host.map(Some))?,
        path: path?,
        methods: methods.map_or(Some(Vec::new()), |methods| methods)?,
        targets: targets?,
        strip_prefix,
        request_headers: request_headers.unwrap_or_default(),
        response_headers: response_headers.unwrap_or_default(),
        hash_on,
        expose: expose.unwrap_or_default(),
        decode_slash,
        repeatable,
    })
}

/// What the routes so far match, and which of them does.
#[derive(Default)]
struct Claims(HashMap<Claim, String>);

#[derive(Clone, PartialEq, Eq, Hash)]
struct Claim {
    host: Option<String>,
    path: String,
    /// None: every method.
    method: Option<Method>,
}

impl Claims {
    /// Refuses a route that matches exactly what an earlier one matches. A route for some methods beside one for
    /// all does not: the narrower wins.
    fn claim(&mut self, route: &RouteConfig, key: &str, table: &Table<'_>) {
        // "/orders/" and "/orders" match the same paths.
        let path = route.path.trim_end_matches('/').to_owned();
        let every = Claim { host: route.host.clone(), path, method: None };
        let some = route.methods.iter().map(|method| Claim { method: Some(method.clone()), ..every.clone() });
        let claims: Vec<Claim> = if route.methods.is_empty() { vec![every] } else { some.collect() };
        if let Some((claim, first)) = claims.iter().find_map(|claim| Some((claim, self.0.get(claim)?))) {
            let method = claim.method.as_ref().map(|method| format!(" for {method}")).unwrap_or_default();
            table.refuse(format_args!("matches the same host and path as {first}{method}: one of them is too many"));
        }
        for claim in claims {
            self.0.entry(claim).or_insert_with(|| key.to_owned());
        }
    }
}

/// In lower case, without port; `*.` in front stands for one or more labels.
fn host(value: &Value<'_>) -> Option<String> {
    let wanted = "a host name without port, such as \"shop.example.com\" or \"*.example.com\"";
    let text = value.text(wanted)?;
    if text == "*" {
        value.refuse("leave \"host\" out to match every host");
        return None;
    }
    let name = text.strip_prefix("*.").unwrap_or(text);
    let port_follows = name.parse::<HostPort>().is_ok();
    // An address without port is checked as one with some port.
    let right = !name.ends_with('.') && format!("{name}:80").parse::<HostPort>().is_ok();
    if port_follows || !right {
        value.refuse(format_args!("must be {wanted}, not {text:?}"));
        return None;
    }
    Some(text.to_ascii_lowercase())
}

fn methods(value: &Value<'_>) -> Option<Vec<Method>> {
    let wanted = "a list such as [\"GET\", \"HEAD\"]";
    if value.value.as_array().is_some_and(|methods| methods.is_empty()) {
        value.refuse("is empty; leave \"methods\" out to match every method");
        return None;
    }
    let methods = value.distinct(wanted, |item| {
        let text = item.text("a method such as \"GET\"")?;
        let upper = text.to_ascii_uppercase();
        if text != upper && is_standard(&upper) {
            item.refuse(format_args!("methods are in upper case; did you mean {upper:?}?"));
            return None;
        }
        Method::from_bytes(text.as_bytes()).map_err(|_| item.refuse(format_args!("{text:?} is no HTTP method"))).ok()
    });
    (!methods.is_empty()).then_some(methods)
}

/// RFC 9110 §9 and RFC 5789.
fn is_standard(method: &str) -> bool {
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"].contains(&method)
}

/// `service = "orders"`, or `services = [{ name = "orders", weight = 90 }, …]`.
fn targets(table: &mut Table<'_>, services: &Services) -> Option<Vec<RouteTarget>> {
    match (table.get("service"), table.get("services")) {
        (Some(one), None) => services.named(&one).map(|service| vec![target(service)]),
        (None, Some(several)) => weighted(&several, services),
        (Some(_), Some(several)) => {
            several.refuse("stands beside \"service\"; one of them says where requests go");
            None
        }
        (None, None) => {
            table.refuse("\"service\" is missing, such as service = \"orders\"");
            None
        }
    }
}

fn target(service: ServiceName) -> RouteTarget {
    RouteTarget { service, weight: Weight::ONE }
}

fn weighted(value: &Value<'_>, services: &Services) -> Option<Vec<RouteTarget>> {
    let wanted = "a list such as [{ name = \"orders\", weight = 90 }, { name = \"orders-next\", weight = 10 }]";
    let items = value.items(wanted)?;
    if items.is_empty() {
        value.refuse(format_args!("is empty; right would be {wanted}"));
    }
    let mut seen = HashSet::new();
    let mut targets = Vec::with_capacity(items.len());
    for item in &items {
        let Some(mut table) = item.table("a table such as { name = \"orders\", weight = 90 }") else { continue };
        let name = table.require("name", "\"orders\"", |value| services.named(value));
        let weight = table.read("weight", weight).unwrap_or(Weight::ONE);
        table.finish();
        let Some(service) = name else { continue };
        if seen.insert(service.clone()) {
            targets.push(RouteTarget { service, weight });
        } else {
            item.refuse(format_args!("{service} stands in the list already"));
        }
    }
    (!targets.is_empty()).then_some(targets)
}

/// `"client-address"`, `"path"`, or a table with one of `header`, `cookie` and `query`.
fn hash_on(value: &Value<'_>) -> Option<HashOn> {
    let wanted = "\"client-address\", \"path\", { header = \"…\" }, { cookie = \"…\" } or { query = \"…\" }";
    if let Some(text) = value.value.as_str() {
        return match text {
            "client-address" => Some(HashOn::ClientAddress),
            "path" => Some(HashOn::Path),
            other => {
                value.refuse(format_args!("must be {wanted}, not {other:?}"));
                None
            }
        };
    }
    let mut table = value.table(wanted)?;
    if table.len() != 1 {
        table.refuse(format_args!("must be one of {wanted}"));
    }
    let named = |value: &Value<'_>| {
        let name = value.text("a name")?;
        if name.is_empty() {
            value.refuse("must not be empty");
        }
        Some(name.to_owned())
    };
    let header = table.read("header", Value::header_name).map(HashOn::Header);
    let cookie = table.read("cookie", named).map(HashOn::Cookie);
    let query = table.read("query", named).map(HashOn::Query);
    table.finish();
    header.or(cookie).or(query)
}
