use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering},
};

use super::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts")
}

fn refusal(path: &Path) -> String {
    Embedded::open(path).map(|_| ()).expect_err("it must not open").to_string()
}

#[test]
fn a_full_disk_refuses_writes_and_takes_them_again_once_there_is_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let free = Arc::new(AtomicU64::new(u64::MAX));
    let told = Arc::clone(&free);
    let storage =
        Embedded::open_on(folder.path(), Box::new(move || Ok(told.load(Ordering::SeqCst)))).expect("it opens");
    runtime().block_on(async {
        storage.commit(Batch::new().put(Space::Registry, "a", "1")).await.expect("there is room");
        free.store(5 * 1024 * 1024, Ordering::SeqCst);
        let refused = storage.commit(Batch::new().put(Space::Registry, "b", "2")).await.expect_err("there is no room");
        let told = refused.to_string();
        assert!(told.contains("has 5.0 MiB left, less than the 384.0 MiB that are kept free"), "{told}");
        assert_eq!(storage.get(Space::Registry, "a".into()).await, Ok(Some("1".into())), "reads go on");
        assert_eq!(storage.get(Space::Registry, "b".into()).await, Ok(None));
        free.store(u64::MAX, Ordering::SeqCst);
        storage.commit(Batch::new().put(Space::Registry, "b", "3")).await.expect("there is room again");
        storage.close().await;
    });
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "no folder").expect("it is written");
    let told = refusal(&file.join("store"));
    assert!(told.contains("file/store cannot be opened: Not a directory"), "{told}");
}

#[test]
fn a_store_that_another_holds_is_not_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let _held = Embedded::open(folder.path()).expect("it opens");
    let told = refusal(folder.path());
    assert!(told.ends_with("is in use by another process"), "{told}");
}

#[test]
fn a_closed_store_is_opened_again_while_somebody_has_yet_to_hear_of_a_commit() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = Embedded::open(folder.path()).expect("it opens");
    runtime().block_on(async {
        let mut commit = storage.commit_later(Batch::new().put(Space::Registry, "a", "1"));
        let begun = std::future::poll_fn(|context| std::task::Poll::Ready(commit.as_mut().poll(context)));
        assert!(begun.await.is_pending(), "it has time");
        storage.close().await;
        let again = Embedded::open(folder.path()).expect("nobody holds it");
        assert_eq!(again.get(Space::Registry, "a".into()).await, Ok(Some("1".into())));
        commit.await.expect("it was committed");
    });
}

#[test]
fn a_damaged_store_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = Embedded::open(folder.path()).expect("it opens");
    drop(storage);
    fs::write(folder.path().join("version"), "nothing that fjall wrote").expect("it is written");
    let told = refusal(folder.path());
    assert!(told.contains("is damaged (it was written by another version"), "{told}");
    assert!(told.contains("bring it back from a backup"), "{told}");
}

#[test]
fn many_commits_share_one_sync() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = Embedded::open(folder.path()).expect("it opens");
    let before = storage.tables().expect("it is open").database.seqno();
    runtime().block_on(async {
        let batches = (0..200_u32).map(|n| Batch::new().put(Space::Registry, n.to_be_bytes().to_vec(), "x"));
        let mut commits: Vec<_> = batches.map(|batch| storage.commit(batch)).collect();
        std::future::poll_fn(|context| {
            commits.retain_mut(|commit| commit.as_mut().poll(context).is_pending());
            if commits.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    });
    let groups = storage.tables().expect("it is open").database.seqno() - before;
    assert!(groups < 100, "200 commits that waited together took {groups} syncs");
}

/// Three commits, the last of them over several sectors; its journal, and what it holds.
fn three_commits(folder: &Path) -> (PathBuf, Vec<u8>) {
    let storage = Embedded::open(folder).expect("it opens");
    runtime().block_on(async {
        for n in [1_u8, 2, 3] {
            let batch =
                Batch::new().put(Space::Registry, vec![n], vec![0xa0 + n; 1500]).put(Space::Discovery, vec![n], "half");
            storage.commit(batch).await.expect("it is committed");
        }
        storage.close().await;
    });
    let files = fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("it is there").path());
    let journal = files.into_iter().find(|path| path.extension().is_some_and(|is| is == "jnl")).expect("there is one");
    let bytes = fs::read(&journal).expect("it is read");
    (journal, bytes)
}

/// Of the value of so many equal bytes.
fn position(journal: &[u8], byte: u8) -> usize {
    journal.windows(1500).position(|window| window.iter().all(|&it| it == byte)).expect("it is there")
}

/// The keys in both spaces, which must be the same.
fn keys(folder: &Path) -> Vec<u8> {
    let storage = Embedded::open(folder).unwrap_or_else(|error| panic!("{error}"));
    runtime().block_on(async {
        let mut keys = Vec::new();
        for space in Space::ALL {
            let all = storage.scan(space, KeyRange::all(), 10).await.expect("it is read");
            keys.push(all.iter().map(|(key, _)| key[0]).collect::<Vec<_>>());
        }
        assert_eq!(keys[0], keys[1], "a batch survived in part");
        let both = Batch::new().delete(Space::Registry, "none").delete(Space::Discovery, "none");
        storage.commit(both).await.expect("it goes on");
        storage.close().await;
        keys.remove(0)
    })
}

/// Where the commit ends that has this value: its items end with the other half, then comes its end (13 bytes).
fn end_of(journal: &[u8], byte: u8) -> usize {
    let value = position(journal, byte);
    value + journal[value..].windows(4).position(|window| window == b"FJL\x03").expect("it ends") + 4
}

#[test]
fn a_commit_in_the_data_of_a_torn_one_is_no_commit_behind_it() {
    let empty = |number: u64| {
        let sum = xxhash_rust::xxh3::Xxh3Default::new().digest();
        [&[1, 0, 0, 0, 0][..], &number.to_le_bytes(), &[3], &sum.to_le_bytes(), b"FJL\x03"].concat()
    };
    for (number, is_taken_for_data) in [(0, true), (u64::MAX, false)] {
        let folder = tempfile::tempdir().expect("a folder");
        let (journal, mut bytes) = three_commits(folder.path());
        let at = position(&bytes, 0xa3) + 100;
        bytes[at..at + empty(number).len()].copy_from_slice(&empty(number));
        fs::write(&journal, &bytes).expect("it is written");
        if is_taken_for_data {
            assert_eq!(keys(folder.path()), [1, 2]);
        } else {
            assert!(refusal(folder.path()).contains("is damaged"));
        }
    }
}

#[test]
fn a_last_commit_that_a_power_failure_tore_is_left_out_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, bytes) = three_commits(folder.path());
    assert_eq!(keys(folder.path()), [1, 2, 3]);
    let third = end_of(&bytes, 0xa2);
    for torn in [third..third + 512, third + 300..third + 812, third + 1024..third + 1536, third + 1400..third + 2000] {
        for filler in [0, 0x5a] {
            let folder = tempfile::tempdir().expect("a folder");
            let (journal, mut bytes) = three_commits(folder.path());
            bytes[torn.clone()].fill(filler);
            fs::write(&journal, &bytes).expect("it is written");
            assert_eq!(keys(folder.path()), [1, 2], "{:?} filled with {filler}", torn.start - third..torn.end - third);
            assert_eq!(keys(folder.path()), [1, 2], "it stays as it is");
        }
    }
}

#[test]
fn damage_before_a_whole_commit_is_refused_and_nothing_cut_off() {
    let folder = tempfile::tempdir().expect("a folder");
    let (journal, mut bytes) = three_commits(folder.path());
    let second = position(&bytes, 0xa2);
    bytes[second + 100..second + 200].fill(0);
    fs::write(&journal, &bytes).expect("it is written");
    let told = refusal(folder.path());
    assert!(told.contains("is damaged (its journal cannot be read"), "{told}");
    assert_eq!(fs::metadata(&journal).expect("it is there").len(), bytes.len() as u64);
}
