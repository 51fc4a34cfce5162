//! Opening a store whose process was killed.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::engine::{append, open, runtime};

/// Events that are acknowledged between two words of the one that fills.
const WORD_EVERY: u64 = 1_000;

pub fn after_kill(folder: &Path, events: u64) -> Value {
    let program = std::env::current_exe().expect("this program has a path");
    let mut child = Command::new(program).arg("fill").arg(folder).stdout(Stdio::piped()).spawn().expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    for line in lines.map_while(Result::ok) {
        if line.parse::<u64>().is_ok_and(|acknowledged| acknowledged >= events) {
            break;
        }
    }
    child.kill().expect("it is killed");
    child.wait().expect("it ends");
    let began = Instant::now();
    runtime().block_on(async {
        let (storage, store) = open(folder).await;
        let took = began.elapsed();
        let head = store.head().0;
        store.close().await;
        storage.close().await;
        json!({ "events": head, "open_ms": took.as_secs_f64() * 1e3 })
    })
}

/// Until it is killed.
pub fn fill(folder: &Path) -> Value {
    runtime().block_on(async {
        let (_storage, store) = open(folder).await;
        let mut tasks = JoinSet::new();
        for _ in 0..256 {
            let store = store.clone();
            tasks.spawn(async move {
                let mut random = fastrand::Rng::new();
                loop {
                    store.append(append(&mut random)).await.expect("it is appended");
                    let appended = store.appended();
                    if appended.is_multiple_of(WORD_EVERY) || random.u64(..WORD_EVERY) == 0 {
                        // Whoever reads it kills this process when it has enough.
                        let _ = writeln!(std::io::stdout(), "{appended}");
                    }
                }
            });
        }
        tasks.join_all().await;
    });
    Value::Null
}
