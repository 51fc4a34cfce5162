//! What protocols ask of a view.
//!
//! Indices that a view does not have answer as [`Progress::Idle`] and no phase: the gateway makes views that fit.

use super::{Branch, Decision, Phase, Progress, Reference, Step, View};

/// Every operation of a phase, with what has become of it.
pub fn operations(view: &View, phase: Phase) -> impl Iterator<Item = (Reference, &Progress)> {
    (0_u32..).zip(&view.branches).flat_map(move |(branch, planned)| {
        of_branch(planned, phase).map(move |operation| {
            let reference = Reference { branch, operation };
            (reference, progress(view, reference))
        })
    })
}

/// What has become of one operation.
pub fn progress(view: &View, reference: Reference) -> &Progress {
    let branch = view.progress.get(reference.branch as usize);
    branch.and_then(|branch| branch.get(reference.operation as usize)).unwrap_or(&Progress::Idle)
}

/// Indices of a branch's operations of a phase.
pub fn of_branch(branch: &Branch, phase: Phase) -> impl Iterator<Item = u32> {
    (0_u32..).zip(&branch.operations).filter(move |(_, operation)| operation.phase == phase).map(|(index, _)| index)
}

/// Whether the client makes this call itself.
pub fn by_client(view: &View, reference: Reference) -> bool {
    let branch = view.branches.get(reference.branch as usize);
    branch.and_then(|branch| branch.operations.get(reference.operation as usize)).is_some_and(|found| found.by_client)
}

/// Whether all operations of a phase have succeeded; of one without any, too.
pub fn all_succeeded(view: &View, phase: Phase) -> bool {
    operations(view, phase).all(|(_, progress)| matches!(progress, Progress::Succeeded))
}

/// Whether a participant has said no.
pub fn any_refused(view: &View, phase: Phase) -> bool {
    operations(view, phase).any(|(_, progress)| matches!(progress, Progress::Refused(_)))
}

/// Whether an operation has had so many attempts without a clear answer; never where `attempts_max` is 0.
pub fn out_of_attempts(view: &View, phase: Phase, attempts_max: u32) -> bool {
    let spent = |progress: &Progress| matches!(progress, Progress::Running(attempts) if *attempts >= attempts_max);
    attempts_max > 0 && operations(view, phase).any(|(_, progress)| spent(progress))
}

/// Whether a branch has anything to undo: an undecided operation of it has succeeded, or may have run.
pub fn may_have_run(view: &View, branch: u32) -> bool {
    let Some(planned) = view.branches.get(branch as usize) else { return false };
    of_branch(planned, Phase::Undecided).any(|operation| {
        let progress = progress(view, Reference { branch, operation });
        matches!(progress, Progress::Succeeded | Progress::Running(_) | Progress::Unknown(_))
    })
}

/// What a decision calls for and has not succeeded yet; the transaction is finished when nothing is. In the order of
/// the branches.
pub fn owed(view: &View, decision: Decision) -> Vec<Reference> {
    let phase = phase_of(decision);
    operations(view, phase)
        .filter(|(reference, progress)| {
            let called_for = decision == Decision::Commit || may_have_run(view, reference.branch);
            called_for && !matches!(progress, Progress::Succeeded)
        })
        .map(|(reference, _)| reference)
        .collect()
}

/// The phase that a decision begins.
pub fn phase_of(decision: Decision) -> Phase {
    match decision {
        Decision::Commit => Phase::Committed,
        Decision::Abort => Phase::Aborted,
    }
}

/// What comes after a decision where its operations need no order: all at once, until all have succeeded.
pub fn settle(view: &View, decision: Decision) -> Step {
    let owed = owed(view, decision);
    if owed.is_empty() { Step::Finish } else { run_or_wait(view, owed) }
}

/// Has operations under way as far as they still can be: one that was refused, or given up, is not asked again.
pub fn run_or_wait(view: &View, mut operations: Vec<Reference>) -> Step {
    operations.retain(|reference| matches!(progress(view, *reference), Progress::Idle | Progress::Running(_)));
    if operations.is_empty() { Step::Wait } else { Step::Run(operations) }
}
