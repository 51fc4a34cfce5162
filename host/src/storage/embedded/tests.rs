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
        assert!(told.contains("has 5.0 MiB left, less than the 128.0 MiB that are kept free"), "{told}");
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
