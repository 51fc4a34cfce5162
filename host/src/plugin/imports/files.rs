//! The `files` import: the files of `allow_files`, watched by looking at their metadata.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{
    io::AsyncReadExt,
    time::{Instant, sleep_until},
};

use super::State;
use crate::plugin::bindings::discovery::sluice::plugin::files::{self, Error};

/// Largest file: ten thousand instances with metadata.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// How often a file is looked at. A look is one system call, and works on every file system, also where changes come
/// over a network or by a renamed folder (Kubernetes' config maps), of which inotify says nothing.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

type Read = Result<Option<(Vec<u8>, Vec<u8>)>, Error>;

impl files::Host for State {
    async fn read(&mut self, path: String, known: Option<Vec<u8>>, wait_ms: u32) -> Read {
        if self.imports.outside.is_none() {
            return Err(Error::NotAllowed);
        }
        let Some(granted) = self.imports.grants.file(&path).cloned() else {
            self.imports.refuse(format_args!("file {path:?} is not among allow_files"));
            return Err(Error::NotAllowed);
        };
        changed(&granted, known.as_deref(), Duration::from_millis(wait_ms.into())).await
    }
}

/// What tells two states of a file apart without reading it.
type Look = (u64, i64, i64, i64, i64, u64);

async fn look(path: &Path) -> io::Result<Look> {
    let seen = tokio::fs::metadata(path).await?;
    Ok((seen.ino(), seen.mtime(), seen.mtime_nsec(), seen.ctime(), seen.ctime_nsec(), seen.len()))
}

async fn changed(path: &PathBuf, known: Option<&[u8]>, wait: Duration) -> Read {
    let deadline = Instant::now() + wait;
    let mut read_at: Option<Look> = None;
    loop {
        let now = look(path).await.map_err(failed)?;
        if read_at != Some(now) {
            let (content, digest) = content(path).await?;
            if known != Some(&digest) {
                return Ok(Some((content, digest)));
            }
            read_at = Some(now);
        }
        let next = Instant::now() + LOOK_INTERVAL;
        if next >= deadline {
            sleep_until(deadline).await;
            return Ok(None);
        }
        sleep_until(next).await;
    }
}

async fn content(path: &PathBuf) -> Result<(Vec<u8>, Vec<u8>), Error> {
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut content = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).await.map_err(failed)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::Failed(format!("it is larger than {} MiB", FILE_BYTES_MAX >> 20)));
    }
    let digest = Sha256::digest(&content).to_vec();
    Ok((content, digest))
}

fn failed(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound => Error::NotFound,
        _ => Error::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_seen_and_an_unchanged_file_is_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("endpoints.json");
        std::fs::write(&path, "[1]").expect("a writable folder");
        let (content, digest) =
            changed(&path, None, Duration::ZERO).await.expect("it is there").expect("nothing was known");
        assert_eq!(content, b"[1]");
        assert!(changed(&path, Some(&digest), Duration::from_millis(1)).await.expect("still there").is_none());
        let waiting = changed(&path, Some(&digest), Duration::from_secs(30));
        let writing = async {
            tokio::task::yield_now().await;
            let next = dir.path().join("next");
            std::fs::write(&next, "[2]").expect("a writable folder");
            std::fs::rename(next, &path).expect("a writable folder");
        };
        let (changed, ()) = tokio::join!(waiting, writing);
        assert_eq!(changed.expect("it is there").expect("other content").0, b"[2]");
    }

    #[tokio::test]
    async fn a_file_that_is_too_large_or_absent_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("large");
        assert!(matches!(changed(&path, None, Duration::ZERO).await, Err(Error::NotFound)));
        let file = std::fs::File::create(&path).expect("a writable folder");
        file.set_len(FILE_BYTES_MAX + 1).expect("a sparse file");
        assert!(matches!(changed(&path, None, Duration::ZERO).await, Err(Error::Failed(_))));
    }
}
