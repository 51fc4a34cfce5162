use super::*;
use sluice_sdk::{
    random::mix,
    testing::{context, endpoint, failure, traffic},
};

const MS: u32 = 1_000;
const SECOND: u64 = 1_000_000;

fn policy(settings: &str) -> Hedge {
    let mut settings = Settings::parse(settings);
    let policy = Hedge::configure(&context(), &mut settings);
    assert!(settings.finish().is_empty());
    policy
}

fn took(outcome: Outcome, first_byte_us: u32, total_us: u32) -> Completion {
    Completion { first_byte_us, total_us, ..traffic(0, outcome, SECOND).completion }
}

fn answers(count: u32, time_us: u32) -> Vec<Completion> {
    vec![took(Outcome::Success, time_us, time_us); count as usize]
}

#[test]
fn no_copies_are_sent_before_enough_is_measured() {
    let mut policy = policy("{}");
    assert_eq!(policy.complete(&answers(99, 10 * MS), SECOND), None);
    let delay = policy.complete(&answers(1, 10 * MS), SECOND).expect("100 samples");
    assert!((10 * MS..11 * MS).contains(&delay), "{delay}");
    assert_eq!(policy.complete(&[], 60 * SECOND), None, "what was measured is too old");
}

#[test]
fn a_copy_is_sent_after_the_quantile_that_is_set() {
    let mix_of = [answers(90, 10 * MS), answers(8, 100 * MS), answers(2, 900 * MS)].concat();
    for (quantile, wanted) in [("0.5", 10 * MS), ("0.95", 100 * MS), ("0.99", 900 * MS)] {
        let delay = policy(&format!(r#"{{"quantile": {quantile}}}"#)).complete(&mix_of, SECOND).expect("enough");
        assert!((wanted..=wanted + wanted / 16).contains(&delay), "{quantile}: {delay}");
    }
}

#[test]
fn the_delay_keeps_to_its_bounds() {
    let bounds = r#"{"min_delay": "5 ms", "max_delay": "50 ms"}"#;
    assert_eq!(policy(bounds).complete(&answers(100, 10), SECOND), Some(5 * MS));
    assert_eq!(policy(bounds).complete(&answers(100, 900 * MS), SECOND), Some(50 * MS));
    assert_eq!(policy("{}").complete(&answers(100, 0), SECOND), Some(MS), "never at once");
}

#[test]
fn quick_errors_are_no_quick_answers() {
    let mut policy = policy("{}");
    policy.complete(&answers(100, 100 * MS), SECOND);
    for outcome in [Outcome::ServerError, Outcome::GatewayError, Outcome::Overloaded, Outcome::Reset] {
        policy.complete(&[took(outcome, MS, MS); 10_000], SECOND);
    }
    let delay = policy.complete(&[took(Outcome::ConnectFailed, 0, 0); 10_000], SECOND).expect("enough");
    assert!(delay >= 100 * MS, "{delay}");
}

#[test]
fn what_was_cut_off_counts_only_where_it_is_known_to_be_slow() {
    let measured = |more: &[Completion]| {
        let mut policy = policy("{}");
        let delay = policy.complete(&answers(1_000, 100 * MS), SECOND);
        let then = policy.complete(more, SECOND);
        (delay.expect("enough"), then.expect("enough"))
    };
    let (delay, then) = measured(&vec![took(Outcome::Cancelled, 0, 5 * MS); 100_000]);
    assert_eq!(then, delay, "the copies that lost, and clients that went away, say nothing");
    for slow in [took(Outcome::Cancelled, 0, 500 * MS), took(Outcome::TimedOut, 0, 500 * MS)] {
        let (_, then) = measured(&vec![slow; 100]);
        assert!(then >= 500 * MS, "{then}");
    }
    let (_, then) = measured(&vec![took(Outcome::Cancelled, 300 * MS, 900 * MS); 100]);
    assert!((300 * MS..350 * MS).contains(&then), "{then}");
}

#[test]
fn hedging_does_not_feed_itself() {
    // Each batch: 100 requests, a tenth of them slow. Whoever is not answered when the copy is sent loses against it
    // 5 ms later, or wins and the copy is cancelled.
    let mut policy = policy(r#"{"window": "2 s"}"#);
    let mut delay: Option<u32> = None;
    let (mut requests, mut copies) = (0, 0);
    for n in 0..1_000_u64 {
        let mut batch = Vec::new();
        for i in 0..100 {
            let random = mix(n, i);
            let time_us =
                if random.is_multiple_of(10) { 100 * MS + (random >> 32) as u32 % (100 * MS) } else { 10 * MS };
            requests += 1;
            match delay.filter(|delay| time_us > *delay) {
                None => batch.push(took(Outcome::Success, time_us, time_us)),
                Some(delay) => {
                    copies += 1;
                    if time_us < delay + 5 * MS {
                        batch.push(took(Outcome::Success, time_us, time_us));
                        batch.push(took(Outcome::Cancelled, 0, time_us - delay));
                    } else {
                        batch.push(took(Outcome::Cancelled, 0, delay + 5 * MS));
                        batch.push(took(Outcome::Success, 5 * MS, 5 * MS));
                    }
                }
            }
        }
        delay = policy.complete(&batch, n * 50 * u64::from(MS));
    }
    let share = 100.0 * f64::from(copies) / f64::from(requests);
    assert!((1.0..=6.0).contains(&share), "{share} % more requests");
}

#[test]
fn what_each_half_has_learned_survives_a_swap() {
    let mut worker = policy("{}");
    let delay = worker.complete(&answers(200, 30 * MS), SECOND);
    let mut next = policy("{}");
    next.restore(&worker.save()).expect("its own format");
    assert_eq!(next.complete(&[], 1_009 * SECOND), delay, "a worker's instance is told no time before this");
    assert_eq!(next.complete(&[], 1_016 * SECOND), delay);
    assert_eq!(next.complete(&[], 1_020 * SECOND), None);

    let mut standard = Outliers::from_settings(&mut Settings::parse("{}"));
    let endpoints = [endpoint(0), endpoint(1)];
    standard.update(&endpoints, SECOND);
    standard.observe(&[traffic(1, Outcome::Reset, SECOND); 5], SECOND);
    let mut health = policy("{}");
    health.update(&[endpoint(0), Endpoint { available: false, ..endpoint(1) }], SECOND);
    health.restore(&standard.save()).expect("that of standard");
    assert_eq!(health.save(), standard.save());
    assert_eq!(health.observe(&[], 31 * SECOND), [Change::Admit(1)]);
    assert!(health.restore(b"least-request/1\n").is_err());
}

#[test]
fn it_retries_as_standard_does() {
    assert_eq!(policy("{}").decide(&failure(Outcome::ConnectFailed)), Verdict::Retry(0));
}

#[test]
fn wrong_settings_are_all_reported() {
    let mut settings = Settings::parse(
        r#"{"quantile": 1, "window": "1 ms", "min_delay": "1 s", "max_delay": "1 ms", "attempts": 99, "consecutive": "x"}"#,
    );
    Hedge::configure(&context(), &mut settings);
    let paths: Vec<_> = settings.finish().into_iter().map(|problem| problem.path).collect();
    assert_eq!(paths, ["/max_delay", "/quantile", "/window", "/attempts", "/consecutive"]);
}
