//! One transaction as plain state: what has happened, what its protocol may do next, and the invariants that hold whatever
//! a protocol says. No I/O, no time, no randomness.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::transaction::{Branch, Decision, Operation, Phase, Progress, Reference, Step, View};

/// Steps of one transaction that change something; a protocol that has more goes in circles.
pub const STEPS_MAX: u32 = 10_000;

/// Operations of one transaction that are under way at once. Of more that a protocol asks for, the others are begun when
/// it asks again, after an answer.
pub const UNDER_WAY_MAX: usize = 256;

/// What has become of an operation that the client runs.
pub const BY_CLIENT: &str = "the client makes this call";

/// A transaction and what has happened to it.
#[derive(Clone, Debug)]
pub struct Machine {
    branches: Arc<Vec<Branch>>,
    facts: Facts,
}

/// What has happened: all that must survive a crash, beside the branches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub progress: Vec<Vec<Progress>>,
    /// The client has asked for an end, so nothing is enlisted any more.
    pub complete: bool,
    pub asked: Option<Decision>,
    pub decision: Option<Decision>,
    pub expired: bool,
    pub steps: u32,
    pub hazard: Option<String>,
    pub ended: Option<Ending>,
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Committed everywhere.
    Succeeded,
    /// Undone everywhere.
    Failed,
    /// By an operator, wherever it stood.
    Stopped,
}

/// What a step has brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// These are under way now, and were not before; at least one.
    Started(Vec<Reference>),
    Decided(Decision),
    Finished(Ending),
    /// Nothing: it waits.
    Nothing,
}

/// What became of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Succeeded,
    /// The participant said no, and why.
    Refused(String),
    /// Not known: it may have run.
    Unclear,
}

/// An invariant that a protocol's step would break.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("it asks for operation {operation} of branch {branch}, which do not exist")]
    NoSuchOperation { branch: u32, operation: u32 },
    #[error(
        "it asks for operation {operation:?} of branch {branch:?}, which is not of the phase that the decision has begun"
    )]
    WrongPhase { branch: String, operation: String },
    #[error("it asks for operation {operation:?} of branch {branch:?}, which the client runs itself")]
    ByClient { branch: String, operation: String },
    #[error("it asks to undo branch {branch:?}, of which nothing has run")]
    NothingToUndo { branch: String },
    #[error("it asks for no operation at all")]
    NothingAsked,
    #[error("it decides {again}, and {first} is decided")]
    DecidedAgain { first: Decision, again: Decision },
    #[error("it has finished without a decision")]
    Undecided,
    #[error("it has finished, and operation {operation:?} of branch {branch:?} has not succeeded")]
    Owing { branch: String, operation: String },
    #[error("it has taken {STEPS_MAX} steps")]
    TooManySteps,
    #[error("it waits, and there is nothing that could still happen")]
    WaitsForNothing,
}

impl Machine {
    pub fn new(branches: Vec<Branch>) -> Self {
        let progress = branches.iter().map(nothing_yet).collect();
        Self { branches: Arc::new(branches), facts: Facts { progress, ..Facts::default() } }
    }

    /// As it stands in the store. None where these facts are not those of the branches.
    pub fn restore(branches: Vec<Branch>, facts: Facts) -> Option<Self> {
        let fits = facts.progress.len() == branches.len()
            && facts.progress.iter().zip(&branches).all(|(of, branch)| of.len() == branch.operations.len());
        fits.then(|| Self { branches: Arc::new(branches), facts })
    }

    pub fn branches(&self) -> &[Branch] {
        &self.branches
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    pub fn view(&self, gid: &str) -> View {
        let Facts { progress, complete, asked, decision, expired, .. } = self.facts.clone();
        let branches = Arc::clone(&self.branches);
        View { gid: gid.to_owned(), branches, progress, complete, asked, decision, expired }
    }

    pub fn operation(&self, at: Reference) -> Option<(&Branch, &Operation)> {
        let branch = self.branches.get(at.branch as usize)?;
        Some((branch, branch.operations.get(at.operation as usize)?))
    }

    /// Whether anything can still happen by itself.
    pub fn is_going(&self) -> bool {
        self.facts.ended.is_none() && self.facts.hazard.is_none()
    }

    /// Operations that are under way, in order.
    pub fn under_way(&self) -> Vec<Reference> {
        let mut found = Vec::new();
        for (branch, of) in (0_u32..).zip(&self.facts.progress) {
            for (operation, progress) in (0_u32..).zip(of) {
                if matches!(progress, Progress::Running(_)) {
                    found.push(Reference { branch, operation });
                }
            }
        }
        found
    }

    pub fn enlist(&mut self, branches: Vec<Branch>) {
        self.facts.progress.extend(branches.iter().map(nothing_yet));
        Arc::make_mut(&mut self.branches).extend(branches);
    }

    /// The client's word. It has the first only: a second that differs is refused by whoever asks here.
    pub fn ask(&mut self, decision: Decision) {
        self.facts.asked.get_or_insert(decision);
        self.facts.complete = true;
    }

    pub fn expire(&mut self) {
        self.facts.expired = true;
    }

    pub fn endanger(&mut self, reason: String) {
        self.facts.hazard.get_or_insert(reason);
    }

    /// After an operator has said to try again: what was refused in phase two is under way once more.
    pub fn resume(&mut self) {
        self.facts.hazard = None;
        let Self { branches, facts } = self;
        for (branch, of) in branches.iter().zip(&mut facts.progress) {
            for (operation, progress) in branch.operations.iter().zip(of) {
                if operation.phase != Phase::Undecided && matches!(progress, Progress::Refused(_)) {
                    *progress = Progress::Running(0);
                }
            }
        }
    }

    /// An operator's last word.
    pub fn stop(&mut self) {
        self.facts.ended.get_or_insert(Ending::Stopped);
    }

    /// One attempt has ended. False where nobody waits for it any more.
    pub fn answer(&mut self, at: Reference, answer: Answer) -> bool {
        let Some((branch, operation)) = self.operation(at) else { return false };
        let decided = operation.phase != Phase::Undecided;
        let called = format!("operation {:?} of branch {:?}", operation.name, branch.id);
        let Some(progress) = self.progress_mut(at) else { return false };
        let Progress::Running(attempts) = *progress else { return false };
        *progress = match answer {
            Answer::Succeeded => Progress::Succeeded,
            Answer::Unclear => Progress::Running(attempts.saturating_add(1)),
            Answer::Refused(why) => {
                let hazard = decided.then(|| format!("{called} was refused after the decision: {why}"));
                *progress = Progress::Refused(why);
                self.facts.hazard = self.facts.hazard.take().or(hazard);
                return true;
            }
        };
        true
    }

    /// An undecided operation is not tried again.
    pub fn give_up(&mut self, at: Reference, why: &str) {
        if let Some(progress @ Progress::Running(_)) = self.progress_mut(at) {
            *progress = Progress::Unknown(why.to_owned());
        }
    }

    /// Whether a step would change anything, or would if it were allowed.
    pub fn is_moved_by(&self, step: &Step) -> bool {
        match step {
            Step::Wait => false,
            Step::Run(asked) => {
                asked.is_empty() || asked.iter().any(|&at| self.progress(at).is_none_or(|is| *is == Progress::Idle))
            }
            Step::Decide(_) | Step::Finish => true,
        }
    }

    /// Takes one step of the protocol. An error means that it was not taken.
    pub fn take(&mut self, step: &Step) -> Result<Taken, Violation> {
        let taken = match step {
            Step::Wait => return Ok(Taken::Nothing),
            Step::Run(asked) => self.run(asked)?,
            Step::Decide(decision) => self.decide(*decision)?,
            Step::Finish => self.finish()?,
        };
        if taken != Taken::Nothing {
            self.facts.steps += 1;
            if self.facts.steps > STEPS_MAX {
                return Err(Violation::TooManySteps);
            }
        }
        Ok(taken)
    }

    fn run(&mut self, asked: &[Reference]) -> Result<Taken, Violation> {
        if asked.is_empty() {
            return Err(Violation::NothingAsked);
        }
        for &at in asked {
            self.check_may_run(at)?;
        }
        let room = UNDER_WAY_MAX.saturating_sub(self.under_way().len());
        let mut started = Vec::new();
        for &at in asked {
            if started.len() < room
                && let Some(progress @ Progress::Idle) = self.progress_mut(at)
            {
                *progress = Progress::Running(0);
                started.push(at);
            }
        }
        Ok(if started.is_empty() { Taken::Nothing } else { Taken::Started(started) })
    }

    fn check_may_run(&self, at: Reference) -> Result<(), Violation> {
        let Reference { branch: b, operation: o } = at;
        let Some((branch, operation)) = self.operation(at) else {
            return Err(Violation::NoSuchOperation { branch: b, operation: o });
        };
        let (branch_id, name) = (branch.id.clone(), operation.name.clone());
        if operation.by_client {
            return Err(Violation::ByClient { branch: branch_id, operation: name });
        }
        if operation.phase != Phase::after(self.facts.decision) {
            return Err(Violation::WrongPhase { branch: branch_id, operation: name });
        }
        if operation.phase == Phase::Aborted && !self.may_have_run(b as usize) {
            return Err(Violation::NothingToUndo { branch: branch_id });
        }
        Ok(())
    }

    fn decide(&mut self, decision: Decision) -> Result<Taken, Violation> {
        if let Some(first) = self.facts.decision {
            return Err(Violation::DecidedAgain { first, again: decision });
        }
        self.facts.decision = Some(decision);
        // Whatever they answer now comes too late to count.
        for at in self.under_way() {
            self.give_up(at, "it was under way when the decision fell");
        }
        Ok(Taken::Decided(decision))
    }

    fn finish(&mut self) -> Result<Taken, Violation> {
        let ending = match self.facts.decision {
            None => return Err(Violation::Undecided),
            Some(Decision::Commit) => Ending::Succeeded,
            Some(Decision::Abort) => Ending::Failed,
        };
        if let Some((branch, operation)) = self.owed() {
            return Err(Violation::Owing { branch: branch.id.clone(), operation: operation.name.clone() });
        }
        self.facts.ended = Some(ending);
        Ok(Taken::Finished(ending))
    }

    /// An operation that the decision calls for and that has not succeeded.
    fn owed(&self) -> Option<(&Branch, &Operation)> {
        let phase = Phase::after(self.facts.decision);
        for (index, (branch, of)) in self.branches.iter().zip(&self.facts.progress).enumerate() {
            if phase == Phase::Aborted && !self.must_be_undone(index) {
                continue;
            }
            let owed = branch.operations.iter().zip(of).find(|(operation, progress)| {
                operation.phase == phase && !operation.by_client && **progress != Progress::Succeeded
            });
            if let Some((operation, _)) = owed {
                return Some((branch, operation));
            }
        }
        None
    }

    /// Whether any undecided operation of the branch was asked for, or is the client's own.
    fn may_have_run(&self, branch: usize) -> bool {
        self.undecided(branch).any(|progress| *progress != Progress::Idle)
    }

    /// The same, without those that have said no and so have left nothing behind.
    fn must_be_undone(&self, branch: usize) -> bool {
        self.undecided(branch).any(|progress| !matches!(progress, Progress::Idle | Progress::Refused(_)))
    }

    fn undecided(&self, branch: usize) -> impl Iterator<Item = &Progress> {
        let operations = self.branches[branch].operations.iter().zip(&self.facts.progress[branch]);
        operations.filter(|(operation, _)| operation.phase == Phase::Undecided).map(|(_, progress)| progress)
    }

    fn progress(&self, at: Reference) -> Option<&Progress> {
        self.facts.progress.get(at.branch as usize)?.get(at.operation as usize)
    }

    fn progress_mut(&mut self, at: Reference) -> Option<&mut Progress> {
        self.facts.progress.get_mut(at.branch as usize)?.get_mut(at.operation as usize)
    }
}

fn nothing_yet(branch: &Branch) -> Vec<Progress> {
    let begin = |operation: &Operation| {
        if operation.by_client && operation.phase == Phase::Undecided {
            Progress::Unknown(BY_CLIENT.to_owned())
        } else {
            Progress::Idle
        }
    };
    branch.operations.iter().map(begin).collect()
}

#[cfg(test)]
mod tests;
