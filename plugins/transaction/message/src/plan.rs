//! What a client's request means.

use sluice_sdk::transaction::{
    Branch, Phase, Problems, Request,
    request::{numbered, operation},
};

/// The branch of the query, as DTM's.
const QUERY: &str = "00";

pub fn branches(request: &Request, problems: &mut Problems) -> Vec<Branch> {
    if request.get("branch_id").is_some() {
        problems.note("/branch_id", "a message's branches are its steps; none can be registered");
        return Vec::new();
    }
    if !request.text("custom_data", problems).is_empty() {
        problems.note("/custom_data", "must be left out: delayed messages are not supported");
    }
    if request.get("delay").is_some() {
        problems.note("/delay", "must be left out: delayed messages are not supported");
    }
    let payloads = request.payloads(problems);
    let query = request.target("query_prepared", problems).map(|target| Branch {
        id: QUERY.to_owned(),
        operations: vec![operation("query_prepared", target, Phase::Undecided)],
        after: Vec::new(),
        payload: None,
    });
    let steps = request.entries("steps", problems);
    let steps = steps.iter().enumerate().map(|(index, step)| Branch {
        id: numbered(index),
        operations: vec![operation("action", step.required_target("action", problems), Phase::Committed)],
        after: Vec::new(),
        payload: step.payload(index, payloads, problems),
    });
    query.into_iter().chain(steps).collect()
}
