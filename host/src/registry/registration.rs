//! What is registered: an instance, its checks. [`super::rules`] says what is right.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::instance::{CheckStatus, TaggedAddress, Weights};

/// An instance as somebody registers it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// Unique in the registry; registering it again replaces what was there.
    pub id: String,
    pub service: String,
    /// A host name or IP address; empty: the node's.
    pub address: String,
    pub port: u16,
    pub tags: Vec<String>,
    pub meta: BTreeMap<String, String>,
    pub weights: Weights,
    /// Empty where unknown.
    pub zone: String,
    /// Kept and shown, as Consul does.
    pub enable_tag_override: bool,
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    #[serde(skip)]
    pub checks: Vec<CheckDefinition>,
}

/// A check as somebody registers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckDefinition {
    /// Unique in the registry.
    pub id: String,
    pub name: String,
    pub notes: String,
    pub kind: CheckKind,
    /// Before it has said anything.
    pub initial: CheckStatus,
    /// Its instance leaves the registry after it has been critical for so long.
    pub deregister_after: Option<Duration>,
    pub thresholds: Thresholds,
}

/// How it is found out whether the instance is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckKind {
    /// The instance says so itself, at least once in `ttl`.
    Ttl {
        ttl: Duration,
    },
    Http(HttpCheck),
    /// A connection to host and port is accepted.
    Tcp {
        target: String,
        interval: Duration,
        timeout: Duration,
    },
}

/// 2xx is passing, 429 a warning, everything else critical.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCheck {
    pub url: String,
    pub method: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
    pub interval: Duration,
    pub timeout: Duration,
    /// Any certificate is taken.
    pub tls_skip_verify: bool,
    /// A redirection is an answer like any other, so critical.
    pub disable_redirects: bool,
}

/// Results in a row before an active check's status follows them. Consul's words and defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Default 0: as 1.
    pub success_before_passing: u32,
    /// Default: as `failures_before_critical`.
    pub failures_before_warning: u32,
    /// Default 0: as 1.
    pub failures_before_critical: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { success_before_passing: 1, failures_before_warning: 1, failures_before_critical: 1 }
    }
}

impl CheckKind {
    /// Consul's word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Ttl { .. } => "ttl",
            Self::Http(_) => "http",
            Self::Tcp { .. } => "tcp",
        }
    }

    pub fn ttl(&self) -> Option<Duration> {
        match self {
            Self::Ttl { ttl } => Some(*ttl),
            Self::Http(_) | Self::Tcp { .. } => None,
        }
    }

    /// How often the gateway looks; None where the instance itself reports.
    pub fn interval(&self) -> Option<Duration> {
        match self {
            Self::Ttl { .. } => None,
            Self::Http(check) => Some(check.interval),
            Self::Tcp { interval, .. } => Some(*interval),
        }
    }
}
