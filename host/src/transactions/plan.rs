//! What a protocol planned, checked: nothing of it is believed.

use std::collections::HashSet;

use super::error::FieldProblem;
use crate::model::transaction::{Branch, Operation, Phase};

/// Branches of one transaction.
pub const BRANCHES_MAX: usize = 1_000;

/// Operations of one branch (WIT `transaction.branch`).
pub const OPERATIONS_MAX: usize = 8;

/// Longest id of a branch: DTM's column takes as many.
pub const BRANCH_ID_LEN_MAX: usize = 128;

/// Longest name of an operation: DTM's column takes as many.
pub const OPERATION_NAME_LEN_MAX: usize = 45;

/// Everything that is wrong with the branches that would be added to those there. `payloads`: how many bodies there are
/// to choose from.
pub fn check(enlisted: &[Branch], added: &[Branch], payloads: usize) -> Vec<FieldProblem> {
    let mut problems = Vec::new();
    let count = enlisted.len() + added.len();
    if count > BRANCHES_MAX {
        problems.push(FieldProblem::new("", format!("makes {count} branches, and {BRANCHES_MAX} are the most")));
        return problems;
    }
    let mut ids: HashSet<&str> = enlisted.iter().map(|branch| branch.id.as_str()).collect();
    for (index, branch) in added.iter().enumerate() {
        let mut found = |what: String| {
            problems.push(FieldProblem::new("", format!("branch {index} of the plan ({:?}) {what}", branch.id)));
        };
        if !is_id(&branch.id, BRANCH_ID_LEN_MAX) {
            found(format!("must have an id of 1 to {BRANCH_ID_LEN_MAX} visible ASCII characters"));
        }
        if !ids.insert(&branch.id) {
            found("has the id of another one".to_owned());
        }
        if branch.payload.is_some_and(|payload| payload as usize >= payloads) {
            found(format!("has a payload that is not there: there are {payloads}"));
        }
        if let Some(none) = branch.after.iter().find(|&&after| after as usize >= count) {
            found(format!("comes after branch {none}, and there are {count}"));
        }
        operations_of(branch, &mut found);
    }
    if problems.is_empty() && goes_in_circles(enlisted, added) {
        problems.push(FieldProblem::new("", "branches come after each other in a circle"));
    }
    problems
}

fn operations_of(branch: &Branch, found: &mut impl FnMut(String)) {
    if branch.operations.is_empty() || branch.operations.len() > OPERATIONS_MAX {
        found(format!("has {} operations: 1 to {OPERATIONS_MAX} are possible", branch.operations.len()));
    }
    let mut names = HashSet::new();
    for Operation { name, phase, by_client, .. } in branch.operations.iter().take(OPERATIONS_MAX) {
        if !is_id(name, OPERATION_NAME_LEN_MAX) {
            found(format!("must name its operations with 1 to {OPERATION_NAME_LEN_MAX} visible ASCII characters"));
        }
        if !names.insert(name) {
            found(format!("has two operations named {name:?}"));
        }
        if *by_client && *phase != Phase::Undecided {
            found(format!("leaves {name:?} to the client, which does nothing after the decision"));
        }
    }
}

/// What can stand in a query and in a line of the log as it is.
fn is_id(given: &str, len_max: usize) -> bool {
    (1..=len_max).contains(&given.len()) && given.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Takes away, again and again, what comes after nothing that is left; a circle is never taken away.
fn goes_in_circles(enlisted: &[Branch], added: &[Branch]) -> bool {
    let all: Vec<_> = enlisted.iter().chain(added).collect();
    let mut waits: Vec<usize> = all.iter().map(|branch| branch.after.len()).collect();
    let mut followers = vec![Vec::new(); all.len()];
    for (index, branch) in all.iter().enumerate() {
        for &after in &branch.after {
            followers[after as usize].push(index);
        }
    }
    let mut free: Vec<usize> = (0..all.len()).filter(|&index| waits[index] == 0).collect();
    let mut taken = 0;
    while let Some(next) = free.pop() {
        taken += 1;
        for &follower in &followers[next] {
            waits[follower] -= 1;
            if waits[follower] == 0 {
                free.push(follower);
            }
        }
    }
    taken < all.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(id: &str, after: &[u32]) -> Branch {
        let action = Operation {
            name: "action".to_owned(),
            target: "service://a/do".to_owned(),
            phase: Phase::Undecided,
            by_client: false,
        };
        Branch { id: id.to_owned(), operations: vec![action], after: after.to_vec(), payload: None }
    }

    fn problem(added: &[Branch]) -> String {
        let problems = check(&[branch("there", &[])], added, 1);
        problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn a_plan_that_is_right_has_no_problem() {
        assert_eq!(problem(&[branch("a", &[0]), branch("b", &[0, 1])]), "");
    }

    #[test]
    fn each_thing_that_is_wrong_is_said() {
        let changed = |change: &dyn Fn(&mut Branch)| {
            let mut wrong = branch("a", &[]);
            change(&mut wrong);
            problem(&[wrong])
        };
        for (wrong, said) in [
            (problem(&[branch("there", &[])]), "has the id of another one"),
            (problem(&[branch("a", &[7])]), "comes after branch 7, and there are 2"),
            (problem(&[branch("a", &[2]), branch("b", &[1])]), "after each other in a circle"),
            (problem(&[branch("a", &[1])]), "after each other in a circle"),
            (problem(&[branch("", &[])]), "must have an id"),
            (problem(&[branch("a b", &[])]), "must have an id"),
            (changed(&|branch| branch.payload = Some(1)), "payload that is not there: there are 1"),
            (changed(&|branch| branch.operations.clear()), "has 0 operations"),
            (changed(&|branch| branch.operations = vec![branch.operations[0].clone(); 9]), "has 9 operations"),
            (changed(&|branch| branch.operations.push(branch.operations[0].clone())), "two operations named"),
            (changed(&|branch| branch.operations[0].name.clear()), "must name its operations"),
            (
                changed(&|branch| {
                    branch.operations[0].phase = Phase::Committed;
                    branch.operations[0].by_client = true;
                }),
                "leaves \"action\" to the client",
            ),
        ] {
            assert!(wrong.contains(said), "{wrong:?} says nothing of {said:?}");
        }
        let many: Vec<_> = (0..BRANCHES_MAX).map(|index| branch(&index.to_string(), &[])).collect();
        assert!(problem(&many).contains("makes 1001 branches"));
    }
}
