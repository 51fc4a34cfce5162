//! A distributed transaction as its protocol sees it (WIT `transaction`): branches, what has become of each of their
//! operations, and the next step.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// What becomes of a transaction, for all its branches alike. Final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    Commit,
    Abort,
}

/// When an operation may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Before the decision: prepare, try, a saga's action.
    Undecided,
    /// After the decision to commit: commit, confirm.
    Committed,
    /// After the decision to abort, in a branch of which an undecided operation may have run: cancel, compensate.
    Aborted,
}

impl Phase {
    /// The phase that a decision begins.
    pub fn after(decision: Option<Decision>) -> Self {
        match decision {
            None => Self::Undecided,
            Some(Decision::Commit) => Self::Committed,
            Some(Decision::Abort) => Self::Aborted,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Operation {
    /// DTM's `op`: `try`, `confirm`, `action`, `compensate`; unique within the branch.
    pub name: String,
    /// `service://orders/prepare`, or a URL; empty where the client makes the call.
    pub target: String,
    pub phase: Phase,
    /// Whether the client makes this call itself.
    pub by_client: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Branch {
    /// Unique within the transaction.
    pub id: String,
    pub operations: Vec<Operation>,
    /// Indices of the branches that go before this one; when undoing, after it.
    pub after: Vec<u32>,
    /// Index into the payloads: the body of this branch's calls; None: an empty body.
    pub payload: Option<u32>,
}

/// Names an operation of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// Index of the branch.
    pub branch: u32,
    /// Index within the branch.
    pub operation: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// Not asked for yet.
    Idle,
    /// Under way, so many attempts without a clear answer: it may have run.
    Running(u32),
    Succeeded,
    /// The participant said no, and why.
    Refused(String),
    /// It may have run, and is not asked any more; why.
    Unknown(String),
}

/// All that has happened to one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    pub gid: String,
    /// They stay while the rest changes.
    pub branches: Arc<Vec<Branch>>,
    /// `progress[b][o]` belongs to operation `o` of branch `b`.
    pub progress: Vec<Vec<Progress>>,
    /// No further branch will be enlisted.
    pub complete: bool,
    /// What the client has asked for, if anything.
    pub asked: Option<Decision>,
    pub decision: Option<Decision>,
    /// The transaction's own timeout has passed.
    pub expired: bool,
}

/// What a protocol wants to happen next.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// These operations shall be under way; those that are or were already stay as they are.
    Run(Vec<Reference>),
    Decide(Decision),
    /// Nothing to do until something happens.
    Wait,
    Finish,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Commit => "commit",
            Self::Abort => "abort",
        })
    }
}
