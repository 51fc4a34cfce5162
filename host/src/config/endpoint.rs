//! `endpoints = ["127.0.0.1:9001", { address = …, weight = 2 }]`.

use std::collections::HashMap;

use super::reader::Value;
use crate::model::{EndpointSpec, HostPort, Weight};

const EXAMPLE: &str = "\"127.0.0.1:9001\" or { address = \"127.0.0.1:9001\", weight = 2 }";

/// More priorities than anybody has places to fail over to.
const PRIORITY_MAX: i64 = 127;

/// All endpoints of a list; an address that stands there already is refused.
pub(super) fn read_all(value: &Value<'_>) -> Vec<EndpointSpec> {
    let items = value.items("a list such as [\"127.0.0.1:9001\"]").unwrap_or_default();
    if items.is_empty() && value.value.is_array() {
        value.refuse("is empty; give at least one address, such as \"127.0.0.1:9001\"");
    }
    let mut first_with = HashMap::new();
    let mut endpoints = Vec::with_capacity(items.len());
    for item in &items {
        let Some(endpoint) = read(item) else { continue };
        match first_with.insert(same_address(&endpoint.address), item.key.clone()) {
            None => endpoints.push(endpoint),
            Some(first) => item.refuse(format_args!("{} is the address of {first} already", endpoint.address)),
        }
    }
    endpoints
}

fn read(value: &Value<'_>) -> Option<EndpointSpec> {
    if value.value.is_str() {
        return value.parsed(EXAMPLE).map(plain);
    }
    let mut table = value.table(EXAMPLE)?;
    let address = table.require("address", "\"127.0.0.1:9001\"", |value| value.parsed("host:port"));
    let weight = table.read("weight", weight);
    let priority = table.read("priority", |value| u32::try_from(value.integer(0..=PRIORITY_MAX)?).ok());
    let zone = table.read("zone", |value| value.text("a zone's name, such as \"b\"").map(str::to_owned));
    let metadata = table.read("metadata", metadata);
    table.finish();
    Some(EndpointSpec {
        weight: weight.unwrap_or(Weight::ONE),
        priority: priority.unwrap_or_default(),
        zone: zone.unwrap_or_default(),
        metadata: metadata.unwrap_or_default(),
        ..plain(address?)
    })
}

fn plain(address: HostPort) -> EndpointSpec {
    EndpointSpec {
        id: Box::default(),
        address,
        weight: Weight::ONE,
        priority: 0,
        zone: String::new(),
        metadata: Vec::new(),
        healthy: true,
    }
}

/// 1 to 65535. To give an endpoint or a target nothing, one takes it out.
pub(super) fn weight(value: &Value<'_>) -> Option<Weight> {
    Weight::new(value.integer(1..=i64::from(u16::MAX))?)
}

fn metadata(value: &Value<'_>) -> Option<Vec<(String, String)>> {
    let entries = value.entries("a table of strings, such as { rack = \"7\" }")?;
    let pair = |(key, value): &(_, Value<'_>)| {
        let key: &super::reader::Key<'_> = key;
        Some((key.text.to_owned(), value.text("a string")?.to_owned()))
    };
    Some(entries.iter().filter_map(pair).collect())
}

/// Equal for two ways to write one address.
fn same_address(address: &HostPort) -> (String, u16) {
    let host = match address.socket_addr() {
        Some(socket) => socket.ip().to_canonical().to_string(),
        None => address.host().trim_end_matches('.').to_ascii_lowercase(),
    };
    (host, address.port())
}
