//! The registry in the shapes of Consul's answers. Lists and maps without entries are `[]` and `{}`, never null.

use std::{net::IpAddr, sync::Arc};

use serde_json::{Map, Value, json};

use super::duration;
use crate::registry::{
    CheckKind, NodeListing, RegisteredCheck, RegisteredInstance, RegistryOptions, TaggedAddress, Weights,
};

/// Consul's default name of the one there is.
pub const DATACENTER: &str = "dc1";
/// Nodes have a UUID in Consul; the one node of a gateway has always the same.
pub const NODE_ID: &str = "00000000-0000-4000-8000-000000000001";
/// The node's own check in Consul, which says that it is there.
const ALIVE: &str = "serfHealth";
/// Checks that maintenance shows as. Consul's names.
const SERVICE_MAINTENANCE: &str = "_service_maintenance";
const NODE_MAINTENANCE: &str = "_node_maintenance";

/// The node in `catalog/nodes` and beside each service in `health/service`.
pub fn node(options: &RegistryOptions) -> Value {
    json!({
        "ID": NODE_ID,
        "Node": options.node_name,
        "Address": options.node_address,
        "Datacenter": DATACENTER,
        "TaggedAddresses": node_addresses(options),
        "Meta": {},
        "CreateIndex": 1,
        "ModifyIndex": 1,
    })
}

fn node_addresses(options: &RegistryOptions) -> Value {
    let version = if options.node_address.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) { "ipv6" } else { "ipv4" };
    let address = &options.node_address;
    let named = |name: String| (name, Value::from(address.clone()));
    let names = ["lan".to_owned(), format!("lan_{version}"), "wan".to_owned(), format!("wan_{version}")];
    Value::Object(names.into_iter().map(named).collect())
}

/// In `agent/services`.
pub fn agent_service(instance: &RegisteredInstance) -> Value {
    json!({
        "ID": &*instance.id,
        "Service": instance.service,
        "Tags": instance.tags,
        "Meta": instance.meta,
        "Port": instance.port,
        "Address": instance.given_address,
        "TaggedAddresses": tagged_addresses(instance),
        "Weights": weights(instance.weights),
        "EnableTagOverride": instance.enable_tag_override,
        "Datacenter": DATACENTER,
        "CreateIndex": instance.create_index,
        "ModifyIndex": instance.modify_index,
    })
}

/// In `health/service`, beside its node and its checks.
pub fn health_service(instance: &RegisteredInstance) -> Value {
    json!({
        "ID": &*instance.id,
        "Service": instance.service,
        "Tags": instance.tags,
        "Address": instance.given_address,
        "TaggedAddresses": tagged_addresses(instance),
        "Meta": instance.meta,
        "Port": instance.port,
        "Weights": weights(instance.weights),
        "EnableTagOverride": instance.enable_tag_override,
        "Proxy": {"Mode": "", "MeshGateway": {}, "Expose": {}},
        "Connect": {},
        "PeerName": "",
        "CreateIndex": instance.create_index,
        "ModifyIndex": instance.modify_index,
    })
}

/// In `catalog/service`.
pub fn catalog_service(options: &RegistryOptions, instance: &RegisteredInstance) -> Value {
    json!({
        "ID": NODE_ID,
        "Node": options.node_name,
        "Address": options.node_address,
        "Datacenter": DATACENTER,
        "TaggedAddresses": node_addresses(options),
        "NodeMeta": {},
        "ServiceKind": "",
        "ServiceID": &*instance.id,
        "ServiceName": instance.service,
        "ServiceTags": instance.tags,
        "ServiceAddress": instance.given_address,
        "ServiceTaggedAddresses": tagged_addresses(instance),
        "ServiceWeights": weights(instance.weights),
        "ServiceMeta": instance.meta,
        "ServicePort": instance.port,
        "ServiceSocketPath": "",
        "ServiceEnableTagOverride": instance.enable_tag_override,
        "ServiceProxy": {"Mode": "", "MeshGateway": {}, "Expose": {}},
        "ServiceConnect": {},
        "CreateIndex": instance.create_index,
        "ModifyIndex": instance.modify_index,
    })
}

/// An instance's own checks, its maintenance among them.
pub fn instance_checks(options: &RegistryOptions, instance: &RegisteredInstance) -> Vec<Value> {
    let own = instance.checks.iter().map(|check| of_check(options, check, Some(instance)));
    let maintenance = instance.maintenance.iter().map(|reason| {
        let id = format!("{SERVICE_MAINTENANCE}:{}", instance.id);
        in_maintenance(options, &id, "Service Maintenance Mode", reason, Some(instance))
    });
    own.chain(maintenance).collect()
}

/// What was registered for the node, and its maintenance.
pub fn agent_node_checks(options: &RegistryOptions, node: &NodeListing) -> Vec<Value> {
    let own = node.checks.iter().map(|check| of_check(options, check, None));
    let maintenance = node.maintenance.iter();
    let maintenance =
        maintenance.map(|reason| in_maintenance(options, NODE_MAINTENANCE, "Node Maintenance Mode", reason, None));
    own.chain(maintenance).collect()
}

/// The same in the catalog, where a node that is there has a check that says so.
pub fn node_checks(options: &RegistryOptions, node: &NodeListing) -> Vec<Value> {
    let text = "Agent alive and reachable";
    let alive = check_json(options, (ALIVE, "Serf Health Status", "passing", ""), text, None, (1, 1));
    std::iter::once(alive).chain(agent_node_checks(options, node)).collect()
}

/// An instance, its node, and every check that bears on it.
pub fn health_entry(options: &RegistryOptions, of_node: &NodeListing, instance: &Arc<RegisteredInstance>) -> Value {
    let mut checks = node_checks(options, of_node);
    checks.extend(instance_checks(options, instance));
    json!({"Node": node(options), "Service": health_service(instance), "Checks": checks})
}

fn of_check(options: &RegistryOptions, check: &RegisteredCheck, instance: Option<&RegisteredInstance>) -> Value {
    let definition = &check.definition;
    let indexes = (check.create_index, check.modify_index);
    let named = (definition.id.as_str(), definition.name.as_str(), check.status.as_str(), definition.notes.as_str());
    let mut value = check_json(options, named, &check.output(), instance, indexes);
    let text = |value: Option<_>| value.map(duration::text).unwrap_or_default();
    let timeout = match &definition.kind {
        CheckKind::Ttl { .. } => None,
        CheckKind::Http(http) => Some(http.timeout),
        CheckKind::Tcp { timeout, .. } => Some(*timeout),
    };
    value["Type"] = definition.kind.as_str().into();
    value["Interval"] = text(definition.kind.interval()).into();
    value["Timeout"] = text(timeout).into();
    value
}

fn in_maintenance(
    options: &RegistryOptions,
    id: &str,
    name: &str,
    reason: &str,
    instance: Option<&RegisteredInstance>,
) -> Value {
    let index = instance.map_or(1, |instance| instance.modify_index);
    let mut value = check_json(options, (id, name, "critical", reason), "", instance, (index, index));
    value["Type"] = "maintenance".into();
    value
}

fn check_json(
    options: &RegistryOptions,
    (id, name, status, notes): (&str, &str, &str, &str),
    output: &str,
    instance: Option<&RegisteredInstance>,
    (create_index, modify_index): (u64, u64),
) -> Value {
    json!({
        "Node": options.node_name,
        "CheckID": id,
        "Name": name,
        "Status": status,
        "Notes": notes,
        "Output": output,
        "ServiceID": instance.map_or("", |instance| &instance.id),
        "ServiceName": instance.map_or("", |instance| instance.service.as_str()),
        "ServiceTags": instance.map_or(&[][..], |instance| instance.tags.as_slice()),
        "Type": "",
        "Interval": "",
        "Timeout": "",
        "ExposedPort": 0,
        "Definition": {},
        "CreateIndex": create_index,
        "ModifyIndex": modify_index,
    })
}

fn weights(Weights { passing, warning }: Weights) -> Value {
    json!({"Passing": passing, "Warning": warning})
}

fn tagged_addresses(instance: &RegisteredInstance) -> Value {
    let entry = |(name, tagged): (&String, &TaggedAddress)| {
        (name.clone(), json!({"Address": tagged.address, "Port": tagged.port}))
    };
    Value::Object(instance.tagged_addresses.iter().map(entry).collect::<Map<_, _>>())
}
