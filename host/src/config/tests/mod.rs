//! What the reading of a configuration promises.

mod all_at_once;
mod events;
mod failover;
mod gateway;
mod hostile;
mod locate;
mod plugins;
mod positions;
mod reading;
mod restart;
mod routes;
mod services;

use std::path::Path;

use super::{ConfigErrors, Known, parse};
use crate::model::Config;

/// A file on which nothing is wrong; tests append to it.
const RIGHT: &str = r#"
[[listener]]
address = "127.0.0.1:8080"
[services.orders]
endpoints = ["127.0.0.1:9001"]
[services.orders-next]
endpoints = ["127.0.0.1:9002"]
"#;

fn known() -> Known {
    ["least-request", "round-robin", "ring-hash", "standard"].iter().map(|name| name.parse().unwrap()).collect()
}

fn read(text: &str) -> Result<Config, ConfigErrors> {
    parse(text, "sluice.toml", Path::new("/etc/sluice"), &known())
}

/// `RIGHT` with more, which must be right too.
fn right_with(more: &str) -> Config {
    read(&format!("{RIGHT}{more}")).unwrap_or_else(|errors| panic!("{errors}"))
}

/// What is wrong with a text, a line a problem, without file and place.
fn problems(text: &str) -> Vec<String> {
    let errors = read(text).expect_err("something is wrong with this text");
    errors.problems().iter().map(|problem| format!("{}: {}", problem.key, problem.message)).collect()
}

/// What is wrong with `RIGHT` and more.
fn problems_with(more: &str) -> Vec<String> {
    problems(&format!("{RIGHT}{more}"))
}

/// Asserts that exactly one problem is found and that it says all of `parts`.
#[track_caller]
fn assert_one_problem(more: &str, parts: &[&str]) {
    let problems = problems_with(more);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    for part in parts {
        assert!(problems[0].contains(part), "{part:?} is not in {:?}", problems[0]);
    }
}
