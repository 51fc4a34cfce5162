//! `[events]`: handlers, and what they may call.

use super::{assert_one_problem, problems_with, right_with};
use crate::model::{HandlerStart, OnFailure};

#[test]
fn a_handler_is_a_plugin_with_settings_and_what_else_it_says() {
    let config = right_with(
        "[events]\nallow_hosts = [\"127.0.0.1:8000\"]\n[events.handlers.a]\nplugin = \"standard\"\n\
         [events.handlers.b-2]\nplugin = \"standard\"\nsettings = { n = 1 }\non_failure = \"halt\"\nfrom = \"now\"\n",
    );
    assert_eq!(config.events.allow_hosts.len(), 1);
    let handlers: Vec<_> = config.events.handlers.iter().collect();
    let (name, a) = handlers[0];
    assert_eq!((name.as_str(), a.on_failure, a.from), ("a", OnFailure::Park, HandlerStart::Start));
    let (name, b) = handlers[1];
    assert_eq!((name.as_str(), b.on_failure, b.from), ("b-2", OnFailure::Halt, HandlerStart::Now));
    assert_eq!(b.policy.settings, serde_json::json!({"n": 1}));
}

#[test]
fn what_is_wrong_with_a_handler_is_said_where_it_stands() {
    let handler = |rest: &str| format!("[events.handlers.a]\nplugin = \"standard\"\n{rest}\n");
    assert_one_problem("[events.handlers.a]\n", &["\"plugin\" is missing"]);
    assert_one_problem("[events.handlers.a]\nplugin = \"standart\"\n", &["no plugin named", "standard"]);
    assert_one_problem("[events.handlers.A]\nplugin = \"standard\"\n", &["handler name", "a-z"]);
    assert_one_problem(&handler("on_failure = \"stop\""), &["events.handlers.a.on_failure", "\"park\" or \"halt\""]);
    assert_one_problem(&handler("from = 3"), &["events.handlers.a.from", "\"start\" or \"now\""]);
    assert_one_problem(&handler("setings = {}"), &["is no known key", "settings"]);
    assert_one_problem("[events]\nallow_hosts = [\"a:b\"]\n", &["events.allow_hosts"]);
    let many: String = (0..66).map(|n| format!("[events.handlers.h{n}]\nplugin = \"standard\"\n")).collect();
    let problems = problems_with(&many);
    assert!(problems.iter().all(|problem| problem.contains("more than the 64")), "{problems:?}");
    assert_eq!(problems.len(), 1);
}
