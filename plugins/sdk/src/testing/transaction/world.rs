//! What can be in the world, and what is at one moment.

use crate::transaction::{Branch, Decision, Phase, Progress, View};

/// Branches that the model has room for.
const BRANCHES_MAX: usize = 4;
/// Operations of a branch that it has room for.
const OPERATIONS_MAX: usize = 3;

/// A transaction, and the bounds of what may happen to it.
#[derive(Clone, Debug)]
pub struct World {
    /// Known from the beginning.
    pub submitted: Vec<Branch>,
    /// That the client may register after that, in this order.
    pub registered: Vec<Branch>,
    /// Index of the branch that stands for a transaction of the client's own, of which the gateway may ask whether it
    /// took place.
    pub own: Option<usize>,
    /// Times that the gateway may be killed, and forget what is not durable.
    pub crashes_max: u8,
    /// Copies of a call that may be on their way at once; from two on a repeated call may overtake the one before.
    pub copies_max: u8,
    /// Attempts that are told apart: beyond these the count does not grow. At least those that the protocol counts.
    pub attempts_max: u8,
}

impl World {
    /// One crash, two copies of a call, two attempts told apart.
    pub fn of(submitted: Vec<Branch>) -> Self {
        Self { submitted, registered: Vec::new(), own: None, crashes_max: 1, copies_max: 2, attempts_max: 2 }
    }

    pub(super) fn begin(&self) -> State {
        let mut state = State::default();
        for _ in &self.submitted {
            state.add_branch(self);
        }
        // The gateway asks what comes first.
        state.due = true;
        state
    }

    pub(super) fn branch(&self, branch: usize) -> &Branch {
        let late = branch.checked_sub(self.submitted.len());
        late.map_or_else(|| &self.submitted[branch], |late| &self.registered[late])
    }

    pub(super) fn branches(&self) -> usize {
        self.submitted.len() + self.registered.len()
    }

    /// All operations of the branches that `state` has.
    pub(super) fn operations(&self, state: &State) -> Vec<(usize, usize)> {
        let of = |branch| (0..self.branch(branch).operations.len()).map(move |operation| (branch, operation));
        (0..usize::from(state.memory.branches)).flat_map(of).collect()
    }

    /// The operation of a branch before the decision, if it has one.
    pub(super) fn undecided(&self, branch: usize) -> Option<usize> {
        self.branch(branch).operations.iter().position(|operation| operation.phase == Phase::Undecided)
    }

    /// Panics where the model has no room for the world.
    pub(super) fn check(&self) {
        assert!(self.branches() <= BRANCHES_MAX, "the model has room for {BRANCHES_MAX} branches");
        for branch in self.submitted.iter().chain(&self.registered) {
            assert!(branch.operations.len() <= OPERATIONS_MAX, "the model has room for {OPERATIONS_MAX} operations");
            let undecided = branch.operations.iter().filter(|operation| operation.phase == Phase::Undecided);
            assert!(undecided.count() <= 1, "the model knows one operation a branch before the decision");
        }
    }
}

/// As [`Progress`], without words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Known {
    #[default]
    Idle,
    Running(u8),
    Succeeded,
    Refused,
    Unknown,
}

/// What the gateway knows of the transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Record {
    pub branches: u8,
    pub known: [[Known; OPERATIONS_MAX]; BRANCHES_MAX],
    /// Some(true): the client has submitted; Some(false): it has aborted.
    pub asked: Option<bool>,
    /// Some(true): to commit.
    pub decided: Option<bool>,
    pub finished: bool,
}

/// What a participant has done for its branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Deed {
    #[default]
    Nothing,
    /// Prepared, tried, acted.
    Done,
    /// Said no, and so will do nothing.
    Refused,
    Committed,
    Undone,
}

/// Everything at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct State {
    /// With what came in since the last durable step.
    pub memory: Record,
    /// What a crash leaves.
    pub durable: Record,
    pub deeds: [Deed; BRANCHES_MAX],
    /// Copies of a call that may still arrive.
    pub calls: [[u8; OPERATIONS_MAX]; BRANCHES_MAX],
    /// The client's own call of a branch has told it that it was done.
    pub heard: [bool; BRANCHES_MAX],
    pub expired: bool,
    /// Something has happened since the protocol said that there is nothing to do.
    pub due: bool,
    pub crashes: u8,
}

impl State {
    /// Durable at once: the client waits for that.
    pub fn add_branch(&mut self, world: &World) {
        let branch = usize::from(self.memory.branches);
        for (operation, planned) in world.branch(branch).operations.iter().enumerate() {
            if planned.by_client {
                self.calls[branch][operation] = 1;
            }
            let known = if planned.by_client { Known::Unknown } else { Known::Idle };
            self.memory.known[branch][operation] = known;
            self.durable.known[branch][operation] = known;
        }
        self.memory.branches += 1;
        self.durable.branches += 1;
    }

    /// What the protocol is shown.
    pub fn view(&self, world: &World) -> View {
        let decision = |commit| if commit { Decision::Commit } else { Decision::Abort };
        let branches = 0..usize::from(self.memory.branches);
        let progress = |branch: usize| {
            let known = &self.memory.known[branch][..world.branch(branch).operations.len()];
            known.iter().map(|known| known.progress()).collect()
        };
        View {
            gid: "g-1".to_owned(),
            branches: branches.clone().map(|branch| world.branch(branch).clone()).collect(),
            progress: branches.map(progress).collect(),
            complete: self.memory.asked.is_some(),
            asked: self.memory.asked.map(decision),
            decision: self.memory.decided.map(decision),
            expired: self.expired,
        }
    }
}

impl Known {
    fn progress(self) -> Progress {
        match self {
            Self::Idle => Progress::Idle,
            Self::Running(attempts) => Progress::Running(u32::from(attempts)),
            Self::Succeeded => Progress::Succeeded,
            Self::Refused => Progress::Refused("no".to_owned()),
            Self::Unknown => Progress::Unknown("not known".to_owned()),
        }
    }
}
