//! Why the registry refuses something.

use super::rules::FieldProblem;
use crate::storage::{CommitError, StorageError};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Everything that is wrong, each with its field.
    #[error("{}", listed(.0))]
    Invalid(Vec<FieldProblem>),
    #[error("no service is registered with the id {id:?}")]
    UnknownService { id: String },
    #[error("Unknown check ID {id:?}. Ensure that the check ID is passed, not the check name.")]
    UnknownCheck { id: String },
    #[error("CheckID {id:?} does not have an associated TTL: the gateway itself finds out its status")]
    NoTtl { id: String },
    #[error("the registry is full: it holds {max} instances at most")]
    Full { max: usize },
    /// The change was not made, or if the store is in doubt, may show after a restart.
    #[error("the registry's change is not durable: {0}")]
    NotDurable(CommitError),
    #[error("the registry cannot be read: {0}")]
    Unreadable(StorageError),
    #[error("the registry's record {key:?} cannot be read: {reason}; bring data_dir/store back from a backup")]
    Damaged { key: String, reason: String },
    #[error("the gateway is shutting down")]
    Closed,
}

fn listed(problems: &[FieldProblem]) -> String {
    problems.iter().map(FieldProblem::to_string).collect::<Vec<_>>().join("; ")
}
