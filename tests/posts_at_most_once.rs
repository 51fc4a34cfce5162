//! No POST is executed twice, however often connections break and instances die; and none fails but those whose bytes
//! had left.

mod posts;

use std::{sync::Arc, thread};

use fastrand::Rng;
use posts::{
    client::{self, Answered},
    ledger::{Post, Progress, posts},
};
use sluice_harness::{InstanceProcess, any_route, sluice, wait_until};

sluice_harness::instance_process!(posts::instance::serve);

const POSTS: usize = 100_000;
/// Each has one request at a time.
const CONNECTIONS: usize = 48;
/// Requests between two changes of the instance that is killed and started again: at the least, and so many more.
const BETWEEN: (usize, usize) = (500, 3_000);

/// Ejections are short, so that the instance which is killed has its share again before the next time. Connections are
/// reset so often that a request may meet more than two before it can be sent. What has not been sent is tried elsewhere
/// however many there are: a busy machine finds out late that the instance is dead.
const CONFIG: &str = "retry = { attempts = 10, budget = 100 }\n\
    failover = { plugin = \"standard\", settings = { attempts = 10, base_ejection = \"200 ms\", max_ejection = \"1 s\" } }";

#[test]
fn no_post_is_executed_twice_and_only_those_whose_bytes_had_left_fail() {
    let seed =
        std::env::var("SLUICE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SLUICE_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let progress = Arc::new(Progress::new(POSTS));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut start = || InstanceProcess::start(&random.u64(..).to_string(), folder.path());
    let mut instances = [start(), start(), start()];
    let addresses = instances.each_ref().map(InstanceProcess::address);
    let gateway = sluice!().config(any_route("orders", &addresses, CONFIG)).start();
    let load = {
        let (progress, address, seed) = (Arc::clone(&progress), gateway.address(), random.u64(..));
        thread::spawn(move || client::run(address, &progress, CONNECTIONS, seed))
    };
    let (mut kills, mut is_running) = (0, true);
    loop {
        let (target, over) = (progress.done() + random.usize(BETWEEN.0..BETWEEN.1), || progress.done() >= POSTS);
        // As long as it goes on at all: a busy machine is slow.
        while !over() && progress.done() < target {
            let done = progress.done();
            wait_until("the load to go on", || over() || progress.done() > done);
        }
        if over() {
            break;
        }
        if is_running {
            instances[1].kill();
            kills += 1;
        } else {
            instances[1].restart();
        }
        is_running = !is_running;
    }
    let answers = load.join().expect("the clients do not panic");
    let retries = gateway.metric("sluice_failover_total", &["service=\"orders\"", "event=\"retries\""]);
    let over_budget = gateway.metric("sluice_failover_total", &["service=\"orders\"", "event=\"over-budget\""]);
    println!(
        "one instance was killed {kills} times; {retries} times a request that had not been sent was tried elsewhere, \
         {over_budget} times that was beyond the budget"
    );
    assert!(kills >= 5, "{kills} kills");
    assert!(retries > 0.0, "no connection was refused");
    check(&posts(POSTS, instances.iter().flat_map(InstanceProcess::request_ids)), &answers);
}

/// What the clients were told beside what the instances know.
fn check(posts: &[Post], answers: &[Answered]) {
    let (mut succeeded, mut refused, mut cut) = (0, 0, 0);
    let (mut executed, mut executed_and_refused) = (0, 0);
    for (id, (post, answered)) in posts.iter().zip(answers).enumerate() {
        let times = post.executed;
        assert!(!post.mistaken, "POST {id} came with another one's body");
        assert!(times <= 1, "POST {id} was executed {times} times; its client was told {answered:?}");
        executed += times;
        match answered {
            Answered::Well => {
                assert_eq!(times, 1, "POST {id} was answered and not executed");
                succeeded += 1;
            }
            Answered::Refused { status, request_sent, detail } => {
                assert_eq!(*status, 502, "POST {id}: {detail}");
                assert_eq!(*request_sent, Some(true), "POST {id} failed and had not been sent: {status} {detail}");
                refused += 1;
                executed_and_refused += times;
            }
            Answered::Broken(how) => {
                assert!(post.cut, "POST {id}'s answer broke off ({how}), not by its instance");
                cut += 1;
            }
        }
        assert!(
            !post.answered || *answered == Answered::Well,
            "POST {id} was answered whole; its client was told {answered:?}"
        );
    }
    println!(
        "{} POSTs, {executed} executed, none twice: {succeeded} answered, {refused} refused with `request_sent` \
         ({executed_and_refused} of them executed), {cut} answers cut off",
        answers.len()
    );
    assert!(refused > POSTS / 100 && cut > 0, "nothing broke");
}
