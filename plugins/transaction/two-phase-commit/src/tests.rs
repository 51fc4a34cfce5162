use sluice_sdk::{
    Context, Settings,
    testing::{
        self,
        transaction::{World, branch, explore, view},
    },
    transaction::{Branch, Decision, Phase, Progress, Protocol, Reference, Step, plan},
};

use super::TwoPhaseCommit;

const ALL: [Phase; 3] = [Phase::Undecided, Phase::Committed, Phase::Aborted];

fn protocol(settings: &str) -> TwoPhaseCommit {
    let mut settings = Settings::parse(settings);
    let context: Context = testing::context();
    let protocol = TwoPhaseCommit::configure(&context, &mut settings);
    assert!(settings.finish().is_empty());
    protocol
}

fn planned(request: &str, enlisted: &[Branch]) -> Vec<Branch> {
    plan(&protocol("{}"), request, enlisted).expect("the request is right")
}

fn problems(request: &str, enlisted: &[Branch]) -> Vec<String> {
    let problems = plan(&protocol("{}"), request, enlisted).expect_err("the request is wrong");
    problems.into_iter().map(|problem| format!("{}: {}", problem.path, problem.message)).collect()
}

fn targets(branch: &Branch) -> Vec<&str> {
    branch.operations.iter().map(|operation| operation.target.as_str()).collect()
}

#[test]
fn branches_are_services_or_urls_and_have_their_payload() {
    let branches = planned(
        r#"{"gid": "g", "trans_type": "two-phase-commit", "payloads": ["{}", "[]"], "query_prepared": null, "branches": [
            {"service": "orders", "payload": 1},
            {"prepare": "http://b/p", "commit": "http://b/c", "abort": "https://b/a", "id": "stock"},
            {"service": "third"}]}"#,
        &[],
    );
    assert_eq!(
        targets(&branches[0]),
        ["service://orders/prepare", "service://orders/commit", "service://orders/abort"]
    );
    assert_eq!(targets(&branches[1]), ["http://b/p", "http://b/c", "https://b/a"]);
    let phases: Vec<Phase> = branches[0].operations.iter().map(|operation| operation.phase).collect();
    assert_eq!(phases, ALL);
    let rest: Vec<_> = branches.iter().map(|branch| (branch.id.as_str(), branch.payload)).collect();
    assert_eq!(rest, [("01", Some(1)), ("stock", Some(1)), ("03", None)]);
}

#[test]
fn everything_wrong_with_a_submission_is_told_with_its_pointer() {
    let wrong = r#"{"payloads": ["{}"], "branches": [
        {}, 7, {"service": "a", "prepare": "http://b/p"}, {"service": "a", "payload": 1}, {"service": "a", "id": "05"},
        {"service": "a", "id": "05"}, {"prepare": "ftp://b", "commit": "http://b", "abort": "", "x/y": 1},
        {"service": ""}, {"service": "a", "id": 3, "payload": -1}]}"#;
    assert_eq!(
        problems(wrong, &[]),
        [
            "/branches/1: must be an object",
            "/branches/0/prepare: must be given, as the URL to call",
            "/branches/0/commit: must be given, as the URL to call",
            "/branches/0/abort: must be given, as the URL to call",
            "/branches/2: must have either a service or URLs of its own",
            "/branches/3/payload: must be an index into payloads, of which there are 1",
            "/branches/5: must have an id of its own: an earlier branch is called 05",
            "/branches/6/x~1y: unknown; known are service, prepare, commit, abort, id, payload",
            "/branches/6/prepare: must be a URL of http or https, or service:// with a service's name and a path",
            "/branches/6/abort: must be given, as the URL to call",
            "/branches/7/service: must be given, as a text that is not empty",
            "/branches/8/id: must be given, as a text that is not empty",
            "/branches/8/payload: must be an index into payloads, of which there are 1",
        ]
    );
    assert_eq!(problems("[]", &[]), [": the request must be a JSON object"]);
    assert_eq!(problems(r#"{"branches": []}"#, &[]), ["/branches: must be given, with at least one entry"]);
    assert_eq!(problems(r#"{"branches": {}}"#, &[]), ["/branches: must be a list"]);
    let many = format!(r#"{{"branches": [{}]}}"#, vec![r#"{"service": "a"}"#; 1_001].join(","));
    assert_eq!(problems(&many, &[]), ["/branches: must have at most 1000 entries"]);
}

#[test]
fn a_registered_branch_is_prepared_by_the_client() {
    assert!(planned(r#"{"gid": "g", "trans_type": "xa"}"#, &[]).is_empty());
    let request = r#"{"gid": "g", "trans_type": "xa", "branch_id": "01", "url": "http://b/x"}"#;
    let first = planned(request, &[]);
    let operations: Vec<_> =
        first[0].operations.iter().map(|op| (op.name.as_str(), op.target.as_str(), op.by_client)).collect();
    assert_eq!(operations, [("action", "", true), ("commit", "http://b/x", false), ("rollback", "http://b/x", false)]);
    assert_eq!(first[0].payload, None);
    assert!(planned(request, &first).is_empty(), "the same again adds nothing");
    let other = r#"{"branch_id": "01", "url": "http://b/y"}"#;
    let taken = "/branch_id: must be new: a branch 01 is registered already, with other URLs";
    assert_eq!(problems(other, &first), [taken]);
    assert_eq!(
        problems(r#"{"branch_id": ""}"#, &[]),
        ["/url: must be given, as the URL to call", "/branch_id: must be given, as a text that is not empty"]
    );
    let full: Vec<Branch> = (0..1_000).map(|n| branch(&format!("b{n}"), &ALL, &[])).collect();
    assert_eq!(problems(request, &full), [": a transaction has at most 1000 branches"]);
}

#[test]
fn all_prepare_at_once_and_one_that_does_not_answer_aborts_all() {
    let protocol = protocol(r#"{"prepare_attempts": 2}"#);
    let mut view = view(vec![branch("a", &ALL, &[]), branch("b", &ALL, &[])]);
    assert_eq!(protocol.next(&view), Step::Wait, "it is not submitted yet");
    (view.complete, view.asked) = (true, Some(Decision::Commit));
    let both = Step::Run([0, 1].map(|branch| Reference { branch, operation: 0 }).to_vec());
    assert_eq!(protocol.next(&view), both);
    view.progress[0][0] = Progress::Running(1);
    view.progress[1][0] = Progress::Running(1);
    assert_eq!(protocol.next(&view), both);
    view.progress[1][0] = Progress::Running(2);
    assert_eq!(protocol.next(&view), Step::Decide(Decision::Abort));
    assert!(matches!(self::protocol(r#"{"prepare_attempts": 0}"#).next(&view), Step::Run(_)));
}

#[test]
fn one_that_refuses_aborts_all_at_once() {
    let protocol = protocol("{}");
    let mut view = view(vec![branch("a", &ALL, &[]), branch("b", &ALL, &[])]);
    (view.complete, view.asked) = (true, Some(Decision::Commit));
    view.progress[0] = vec![Progress::Refused("no".to_owned()), Progress::Idle, Progress::Idle];
    view.progress[1][0] = Progress::Running(0);
    assert_eq!(protocol.next(&view), Step::Decide(Decision::Abort));
    view.decision = Some(Decision::Abort);
    view.progress[1][0] = Progress::Unknown("decided meanwhile".to_owned());
    assert_eq!(protocol.next(&view), Step::Run(vec![Reference { branch: 1, operation: 2 }]));
}

#[test]
fn wrong_settings_are_reported() {
    let mut settings = Settings::parse(r#"{"prepare_attempts": -1, "prepare_atempts": 2}"#);
    TwoPhaseCommit::configure(&testing::context(), &mut settings);
    let paths: Vec<_> = settings.finish().into_iter().map(|problem| problem.path).collect();
    assert_eq!(paths, ["/prepare_attempts", "/prepare_atempts"]);
}

#[test]
fn no_interleaving_has_participants_disagree_and_each_leads_to_an_end() {
    let coordinated = |count: usize| {
        let ids = ["a", "b", "c"];
        World::of(ids[..count].iter().map(|id| branch(id, &ALL, &[])).collect())
    };
    let registered = |id: &str| planned(&format!(r#"{{"branch_id": "{id}", "url": "http://b/x"}}"#), &[]).remove(0);
    let by_client = World { registered: vec![registered("a"), registered("b")], ..World::of(Vec::new()) };
    let mixed = World { registered: vec![registered("b")], ..coordinated(1) };
    let three = World { copies_max: 1, attempts_max: 1, ..coordinated(3) };
    for (name, world, attempts) in [
        ("two asked by the gateway", coordinated(2), 2),
        ("two asked by the gateway, for ever", coordinated(2), 0),
        ("three asked by the gateway", three, 1),
        ("two prepared by the client", by_client, 2),
        ("one of each", mixed, 2),
    ] {
        let protocol = protocol(&format!(r#"{{"prepare_attempts": {attempts}}}"#));
        let explored = explore(&protocol, &world).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        println!("{name}: {explored:?}");
        assert!(explored.states > 5_000 && explored.ends > 100, "{name}: {explored:?}");
    }
}
