//! What no protocol may do, whatever it says.

use super::*;

/// Two branches: the first is called by the coordinator, the second is tried by the client.
fn machine() -> Machine {
    let operation = |name: &str, phase, by_client| Operation {
        name: name.to_owned(),
        target: "service://a/b".to_owned(),
        phase,
        by_client,
    };
    let branch = |id: &str, by_client| Branch {
        id: id.to_owned(),
        operations: vec![
            operation("try", Phase::Undecided, by_client),
            operation("confirm", Phase::Committed, false),
            operation("cancel", Phase::Aborted, false),
        ],
        after: Vec::new(),
        payload: None,
    };
    Machine::new(vec![branch("called", false), branch("tried", true)])
}

fn at(branch: u32, operation: u32) -> Reference {
    Reference { branch, operation }
}

const TRY: Reference = Reference { branch: 0, operation: 0 };
const CONFIRM: Reference = Reference { branch: 0, operation: 1 };
const CANCEL: Reference = Reference { branch: 0, operation: 2 };

/// What it says to this step; it is taken if it may be.
fn violation(machine: &mut Machine, step: Step) -> String {
    match machine.take(&step) {
        Ok(taken) => panic!("{step:?} was taken: {taken:?}"),
        Err(violation) => violation.to_string(),
    }
}

fn decided(decision: Decision) -> Machine {
    let mut machine = machine();
    machine.take(&Step::Run(vec![TRY])).expect("it may run");
    machine.answer(TRY, Answer::Succeeded);
    machine.take(&Step::Decide(decision)).expect("it may decide");
    machine
}

#[test]
fn an_operation_runs_only_in_its_phase() {
    for (mut machine, wrong) in [
        (machine(), vec![CONFIRM, CANCEL]),
        (decided(Decision::Commit), vec![TRY, CANCEL]),
        (decided(Decision::Abort), vec![TRY, CONFIRM]),
    ] {
        for operation in wrong {
            let said = violation(&mut machine, Step::Run(vec![operation]));
            assert!(said.contains("is not of the phase"), "{said}");
        }
    }
    assert_eq!(decided(Decision::Commit).take(&Step::Run(vec![CONFIRM])), Ok(Taken::Started(vec![CONFIRM])));
    assert_eq!(decided(Decision::Abort).take(&Step::Run(vec![CANCEL])), Ok(Taken::Started(vec![CANCEL])));
}

#[test]
fn what_does_not_exist_and_what_is_the_clients_is_not_run() {
    let mut machine = machine();
    for nowhere in [at(2, 0), at(0, 3), at(u32::MAX, u32::MAX)] {
        assert!(violation(&mut machine, Step::Run(vec![nowhere])).contains("do not exist"));
    }
    assert!(violation(&mut machine, Step::Run(vec![at(1, 0)])).contains("the client runs itself"));
    assert!(violation(&mut machine, Step::Run(Vec::new())).contains("no operation at all"));
    assert_eq!(machine.under_way(), [], "nothing of it was begun");
}

#[test]
fn nothing_is_undone_of_which_nothing_has_run() {
    let mut machine = machine();
    machine.take(&Step::Decide(Decision::Abort)).expect("it may decide");
    assert!(violation(&mut machine, Step::Run(vec![CANCEL])).contains("nothing has run"));
    // The client may have made its try, and tells nobody.
    assert_eq!(machine.take(&Step::Run(vec![at(1, 2)])), Ok(Taken::Started(vec![at(1, 2)])));
}

#[test]
fn a_protocol_that_steps_without_end_is_stopped_at_its_last_step() {
    let facts = Facts { steps: STEPS_MAX - 1, ..machine().facts().clone() };
    let mut machine = Machine::restore(machine().branches().to_vec(), facts).expect("facts of its own branches");
    assert_eq!(machine.take(&Step::Run(vec![TRY])), Ok(Taken::Started(vec![TRY])));
    // Waiting, and asking for what is under way already, changes nothing and costs nothing.
    assert_eq!(machine.take(&Step::Wait), Ok(Taken::Nothing));
    assert_eq!(machine.take(&Step::Run(vec![TRY])), Ok(Taken::Nothing));
    assert_eq!(machine.take(&Step::Decide(Decision::Abort)), Err(Violation::TooManySteps));
    assert_eq!(Violation::TooManySteps.to_string(), "it has taken 10000 steps");
}

#[test]
fn a_decision_is_final() {
    for (first, again) in [(Decision::Commit, Decision::Abort), (Decision::Abort, Decision::Commit)] {
        let mut machine = decided(first);
        for again in [again, first] {
            assert_eq!(machine.take(&Step::Decide(again)), Err(Violation::DecidedAgain { first, again }));
        }
        assert_eq!(machine.facts().decision, Some(first));
    }
}

#[test]
fn it_does_not_finish_while_anything_is_owed() {
    assert_eq!(machine().take(&Step::Finish), Err(Violation::Undecided));
    let mut machine = decided(Decision::Commit);
    assert!(violation(&mut machine, Step::Finish).contains("\"confirm\" of branch \"called\" has not succeeded"));
    machine.take(&Step::Run(vec![CONFIRM])).expect("it may run");
    machine.answer(CONFIRM, Answer::Succeeded);
    assert!(violation(&mut machine, Step::Finish).contains("branch \"tried\""));
    machine.take(&Step::Run(vec![at(1, 1)])).expect("it may run");
    machine.answer(at(1, 1), Answer::Unclear);
    assert!(violation(&mut machine, Step::Finish).contains("branch \"tried\""));
    machine.answer(at(1, 1), Answer::Succeeded);
    assert_eq!(machine.take(&Step::Finish), Ok(Taken::Finished(Ending::Succeeded)));
}

#[test]
fn who_said_no_need_not_be_undone_and_who_may_have_run_must() {
    for (answer, owed) in [(Answer::Refused("no".to_owned()), false), (Answer::Unclear, true)] {
        let mut machine = Machine::new(vec![machine().branches()[0].clone()]);
        machine.take(&Step::Run(vec![TRY])).expect("it may run");
        machine.answer(TRY, answer);
        machine.take(&Step::Decide(Decision::Abort)).expect("it may decide");
        assert_eq!(machine.take(&Step::Finish).is_err(), owed);
    }
}

#[test]
fn an_answer_after_the_decision_comes_too_late_to_count() {
    let mut machine = machine();
    machine.take(&Step::Run(vec![TRY])).expect("it may run");
    machine.take(&Step::Decide(Decision::Abort)).expect("it may decide");
    assert!(matches!(machine.facts().progress[0][0], Progress::Unknown(_)));
    assert!(!machine.answer(TRY, Answer::Succeeded), "nobody waits for it");
    assert!(matches!(machine.facts().progress[0][0], Progress::Unknown(_)));
}

#[test]
fn a_refusal_after_the_decision_is_a_hazard_that_an_operator_can_take_up_again() {
    let mut machine = decided(Decision::Commit);
    machine.take(&Step::Run(vec![CONFIRM])).expect("it may run");
    machine.answer(CONFIRM, Answer::Refused("409 Conflict: no".to_owned()));
    let hazard = machine.facts().hazard.clone().expect("a hazard");
    assert!(hazard.contains("\"confirm\" of branch \"called\" was refused after the decision: 409"), "{hazard}");
    assert!(!machine.is_going());
    machine.resume();
    assert!(machine.is_going());
    assert_eq!(machine.under_way(), [CONFIRM]);
    machine.answer(CONFIRM, Answer::Succeeded);
    assert_eq!(machine.facts().progress[0][1], Progress::Succeeded);
}

#[test]
fn what_is_under_way_or_done_stays_as_it_is() {
    let mut machine = machine();
    assert_eq!(machine.take(&Step::Run(vec![TRY, TRY])), Ok(Taken::Started(vec![TRY])));
    machine.answer(TRY, Answer::Unclear);
    assert_eq!(machine.take(&Step::Run(vec![TRY])), Ok(Taken::Nothing));
    assert_eq!(machine.facts().progress[0][0], Progress::Running(1));
    machine.answer(TRY, Answer::Succeeded);
    assert_eq!(machine.take(&Step::Run(vec![TRY])), Ok(Taken::Nothing));
    assert_eq!(machine.facts().progress[0][0], Progress::Succeeded);
}

#[test]
fn no_more_is_under_way_than_the_bound() {
    let one = machine().branches()[0].clone();
    let many = (0..=UNDER_WAY_MAX).map(|index| Branch { id: index.to_string(), ..one.clone() }).collect();
    let mut machine = Machine::new(many);
    let all: Vec<_> = (0..=UNDER_WAY_MAX).map(|index| at(u32::try_from(index).expect("few"), 0)).collect();
    let (last, first) = all.split_last().expect("there are many");
    assert_eq!(machine.take(&Step::Run(all.clone())), Ok(Taken::Started(first.to_vec())));
    assert_eq!(machine.take(&Step::Run(all.clone())), Ok(Taken::Nothing));
    machine.answer(first[7], Answer::Succeeded);
    assert_eq!(machine.take(&Step::Run(all.clone())), Ok(Taken::Started(vec![*last])), "there is room for one more");
}

#[test]
fn facts_of_other_branches_are_not_taken() {
    let facts = decided(Decision::Commit).facts().clone();
    assert!(Machine::restore(machine().branches().to_vec(), facts.clone()).is_some());
    assert!(Machine::restore(machine().branches()[..1].to_vec(), facts.clone()).is_none());
    let mut other = machine().branches().to_vec();
    other[0].operations.pop();
    assert!(Machine::restore(other, facts).is_none());
}
