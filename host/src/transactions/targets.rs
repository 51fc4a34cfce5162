//! Where branches' calls go, checked when they are planned: a mistake shows at once, not after the first hour of retries.

use serde_json::{Map, Value};

use super::{call::BranchCaller, error::FieldProblem};
use crate::{model::transaction::Branch, plugin::Problem};

/// Of the request's values, so many levels are looked through for where a target stands.
const DEPTH_MAX: usize = 8;

/// What is wrong with the targets of some branches, each with the field of the request in which it stands.
pub fn check(branches: &[Branch], request: &Map<String, Value>, caller: &dyn BranchCaller) -> Vec<FieldProblem> {
    let mut problems = Vec::new();
    for branch in branches {
        for operation in branch.operations.iter().filter(|operation| !operation.by_client) {
            let Err(wrong) = caller.check(&operation.target) else { continue };
            let pointer = find(request, &operation.target).unwrap_or_default();
            let message = format!("{:?}: {wrong}", operation.target);
            let problem = FieldProblem::new(pointer, message);
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
    }
    problems
}

/// A protocol's own words on a request.
pub fn problems(problems: Vec<Problem>) -> Vec<FieldProblem> {
    problems.into_iter().map(|Problem { path, message }| FieldProblem::new(path, message)).collect()
}

/// The JSON pointer of the first value that is this text.
fn find(request: &Map<String, Value>, text: &str) -> Option<String> {
    request
        .iter()
        .find_map(|(name, value)| within(value, text, DEPTH_MAX).map(|rest| format!("/{}{rest}", escaped(name))))
}

fn within(value: &Value, text: &str, depth: usize) -> Option<String> {
    match value {
        Value::String(found) => (found == text).then(String::new),
        _ if depth == 0 => None,
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(index, item)| within(item, text, depth - 1).map(|rest| format!("/{index}{rest}")))
        }
        Value::Object(members) => members
            .iter()
            .find_map(|(name, member)| within(member, text, depth - 1).map(|rest| format!("/{}{rest}", escaped(name)))),
        _ => None,
    }
}

/// RFC 6901, 3.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}
