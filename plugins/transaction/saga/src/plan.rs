//! What a client's request means.

use sluice_sdk::{
    json::{self, Value},
    transaction::{
        Branch, Phase, Problems, Request,
        request::{numbered, operation},
    },
};

use crate::order::in_order;

pub fn branches(request: &Request, problems: &mut Problems) -> Vec<Branch> {
    if request.get("branch_id").is_some() {
        problems.note("/branch_id", "a saga's branches are its steps; none can be registered");
        return Vec::new();
    }
    let payloads = request.payloads(problems);
    let steps = request.entries("steps", problems);
    let after = order(request, steps.len(), problems);
    let branch = |(index, (step, after)): (usize, (&Request, Vec<u32>))| {
        let action = step.target("action", problems).map(|url| operation("action", url, Phase::Undecided));
        let compensate = step.target("compensate", problems).map(|url| operation("compensate", url, Phase::Aborted));
        if action.is_none() && compensate.is_none() {
            step.note(problems, "must have an action or a compensate");
        }
        let operations = action.into_iter().chain(compensate).collect();
        Branch { id: numbered(index), operations, after, payload: step.payload(index, payloads, problems) }
    };
    steps.iter().zip(after).enumerate().map(branch).collect()
}

/// What each step waits for.
fn order(request: &Request, steps: usize, problems: &mut Problems) -> Vec<Vec<u32>> {
    let custom = custom_data(request, problems);
    let custom = custom.as_ref().map(|value| Request::at("/custom_data".to_owned(), value));
    let said_inside = custom.as_ref().is_some_and(|custom| custom.boolean("concurrent", problems));
    let concurrent = request.boolean("concurrent", problems) || said_inside;
    let orders = custom.as_ref().and_then(|custom| custom.get("orders"));
    match orders {
        Some(orders) if concurrent => ordered(&orders, steps, problems),
        Some(orders) => {
            orders.note(problems, "needs concurrent to be true: else every step waits for the one before it");
            Vec::new()
        }
        None if concurrent => vec![Vec::new(); steps],
        None => (0..steps as u32).map(|step| step.checked_sub(1).into_iter().collect()).collect(),
    }
}

/// DTM's is a text that holds JSON; the JSON itself is taken too.
fn custom_data(request: &Request, problems: &mut Problems) -> Option<Value> {
    let given = request.get("custom_data")?;
    let value = match given.value() {
        Value::Text(text) if text.is_empty() => return None,
        Value::Text(text) => json::parse(text),
        other => Some(other.clone()),
    };
    let value = value.filter(|value| matches!(value, Value::Table(_)));
    if value.is_none() {
        given.note(problems, "must be a JSON object, written as a text");
    }
    value
}

fn ordered(orders: &Request, steps: usize, problems: &mut Problems) -> Vec<Vec<u32>> {
    let mut after = vec![Vec::new(); steps];
    let Value::Table(entries) = orders.value() else {
        orders.note(problems, "must be an object: for each step the list of those it waits for");
        return after;
    };
    for (step, before) in entries {
        let path = format!("{}/{step}", orders.path());
        let Some(after) = step.parse().ok().and_then(|step: usize| after.get_mut(step)) else {
            problems.note(
                orders.path(),
                &format!("must have steps' indices as its keys, 0 to {}", steps.saturating_sub(1)),
            );
            continue;
        };
        for before in Request::at(path, before).elements(problems) {
            match before.value().integer().filter(|index| (*index as usize) < steps) {
                Some(index) if !after.contains(&index) => after.push(index),
                Some(_) => {}
                None => before.note(problems, &format!("must be a step's index, 0 to {}", steps.saturating_sub(1))),
            }
        }
    }
    let graph: Vec<&[u32]> = after.iter().map(Vec::as_slice).collect();
    let reached = in_order(&graph);
    if reached.len() < steps {
        let stuck: Vec<String> =
            (0..steps).filter(|step| !reached.contains(step)).map(|step| step.to_string()).collect();
        orders.note(problems, &format!("must have no cycle: these steps wait for each other: {}", stuck.join(", ")));
    }
    after
}
