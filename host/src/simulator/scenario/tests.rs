use super::*;

const SMALL: &str = "duration = \"10 s\"\narrivals = { rate = 100 }\n\
    [[endpoints]]\ncount = 2\nservice = { distribution = \"exponential\", mean = \"10 ms\" }\n";

/// Everything wrong with a scenario, a line each: `line:column: key: message`.
fn problems(text: &str) -> Vec<String> {
    let errors = Scenario::parse(text, "s.toml").expect_err("it is wrong").to_string();
    errors.lines().map(|line| line.strip_prefix("s.toml:").unwrap_or(line).to_owned()).collect()
}

#[test]
fn what_is_not_said_is_as_in_the_gateway() {
    let scenario = Scenario::parse(SMALL, "s.toml").expect("it is right");
    assert_eq!((scenario.seed, scenario.workers.get(), scenario.idempotent), (1, 2, 1.0));
    assert_eq!((scenario.timeout, scenario.success_within), (Duration::from_secs(15), Duration::from_secs(15)));
    assert_eq!((scenario.retry, scenario.ejection), (RetryLimits::default(), EjectionLimits::default()));
    let service = ServiceTime::Exponential { mean: Duration::from_millis(10) };
    let endpoint = EndpointModel { slots: 1, queue_max: 10_000, weight: Weight::ONE, service };
    assert_eq!(scenario.endpoints, [endpoint.clone(), endpoint]);
}

#[test]
fn failures_are_one_for_each_endpoint_that_they_name() {
    let text =
        format!("{SMALL}[[failures]]\nendpoints = \"all\"\nfrom = \"1 s\"\nuntil = \"2 s\"\nkind = \"errors\"\n");
    let scenario = Scenario::parse(&text, "s.toml").expect("it is right");
    let errors = FailureKind::Errors { share: 1.0, status: 503, service: None };
    let found: Vec<_> = scenario.failures.iter().map(|failure| (failure.endpoint, &failure.kind)).collect();
    assert_eq!(found, [(0, &errors), (1, &errors)]);
}

#[test]
fn every_problem_is_told_with_its_line() {
    let text = "duration = \"10 s\"\nwarm_up = \"10 s\"\nworkerz = 2\nidempotent = 2\ncancelled = \"never\"\n\
        [arrivals]\nrate = 100\nprocess = \"poison\"\nphases = [{ from = \"2 s\", until = \"1 s\", rate = 1 }]\n\
        [[endpoints]]\ncount = 0\nservice = { distribution = \"exponental\", mean = \"10 ms\" }\n\
        [[failures]]\nendpoints = [0]\nfrom = \"1 s\"\nuntil = \"2 s\"\nkind = \"slow\"\n";
    let found = problems(text);
    for (line, key, part) in [
        (2, "warm_up", "shorter than \"duration\""),
        (3, "workerz", "did you mean \"workers\"?"),
        (4, "idempotent", "a number from 0 to 1"),
        (5, "cancelled", "\"finishes\" or \"stops\""),
        (8, "arrivals.process", "\"poisson\" or \"constant\""),
        (9, "arrivals.phases[0]", "later than \"from\""),
        (11, "endpoints[0].count", "from 1 to 1000"),
        (12, "endpoints[0].service.distribution", "did you mean \"exponential\"?"),
        (13, "failures[0]", "\"factor\" is missing"),
    ] {
        let stands = |problem: &&String| {
            problem.starts_with(&format!("{line}:")) && problem.contains(&format!(" {key}: ")) && problem.contains(part)
        };
        assert!(found.iter().any(|problem| stands(&problem)), "{line} {key}: {part}\n{}", found.join("\n"));
    }
    assert_eq!(found.len(), 9, "{}", found.join("\n"));
}

#[test]
fn a_run_is_bounded() {
    let text = SMALL.replace("rate = 100", "rate = 1000000").replace("10 s", "60 s");
    assert!(problems(&text)[0].contains("more than 20000000 requests"), "{:?}", problems(&text));
    let text = SMALL.replace("count = 2", "count = 1001");
    assert_eq!(problems(&text).len(), 1);
    let failing = format!("{SMALL}[[failures]]\nendpoints = [2]\nfrom = \"1 s\"\nuntil = \"2 s\"\nkind = \"dead\"\n");
    assert!(problems(&failing)[0].contains("from 0 to 1"), "{:?}", problems(&failing));
}
