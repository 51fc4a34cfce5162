//! Compiled code on disk, so that a start compiles nothing that was compiled before.
//!
//! One file an engine and component. An entry that cannot be read, that was cut short or that another version of the
//! gateway has written is made anew; nothing here can make a load fail.

mod sealed;

use std::{
    fmt, fs,
    hash::{Hash, Hasher},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use sha2::Digest;
use wasmtime::{Engine, component::Component};

use super::engine::CacheCounts;

/// Entries kept; the oldest go first. Some hundred KiB each.
const ENTRIES_MAX: usize = 128;

const EXTENSION: &str = "code";

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Sha256([u8; 32]);

impl Sha256 {
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// A private folder of compiled code.
pub(super) struct CodeCache {
    dir: PathBuf,
    /// What compiled code depends on besides the component: compiler, its settings, the processor.
    engine: Sha256,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl CodeCache {
    /// Makes the folder if need be, and private: whoever can write into it can run code as this process.
    pub fn open(dir: &Path, engine: &Engine) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let dir = dir.canonicalize()?;
        let metadata = fs::metadata(&dir)?;
        if !metadata.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it belongs to another user"));
        }
        if metadata.mode() & 0o077 != 0 {
            fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        }
        // A file made here now and dropped: that it cannot be written is said at start, not at the first miss.
        tempfile::tempfile_in(&dir)?;
        Ok(Self { dir, engine: engine_key(engine), hits: AtomicU64::new(0), misses: AtomicU64::new(0) })
    }

    pub fn counts(&self) -> CacheCounts {
        CacheCounts { hits: self.hits.load(Ordering::Relaxed), misses: self.misses.load(Ordering::Relaxed) }
    }

    /// The compiled component of this hash, made if it is not there.
    pub fn get_or_make<E>(
        &self,
        engine: &Engine,
        component: &Sha256,
        make: impl FnOnce() -> Result<Component, E>,
    ) -> Result<Component, E> {
        let path = self.path(component);
        if let Some(found) = self.read(engine, &path, component) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(found);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let made = make()?;
        if let Err(error) = self.write(&path, component, &made) {
            tracing::warn!(path = %path.display(), %error, "compiled code was not kept: the next start compiles again");
        }
        Ok(made)
    }

    fn path(&self, component: &Sha256) -> PathBuf {
        let engine = self.engine.to_string();
        self.dir.join(format!("{}-{component}.{EXTENSION}", &engine[..16]))
    }

    fn read(&self, engine: &Engine, path: &Path, component: &Sha256) -> Option<Component> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "compiled code cannot be read: compiling again");
                return None;
            }
        };
        let found = sealed::open(engine, &self.engine, component, &bytes);
        if found.is_none() {
            tracing::warn!(path = %path.display(), "compiled code is damaged: compiling again");
        }
        found
    }

    fn write(&self, path: &Path, component: &Sha256, made: &Component) -> io::Result<()> {
        let code = made.serialize().map_err(|error| io::Error::other(error.to_string()))?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        io::Write::write_all(&mut file, &sealed::seal(&self.engine, component, code))?;
        file.persist(path)?;
        self.remove_oldest()
    }

    fn remove_oldest(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == EXTENSION) {
                entries.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        entries.sort();
        for (_, path) in entries.iter().take(entries.len().saturating_sub(ENTRIES_MAX)) {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

impl fmt::Debug for CodeCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeCache").field("dir", &self.dir).field("counts", &self.counts()).finish_non_exhaustive()
    }
}

fn engine_key(engine: &Engine) -> Sha256 {
    /// All that an engine hashes, in a hash that is the same in every run.
    struct Key(sha2::Sha256);
    impl Hasher for Key {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            let digest = self.0.clone().finalize();
            u64::from_le_bytes(*digest.first_chunk().expect("a SHA-256 has 32 bytes"))
        }
    }
    let mut key = Key(sha2::Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut key);
    Sha256(key.0.finalize().into())
}

#[cfg(test)]
mod tests;
