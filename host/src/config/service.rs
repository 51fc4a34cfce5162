//! `[services.NAME]`: where requests go and how.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use serde_json::json;

use super::{
    defaults, endpoint, failover as bounds, health_check, policy,
    reader::{Key, Table, Value},
};
use crate::model::{PluginName, PluginOptions, PolicyConfig, Protocol, ServiceConfig, ServiceName};

/// Latencies are counted in microseconds in 32 bits, which end at 71 minutes.
pub(super) const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60 * 60);
const CONNECT_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(5 * 60);
/// Of exchanges that may stream for days.
const LONG: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(30 * 24 * 60 * 60);

/// The services that are right, and the names of all: a reference to a service with problems is no further problem.
pub(super) struct Services {
    pub names: BTreeSet<ServiceName>,
    checked: Vec<Option<ServiceConfig>>,
}

impl Services {
    /// The service that a value names; one that there is not is refused.
    pub fn named(&self, value: &Value<'_>) -> Option<ServiceName> {
        let name = value.text("a service's name")?;
        let found = name.parse().ok().filter(|name| self.names.contains(name));
        if found.is_none() {
            let hint = value.cx.hint(name, self.names.iter().map(ServiceName::as_str));
            value.refuse(format_args!("no service named {name:?}{hint}"));
        }
        found
    }

    /// None where a service is not right.
    pub fn into_checked(self) -> Option<BTreeMap<ServiceName, ServiceConfig>> {
        self.checked.into_iter().map(|service| service.map(|service| (service.name.clone(), service))).collect()
    }
}

/// `zone`: what is preferred where a service says nothing.
pub(super) fn read(
    root: &mut Table<'_>,
    own_plugins: &BTreeMap<PluginName, PluginOptions>,
    zone: Option<&str>,
) -> Services {
    let wanted = "a table of services: [services.NAME]";
    let entries = root.read("services", |value| value.entries(wanted)).unwrap_or_default();
    let mut services = Services { names: BTreeSet::new(), checked: Vec::with_capacity(entries.len()) };
    for (key, value) in &entries {
        let name: Option<ServiceName> = name(key);
        services.names.extend(name.clone());
        services.checked.push(service(name, value, own_plugins, zone));
    }
    services
}

fn name(key: &Key<'_>) -> Option<ServiceName> {
    key.text.parse().map_err(|error| key.refuse(error)).ok()
}

fn service(
    name: Option<ServiceName>,
    value: &Value<'_>,
    own_plugins: &BTreeMap<PluginName, PluginOptions>,
    zone: Option<&str>,
) -> Option<ServiceConfig> {
    let mut table = value.table("a table such as { endpoints = [\"127.0.0.1:9001\"] }")?;
    let endpoints = table.get("endpoints");
    let discovery = match table.get("discovery") {
        Some(value) if endpoints.is_some() => {
            value.refuse("stands beside \"endpoints\": either the file gives them or discovery finds them");
            None
        }
        Some(value) => Some(policy::read(&value, own_plugins.keys(), DISCOVERY_EXAMPLE)),
        None if endpoints.is_some() => None,
        None => Some(default_discovery(&table, own_plugins)),
    };
    let balancer = match table.get("balancer") {
        Some(value) => policy::read(&value, own_plugins.keys(), defaults::BALANCER),
        None => default_policy(&table, own_plugins, "balancer", defaults::BALANCER),
    };
    let failover = match table.get("failover") {
        Some(value) => policy::read(&value, own_plugins.keys(), defaults::FAILOVER),
        None => default_policy(&table, own_plugins, "failover", defaults::FAILOVER),
    };
    let health_check = table.read("health_check", health_check::read);
    let retry = table.read("retry", bounds::retry);
    let ejection = table.read("ejection", bounds::ejection);
    let circuit = table.read("circuit", bounds::circuit);
    let timeout = table.read("timeout", |value| value.duration(TIMEOUT));
    let idle_timeout = table.read("idle_timeout", |value| value.duration(LONG));
    let max_duration = table.read("max_duration", |value| value.duration(LONG));
    let connect_timeout = table.read("connect_timeout", |value| value.duration(CONNECT_TIMEOUT));
    let protocol = table.read("protocol", protocol);
    let prefer_zone = table.read("prefer_zone", |value| {
        value.text("a zone's name, or \"\" where zones make no difference").map(str::to_owned)
    });
    table.not_yet(&["tls"]);
    let stated = table.stated();
    table.finish();
    Some(ServiceConfig {
        name: name?,
        endpoints: endpoints.map(|value| endpoint::read_all(&value)).unwrap_or_default(),
        discovery: match discovery {
            Some(read) => Some(read?),
            None => None,
        },
        balancer: balancer?,
        failover: failover?,
        health_check,
        retry: retry.unwrap_or_default(),
        ejection: ejection.unwrap_or_default(),
        circuit: circuit.unwrap_or_default(),
        prefer_zone: prefer_zone.or_else(|| zone.map(str::to_owned)).filter(|zone| !zone.is_empty()),
        timeout: timeout.unwrap_or(defaults::TIMEOUT),
        idle_timeout: idle_timeout.unwrap_or(defaults::IDLE_TIMEOUT),
        max_duration,
        connect_timeout: connect_timeout.unwrap_or(defaults::CONNECT_TIMEOUT),
        protocol: protocol.unwrap_or(Protocol::Http1),
        stated,
    })
}

const DISCOVERY_EXAMPLE: &str = "consul";

/// Where nothing is said of endpoints: the gateway's own registry.
fn default_discovery(table: &Table<'_>, own_plugins: &BTreeMap<PluginName, PluginOptions>) -> Option<PolicyConfig> {
    let plugin: PluginName = defaults::DISCOVERY.parse().expect("the default source's name is right");
    if !own_plugins.contains_key(&plugin) && !table.cx().known.contains(&plugin) {
        table.refuse(format_args!(
            "\"endpoints\" is missing, such as endpoints = [\"127.0.0.1:9001\"]; discovery's default {plugin:?} is not \
             built into this binary (`make plugins` builds the stock plugins)",
            plugin = plugin.as_str()
        ));
        return None;
    }
    Some(PolicyConfig { plugin, settings: json!({}) })
}

/// Where nothing is said of `key`: the stock plugin of this name.
fn default_policy(
    table: &Table<'_>,
    own_plugins: &BTreeMap<PluginName, PluginOptions>,
    key: &str,
    plugin: &str,
) -> Option<PolicyConfig> {
    let plugin: PluginName = plugin.parse().expect("the default plugin's name is right");
    if !own_plugins.contains_key(&plugin) && !table.cx().known.contains(&plugin) {
        table.refuse(format_args!(
            "{key:?} is missing, and its default {plugin:?} is not built into this binary (`make plugins` builds \
             the stock plugins)",
            plugin = plugin.as_str()
        ));
        return None;
    }
    Some(PolicyConfig { plugin, settings: json!({}) })
}

fn protocol(value: &Value<'_>) -> Option<Protocol> {
    let wanted = "\"http/1.1\" or \"h2\"";
    match value.text(wanted)? {
        "http/1.1" => Some(Protocol::Http1),
        "h2" => Some(Protocol::H2),
        other => {
            value.refuse(format_args!("must be {wanted}, not {other:?}"));
            None
        }
    }
}
