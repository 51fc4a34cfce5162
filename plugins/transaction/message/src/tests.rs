use sluice_sdk::{
    Settings,
    testing::{
        self,
        transaction::{World, explore, view},
    },
    transaction::{Branch, Decision, Phase, Progress, Protocol, Reference, Step, plan},
};

use super::Message;

const WITH_QUERY: &str = r#"{"gid": "g", "trans_type": "msg", "payloads": ["1", "2"], "query_prepared": "http://c/q",
    "custom_data": "", "steps": [{"action": "http://a/x"}, {"action": "service://b/y"}]}"#;

fn protocol() -> Message {
    let mut settings = Settings::parse("{}");
    let protocol = Message::configure(&testing::context(), &mut settings);
    assert!(settings.finish().is_empty());
    protocol
}

fn planned(request: &str) -> Vec<Branch> {
    plan(&protocol(), request, &[]).expect("the request is right")
}

#[test]
fn steps_follow_the_decision_and_the_query_comes_before_it() {
    let branches = planned(WITH_QUERY);
    let shown: Vec<_> = branches
        .iter()
        .map(|branch| {
            let operation = &branch.operations[0];
            (branch.id.as_str(), operation.name.as_str(), operation.target.as_str(), operation.phase, branch.payload)
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("00", "query_prepared", "http://c/q", Phase::Undecided, None),
            ("01", "action", "http://a/x", Phase::Committed, Some(0)),
            ("02", "action", "service://b/y", Phase::Committed, Some(1)),
        ]
    );
    assert_eq!(planned(r#"{"steps": [{"action": "http://a"}]}"#).len(), 1);
}

#[test]
fn everything_wrong_with_a_message_is_told_with_its_pointer() {
    let problems = |request: &str| -> Vec<String> {
        let problems = plan(&protocol(), request, &[]).expect_err("the request is wrong");
        problems.into_iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
    };
    assert_eq!(
        problems(
            r#"{"custom_data": "{\"delay\": 10}", "delay": 1, "payloads": {}, "query_prepared": "q", "steps": [{"action": ""}]}"#
        ),
        [
            "/custom_data: must be left out: delayed messages are not supported",
            "/delay: must be left out: delayed messages are not supported",
            "/payloads: must be a list",
            "/query_prepared: must be a URL of http or https, or service:// with a service's name and a path",
            "/steps/0/action: must be given, as the URL to call",
        ]
    );
    assert_eq!(problems("{}"), ["/steps: must be given, with at least one entry"]);
    assert_eq!(
        problems(r#"{"branch_id": "01"}"#),
        ["/branch_id: a message's branches are its steps; none can be registered"]
    );
}

#[test]
fn what_is_submitted_is_done_without_a_query() {
    let mut view = view(planned(WITH_QUERY));
    assert_eq!(protocol().next(&view), Step::Wait);
    (view.complete, view.asked, view.expired) = (true, Some(Decision::Commit), true);
    assert_eq!(protocol().next(&view), Step::Decide(Decision::Commit));
    view.decision = Some(Decision::Commit);
    let both = [1, 2].map(|branch| Reference { branch, operation: 0 });
    assert_eq!(protocol().next(&view), Step::Run(both.to_vec()));
    view.progress[1][0] = Progress::Succeeded;
    view.progress[2][0] = Progress::Succeeded;
    assert_eq!(protocol().next(&view), Step::Finish);
}

#[test]
fn a_client_that_does_not_come_back_is_asked() {
    let mut view = view(planned(WITH_QUERY));
    view.expired = true;
    assert_eq!(protocol().next(&view), Step::Run(vec![Reference { branch: 0, operation: 0 }]));
    for (answer, step) in [
        (Progress::Succeeded, Step::Decide(Decision::Commit)),
        (Progress::Refused("no".to_owned()), Step::Decide(Decision::Abort)),
        (Progress::Unknown("given up".to_owned()), Step::Wait),
    ] {
        view.progress[0][0] = answer;
        assert_eq!(protocol().next(&view), step);
    }
    view.decision = Some(Decision::Abort);
    assert_eq!(protocol().next(&view), Step::Finish);
}

#[test]
fn without_a_query_what_is_not_submitted_in_time_is_dropped() {
    let mut view = view(planned(r#"{"steps": [{"action": "http://a"}]}"#));
    view.expired = true;
    assert_eq!(protocol().next(&view), Step::Decide(Decision::Abort));
}

#[test]
fn no_interleaving_has_steps_follow_what_did_not_take_place_and_each_leads_to_an_end() {
    for (name, count) in [("two steps", 2), ("three steps", 3)] {
        let mut branches = planned(
            r#"{"query_prepared": "http://c/q", "steps": [{"action": "http://a"}, {"action": "http://b"}, {"action": "http://c"}]}"#,
        );
        branches.truncate(count + 1);
        let world = World { own: Some(0), crashes_max: 2, ..World::of(branches) };
        let explored = explore(&protocol(), &world).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        println!("{name}: {explored:?}");
        assert!(explored.states > 5_000 && explored.ends > 100, "{name}: {explored:?}");
    }
}
