use sluice_sdk::{
    Settings,
    testing::{
        self,
        transaction::{World, explore, view},
    },
    transaction::{Branch, Decision, Progress, Protocol, Reference, Step, View, plan},
};

use super::Saga;

const ACTION: u32 = 0;
const COMPENSATE: u32 = 1;

fn protocol(settings: &str) -> Saga {
    let mut settings = Settings::parse(settings);
    let protocol = Saga::configure(&testing::context(), &mut settings);
    assert!(settings.finish().is_empty());
    protocol
}

/// So many steps that are both done and undone, and whatever else the request has.
fn request(steps: usize, rest: &str) -> String {
    let step = |n| format!(r#"{{"action": "http://s{n}/do", "compensate": "http://s{n}/undo"}}"#);
    let steps: Vec<String> = (0..steps).map(step).collect();
    format!(r#"{{"gid": "g", "trans_type": "saga", "steps": [{}]{rest}}}"#, steps.join(", "))
}

fn planned(request: &str) -> Vec<Branch> {
    plan(&protocol("{}"), request, &[]).expect("the request is right")
}

fn problems(request: &str) -> Vec<String> {
    let problems = plan(&protocol("{}"), request, &[]).expect_err("the request is wrong");
    problems.into_iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

fn after(branches: &[Branch]) -> Vec<&[u32]> {
    branches.iter().map(|branch| branch.after.as_slice()).collect()
}

fn submitted(branches: Vec<Branch>) -> View {
    View { complete: true, asked: Some(Decision::Commit), ..view(branches) }
}

fn run(branches: &[u32], operation: u32) -> Step {
    Step::Run(branches.iter().map(|branch| Reference { branch: *branch, operation }).collect())
}

#[test]
fn steps_go_one_after_the_other_unless_they_are_concurrent() {
    let one_by_one = planned(&request(3, r#", "payloads": ["a", "b"], "custom_data": """#));
    assert_eq!(after(&one_by_one), [&[][..], &[0], &[1]]);
    let rest: Vec<_> = one_by_one.iter().map(|branch| (branch.id.as_str(), branch.payload)).collect();
    assert_eq!(rest, [("01", Some(0)), ("02", Some(1)), ("03", None)]);
    let names: Vec<_> = one_by_one[0].operations.iter().map(|op| (op.name.as_str(), op.target.as_str())).collect();
    assert_eq!(names, [("action", "http://s0/do"), ("compensate", "http://s0/undo")]);
    for concurrent in [r#", "concurrent": true"#, r#", "custom_data": "{\"concurrent\": true}""#] {
        assert_eq!(after(&planned(&request(2, concurrent))), [&[][..], &[]]);
    }
    // As DTM's clients write it.
    let ordered =
        r#", "concurrent": true, "custom_data": "{\"orders\":{\"2\":[0,1,0],\"3\":[2]},\"concurrent\":true}""#;
    assert_eq!(after(&planned(&request(4, ordered))), [&[][..], &[], &[0, 1], &[2]]);
}

#[test]
fn a_step_may_lack_its_action_or_its_compensation() {
    let branches =
        planned(r#"{"steps": [{"action": "http://a", "compensate": ""}, {"action": "", "compensate": "http://b"}]}"#);
    let names: Vec<Vec<_>> =
        branches.iter().map(|branch| branch.operations.iter().map(|op| op.name.as_str()).collect()).collect();
    assert_eq!(names, [["action"], ["compensate"]]);
    let mut view = submitted(branches);
    assert_eq!(protocol("{}").next(&view), run(&[0], ACTION));
    view.progress[0][0] = Progress::Succeeded;
    assert_eq!(protocol("{}").next(&view), Step::Decide(Decision::Commit));
}

#[test]
fn everything_wrong_with_a_saga_is_told_with_its_pointer() {
    assert_eq!(
        problems(
            r#"{"payloads": [], "steps": [{}, "x", {"action": 1, "compensate": "b"}, {"action": "http://a", "payload": 0}]}"#
        ),
        [
            "/steps/1: must be an object",
            "/steps/0: must have an action or a compensate",
            "/steps/2/action: must be a text",
            "/steps/2/compensate: must be a URL of http or https, or service:// with a service's name and a path",
            "/steps/3/payload: must be an index into payloads, of which there are 0",
        ]
    );
    assert_eq!(problems("{}"), ["/steps: must be given, with at least one entry"]);
    assert_eq!(
        problems(&request(1, r#", "custom_data": "{""#)),
        ["/custom_data: must be a JSON object, written as a text"]
    );
    assert_eq!(
        problems(&request(1, r#", "custom_data": "{\"orders\": {}}""#)),
        ["/custom_data/orders: needs concurrent to be true: else every step waits for the one before it"]
    );
    assert_eq!(
        problems(&request(1, r#", "branch_id": "01""#)),
        ["/branch_id: a saga's branches are its steps; none can be registered"]
    );
    let ordered = |orders: &str| {
        problems(&request(3, &format!(r#", "concurrent": true, "custom_data": {{"orders": {orders}}}"#)))
    };
    assert_eq!(
        ordered(r#"{"3": [0], "x": [], "1": [3, -1, "0"], "0": 7}"#),
        [
            "/custom_data/orders: must have steps' indices as its keys, 0 to 2",
            "/custom_data/orders: must have steps' indices as its keys, 0 to 2",
            "/custom_data/orders/1/0: must be a step's index, 0 to 2",
            "/custom_data/orders/1/1: must be a step's index, 0 to 2",
            "/custom_data/orders/1/2: must be a step's index, 0 to 2",
            "/custom_data/orders/0: must be a list",
        ]
    );
    let cycle = |steps| format!("/custom_data/orders: must have no cycle: these steps wait for each other: {steps}");
    assert_eq!(ordered(r#"{"1": [1]}"#), [cycle("1")]);
    assert_eq!(ordered(r#"{"0": [2], "1": [0], "2": [1]}"#), [cycle("0, 1, 2")]);
    assert_eq!(ordered("[]"), ["/custom_data/orders: must be an object: for each step the list of those it waits for"]);
}

#[test]
fn an_action_waits_for_those_before_it() {
    let orders = r#", "concurrent": true, "custom_data": "{\"orders\": {\"2\": [0, 1]}}""#;
    let mut view = submitted(planned(&request(4, orders)));
    let protocol = protocol("{}");
    assert_eq!(protocol.next(&view), run(&[0, 1, 3], ACTION));
    view.progress[0][0] = Progress::Succeeded;
    view.progress[1][0] = Progress::Running(5);
    assert_eq!(protocol.next(&view), run(&[1, 3], ACTION));
    view.progress[1][0] = Progress::Succeeded;
    let Step::Run(mut operations) = protocol.next(&view) else { panic!("it goes on") };
    operations.sort_by_key(|reference| reference.branch);
    assert_eq!(Step::Run(operations), run(&[2, 3], ACTION));
    view.progress[2][0] = Progress::Succeeded;
    view.progress[3][0] = Progress::Succeeded;
    assert_eq!(protocol.next(&view), Step::Decide(Decision::Commit));
    view.decision = Some(Decision::Commit);
    assert_eq!(protocol.next(&view), Step::Finish);
}

#[test]
fn what_was_done_or_may_have_been_is_undone_in_reverse() {
    let protocol = protocol("{}");
    let mut view = submitted(planned(&request(4, "")));
    view.progress[0][0] = Progress::Succeeded;
    view.progress[1][0] = Progress::Succeeded;
    view.progress[2][0] = Progress::Running(1);
    view.expired = true;
    assert_eq!(protocol.next(&view), Step::Decide(Decision::Abort));
    view.decision = Some(Decision::Abort);
    view.progress[2][0] = Progress::Unknown("decided".to_owned());
    for step in [2, 1, 0] {
        assert_eq!(protocol.next(&view), run(&[step], COMPENSATE));
        view.progress[step as usize][1] = Progress::Running(2);
        assert_eq!(protocol.next(&view), run(&[step], COMPENSATE));
        view.progress[step as usize][1] = Progress::Succeeded;
    }
    assert_eq!(protocol.next(&view), Step::Finish);
}

#[test]
fn a_step_that_refused_is_not_undone_and_those_it_waited_for_are() {
    let protocol = protocol("{}");
    let mut view = submitted(planned(&request(2, "")));
    view.progress[0][0] = Progress::Succeeded;
    view.progress[1][0] = Progress::Refused("sold out".to_owned());
    assert_eq!(protocol.next(&view), Step::Decide(Decision::Abort));
    view.decision = Some(Decision::Abort);
    assert_eq!(protocol.next(&view), run(&[0], COMPENSATE));
}

#[test]
fn attempts_are_limited_only_where_the_settings_say_so() {
    let mut view = submitted(planned(&request(1, "")));
    view.progress[0][0] = Progress::Running(4);
    assert_eq!(protocol("{}").next(&view), run(&[0], ACTION));
    assert_eq!(protocol(r#"{"action_attempts": 4}"#).next(&view), Step::Decide(Decision::Abort));
    let mut settings = Settings::parse(r#"{"action_attempts": "many"}"#);
    Saga::configure(&testing::context(), &mut settings);
    assert_eq!(settings.finish()[0].path, "/action_attempts");
}

#[test]
fn no_interleaving_has_steps_disagree_and_each_leads_to_an_end() {
    let all_at_once = planned(&request(2, r#", "concurrent": true"#));
    let fork = planned(&request(3, r#", "concurrent": true, "custom_data": "{\"orders\": {\"1\": [0], \"2\": [0]}}""#));
    for (name, world, settings) in [
        ("two in a row", World::of(planned(&request(2, ""))), "{}"),
        ("three in a row", World::of(planned(&request(3, ""))), r#"{"action_attempts": 2}"#),
        ("two at once", World::of(all_at_once), r#"{"action_attempts": 2}"#),
        ("two after one", World { copies_max: 1, attempts_max: 1, ..World::of(fork) }, r#"{"action_attempts": 1}"#),
    ] {
        let explored = explore(&protocol(settings), &world).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        println!("{name}: {explored:?}");
        assert!(explored.states > 5_000 && explored.ends > 100, "{name}: {explored:?}");
    }
}
