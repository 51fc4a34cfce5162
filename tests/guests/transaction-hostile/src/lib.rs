//! A protocol that lies as its settings say (`{"lie": …}`); but for the lie, and without one, two-phase commit with
//! branches as those of the stock plugin.
//!
//! | lie | what happens |
//! | --- | --- |
//! | `decides-both` | after a decision the other one |
//! | `decides-again` | after a decision the same one |
//! | `commits-unprepared` | commits before anybody has prepared: allowed, and wrong |
//! | `finishes-undecided` | finishes without a decision |
//! | `finishes-with-debts` | finishes as soon as it is decided |
//! | `runs-invented-branches` | runs operation 0 of a branch that is not there |
//! | `runs-invented-operations` | runs an operation that branch 0 does not have |
//! | `runs-the-wrong-phase` | runs the commits before the decision |
//! | `undoes-the-untouched` | aborts at once, and runs the aborts of branches of which nothing ran |
//! | `runs-nothing` | an empty run |
//! | `runs-a-flood` | operation 0 of branch 0 in a list of 20,000 |
//! | `runs-in-circles` | operation 0 of branch 0, whatever has become of it |
//! | `waits-for-ever` | waits, whatever happens |
//! | `changes-its-mind` | each second answer to a question is another one |
//! | `traps-in-next`, `spins-in-next`, `allocates-in-next` | a trap, an endless loop, memory without end |
//! | `traps-in-plan`, `spins-in-plan` | the same there |
//! | `plans-a-cycle`, `plans-itself-after-itself` | every branch after the next, the last after the first; branch 0 after itself |
//! | `plans-after-nothing` | branch 0 after branch 4,000,000,000 |
//! | `plans-duplicate-branches`, `plans-duplicate-operations` | every branch with the id `same`; every operation twice |
//! | `plans-too-many-branches`, `plans-too-many-operations` | 1,001 branches; 9 operations in a branch |
//! | `plans-a-flood` | 20,000 branches: more than it can hand over |
//! | `plans-an-unknown-payload` | payload 4,000,000,000 |
//! | `plans-nameless` | branches without an id, operations without a name |
//! | `plans-long-names` | an id of 100,000 bytes |
//! | `plans-nowhere` | targets that are no URLs |
//! | `plans-debts-of-the-client` | commits that the client is to make |

use std::cell::Cell;

use sluice_sdk::{
    Context, Settings,
    transaction::{
        Branch, Decision, Operation, Phase, Problems, Protocol, Reference, Request, Step, View, request::coordinated,
        two_phase, view,
    },
};

const LIES: [(&str, Lie); 33] = [
    ("none", Lie::None),
    ("decides-both", Lie::DecidesBoth),
    ("decides-again", Lie::DecidesAgain),
    ("commits-unprepared", Lie::CommitsUnprepared),
    ("finishes-undecided", Lie::FinishesUndecided),
    ("finishes-with-debts", Lie::FinishesWithDebts),
    ("runs-invented-branches", Lie::RunsInventedBranches),
    ("runs-invented-operations", Lie::RunsInventedOperations),
    ("runs-the-wrong-phase", Lie::RunsTheWrongPhase),
    ("undoes-the-untouched", Lie::UndoesTheUntouched),
    ("runs-nothing", Lie::RunsNothing),
    ("runs-a-flood", Lie::RunsAFlood),
    ("runs-in-circles", Lie::RunsInCircles),
    ("waits-for-ever", Lie::WaitsForEver),
    ("changes-its-mind", Lie::ChangesItsMind),
    ("traps-in-next", Lie::TrapsInNext),
    ("spins-in-next", Lie::SpinsInNext),
    ("allocates-in-next", Lie::AllocatesInNext),
    ("traps-in-plan", Lie::TrapsInPlan),
    ("spins-in-plan", Lie::SpinsInPlan),
    ("plans-a-cycle", Lie::PlansACycle),
    ("plans-itself-after-itself", Lie::PlansItselfAfterItself),
    ("plans-after-nothing", Lie::PlansAfterNothing),
    ("plans-duplicate-branches", Lie::PlansDuplicateBranches),
    ("plans-duplicate-operations", Lie::PlansDuplicateOperations),
    ("plans-too-many-branches", Lie::PlansTooManyBranches),
    ("plans-too-many-operations", Lie::PlansTooManyOperations),
    ("plans-a-flood", Lie::PlansAFlood),
    ("plans-an-unknown-payload", Lie::PlansAnUnknownPayload),
    ("plans-nameless", Lie::PlansNameless),
    ("plans-long-names", Lie::PlansLongNames),
    ("plans-nowhere", Lie::PlansNowhere),
    ("plans-debts-of-the-client", Lie::PlansDebtsOfTheClient),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lie {
    None,
    DecidesBoth,
    DecidesAgain,
    CommitsUnprepared,
    FinishesUndecided,
    FinishesWithDebts,
    RunsInventedBranches,
    RunsInventedOperations,
    RunsTheWrongPhase,
    UndoesTheUntouched,
    RunsNothing,
    RunsAFlood,
    RunsInCircles,
    WaitsForEver,
    ChangesItsMind,
    TrapsInNext,
    SpinsInNext,
    AllocatesInNext,
    TrapsInPlan,
    SpinsInPlan,
    PlansACycle,
    PlansItselfAfterItself,
    PlansAfterNothing,
    PlansDuplicateBranches,
    PlansDuplicateOperations,
    PlansTooManyBranches,
    PlansTooManyOperations,
    PlansAFlood,
    PlansAnUnknownPayload,
    PlansNameless,
    PlansLongNames,
    PlansNowhere,
    PlansDebtsOfTheClient,
}

/// No index of anything.
const NOWHERE: u32 = 4_000_000_000;

struct Hostile {
    lie: Lie,
    asked: Cell<u32>,
}

impl Protocol for Hostile {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        Self { lie: settings.one_of("lie", &LIES), asked: Cell::new(0) }
    }

    fn plan(&self, request: &Request, _: &[Branch], problems: &mut Problems) -> Vec<Branch> {
        let branches = coordinated(request, ["prepare", "commit", "abort"], problems);
        self.planned(branches)
    }

    fn next(&self, view: &View) -> Step {
        match (self.lie, view.decision) {
            (Lie::DecidesBoth, Some(Decision::Commit)) => Step::Decide(Decision::Abort),
            (Lie::DecidesBoth, Some(Decision::Abort)) => Step::Decide(Decision::Commit),
            (Lie::DecidesAgain, Some(decision)) => Step::Decide(decision),
            (Lie::CommitsUnprepared, None) => Step::Decide(Decision::Commit),
            (Lie::FinishesUndecided, None) | (Lie::FinishesWithDebts, Some(_)) => Step::Finish,
            (Lie::RunsInventedBranches, _) => run(NOWHERE, 0),
            (Lie::RunsInventedOperations, _) => run(0, NOWHERE),
            (Lie::RunsTheWrongPhase, None) => all_of(view, Phase::Committed),
            (Lie::UndoesTheUntouched, None) => Step::Decide(Decision::Abort),
            (Lie::UndoesTheUntouched, Some(_)) => all_of(view, Phase::Aborted),
            (Lie::RunsNothing, _) => Step::Run(Vec::new()),
            (Lie::RunsAFlood, None) => Step::Run(vec![Reference { branch: 0, operation: 0 }; 20_000]),
            (Lie::RunsInCircles, None) => run(0, 0),
            (Lie::WaitsForEver, _) => Step::Wait,
            (Lie::ChangesItsMind, _) if self.is_second_time() => Step::Wait,
            (Lie::TrapsInNext, _) => panic!("as the settings say"),
            (Lie::SpinsInNext, _) => spin(),
            (Lie::AllocatesInNext, _) => allocate(),
            _ => two_phase::next(view, 3),
        }
    }
}

impl Hostile {
    fn is_second_time(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.asked.get().is_multiple_of(2)
    }

    fn planned(&self, mut branches: Vec<Branch>) -> Vec<Branch> {
        match self.lie {
            Lie::TrapsInPlan => panic!("as the settings say"),
            Lie::SpinsInPlan => spin(),
            Lie::PlansTooManyBranches => return many(&branches, 1_001),
            Lie::PlansAFlood => return many(&branches, 20_000),
            _ => {}
        }
        let count = branches.len() as u32;
        for (index, branch) in (0..).zip(&mut branches) {
            self.spoil(branch, index, count);
        }
        branches
    }

    fn spoil(&self, branch: &mut Branch, index: u32, count: u32) {
        match self.lie {
            Lie::PlansACycle => branch.after = vec![(index + 1) % count],
            Lie::PlansItselfAfterItself if index == 0 => branch.after = vec![0],
            Lie::PlansAfterNothing if index == 0 => branch.after = vec![NOWHERE],
            Lie::PlansDuplicateBranches => branch.id = "same".to_owned(),
            Lie::PlansDuplicateOperations => branch.operations.extend(branch.operations.clone()),
            Lie::PlansTooManyOperations => {
                let first = branch.operations[0].clone();
                let another = |n| Operation { name: format!("prepare-{n}"), ..first.clone() };
                branch.operations = (0..9).map(another).collect();
            }
            Lie::PlansAnUnknownPayload => branch.payload = Some(NOWHERE),
            Lie::PlansNameless => {
                branch.id.clear();
                branch.operations.iter_mut().for_each(|operation| operation.name.clear());
            }
            Lie::PlansLongNames => branch.id = "long".repeat(25_000),
            Lie::PlansNowhere => {
                branch.operations.iter_mut().for_each(|operation| operation.target = "nowhere at all".to_owned());
            }
            Lie::PlansDebtsOfTheClient => {
                branch.operations.iter_mut().for_each(|operation| operation.by_client = true);
            }
            _ => {}
        }
    }
}

fn run(branch: u32, operation: u32) -> Step {
    Step::Run(vec![Reference { branch, operation }])
}

fn all_of(view: &View, phase: Phase) -> Step {
    Step::Run(view::operations(view, phase).map(|(reference, _)| reference).collect())
}

fn many(branches: &[Branch], count: u32) -> Vec<Branch> {
    let Some(first) = branches.first() else { return Vec::new() };
    (0..count).map(|n| Branch { id: format!("{n}"), ..first.clone() }).collect()
}

fn spin() -> ! {
    loop {
        std::hint::black_box(());
    }
}

fn allocate() -> ! {
    let mut hoard = Vec::new();
    loop {
        hoard.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}

sluice_sdk::transaction!(Hostile);
