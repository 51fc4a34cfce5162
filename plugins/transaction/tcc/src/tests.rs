use sluice_sdk::{
    Settings,
    testing::{
        self,
        transaction::{World, explore, view},
    },
    transaction::{Branch, Decision, Progress, Protocol, Reference, Step, plan},
};

use super::TryConfirmCancel;

fn protocol(settings: &str) -> TryConfirmCancel {
    let mut settings = Settings::parse(settings);
    let protocol = TryConfirmCancel::configure(&testing::context(), &mut settings);
    assert!(settings.finish().is_empty());
    protocol
}

fn planned(request: &str, enlisted: &[Branch]) -> Vec<Branch> {
    plan(&protocol("{}"), request, enlisted).expect("the request is right")
}

fn registered(id: &str) -> Branch {
    let request = format!(
        r#"{{"gid": "g", "trans_type": "tcc", "branch_id": "{id}", "confirm": "http://b/c", "cancel": "http://b/x", "data": "{{}}"}}"#
    );
    planned(&request, &[]).remove(0)
}

#[test]
fn a_registered_branch_is_tried_by_the_client_and_keeps_its_data() {
    let branch = registered("01");
    let operations: Vec<_> =
        branch.operations.iter().map(|op| (op.name.as_str(), op.target.as_str(), op.by_client)).collect();
    assert_eq!(operations, [("try", "", true), ("confirm", "http://b/c", false), ("cancel", "http://b/x", false)]);
    assert_eq!((branch.id.as_str(), branch.payload), ("01", Some(0)));
    let problems = plan(&protocol("{}"), r#"{"branch_id": "01", "confirm": null, "cancel": 3}"#, &[]).unwrap_err();
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["/confirm", "/cancel"]);
}

#[test]
fn the_client_decides_what_it_tried_itself() {
    let protocol = protocol("{}");
    let mut view = view(vec![registered("01"), registered("02")]);
    assert_eq!(protocol.next(&view), Step::Wait);
    for (asked, operation) in [(Decision::Commit, 1), (Decision::Abort, 2)] {
        (view.complete, view.asked, view.decision) = (true, Some(asked), None);
        assert_eq!(protocol.next(&view), Step::Decide(asked));
        view.decision = Some(asked);
        let all = [0, 1].map(|branch| Reference { branch, operation });
        assert_eq!(protocol.next(&view), Step::Run(all.to_vec()));
    }
    (view.complete, view.asked, view.decision, view.expired) = (false, None, None, true);
    assert_eq!(protocol.next(&view), Step::Decide(Decision::Abort));
}

#[test]
fn the_gateway_tries_and_cancels_whatever_may_have_been_reserved() {
    let protocol = protocol(r#"{"try_attempts": 0}"#);
    let branches = planned(r#"{"branches": [{"service": "a"}, {"service": "b"}, {"service": "c"}]}"#, &[]);
    assert_eq!(branches[1].operations[2].target, "service://b/cancel");
    let mut view = view(branches);
    (view.complete, view.asked) = (true, Some(Decision::Commit));
    view.progress[0][0] = Progress::Succeeded;
    view.progress[1][0] = Progress::Refused("sold out".to_owned());
    view.progress[2][0] = Progress::Running(3);
    assert_eq!(protocol.next(&view), Step::Decide(Decision::Abort));
    view.decision = Some(Decision::Abort);
    view.progress[2][0] = Progress::Unknown("decided".to_owned());
    let cancels = [0, 2].map(|branch| Reference { branch, operation: 2 });
    assert_eq!(protocol.next(&view), Step::Run(cancels.to_vec()));
    view.progress[0][2] = Progress::Succeeded;
    view.progress[2][2] = Progress::Succeeded;
    assert_eq!(protocol.next(&view), Step::Finish);
}

#[test]
fn no_interleaving_has_participants_disagree_and_each_leads_to_an_end() {
    let tried = planned(r#"{"branches": [{"service": "a"}, {"service": "b"}]}"#, &[]);
    let by_client = World { registered: vec![registered("a"), registered("b")], ..World::of(Vec::new()) };
    let three = World {
        registered: ["a", "b", "c"].map(registered).to_vec(),
        copies_max: 1,
        attempts_max: 1,
        ..World::of(Vec::new())
    };
    for (name, world) in [
        ("two tried by the gateway", World::of(tried)),
        ("two tried by the client", by_client),
        ("three tried by the client", three),
    ] {
        let explored =
            explore(&protocol(r#"{"try_attempts": 2}"#), &world).unwrap_or_else(|wrong| panic!("{name}: {wrong}"));
        println!("{name}: {explored:?}");
        assert!(explored.states > 5_000 && explored.ends > 100, "{name}: {explored:?}");
    }
}
