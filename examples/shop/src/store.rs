//! What the instances of one service share: a JSON file under a lock, in place of a database.

use std::{
    fs::{self, File, OpenOptions},
    io,
    marker::PhantomData,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// One value of type `T`, shared by all processes that open the same name in the same folder.
#[derive(Debug)]
pub struct Store<T> {
    file: PathBuf,
    /// Locked instead of the file itself, which each change replaces.
    lock: PathBuf,
    value: PhantomData<fn() -> T>,
}

impl<T: Default + Serialize + DeserializeOwned> Store<T> {
    pub fn open(folder: &Path, name: &str) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let file = folder.join(name).with_extension("json");
        Ok(Self { lock: file.with_extension("lock"), file, value: PhantomData })
    }

    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> io::Result<R> {
        let lock = self.lock_file()?;
        lock.lock_shared()?;
        self.load().map(|value| look(&value))
    }

    /// Changes the value; where `change` answers with an error, nothing is kept.
    pub fn change<R, E>(&self, change: impl FnOnce(&mut T) -> Result<R, E>) -> io::Result<Result<R, E>> {
        let lock = self.lock_file()?;
        lock.lock()?;
        let mut value = self.load()?;
        let changed = change(&mut value);
        if changed.is_ok() {
            let next = self.file.with_extension("next");
            fs::write(&next, serde_json::to_vec(&value)?)?;
            fs::rename(&next, &self.file)?;
        }
        Ok(changed)
    }

    fn load(&self) -> io::Result<T> {
        match fs::read(&self.file) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
            Err(error) => Err(error),
        }
    }

    fn lock_file(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(&self.lock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_instances_never_lose_each_others_change() {
        let folder = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let store = Store::<u32>::open(folder.path(), "count").unwrap();
                scope.spawn(move || {
                    for _ in 0..50 {
                        let change = |count: &mut u32| {
                            *count += 1;
                            Ok::<_, ()>(())
                        };
                        store.change(change).unwrap().unwrap();
                    }
                });
            }
        });
        let store = Store::<u32>::open(folder.path(), "count").unwrap();
        assert_eq!(store.read(|count| *count).unwrap(), 200);
    }

    #[test]
    fn a_change_that_fails_keeps_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::<u32>::open(folder.path(), "count").unwrap();
        let refused = store.change(|count| {
            *count = 7;
            Err::<(), _>("no")
        });
        assert_eq!(refused.unwrap(), Err("no"));
        assert_eq!(store.read(|count| *count).unwrap(), 0);
    }
}
