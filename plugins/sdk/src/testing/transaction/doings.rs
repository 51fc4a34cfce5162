//! What participants, the network, the client and the clock may do.

use super::world::{Deed, Known, State, World};
use crate::transaction::Phase;

/// Something that may happen.
pub(super) struct Doing {
    pub after: State,
    pub what: String,
    /// Whether it brings the end nearer without anything more from the client.
    pub helps: bool,
}

/// Everything that may happen now but the gateway's own step.
pub(super) fn doings(world: &World, state: &State) -> Vec<Doing> {
    let mut doings = Vec::new();
    for (branch, operation) in world.operations(state) {
        if state.calls[branch][operation] > 0 {
            arrivals(world, state, (branch, operation), &mut doings);
        }
    }
    client(world, state, &mut doings);
    if !state.expired {
        let mut after = *state;
        (after.expired, after.due) = (true, !state.memory.finished);
        doings.push(Doing { after, what: "the time is over".to_owned(), helps: true });
    }
    if state.crashes < world.crashes_max {
        doings.push(crash(world, state));
    }
    doings
}

fn crash(world: &World, state: &State) -> Doing {
    let mut after = *state;
    (after.memory, after.due) = (state.durable, !state.durable.finished);
    after.crashes += 1;
    for (branch, operation) in world.operations(state) {
        if matches!(after.memory.known[branch][operation], Known::Running(_)) {
            after.calls[branch][operation] = after.calls[branch][operation].max(1);
        }
    }
    Doing { after, what: "the gateway is killed, and starts again".to_owned(), helps: false }
}

/// One copy of a call: it arrives and is answered, or its answer is lost, or it is lost itself, or it takes so long that
/// it is sent again.
fn arrivals(world: &World, state: &State, call: (usize, usize), doings: &mut Vec<Doing>) {
    let (branch, operation) = call;
    let planned = &world.branch(branch).operations[operation];
    let name = format!("{} of branch {branch}", planned.name);
    let waited_for = matches!(state.memory.known[branch][operation], Known::Running(_));
    let mut gone = *state;
    gone.calls[branch][operation] -= 1;
    for (deed, agrees) in answers(state.deeds[branch], planned.phase, world.own == Some(branch)) {
        let mut done = gone;
        done.deeds[branch] = deed;
        let mut answered = done;
        if planned.by_client {
            answered.heard[branch] |= agrees;
        } else if waited_for {
            answered.memory.known[branch][operation] = if agrees { Known::Succeeded } else { Known::Refused };
            answered.due = true;
        }
        let word = if agrees { "yes" } else { "no" };
        doings.push(Doing { after: answered, what: format!("{name} is answered: {word}"), helps: waited_for });
        let what = format!("{name} is done ({word}), and the answer lost");
        doings.push(Doing { after: again(world, done, call), what, helps: false });
    }
    doings.push(Doing { after: again(world, gone, call), what: format!("{name} is lost"), helps: false });
    if waited_for {
        doings.push(Doing { after: again(world, *state, call), what: format!("{name} takes long"), helps: false });
    }
}

/// An attempt had no answer: the gateway sends it again, if it still waits for one.
fn again(world: &World, mut state: State, (branch, operation): (usize, usize)) -> State {
    if let Known::Running(attempts) = state.memory.known[branch][operation] {
        state.memory.known[branch][operation] = Known::Running((attempts + 1).min(world.attempts_max));
        state.calls[branch][operation] = (state.calls[branch][operation] + 1).min(world.copies_max);
        state.due = true;
    }
    state
}

/// What a participant may do when an operation arrives, and whether it agrees. Asked about a transaction of its own that
/// it has not committed, the client never will.
fn answers(deed: Deed, phase: Phase, own: bool) -> Vec<(Deed, bool)> {
    match (phase, deed) {
        (Phase::Undecided, Deed::Nothing) if own => vec![(Deed::Refused, false)],
        (Phase::Undecided, Deed::Nothing) => vec![(Deed::Done, true), (Deed::Refused, false)],
        (Phase::Undecided, Deed::Done | Deed::Committed) => vec![(deed, true)],
        (Phase::Undecided, Deed::Refused | Deed::Undone) => vec![(deed, false)],
        (Phase::Committed, _) => vec![(Deed::Committed, true)],
        // One that refused has nothing to undo.
        (Phase::Aborted, Deed::Refused) => vec![(Deed::Refused, true)],
        (Phase::Aborted, _) => vec![(Deed::Undone, true)],
    }
}

fn client(world: &World, state: &State, doings: &mut Vec<Doing>) {
    let mut may = |after: State, what: String| doings.push(Doing { after, what, helps: false });
    if let Some(own) = world.own.filter(|own| state.deeds[*own] == Deed::Nothing) {
        for (deed, what) in [(Deed::Done, "commits"), (Deed::Refused, "rolls back")] {
            let mut after = *state;
            after.deeds[own] = deed;
            may(after, format!("the client {what} its own transaction"));
        }
    }
    if state.memory.decided.is_some() {
        return;
    }
    let branches = usize::from(state.memory.branches);
    if state.memory.asked.is_none() && branches < world.branches() {
        let mut after = *state;
        after.add_branch(world);
        after.due = true;
        may(after, format!("the client registers branch {branches}"));
    }
    let own = world.own.map(|own| state.deeds[own]);
    let by_client = |branch: &usize| world.branch(*branch).operations.iter().any(|operation| operation.by_client);
    let all_heard = (0..branches).filter(by_client).all(|branch| state.heard[branch]);
    let asked = |commit: bool| {
        let mut after = *state;
        (after.memory.asked, after.durable.asked, after.due) = (Some(commit), Some(commit), true);
        after
    };
    if state.memory.asked.is_none() && all_heard && own.is_none_or(|own| own == Deed::Done) {
        may(asked(true), "the client submits".to_owned());
    }
    // It may change its mind; what it has committed itself it does not take back.
    if state.memory.asked != Some(false) && own.is_none_or(|own| own == Deed::Refused) {
        may(asked(false), "the client aborts".to_owned());
    }
}
