//! What the disk allows, and bare fjall in the shape of the reference's prototype: one writer, group commit, three keys an
//! event.

use std::{
    fs::File,
    io::Write,
    path::Path,
    sync::mpsc,
    time::{Duration, Instant},
};

use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use tokio::sync::oneshot;

use super::figures::{Latencies, kibibyte};

/// Appends of 1 KiB, each with its sync.
pub fn bare_syncs(folder: &Path, lasting: Duration) -> serde_json::Value {
    let mut random = fastrand::Rng::new();
    let mut file = File::create(folder.join("bare")).expect("a file");
    let mut latencies = Latencies::default();
    let began = Instant::now();
    while began.elapsed() < lasting {
        let bytes = kibibyte(&mut random);
        let asked = Instant::now();
        file.write_all(bytes.as_bytes()).expect("it is written");
        file.sync_data().expect("it is synced");
        latencies.add(asked.elapsed());
    }
    latencies.figures(began.elapsed(), 1)
}

pub struct Asked {
    pub stream: String,
    pub id: String,
    pub data: String,
    pub done: oneshot::Sender<()>,
}

/// Until nobody asks any more.
pub fn bare_fjall(folder: &Path) -> mpsc::Sender<Asked> {
    let database = Database::builder(folder.join("fjall")).open().expect("it opens");
    let keyspace = |name: &str| database.keyspace(name, KeyspaceCreateOptions::default).expect("it opens");
    let [events, revisions, ids] = ["events", "revisions", "ids"].map(keyspace);
    let (ask, asked) = mpsc::channel::<Asked>();
    std::thread::spawn(move || {
        let mut position = 0_u64;
        let mut next = std::collections::HashMap::<String, u64>::new();
        while let Ok(first) = asked.recv() {
            let group: Vec<_> = std::iter::once(first).chain(std::iter::from_fn(|| asked.try_recv().ok())).collect();
            let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
            for Asked { stream, id, data, .. } in &group {
                position += 1;
                let at = position.to_be_bytes();
                let revision = next.entry(stream.clone()).or_default();
                batch.insert(&events, at, data.as_bytes());
                batch.insert(&revisions, [stream.as_bytes(), &revision.to_be_bytes()].concat(), at);
                batch.insert(&ids, [stream.as_bytes(), id.as_bytes()].concat(), at);
                *revision += 1;
            }
            batch.commit().expect("it is committed");
            for Asked { done, .. } in group {
                let _ = done.send(());
            }
        }
    });
    ask
}
