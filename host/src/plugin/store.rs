//! Uploaded components on disk: `<data_dir>/plugins/<name>/<version>.wasm`.
//!
//! A version is there whole or not at all, also after a crash: it is written beside its place, made durable, and
//! renamed. When it was uploaded is the file's time of modification.

use std::{
    collections::BTreeSet,
    fs,
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::model::{PluginName, VersionId};

const EXTENSION: &str = "wasm";
/// Of files that are not whole yet; those that a crash left are removed when the store is opened.
const UNFINISHED: &str = ".unfinished";

/// The uploaded versions of all plugins. Calls block on the disk: not for a worker or an async task.
#[derive(Debug)]
pub struct ComponentStore {
    root: PathBuf,
}

/// One version, as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    pub id: VersionId,
    pub bytes: u64,
    pub uploaded: SystemTime,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("data_dir cannot be used: {path}: {source}")]
    Open { path: PathBuf, source: io::Error },
    #[error("plugin {plugin}: {path}: {source}")]
    Io { plugin: PluginName, path: PathBuf, source: io::Error },
    #[error("plugin {plugin}: version {id} at {path} is damaged (its content has another hash): upload it again")]
    Damaged { plugin: PluginName, id: VersionId, path: PathBuf },
}

impl ComponentStore {
    /// Makes the folder if need be, and sees that it can be written.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let root = data_dir.join("plugins");
        let failed = |source| StoreError::Open { path: root.clone(), source };
        fs::create_dir_all(&root).map_err(failed)?;
        tempfile::tempfile_in(&root).map_err(failed)?;
        let store = Self { root: root.clone() };
        store.remove_unfinished().map_err(failed)?;
        Ok(store)
    }

    /// Plugins that have versions in a `data_dir` that may belong to a gateway which is running, or not be there at
    /// all: nothing is made or tidied up.
    pub fn kept_in(data_dir: &Path) -> Vec<PluginName> {
        let store = Self { root: data_dir.join("plugins") };
        let mut names = store.plugins().unwrap_or_default();
        names.retain(|name| store.versions(name).is_ok_and(|versions| !versions.is_empty()));
        names
    }

    /// Keeps a version. What is there already is only marked as uploaded now. Durable when it returns.
    pub fn put(&self, plugin: &PluginName, component: &[u8]) -> Result<StoredVersion, StoreError> {
        let id = VersionId::of(component);
        let path = self.path(plugin, id);
        let failed = |source| StoreError::Io { plugin: plugin.clone(), path: path.clone(), source };
        let there = fs::read(&path).is_ok_and(|bytes| bytes == component);
        if there {
            File::options().write(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()))
        } else {
            self.write(&path, component)
        }
        .map_err(failed)?;
        let metadata = fs::metadata(&path).map_err(failed)?;
        Ok(StoredVersion { id, bytes: metadata.len(), uploaded: metadata.modified().map_err(failed)? })
    }

    /// The bytes of a version, with their hash checked; none where it is not kept.
    pub fn get(&self, plugin: &PluginName, id: VersionId) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(plugin, id);
        match fs::read(&path) {
            Ok(bytes) if VersionId::of(&bytes) == id => Ok(Some(bytes)),
            Ok(_) => Err(StoreError::Damaged { plugin: plugin.clone(), id, path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(StoreError::Io { plugin: plugin.clone(), path, source }),
        }
    }

    /// Whether a version is kept, be it damaged or not.
    pub fn contains(&self, plugin: &PluginName, id: VersionId) -> bool {
        self.path(plugin, id).is_file()
    }

    /// Removes a version, if it is there.
    pub fn remove(&self, plugin: &PluginName, id: VersionId) -> Result<(), StoreError> {
        let path = self.path(plugin, id);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StoreError::Io { plugin: plugin.clone(), path, source })
            }
            _ => Ok(()),
        }
    }

    /// Plugins that have versions here, in order of their names.
    pub fn plugins(&self) -> Result<Vec<PluginName>, StoreError> {
        let failed = |source| StoreError::Open { path: self.root.clone(), source };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            // What has no plugin's name is none of ours, and stays.
            names.extend(name.to_str().and_then(|name| name.parse::<PluginName>().ok()));
        }
        names.sort();
        Ok(names)
    }

    /// Versions of a plugin, the latest upload first.
    pub fn versions(&self, plugin: &PluginName) -> Result<Vec<StoredVersion>, StoreError> {
        let dir = self.root.join(plugin.as_str());
        let listed = list(&dir);
        let mut versions = listed.map_err(|source| StoreError::Io { plugin: plugin.clone(), path: dir, source })?;
        versions.sort_by_key(|version| std::cmp::Reverse((version.uploaded, version.id)));
        Ok(versions)
    }

    /// Removes the oldest uploads beyond `keep`, but none that is in use. Answers with those removed.
    pub fn prune(
        &self,
        plugin: &PluginName,
        keep: usize,
        in_use: &BTreeSet<VersionId>,
    ) -> Result<Vec<VersionId>, StoreError> {
        let mut removed = Vec::new();
        for version in self.versions(plugin)?.into_iter().skip(keep).filter(|version| !in_use.contains(&version.id)) {
            let path = self.path(plugin, version.id);
            match fs::remove_file(&path) {
                Ok(()) => removed.push(version.id),
                Err(error) if error.kind() == io::ErrorKind::NotFound => (),
                Err(source) => return Err(StoreError::Io { plugin: plugin.clone(), path, source }),
            }
        }
        Ok(removed)
    }

    fn path(&self, plugin: &PluginName, id: VersionId) -> PathBuf {
        self.root.join(plugin.as_str()).join(format!("{id}.{EXTENSION}"))
    }

    /// The content is durable before its name is, and the name before this returns.
    fn write(&self, path: &Path, component: &[u8]) -> io::Result<()> {
        let dir = path.parent().expect("a version stands in its plugin's folder");
        if !dir.is_dir() {
            fs::create_dir_all(dir)?;
            sync_dir(&self.root)?;
        }
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(dir)?;
        file.write_all(component)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        sync_dir(dir)
    }

    fn remove_unfinished(&self) -> io::Result<()> {
        for dir in fs::read_dir(&self.root)? {
            let dir = dir?.path();
            if !dir.is_dir() {
                continue;
            }
            for entry in fs::read_dir(dir)? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        Ok(())
    }
}

fn list(dir: &Path) -> io::Result<Vec<StoredVersion>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut versions = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let id = stem.and_then(|stem| stem.parse().ok()).filter(|_| path.extension().is_some_and(|e| e == EXTENSION));
        if let Some(id) = id {
            let metadata = fs::metadata(&path)?;
            versions.push(StoredVersion { id, bytes: metadata.len(), uploaded: metadata.modified()? });
        }
    }
    Ok(versions)
}

/// Makes the names in a folder durable.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn name(name: &str) -> PluginName {
        name.parse().unwrap()
    }

    fn open(dir: &tempfile::TempDir) -> ComponentStore {
        ComponentStore::open(dir.path()).unwrap()
    }

    /// Keeps a version as if it had been uploaded `ago` seconds before now.
    fn put_ago(store: &ComponentStore, plugin: &PluginName, component: &[u8], ago: u64) -> VersionId {
        let id = store.put(plugin, component).unwrap().id;
        let file = File::options().write(true).open(store.path(plugin, id)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(ago)).unwrap();
        id
    }

    #[test]
    fn a_look_into_a_data_dir_that_another_gateway_may_be_using_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ComponentStore::kept_in(&dir.path().join("absent")).is_empty());
        assert!(!dir.path().join("absent").exists());
        open(&dir).put(&name("mine"), b"one").unwrap();
        fs::create_dir(dir.path().join("plugins/empty")).unwrap();
        let unfinished = dir.path().join("plugins/mine").join(format!("{UNFINISHED}x"));
        fs::write(&unfinished, "half").unwrap();
        assert_eq!(ComponentStore::kept_in(dir.path()), [name("mine")]);
        assert!(unfinished.exists(), "an upload under way goes on");
    }

    #[test]
    fn what_was_uploaded_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let kept = open(&dir).put(&name("mine"), b"one").unwrap();
        assert_eq!((kept.id, kept.bytes), (VersionId::of(b"one"), 3));
        let store = open(&dir);
        assert_eq!(store.plugins().unwrap(), [name("mine")]);
        assert_eq!(store.versions(&name("mine")).unwrap(), [kept]);
        assert_eq!(store.get(&name("mine"), kept.id).unwrap().unwrap(), b"one");
        assert_eq!(store.get(&name("mine"), VersionId::of(b"two")).unwrap(), None);
        assert_eq!(store.versions(&name("other")).unwrap(), []);
    }

    #[test]
    fn versions_are_listed_from_the_latest_upload_on() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let ids = [(b"a", 30), (b"b", 10), (b"c", 20)].map(|(bytes, ago)| put_ago(&store, &name("p"), bytes, ago));
        let listed = || store.versions(&name("p")).unwrap().iter().map(|version| version.id).collect::<Vec<_>>();
        assert_eq!(listed(), [ids[1], ids[2], ids[0]]);
        store.put(&name("p"), b"a").unwrap();
        assert_eq!(listed(), [ids[0], ids[1], ids[2]], "uploaded again is uploaded now");
    }

    #[test]
    fn the_oldest_beyond_the_bound_go_but_never_one_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let ids: Vec<_> = (0..5_u8).map(|n| put_ago(&store, &name("p"), &[n], u64::from(n) * 10)).collect();
        let in_use = BTreeSet::from([ids[4]]);
        assert_eq!(store.prune(&name("p"), 2, &in_use).unwrap(), [ids[2], ids[3]]);
        let left: BTreeSet<_> = store.versions(&name("p")).unwrap().iter().map(|version| version.id).collect();
        assert_eq!(left, BTreeSet::from([ids[0], ids[1], ids[4]]));
        assert_eq!(store.prune(&name("p"), 0, &left).unwrap(), []);
    }

    #[test]
    fn a_damaged_version_is_never_given_out_and_can_be_uploaded_again() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let id = store.put(&name("p"), b"whole").unwrap().id;
        fs::write(store.path(&name("p"), id), b"whol").unwrap();
        let error = store.get(&name("p"), id).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }) && error.to_string().contains(&id.to_string()), "{error}");
        store.put(&name("p"), b"whole").unwrap();
        assert_eq!(store.get(&name("p"), id).unwrap().unwrap(), b"whole");
    }

    #[test]
    fn what_a_crash_left_unfinished_is_no_version_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir);
        let id = store.put(&name("p"), b"whole").unwrap().id;
        let left = dir.path().join("plugins/p").join(format!("{UNFINISHED}abc123"));
        fs::write(&left, b"whol").unwrap();
        fs::write(dir.path().join("plugins/a file"), b"of somebody else").unwrap();
        assert_eq!(store.versions(&name("p")).unwrap().len(), 1);
        let store = open(&dir);
        assert!(!left.exists());
        assert_eq!(store.get(&name("p"), id).unwrap().unwrap(), b"whole");
        assert_eq!(store.plugins().unwrap(), [name("p")]);
    }

    #[test]
    fn a_data_dir_that_cannot_be_written_is_one_clear_error() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let error = ComponentStore::open(&dir.path().join("file")).unwrap_err().to_string();
        assert!(error.starts_with("data_dir cannot be used: ") && error.contains("file/plugins: "), "{error}");
        let error = ComponentStore::open(Path::new("/proc/nowhere")).unwrap_err().to_string();
        assert!(error.starts_with("data_dir cannot be used: /proc/nowhere/plugins: "), "{error}");
    }
}
