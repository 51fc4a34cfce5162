//! Plays a transaction protocol through everything that can happen to it.
//!
//! [`explore`] is a model checker: a small gateway that keeps all of its rules, participants, and a client, in every state
//! that any order of their doings leads to, up to the bounds of the [`World`]. In each it holds the protocol to Lamport's
//! condition (TCommit: no two participants end one committed and the other aborted; Gray and Lamport, "Consensus on
//! Transaction Commit", 2006), and finds that from each an end is reached when participants answer again.
//!
//! Participants behave as the guide asks of them: an operation that comes again answers as before, and one that comes
//! after its branch was undone is refused.

mod doings;
mod explore;
mod gateway;
mod world;

pub use explore::{Explored, explore};
pub use world::World;

use crate::transaction::{Branch, Operation, Phase, Progress, View};

/// Nothing has happened yet to `branches`, and nothing is asked for; what the client calls itself may have happened.
pub fn view(branches: Vec<Branch>) -> View {
    let idle = |operation: &Operation| match operation.by_client {
        true => Progress::Unknown("the client makes this call".to_owned()),
        false => Progress::Idle,
    };
    let progress = branches.iter().map(|branch| branch.operations.iter().map(idle).collect()).collect();
    View { gid: "g-1".to_owned(), branches, progress, complete: false, asked: None, decision: None, expired: false }
}

/// One of each phase that `phases` lists, at `service://<id>/…`.
pub fn branch(id: &str, phases: &[Phase], after: &[u32]) -> Branch {
    let operation = |phase: &Phase| {
        let name = match phase {
            Phase::Undecided => "prepare",
            Phase::Committed => "commit",
            Phase::Aborted => "abort",
        };
        Operation { name: name.to_owned(), target: format!("service://{id}/{name}"), phase: *phase, by_client: false }
    };
    let operations = phases.iter().map(operation).collect();
    Branch { id: id.to_owned(), operations, after: after.to_vec(), payload: None }
}

#[cfg(test)]
mod tests;
