use super::*;
use sluice_sdk::testing;

fn policy(settings: &str, endpoints: &[Endpoint]) -> RoundRobin {
    let mut settings = Settings::parse(settings);
    let mut policy = RoundRobin::configure(&testing::context(), &mut settings);
    assert!(settings.finish().is_empty());
    policy.update(endpoints, 0);
    policy
}

fn picks(policy: &mut RoundRobin, count: usize) -> Vec<Slot> {
    (0..count).filter_map(|_| policy.pick(&testing::request())).collect()
}

#[test]
fn a_new_build_goes_on_in_the_row() {
    let endpoints: Vec<Endpoint> = (0..5).map(testing::endpoint).collect();
    let mut old = policy("{}", &endpoints);
    picks(&mut old, 7);
    let mut new = policy("{}", &endpoints);
    new.restore(&old.save()).expect("its own format");
    assert_eq!(picks(&mut new, 20), picks(&mut old, 20));
    assert!(new.restore(b"peak-ewma/1\n").is_err());
}

#[test]
fn unavailable_endpoints_get_nothing_and_retries_go_elsewhere() {
    testing::reset();
    let mut endpoints: Vec<Endpoint> = (0..4).map(testing::endpoint).collect();
    endpoints[2].available = false;
    let mut policy = policy("{}", &endpoints);
    assert!(!picks(&mut policy, 100).contains(&2));
    testing::set_tried(&[0, 3]);
    for _ in 0..10 {
        assert_eq!(policy.pick(&Request { attempt: 1, ..testing::request() }), Some(1));
    }
}

#[test]
fn every_wrong_setting_is_reported() {
    let mut settings = Settings::parse(r#"{"panic_threshold": 80, "panic": "no", "slow_start": 3, "choices": 2}"#);
    RoundRobin::configure(&testing::context(), &mut settings);
    let paths: Vec<String> = settings.finish().into_iter().map(|problem| problem.path).collect();
    assert_eq!(paths, ["/panic_threshold", "/panic", "/slow_start", "/choices"]);
}
