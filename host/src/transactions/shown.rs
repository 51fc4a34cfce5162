//! Transactions as people and programs see them.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Gid,
    machine::{Ending, Facts, Machine},
    record::{Event, Standing, Submitted, Trouble, trouble_key},
};
use crate::model::{
    PluginName, VersionId,
    transaction::{Decision, Phase, Progress, Reference},
};

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Begun; its client has not asked for an end.
    Prepared,
    /// Its client has asked for it, and nothing is decided.
    Submitted,
    /// Decided, and not done everywhere.
    Committing,
    Aborting,
    /// It broke an invariant, or a participant refused what was decided: an operator has to look.
    Hazard,
    /// Committed everywhere.
    Succeeded,
    /// Undone everywhere.
    Failed,
    /// By an operator, wherever it stood.
    Stopped,
}

impl Status {
    pub const ALL: [Self; 8] = [
        Self::Prepared,
        Self::Submitted,
        Self::Committing,
        Self::Aborting,
        Self::Hazard,
        Self::Succeeded,
        Self::Failed,
        Self::Stopped,
    ];

    pub fn of(facts: &Facts) -> Self {
        match (facts.ended, facts.decision, facts.asked) {
            (Some(Ending::Succeeded), ..) => Self::Succeeded,
            (Some(Ending::Failed), ..) => Self::Failed,
            (Some(Ending::Stopped), ..) => Self::Stopped,
            _ if facts.hazard.is_some() => Self::Hazard,
            (None, Some(Decision::Commit), _) => Self::Committing,
            (None, Some(Decision::Abort), _) | (None, None, Some(Decision::Abort)) => Self::Aborting,
            (None, None, Some(Decision::Commit)) => Self::Submitted,
            (None, None, None) => Self::Prepared,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Submitted => "submitted",
            Self::Committing => "committing",
            Self::Aborting => "aborting",
            Self::Hazard => "hazard",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }

    pub fn has_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Stopped)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A line of the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub gid: Gid,
    pub protocol: String,
    pub status: Status,
    pub plugin: PluginName,
    pub version: VersionId,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    pub updated_ms: u64,
    /// What its client has asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hazard: Option<String>,
    /// What the call that has failed most often said last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl Summary {
    pub fn of(gid: Gid, standing: &Standing) -> Self {
        let worst = standing.troubles.values().max_by_key(|trouble| trouble.attempts);
        Self {
            gid,
            protocol: standing.protocol.clone(),
            status: Status::of(&standing.facts),
            plugin: standing.plugin.clone(),
            version: standing.version,
            created_ms: standing.created_ms,
            updated_ms: standing.updated_ms,
            asked: standing.facts.asked,
            decision: standing.facts.decision,
            hazard: standing.facts.hazard.clone(),
            last_error: worst.map(|trouble| trouble.last_error.clone()),
        }
    }
}

/// One transaction with all that has happened to it.
#[derive(Clone, Debug, Serialize)]
pub struct Details {
    #[serde(flatten)]
    pub summary: Summary,
    pub settings: Map<String, Value>,
    /// When it expires, in milliseconds since 1970; absent where it does not any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<u64>,
    pub branches: Vec<BranchShown>,
    /// In their order; the oldest 200 are kept.
    pub events: Vec<Event>,
    pub events_left_out: u64,
    /// Why it does not go on, where that is the gateway's own trouble: the store, or the protocol's plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_up: Option<String>,
    /// As received.
    pub request: Map<String, Value>,
}

#[derive(Clone, Debug, Serialize)]
pub struct BranchShown {
    pub id: String,
    /// Ids of the branches that go before it.
    pub after: Vec<String>,
    pub operations: Vec<OperationShown>,
}

#[derive(Clone, Debug, Serialize)]
pub struct OperationShown {
    pub op: String,
    pub target: String,
    pub phase: Phase,
    /// Whether the client makes the call itself.
    pub by_client: bool,
    pub progress: Progress,
    /// Of one without a clear answer so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
}

impl Details {
    pub fn of(
        gid: &Gid,
        submitted: &Submitted,
        machine: &Machine,
        standing: &Standing,
        held_up: Option<String>,
    ) -> Self {
        let facts = machine.facts();
        let standing_now = Standing { facts: facts.clone(), ..standing.clone() };
        let is_open = facts.decision.is_none() && !facts.expired && facts.ended.is_none();
        Self {
            summary: Summary::of(gid.clone(), &standing_now),
            settings: submitted.pin.settings.clone(),
            expires_ms: standing
                .expires_ms
                .filter(|_| is_open && !(standing.expiry_ends_with_asking && facts.complete)),
            branches: (0_u32..).zip(machine.branches()).map(|(index, _)| branch(machine, standing, index)).collect(),
            events: standing.events.clone(),
            events_left_out: standing.events_left_out,
            held_up,
            request: submitted.first.request.clone(),
        }
    }
}

fn branch(machine: &Machine, standing: &Standing, index: u32) -> BranchShown {
    let branches = machine.branches();
    let branch = &branches[index as usize];
    let progress = &machine.facts().progress[index as usize];
    let operations = (0_u32..).zip(branch.operations.iter().zip(progress)).map(|(operation, (described, progress))| {
        let trouble = standing.troubles.get(&trouble_key(Reference { branch: index, operation }));
        OperationShown {
            op: described.name.clone(),
            target: described.target.clone(),
            phase: described.phase,
            by_client: described.by_client,
            progress: progress.clone(),
            trouble: trouble.cloned(),
        }
    });
    BranchShown {
        id: branch.id.clone(),
        after: branch.after.iter().map(|&before| branches[before as usize].id.clone()).collect(),
        operations: operations.collect(),
    }
}
