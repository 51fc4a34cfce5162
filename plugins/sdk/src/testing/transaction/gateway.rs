//! The gateway's part: carrying out what the protocol says, within the rules that every protocol is held to.

use super::world::{Known, State, World};
use crate::transaction::{Decision, Phase, Protocol, Reference, Step};

/// The state after the protocol's next step, or which rule that broke. What has come in is durable with it.
pub(super) fn step(protocol: &impl Protocol, world: &World, state: &State) -> Result<State, String> {
    let view = state.view(world);
    let step = protocol.next(&view);
    if protocol.next(&view) != step {
        return Err("the same view has two answers".to_owned());
    }
    let mut after = *state;
    match step {
        Step::Wait => {
            after.due = false;
            return Ok(after);
        }
        Step::Run(operations) if operations.is_empty() => return Err("it runs nothing".to_owned()),
        Step::Run(operations) => {
            let mut begun = false;
            for reference in operations {
                begun |= run(world, &mut after, reference)?;
            }
            if !begun {
                after.due = false;
                return Ok(after);
            }
        }
        Step::Decide(decision) => decide(world, &mut after, decision)?,
        Step::Finish => {
            let decided = after.memory.decided.ok_or("it finishes without a decision")?;
            if let Some((branch, operation)) = owed(world, &after, decided) {
                return Err(format!("it finishes, and operation {operation} of branch {branch} is owed"));
            }
            after.memory.finished = true;
            after.due = false;
        }
    }
    after.durable = after.memory;
    Ok(after)
}

/// Whether that is something new.
fn run(world: &World, state: &mut State, reference: Reference) -> Result<bool, String> {
    let (branch, operation) = (reference.branch as usize, reference.operation as usize);
    if !world.operations(state).contains(&(branch, operation)) {
        return Err(format!("it runs an operation that is not there: {operation} of branch {branch}"));
    }
    let planned = &world.branch(branch).operations[operation];
    let begun = match state.memory.decided {
        None => Phase::Undecided,
        Some(true) => Phase::Committed,
        Some(false) => Phase::Aborted,
    };
    if planned.phase != begun || planned.by_client {
        return Err(format!("it runs {} of branch {branch} where that may not run", planned.name));
    }
    if planned.phase == Phase::Aborted && !touched(world, state, branch) {
        return Err(format!("it undoes branch {branch}, of which nothing has run"));
    }
    if state.memory.known[branch][operation] != Known::Idle {
        return Ok(false);
    }
    state.memory.known[branch][operation] = Known::Running(0);
    state.calls[branch][operation] = 1;
    Ok(true)
}

fn decide(world: &World, state: &mut State, decision: Decision) -> Result<(), String> {
    if state.memory.decided.is_some() {
        return Err("it decides twice".to_owned());
    }
    state.memory.decided = Some(decision == Decision::Commit);
    for (branch, operation) in world.operations(state) {
        let known = &mut state.memory.known[branch][operation];
        if matches!(known, Known::Running(_)) {
            *known = Known::Unknown;
        }
    }
    Ok(())
}

/// Something that a decision calls for and that has not succeeded.
fn owed(world: &World, state: &State, commit: bool) -> Option<(usize, usize)> {
    let phase = if commit { Phase::Committed } else { Phase::Aborted };
    world.operations(state).into_iter().find(|&(branch, operation)| {
        let undo = world.undecided(branch).map(|undecided| state.memory.known[branch][undecided]);
        let called_for = commit || matches!(undo, Some(Known::Succeeded | Known::Running(_) | Known::Unknown));
        world.branch(branch).operations[operation].phase == phase
            && called_for
            && state.memory.known[branch][operation] != Known::Succeeded
    })
}

fn touched(world: &World, state: &State, branch: usize) -> bool {
    world.undecided(branch).is_some_and(|undecided| state.memory.known[branch][undecided] != Known::Idle)
}
