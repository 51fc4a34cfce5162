//! What comes next.

use sluice_sdk::transaction::{Decision, Phase, Progress, Step, View, view};

/// The client's word decides. Only where it says nothing in time is it asked; the query is the one operation before the
/// decision.
pub fn next(view: &View) -> Step {
    if let Some(decision) = view.decision {
        return view::settle(view, decision);
    }
    match view.asked {
        Some(asked) => Step::Decide(asked),
        None if view.expired => ask_the_client(view),
        None => Step::Wait,
    }
}

fn ask_the_client(view: &View) -> Step {
    let Some((query, progress)) = view::operations(view, Phase::Undecided).next() else {
        return Step::Decide(Decision::Abort);
    };
    match progress {
        Progress::Succeeded => Step::Decide(Decision::Commit),
        Progress::Refused(_) => Step::Decide(Decision::Abort),
        // Given up by the gateway: aborting might undo what the client has done.
        Progress::Unknown(_) => Step::Wait,
        Progress::Idle | Progress::Running(_) => Step::Run(vec![query]),
    }
}
