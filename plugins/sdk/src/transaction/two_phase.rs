//! Two-phase commit with presumed abort (Mohan, Lindsay and Obermarck, "Transaction Management in the R* Distributed
//! Database Management System", 1986): all branches prepare, and are then told one decision.
//!
//! What is to commit must have succeeded wherever the gateway asks itself. Where the client makes the calls, it knows how
//! they ended, and vouches for them by asking to commit.

use super::{Decision, Phase, Progress, Step, View, view};

/// What comes next. An operation with so many attempts and no clear answer aborts; with 0 it is asked until the
/// transaction's own time is over.
pub fn next(view: &View, attempts_max: u32) -> Step {
    if let Some(decision) = view.decision {
        return view::settle(view, decision);
    }
    if view.asked == Some(Decision::Abort) || view::any_refused(view, Phase::Undecided) {
        return Step::Decide(Decision::Abort);
    }
    let asked_to_commit = view.complete && view.asked == Some(Decision::Commit);
    if asked_to_commit && all_prepared(view) {
        return Step::Decide(Decision::Commit);
    }
    if view.expired || view::out_of_attempts(view, Phase::Undecided, attempts_max) {
        return Step::Decide(Decision::Abort);
    }
    if !asked_to_commit {
        return Step::Wait;
    }
    let ours = view::operations(view, Phase::Undecided).map(|(reference, _)| reference);
    view::run_or_wait(view, ours.filter(|reference| !view::by_client(view, *reference)).collect())
}

fn all_prepared(view: &View) -> bool {
    view::operations(view, Phase::Undecided)
        .all(|(reference, progress)| matches!(progress, Progress::Succeeded) || view::by_client(view, reference))
}
