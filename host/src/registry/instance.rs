//! What the registry knows of an instance, as readers see it.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{lease::CheckLive, registration::CheckDefinition};

/// How an instance or one of its checks is. Ordered from good to bad: the worst of several is their maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    Passing,
    Warning,
    Critical,
}

impl CheckStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for CheckStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CheckStatus {
    type Err = &'static str;
    fn from_str(given: &str) -> Result<Self, Self::Err> {
        match given {
            "passing" => Ok(Self::Passing),
            "warning" => Ok(Self::Warning),
            "critical" => Ok(Self::Critical),
            _ => Err("must be \"passing\", \"warning\" or \"critical\""),
        }
    }
}

/// Relative shares of requests and of DNS answers, each 0 to 65,535, by status. The defaults are Consul's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    pub passing: u32,
    pub warning: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// Another way to reach an instance, such as from outside its network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaggedAddress {
    pub address: String,
    pub port: u16,
}

/// One registered instance of a service. Never changes: another one takes its place.
#[derive(Clone, Debug)]
pub struct RegisteredInstance {
    /// Unique in the registry.
    pub id: Arc<str>,
    pub service: String,
    /// A host name or IP address; the node's where none was registered, so never empty.
    pub address: String,
    /// As registered: empty where the node's address stands in for it.
    pub given_address: String,
    /// 0: none, as for something that is not reached over TCP or UDP.
    pub port: u16,
    pub tags: Vec<String>,
    pub meta: BTreeMap<String, String>,
    pub weights: Weights,
    /// Empty where unknown.
    pub zone: String,
    pub enable_tag_override: bool,
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// The worst of its checks, its node's, and its maintenance, which is critical.
    pub status: CheckStatus,
    /// Why it is in maintenance; None: it is not.
    pub maintenance: Option<String>,
    pub checks: Vec<RegisteredCheck>,
    /// The index of its first registration.
    pub create_index: u64,
    /// The index of its last change.
    pub modify_index: u64,
}

impl RegisteredInstance {
    /// The share that its status gives it; an instance in a critical state has none.
    pub fn weight(&self) -> u32 {
        match self.status {
            CheckStatus::Passing => self.weights.passing,
            CheckStatus::Warning => self.weights.warning,
            CheckStatus::Critical => 0,
        }
    }

    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }

    /// Of its own checks and maintenance, without the node's.
    pub(super) fn own_status(&self) -> CheckStatus {
        if self.maintenance.is_some() {
            return CheckStatus::Critical;
        }
        self.checks.iter().map(|check| check.status).max().unwrap_or(CheckStatus::Passing)
    }
}

/// A check of an instance or of the node, and how it went last.
#[derive(Clone, Debug)]
pub struct RegisteredCheck {
    pub definition: Arc<CheckDefinition>,
    pub status: CheckStatus,
    pub create_index: u64,
    /// The index of its last change of status.
    pub modify_index: u64,
    pub(super) live: Arc<CheckLive>,
}

impl RegisteredCheck {
    pub fn id(&self) -> &str {
        &self.definition.id
    }

    /// What the check said last. Changes without a new index as long as the status does not.
    pub fn output(&self) -> Arc<str> {
        self.live.output()
    }
}

/// A service as it stands at one index.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Grows with each change of the service, never 0.
    pub index: u64,
    /// In the order of their ids, whatever their status; none where the service is not registered.
    pub instances: Arc<[Arc<RegisteredInstance>]>,
}

impl Listing {
    /// Those that may get traffic: passing, and with a warning too.
    pub fn usable(&self) -> impl Iterator<Item = &Arc<RegisteredInstance>> {
        self.instances.iter().filter(|instance| instance.status < CheckStatus::Critical)
    }

    pub fn passing(&self) -> impl Iterator<Item = &Arc<RegisteredInstance>> {
        self.instances.iter().filter(|instance| instance.status == CheckStatus::Passing)
    }
}

/// The names of all services.
#[derive(Clone, Debug)]
pub struct ServicesListing {
    /// Grows with each registration and deregistration, never 0.
    pub index: u64,
    /// Each with the tags of all its instances.
    pub services: BTreeMap<String, Vec<String>>,
}

/// The node's own checks and maintenance, which hold for every instance.
#[derive(Clone, Debug)]
pub struct NodeListing {
    pub index: u64,
    pub maintenance: Option<String>,
    pub checks: Vec<RegisteredCheck>,
}
