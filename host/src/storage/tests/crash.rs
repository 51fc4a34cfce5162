//! A process that commits to the embedded store is killed: what it had acknowledged is there.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use super::*;

/// Where the child finds the store.
const FOLDER: &str = "SLUICE_TEST_STORE";
const KILLS: u64 = 12;
/// Committing at once.
const TASKS: u64 = 32;

/// This test program again, as the process that will be killed.
pub(super) fn child(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"]).env(FOLDER, folder);
    command
}

/// None: not started by the test beside it.
pub(super) fn folder_of_child() -> Option<std::path::PathBuf> {
    std::env::var_os(FOLDER).map(Into::into)
}

#[test]
fn what_was_acknowledged_is_there_after_kill_9() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let mut acknowledged = 0;
    for _ in 0..KILLS {
        let child = child("storage::tests::crash::commits_until_it_is_killed", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        acknowledged = acknowledged.max(kill_after(child, rng.u64(1..400)));
    }
    let storage = Embedded::open(folder.path()).expect("it opens");
    runtime().block_on(async {
        let left = storage.scan(Space::Registry, KeyRange::all(), usize::MAX).await.expect("it is read");
        let halves = storage.scan(Space::Discovery, KeyRange::all(), usize::MAX).await.expect("it is read");
        let [left, halves] = [left, halves].map(|all| all.iter().map(|(key, _)| number(key)).collect::<Vec<_>>());
        assert_eq!(left, halves, "a batch survived in part");
        assert!(left.len() as u64 >= acknowledged, "{acknowledged} acknowledged, {} left", left.len());
        assert!(acknowledged >= KILLS, "the children got nowhere");
        storage.close().await;
    });
}

/// Kills it once it has acknowledged so many more. How many commits had been acknowledged in all, as it told.
fn kill_after(mut child: Child, commits: u64) -> u64 {
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut acknowledged = 0;
    let mut seen = 0;
    for line in lines.map_while(Result::ok) {
        // What was written into the pipe before the kill counts as well.
        if let Some(total) = line.strip_prefix("acknowledged ").and_then(|total| total.parse().ok()) {
            acknowledged = total;
            seen += 1;
            if seen == commits {
                child.kill().expect("it can be killed");
            }
        }
    }
    child.wait().expect("it ends");
    assert!(seen >= commits, "the child ended by itself after {seen} commits");
    acknowledged
}

#[test]
#[ignore = "the process that the test above starts and kills"]
fn commits_until_it_is_killed() {
    let Some(folder) = folder_of_child() else { return };
    runtime().block_on(async {
        let storage = Arc::new(Embedded::open(&folder).expect("it opens"));
        let there = storage.scan(Space::Registry, KeyRange::all(), usize::MAX).await.expect("it is read").len() as u64;
        let total = Arc::new(std::sync::Mutex::new(there));
        println!();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..TASKS {
            let (storage, total) = (Arc::clone(&storage), Arc::clone(&total));
            tasks.spawn(async move {
                for n in 0.. {
                    // Of no other task and no earlier child.
                    let key = key(there + n * TASKS + task + (u64::from(std::process::id()) << 32));
                    let batch =
                        Batch::new().put(Space::Registry, key.clone(), "value").put(Space::Discovery, key, "half");
                    storage.commit(batch).await.expect("it is committed");
                    let mut total = total.lock().expect("nobody panicked");
                    *total += 1;
                    // The parent may have closed the pipe: then the end is near.
                    let _ = writeln!(std::io::stdout(), "acknowledged {total}");
                }
            });
        }
        tasks.join_all().await;
    });
}
