//! A disk that refuses: what is not written is not acknowledged, and what was is still there.

use std::process::Command;

use rustix::process::{Resource, Rlimit, setrlimit};

use super::{crash::child, *};
use crate::storage::{CommitError, StorageError};

/// Of any one file, in the child.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

#[test]
fn a_write_that_fails_is_not_acknowledged_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    // Ignored, the signal of a file that grows too large becomes an error.
    let plain = child("storage::tests::failing_writes::commits_until_writes_fail", folder.path());
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(plain.get_program()).args(plain.get_args());
    shell.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.output().expect("it starts");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let last = told.lines().filter_map(|line| line.strip_prefix("acknowledged ")).next_back();
    let acknowledged: usize = last.and_then(|last| last.parse().ok()).unwrap_or_else(|| panic!("it told:\n{told}"));
    assert!(acknowledged > 10, "{told}");

    let storage = Embedded::open(folder.path()).expect("it opens again");
    runtime().block_on(async {
        let left = storage.scan(Space::Registry, KeyRange::all(), usize::MAX).await.expect("it is read");
        // The one that failed may be there or not.
        assert!(
            (acknowledged..=acknowledged + 1).contains(&left.len()),
            "{acknowledged} acknowledged, {} left",
            left.len()
        );
        storage.commit(Batch::new().put(Space::Registry, "again", "1")).await.expect("it takes writes again");
        storage.close().await;
    });
}

#[test]
#[ignore = "the process that the test above starts"]
fn commits_until_writes_fail() {
    let Some(folder) = super::crash::folder_of_child() else { return };
    runtime().block_on(async {
        let storage = Embedded::open(&folder).expect("it opens");
        let limit = Rlimit { current: Some(FILE_BYTES_MAX), maximum: Some(FILE_BYTES_MAX) };
        setrlimit(Resource::Fsize, limit).expect("a limit can be lowered");
        println!();
        let value = Bytes::from(vec![0xa5; 30_000]);
        let mut n = 0;
        let failed = loop {
            match storage.commit(Batch::new().put(Space::Registry, key(n), value.clone())).await {
                Ok(()) => n += 1,
                Err(failed) => break failed,
            }
            println!("acknowledged {n}");
        };
        assert!(matches!(failed, CommitError::Storage(StorageError::WriteFailed { .. })), "{failed}");
        assert_eq!(storage.get(Space::Registry, key(n)).await, Ok(None), "what failed cannot be read");
        assert_eq!(storage.get(Space::Registry, key(0)).await, Ok(Some(value)), "what was there can");
        let next = storage.commit(Batch::new().put(Space::Registry, "next", "1")).await;
        assert!(matches!(next, Err(CommitError::Storage(StorageError::WriteFailed { .. }))), "{next:?}");
        storage.close().await;
    });
}
