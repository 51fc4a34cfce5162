//! Notices that the configuration file has other content.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use xxhash_rust::xxh3::xxh3_128;

use crate::control::Trigger;

/// Quiet for so long, and the editor has finished.
const SETTLE: Duration = Duration::from_millis(100);
/// No longer is waited for quiet: something else in the folder may never rest.
const SETTLE_MAX: Duration = Duration::from_secs(1);

/// Watches until it is dropped.
pub(super) struct FileWatch {
    task: JoinHandle<()>,
    _watcher: RecommendedWatcher,
}

impl FileWatch {
    /// The *folder* is watched: most editors write another file and rename it, which a watch on the file would not
    /// outlive. The content as it is now counts as known, so begin before the file is read. Needs a tokio runtime.
    pub fn begin(path: &Path, triggers: mpsc::Sender<Trigger>) -> notify::Result<Self> {
        let touched = Arc::new(Notify::new());
        let wake = Arc::clone(&touched);
        let name = path.file_name().map(OsStr::to_owned);
        // What a link leads to may change without an event that names the link (so Kubernetes swaps a ConfigMap).
        let any_name = path.is_symlink();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let concerns = |event: &Event| {
                let named = event.paths.iter().any(|path| path.file_name() == name.as_deref());
                !event.kind.is_access() && (any_name || named || event.need_rescan())
            };
            // An error means that events were lost: better to look.
            if event.as_ref().map_or(true, concerns) {
                wake.notify_one();
            }
        })?;
        for folder in folders(path) {
            watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        }
        let known = fingerprint(path);
        let task = tokio::spawn(follow(path.to_owned(), known, touched, triggers));
        Ok(Self { task, _watcher: watcher })
    }
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(path: PathBuf, mut known: Option<u128>, touched: Arc<Notify>, triggers: mpsc::Sender<Trigger>) {
    loop {
        touched.notified().await;
        settle(&touched).await;
        // A file that is gone is being replaced, or there is nothing to change to.
        let Some(content) = fingerprint(&path) else { continue };
        if known.replace(content) != Some(content) && triggers.send(Trigger::FileChanged).await.is_err() {
            return;
        }
    }
}

async fn settle(touched: &Notify) {
    let latest = Instant::now() + SETTLE_MAX;
    while Instant::now() < latest {
        let quiet = latest.min(Instant::now() + SETTLE);
        if timeout_at(quiet, touched.notified()).await.is_err() {
            return;
        }
    }
}

/// The file's folder, and where the file is a link, also that of what it leads to.
fn folders(path: &Path) -> Vec<PathBuf> {
    let folder_of = |path: &Path| match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    let mut folders = vec![folder_of(path)];
    if let Ok(target) = path.canonicalize().map(|target| folder_of(&target))
        && folders[0].canonicalize().is_ok_and(|folder| folder != target)
    {
        folders.push(target);
    }
    folders
}

fn fingerprint(path: &Path) -> Option<u128> {
    // Anything but a plain file (a pipe, say) could be read only once.
    std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    std::fs::read(path).ok().map(|content| xxh3_128(&content))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    /// Far more than inotify needs, and far less than somebody waits.
    const DEADLINE: Duration = Duration::from_secs(20);

    struct Watched {
        folder: tempfile::TempDir,
        path: PathBuf,
        triggers: mpsc::Receiver<Trigger>,
        _watch: FileWatch,
    }

    fn watched(prepare: impl FnOnce(&Path) -> PathBuf) -> Watched {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = prepare(folder.path());
        let (sender, triggers) = mpsc::channel(16);
        let _watch = FileWatch::begin(&path, sender).expect("a folder can be watched");
        Watched { folder, path, triggers, _watch }
    }

    fn plain(folder: &Path) -> PathBuf {
        let path = folder.join("sluice.toml");
        fs::write(&path, "first").expect("writable");
        path
    }

    impl Watched {
        async fn await_change(&mut self) {
            let trigger = tokio::time::timeout(DEADLINE, self.triggers.recv()).await;
            assert!(matches!(trigger, Ok(Some(Trigger::FileChanged))), "{trigger:?}");
        }
    }

    #[tokio::test]
    async fn a_file_written_in_place_is_noticed() {
        let mut watched = watched(plain);
        fs::write(&watched.path, "second").expect("writable");
        watched.await_change().await;
    }

    #[tokio::test]
    async fn an_editor_that_renames_is_noticed_every_time() {
        let mut watched = watched(plain);
        for content in ["second", "third"] {
            let next = watched.folder.path().join(".sluice.toml.swp");
            fs::write(&next, content).expect("writable");
            fs::rename(&next, &watched.path).expect("writable");
            watched.await_change().await;
        }
    }

    #[tokio::test]
    async fn a_file_removed_and_made_again_is_noticed() {
        let mut watched = watched(plain);
        fs::remove_file(&watched.path).expect("writable");
        let gone = tokio::time::timeout(SETTLE_MAX * 2, watched.triggers.recv()).await;
        gone.expect_err("a file that is gone is nothing to change to");
        fs::write(&watched.path, "second").expect("writable");
        watched.await_change().await;
    }

    #[tokio::test]
    async fn the_same_content_again_is_no_change() {
        let mut watched = watched(plain);
        fs::write(&watched.path, "first").expect("writable");
        fs::write(watched.folder.path().join("other"), "x").expect("writable");
        // Past any settling, the next real change must be the only trigger.
        tokio::time::timeout(SETTLE_MAX * 2, watched.triggers.recv()).await.expect_err("nothing changed");
        fs::write(&watched.path, "second").expect("writable");
        watched.await_change().await;
        assert!(watched.triggers.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_link_that_is_swapped_is_noticed() {
        let mut watched = watched(|folder| {
            for (version, content) in [("v1", "first"), ("v2", "second")] {
                fs::create_dir(folder.join(version)).expect("writable");
                fs::write(folder.join(version).join("sluice.toml"), content).expect("writable");
            }
            symlink("v1", folder.join("..data")).expect("links can be made");
            symlink("..data/sluice.toml", folder.join("sluice.toml")).expect("links can be made");
            folder.join("sluice.toml")
        });
        let folder = watched.folder.path();
        symlink("v2", folder.join("..data_tmp")).expect("links can be made");
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("writable");
        watched.await_change().await;
    }
}
