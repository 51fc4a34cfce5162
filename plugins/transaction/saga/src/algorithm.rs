//! What comes next.

use sluice_sdk::transaction::{Decision, Phase, Progress, Reference, Step, View, view};

use crate::order::{followers, in_order};

pub fn next(view: &View, attempts_max: u32) -> Step {
    match view.decision {
        // What the actions did is done.
        Some(Decision::Commit) => return Step::Finish,
        Some(Decision::Abort) => return compensate(view),
        None => {}
    }
    if view.asked == Some(Decision::Abort) || view::any_refused(view, Phase::Undecided) {
        return Step::Decide(Decision::Abort);
    }
    let submitted = view.complete && view.asked == Some(Decision::Commit);
    if submitted && view::all_succeeded(view, Phase::Undecided) {
        return Step::Decide(Decision::Commit);
    }
    if view.expired || view::out_of_attempts(view, Phase::Undecided, attempts_max) {
        return Step::Decide(Decision::Abort);
    }
    if submitted { view::run_or_wait(view, ready(view)) } else { Step::Wait }
}

/// Actions whose turn it is: all before them have succeeded.
fn ready(view: &View) -> Vec<Reference> {
    let after = after(view);
    let mut done = vec![false; after.len()];
    let mut ready = Vec::new();
    for step in in_order(&after) {
        if !after[step].iter().all(|before| done[*before as usize]) {
            continue;
        }
        let pending = of_step(view, step, Phase::Undecided);
        done[step] = pending.is_empty();
        ready.extend(pending);
    }
    ready
}

/// Compensations whose turn it is: whatever waited for their step is undone, or never was done.
fn compensate(view: &View) -> Step {
    let after = after(view);
    let followers = followers(&after);
    let mut undone = vec![false; after.len()];
    let mut turn = Vec::new();
    for step in in_order(&after).into_iter().rev() {
        if !followers[step].iter().all(|follower| undone[*follower]) {
            continue;
        }
        let owed = if view::may_have_run(view, step as u32) { of_step(view, step, Phase::Aborted) } else { Vec::new() };
        undone[step] = owed.is_empty();
        turn.extend(owed);
    }
    if undone.iter().all(|undone| *undone) { Step::Finish } else { view::run_or_wait(view, turn) }
}

fn after(view: &View) -> Vec<&[u32]> {
    view.branches.iter().map(|branch| branch.after.as_slice()).collect()
}

/// The operations of a step and phase that have not succeeded.
fn of_step(view: &View, step: usize, phase: Phase) -> Vec<Reference> {
    let branch = step as u32;
    view::of_branch(&view.branches[step], phase)
        .map(|operation| Reference { branch, operation })
        .filter(|reference| !matches!(view::progress(view, *reference), Progress::Succeeded))
        .collect()
}
