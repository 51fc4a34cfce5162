use super::*;
use sluice_sdk::{
    Outcome,
    failover::Verdict,
    testing::{context, endpoint, failure, traffic},
};

#[test]
fn it_never_retries_never_hedges_and_never_ejects() {
    let mut policy = None::configure(&context(), &mut Settings::parse("{}"));
    policy.update(&[endpoint(0), endpoint(1)], 0);
    for outcome in [Outcome::ConnectFailed, Outcome::Reset, Outcome::GatewayError, Outcome::TimedOut] {
        assert_eq!(policy.decide(&failure(outcome)), Verdict::GiveUp);
        let observations = vec![traffic(0, outcome, 1); 1_000];
        assert!(policy.observe(&observations, 1).is_empty());
        assert_eq!(policy.complete(&[observations[0].completion], 1), Option::None);
    }
    assert!(policy.save().is_empty());
}

#[test]
fn it_has_no_settings() {
    let mut settings = Settings::parse(r#"{"attempts": 3}"#);
    None::configure(&context(), &mut settings);
    assert_eq!(settings.finish()[0].message, "unknown; this policy has no settings");
}
