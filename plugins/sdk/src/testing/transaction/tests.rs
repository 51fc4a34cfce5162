//! The search against protocols with one fault each: it must find every one.

use std::cell::Cell;

use super::{World, branch, explore};
use crate::{
    Context, Settings,
    transaction::{
        Branch, Decision, Phase, Problems, Progress, Protocol, Reference, Request, Step, View, two_phase, view,
    },
};

const ALL: [Phase; 3] = [Phase::Undecided, Phase::Committed, Phase::Aborted];

/// Two-phase commit, but for what the function says otherwise.
struct But<F: Fn(&View) -> Option<Step> + 'static>(F);

impl<F: Fn(&View) -> Option<Step>> Protocol for But<F> {
    fn configure(_: &Context, _: &mut Settings) -> Self {
        unreachable!("it is made by hand")
    }

    fn plan(&self, _: &Request, _: &[Branch], _: &mut Problems) -> Vec<Branch> {
        Vec::new()
    }

    fn next(&self, view: &View) -> Step {
        (self.0)(view).unwrap_or_else(|| two_phase::next(view, 2))
    }
}

fn world() -> World {
    World::of(vec![branch("a", &ALL, &[]), branch("b", &ALL, &[])])
}

/// What the search says first about the protocol.
fn wrong(but: impl Fn(&View) -> Option<Step> + 'static) -> String {
    let way = explore(&But(but), &world()).expect_err("there is a fault in it");
    let last = way.lines().last().expect("it says what is wrong").to_owned();
    last.split(": State").next().unwrap_or_default().to_owned()
}

fn decided(view: &View, decision: Decision) -> bool {
    view.decision == Some(decision)
}

#[test]
fn a_right_protocol_is_found_right() {
    let explored = explore(&But(|_| None), &world()).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(explored.states > 50_000, "{explored:?}");
}

#[test]
fn committing_what_one_has_not_prepared_is_found() {
    let some = |view: &View| {
        let any = view::operations(view, Phase::Undecided).any(|(_, progress)| *progress == Progress::Succeeded);
        (view.decision.is_none() && any).then_some(Step::Decide(Decision::Commit))
    };
    assert!(wrong(some).starts_with("it commits, and branch "));
}

#[test]
fn taking_silence_for_consent_is_found() {
    let expired = |view: &View| (view.decision.is_none() && view.expired).then_some(Step::Decide(Decision::Commit));
    assert!(wrong(expired).starts_with("it commits, and branch "));
}

#[test]
fn finishing_with_something_owed_is_found() {
    let early = |view: &View| view.decision.map(|_| Step::Finish);
    assert!(wrong(early).starts_with("it finishes, and operation "));
    let only_known = |view: &View| {
        let known = view::operations(view, Phase::Undecided).any(|(_, progress)| *progress == Progress::Succeeded);
        (decided(view, Decision::Abort) && !known).then_some(Step::Finish)
    };
    assert!(
        wrong(only_known).starts_with("it finishes, and operation 2 of branch "),
        "what may have run is undone too"
    );
}

#[test]
fn deciding_twice_or_never_is_found() {
    assert_eq!(wrong(|view| view.decision.map(|_| Step::Decide(Decision::Abort))), "it decides twice");
    assert_eq!(wrong(|_| Some(Step::Finish)), "it finishes without a decision");
    assert_eq!(wrong(|_| Some(Step::Wait)), "nothing is under way, and it does not end");
    let forgets_time = |view: &View| {
        let mut patient = view.clone();
        patient.expired = false;
        Some(two_phase::next(&patient, 2))
    };
    assert_eq!(wrong(forgets_time), "nothing is under way, and it does not end");
}

#[test]
fn running_what_may_not_run_is_found() {
    let run = |branch, operation| Some(Step::Run(vec![Reference { branch, operation }]));
    assert_eq!(wrong(move |_| run(7, 0)), "it runs an operation that is not there: 0 of branch 7");
    assert_eq!(wrong(move |_| run(0, 1)), "it runs commit of branch 0 where that may not run");
    assert_eq!(wrong(|_| Some(Step::Run(Vec::new()))), "it runs nothing");
    let undoes_all = move |view: &View| {
        let owed = |operation: &Progress| *operation != Progress::Succeeded;
        (decided(view, Decision::Abort) && owed(&view.progress[1][2])).then(|| run(1, 2)).flatten()
    };
    assert_eq!(wrong(undoes_all), "it undoes branch 1, of which nothing has run");
}

#[test]
fn another_answer_to_the_same_view_is_found() {
    let turns = Cell::new(false);
    let fickle = move |_: &View| {
        turns.set(!turns.get());
        turns.get().then_some(Step::Decide(Decision::Abort))
    };
    assert_eq!(wrong(fickle), "the same view has two answers");
}

#[test]
fn what_is_found_is_told_with_the_way_to_it() {
    let way = explore(&But(|view| view.decision.map(|_| Step::Finish)), &world()).expect_err("there is a fault in it");
    let lines: Vec<_> = way.lines().collect();
    assert_eq!(lines[0], "it begins");
    assert!(lines.contains(&"the gateway takes a step"), "{way}");
    assert!(lines.len() >= 4, "{way}");
}
