//! What stands in the store. Keys: `i/<instance>`, `s/<service>`, `node`, `marks`; values: JSON, so that a later version
//! can add fields with defaults.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Marks, Node, Service, State};
use crate::{
    model::InstantUs,
    registry::{
        error::RegistryError,
        instance::{CheckStatus, RegisteredCheck, RegisteredInstance},
        lease::CheckLive,
        options::RegistryOptions,
        registration::{CheckDefinition, Registration},
    },
    storage::Space,
};

pub(super) const SPACE: Space = Space::Registry;
pub(super) const NODE_KEY: &str = "node";
pub(super) const MARKS_KEY: &str = "marks";
const INSTANCE_PREFIX: &str = "i/";
const SERVICE_PREFIX: &str = "s/";

pub(super) fn instance_key(id: &str) -> Bytes {
    format!("{INSTANCE_PREFIX}{id}").into()
}

pub(super) fn service_key(name: &str) -> Bytes {
    format!("{SERVICE_PREFIX}{name}").into()
}

#[derive(Serialize, Deserialize)]
struct InstanceRecord {
    registration: Registration,
    maintenance: Option<String>,
    checks: Vec<CheckRecord>,
    create_index: u64,
    modify_index: u64,
}

#[derive(Serialize, Deserialize)]
struct CheckRecord {
    definition: CheckDefinition,
    status: CheckStatus,
    output: String,
    create_index: u64,
    modify_index: u64,
}

#[derive(Serialize, Deserialize)]
struct NodeRecord {
    maintenance: Option<String>,
    checks: Vec<CheckRecord>,
}

pub(super) fn of_instance(instance: &RegisteredInstance) -> Bytes {
    json(&InstanceRecord {
        registration: Registration {
            id: instance.id.to_string(),
            service: instance.service.clone(),
            address: instance.given_address.clone(),
            port: instance.port,
            tags: instance.tags.clone(),
            meta: instance.meta.clone(),
            weights: instance.weights,
            zone: instance.zone.clone(),
            enable_tag_override: instance.enable_tag_override,
            tagged_addresses: instance.tagged_addresses.clone(),
            checks: Vec::new(),
        },
        maintenance: instance.maintenance.clone(),
        checks: instance.checks.iter().map(CheckRecord::of).collect(),
        create_index: instance.create_index,
        modify_index: instance.modify_index,
    })
}

pub(super) fn of_node(node: &Node) -> Bytes {
    let checks = node.checks.iter().map(CheckRecord::of).collect();
    json(&NodeRecord { maintenance: node.maintenance.clone(), checks })
}

pub(super) fn of_index(index: u64) -> Bytes {
    json(&index)
}

pub(super) fn of_marks(marks: &Marks) -> Bytes {
    json(marks)
}

fn json(record: &impl Serialize) -> Bytes {
    serde_json::to_vec(record).expect("plain values are JSON").into()
}

impl CheckRecord {
    fn of(check: &RegisteredCheck) -> Self {
        Self {
            definition: (*check.definition).clone(),
            status: check.status,
            output: check.output().to_string(),
            create_index: check.create_index,
            modify_index: check.modify_index,
        }
    }

    fn restored(self) -> RegisteredCheck {
        RegisteredCheck {
            definition: Arc::new(self.definition),
            status: self.status,
            create_index: self.create_index,
            modify_index: self.modify_index,
            live: CheckLive::new(&self.output),
        }
    }
}

/// Of the TTL, so much may be added to a lease that runs on from a restart: they shall not all end at once.
const SPREAD_SHARE: f64 = 0.5;

impl State {
    /// As it stands in the store, all leases in full.
    pub fn restore(
        options: RegistryOptions,
        entries: Vec<(Bytes, Bytes)>,
        now_us: InstantUs,
        seed: u64,
    ) -> Result<Self, RegistryError> {
        let mut state = Self::new(options, now_us, seed);
        let mut indexes = Vec::new();
        let mut marks = None;
        // The node's record stands behind all instances: their status is worked out at the end.
        for (key, value) in entries {
            let name = String::from_utf8_lossy(&key).into_owned();
            if let Some(service) = name.strip_prefix(SERVICE_PREFIX) {
                indexes.push((service.to_owned(), read::<u64>(&name, &value)?));
            } else if name.starts_with(INSTANCE_PREFIX) {
                state.restore_instance(read(&name, &value)?);
            } else if name == NODE_KEY {
                let NodeRecord { maintenance, checks } = read(&name, &value)?;
                let checks = checks.into_iter().map(|check| state.restore_check(check)).collect();
                state.put_node(Node { maintenance, checks });
            } else if name == MARKS_KEY {
                marks = Some(read(&name, &value)?);
            } else {
                let reason = "a newer version of Sluice has written it".to_owned();
                return Err(RegistryError::Damaged { key: name, reason });
            }
        }
        for (service, index) in indexes {
            if let Some(Service { index: kept, .. }) = state.services.get_mut(&service) {
                *kept = index;
            }
        }
        state.marks = marks.unwrap_or(super::FIRST);
        state.restate();
        state.settle();
        Ok(state)
    }

    fn restore_instance(&mut self, record: InstanceRecord) {
        let checks = record.checks.into_iter().map(|check| self.restore_check(check)).collect();
        let indexes = (record.create_index, record.modify_index);
        let instance = self.instance_of(record.registration, record.maintenance, checks, indexes);
        self.put(Arc::new(instance), record.modify_index);
    }

    fn restore_check(&mut self, record: CheckRecord) -> RegisteredCheck {
        let check = record.restored();
        if let Some(ttl) = check.definition.kind.ttl()
            && check.status < CheckStatus::Critical
        {
            let lease = ttl.mul_f64(1.0 + SPREAD_SHARE * self.random.f64());
            check.live.begin(self.now_us + super::us(lease));
        }
        check
    }
}

fn read<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, RegistryError> {
    serde_json::from_slice(value)
        .map_err(|error| RegistryError::Damaged { key: key.to_owned(), reason: error.to_string() })
}
