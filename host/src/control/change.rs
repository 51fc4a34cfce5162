//! What can be asked of the running gateway, and what comes of it.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use crate::model::{EndpointSpec, Percent, PluginName, PolicyConfig, ServiceName, VersionId};

/// One change of the running gateway: it happens whole, or nothing changes.
#[derive(Clone, Debug)]
pub enum Change {
    /// The configuration file as it is now.
    Reload,
    /// A component becomes the version of its plugin that is in use.
    Push {
        plugin: PluginName,
        component: Bytes,
    },
    /// A component is kept as a version of its plugin, to be tried or brought into use later.
    Upload {
        plugin: PluginName,
        component: Bytes,
    },
    Activate {
        plugin: PluginName,
        version: VersionId,
    },
    /// The version that was in use before.
    RollBack {
        plugin: PluginName,
    },
    /// Uploaded versions go; what the file or the binary brings is in use again.
    Forget {
        plugin: PluginName,
    },
    /// None: every service that is bound to the plugin.
    StartCanary {
        plugin: PluginName,
        version: VersionId,
        percent: Percent,
        service: Option<ServiceName>,
    },
    EndCanary {
        plugin: PluginName,
    },
    /// A service has other policies. `force`: also where more than half of its endpoints are lost by it.
    SetPolicies {
        service: ServiceName,
        balancer: PolicyChange,
        failover: PolicyChange,
        discovery: PolicyChange,
        force: bool,
    },
    /// Sources of endpoints say that these are the services' endpoints now.
    Discovered {
        memberships: Vec<(ServiceName, Arc<[EndpointSpec]>)>,
    },
    /// The file's policies hold for the service again.
    ClearOverlay {
        service: ServiceName,
    },
    /// Host names mean other addresses, or a slot came free.
    Refresh,
    /// Endpoints are fit that were not, or the other way round.
    Health,
    /// Another instance for one that is gone.
    Restart {
        service: ServiceName,
        worker: usize,
        version: VersionId,
    },
    /// The version keeps failing.
    GiveUp {
        plugin: PluginName,
        version: VersionId,
        reason: String,
    },
    /// The candidate is worse than the incumbent. The number tells which canary is meant.
    Withdraw {
        plugin: PluginName,
        number: u64,
        reason: String,
    },
}

/// What becomes of one policy of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum PolicyChange {
    #[default]
    Keep,
    /// The configuration file's holds again.
    Clear,
    Set(PolicyConfig),
}

/// What a change did.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Applied {
    /// Whether there was anything to do.
    pub changed: bool,
    /// Of the state in use. Grows with each change.
    pub generation: u64,
    /// The version of the plugin that is in use now, where the change was about a plugin.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<VersionId>,
    /// The version that was sent, where the change brought one.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uploaded: Option<VersionId>,
    /// One for each worker that serves clients, once all have adopted the new state.
    pub workers: Vec<WorkerAdoption>,
    /// What became of what the predecessors had learned; those that had nothing to hand over are left out.
    pub restores: Vec<Restore>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct WorkerAdoption {
    pub worker: usize,
    /// CPU time that the worker spent away from requests for it, in microseconds.
    pub gap_us: u64,
}

/// One instance that was offered its predecessor's state.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Restore {
    #[schema(value_type = String)]
    pub service: ServiceName,
    /// Absent for the one that judges over health.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker: Option<usize>,
    #[schema(value_type = String)]
    pub version: VersionId,
    /// Of the state.
    pub bytes: usize,
    /// Why the instance starts fresh instead; absent where it took the state over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Why nothing changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    NotFound(String),
    /// What is asked for does not go with how things are now.
    #[error("{0}")]
    Conflict(String),
    /// What is asked for is wrong.
    #[error("{detail}")]
    Invalid { detail: String, problems: Vec<ChangeProblem> },
    /// The gateway could not do it: a full disk, say.
    #[error("{0}")]
    Failed(String),
    #[error("the gateway is shutting down")]
    ShuttingDown,
}

/// One thing wrong with what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChangeProblem {
    /// JSON Pointer (RFC 6901) into what was sent, or for a plugin's settings into these; empty for the whole.
    pub pointer: String,
    /// One sentence: what is wrong and what would be right.
    pub message: String,
    /// Where it is one service of several that stands against the change.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// Where it is a version of one plugin, of no service's.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<PluginName>,
}

impl ChangeProblem {
    pub fn of(service: &ServiceName, message: impl Into<String>) -> Self {
        Self { message: message.into(), service: Some(service.clone()), ..Self::default() }
    }

    pub fn plain(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    pub fn of_plugin(plugin: &PluginName, message: impl Into<String>) -> Self {
        Self { message: message.into(), plugin: Some(plugin.clone()), ..Self::default() }
    }
}

impl std::fmt::Display for ChangeProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(service) = &self.service {
            write!(f, "service {service}: ")?;
        }
        if !self.pointer.is_empty() {
            write!(f, "{}: ", self.pointer)?;
        }
        f.write_str(&self.message)
    }
}

impl Refusal {
    pub fn invalid(detail: impl Into<String>, problems: Vec<ChangeProblem>) -> Self {
        Self::Invalid { detail: detail.into(), problems }
    }

    /// With every problem, on one line.
    pub fn in_full(&self) -> String {
        match self {
            Self::Invalid { detail, problems } if !problems.is_empty() => {
                let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                format!("{detail}: {}", problems.join("; "))
            }
            other => other.to_string(),
        }
    }
}
