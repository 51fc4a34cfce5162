use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use super::*;
use crate::plugin::{
    Runtime, RuntimeError,
    tests::guest::{Guest, InProcess, context, pick, plugin_name},
};

/// Loads a guest in a runtime of its own, and answers whether its code came from the cache.
fn is_hit(dir: &Path) -> bool {
    let runtime = Runtime::new(Some(dir)).unwrap();
    let guest = Guest { pick: "(call $answer (i32.const 5))", ..Guest::default() };
    let mut instance = guest.version(&runtime).balancer(&context()).unwrap();
    assert_eq!(pick(&mut instance).unwrap(), Some(5), "it works wherever it came from");
    runtime.cache_counts() == CacheCounts { hits: 1, misses: 0 }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn a_damaged_entry_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!is_hit(dir.path()));
    assert!(is_hit(dir.path()));
    let [entry] = &entries(dir.path())[..] else { panic!("one entry") };
    let whole = fs::read(entry).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let mut other_seal = whole.clone();
    *other_seal.last_mut().unwrap() ^= 1;
    for damaged in [&b""[..], b"short", &whole[..whole.len() - 1], &whole[1..], &flipped, &other_seal] {
        fs::write(entry, damaged).unwrap();
        assert!(!is_hit(dir.path()), "{} bytes", damaged.len());
        assert!(fs::read(entry).unwrap() == whole, "it was written anew");
        assert!(is_hit(dir.path()));
    }
}

#[test]
fn an_entry_is_only_for_its_own_component_and_engine() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!is_hit(dir.path()));
    let [entry] = &entries(dir.path())[..] else { panic!("one entry") };
    let other = Guest { pick: "(call $answer (i32.const 9))", ..Guest::default() }.component();
    let renamed = entry.file_name().unwrap().to_str().unwrap()[..17].to_owned();
    fs::copy(entry, dir.path().join(format!("{renamed}{}.{EXTENSION}", Sha256::of(&other)))).unwrap();
    let runtime = Runtime::new(Some(dir.path())).unwrap();
    let mut instance = runtime.load(&plugin_name(), &other).unwrap().balancer(&context()).unwrap();
    assert_eq!(pick(&mut instance).unwrap(), Some(9), "the code of another component is not run");
    assert_eq!(runtime.cache_counts(), CacheCounts { hits: 0, misses: 1 });

    // What another engine has sealed, under the very same name.
    let bytes = fs::read(entry).unwrap();
    let code = bytes[..bytes.len() - 32].to_vec();
    let component = Guest { pick: "(call $answer (i32.const 5))", ..Guest::default() }.component();
    fs::write(entry, sealed::seal(&Sha256::of(b"another engine"), &Sha256::of(&component), code)).unwrap();
    assert!(!is_hit(dir.path()));
}

#[test]
fn the_folder_is_private_whatever_it_was_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/cache");
    Runtime::new(Some(&path)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    Runtime::new(Some(&path)).unwrap();
    assert_eq!(mode(&path), 0o700);
}

#[test]
fn a_folder_that_cannot_be_is_one_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Runtime::new(Some(&file)).unwrap_err();
    assert!(matches!(error, RuntimeError::Cache { .. }));
    assert!(
        error.to_string().starts_with(&format!("the cache of compiled plugins at {}: ", file.display())),
        "{error}"
    );
}

#[test]
fn the_oldest_entries_go_when_there_are_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(1000);
    for n in 0..ENTRIES_MAX {
        let file = fs::File::create(dir.path().join(format!("{n:03}.{EXTENSION}"))).unwrap();
        file.set_modified(old + std::time::Duration::from_secs(n as u64)).unwrap();
    }
    fs::write(dir.path().join("README"), "not an entry").unwrap();
    assert!(!is_hit(dir.path()));
    assert!(is_hit(dir.path()), "the new one stays");
    let left = entries(dir.path());
    assert_eq!(left.len(), ENTRIES_MAX + 1);
    assert!(left.iter().all(|path| !path.ends_with(format!("000.{EXTENSION}"))));
    assert!(left.iter().any(|path| path.ends_with("README")));
}
