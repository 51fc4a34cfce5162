//! `sluice plugin new`: a crate that builds and passes its own test as it stands.
//!
//! The SDK goes along as a copy, in its folder `sdk`: such a crate builds wherever it is, with the SDK that fits the
//! gateway which made it, and needs nothing of this repository.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail, ensure};

include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

const MANIFEST: &str = include_str!("../template/Cargo.toml.in");
const BALANCER: &str = include_str!("../template/src/balancer.rs.in");
const FAILOVER: &str = include_str!("../template/src/failover.rs.in");
const EVENT_HANDLER: &str = include_str!("../template/src/event-handler.rs.in");
const TRANSACTION: &str = include_str!("../template/src/transaction.rs.in");
/// The versions of the SDK's dependencies that it is tested with; cargo leaves out what the crate does not use.
const LOCK: &str = include_str!("../../Cargo.lock");
const IGNORED: &str = "/target/\n/*.wasm\n";

/// Names that cargo or the compiler would take for something else.
const RESERVED: [&str; 60] = [
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "self",
    "sluice-sdk",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "wit-bindgen",
    "yield",
    "union",
    "raw",
];

/// Makes a crate called `name` in the folder `dir`, which must be empty or not yet there, for a plugin of `kind`.
pub fn new_crate(dir: &Path, name: &str, kind: &str) -> Result<()> {
    let source = match kind {
        "balancer" => BALANCER,
        "failover" => FAILOVER,
        "transaction" => TRANSACTION,
        "event-handler" => EVENT_HANDLER,
        _ => bail!(
            "there is no template for a {kind} in this version; there is one for a balancer, a failover, a transaction and an \
             event-handler"
        ),
    };
    check_name(name)?;
    let taken = dir.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    ensure!(!taken, "{} is not empty: a new plugin needs a folder of its own", dir.display());
    let named = |text: &str| text.replace("{name}", name);
    write(dir, "Cargo.toml", &named(MANIFEST))?;
    write(dir, "Cargo.lock", LOCK)?;
    write(dir, ".gitignore", IGNORED)?;
    write(dir, "src/lib.rs", &named(source))?;
    SDK.iter().try_for_each(|(file, text)| write(dir, &format!("sdk/{file}"), text))
}

fn check_name(name: &str) -> Result<()> {
    let letters = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let good = letters && name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.ends_with('-');
    ensure!(
        good && !name.contains("--"),
        "the name {name:?} cannot be a crate's: take lower-case letters, digits and single hyphens, a letter first"
    );
    ensure!(!RESERVED.contains(&name), "the name {name:?} has a meaning of its own in Rust: take another");
    Ok(())
}

fn write(dir: &Path, file: &str, text: &str) -> Result<()> {
    let path = dir.join(file);
    let folder = path.parent().context("a file is in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cargo_would_refuse_are_refused_first() {
        for name in ["", "9lives", "Upper", "a_b", "a--b", "a-", "-a", "match", "sluice-sdk", "ä"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for name in ["a", "tenant-affinity", "p2c"] {
            check_name(name).expect("a good name");
        }
    }

    #[test]
    fn a_folder_with_something_in_it_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("precious"), "").expect("a file");
        let error = new_crate(folder.path(), "mine", "balancer").expect_err("not empty");
        assert!(error.to_string().contains("is not empty"), "{error}");
        assert_eq!(folder.path().read_dir().expect("a folder").count(), 1);
    }

    #[test]
    fn other_kinds_are_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = new_crate(folder.path(), "mine", "discovery").expect_err("no template");
        assert!(error.to_string().contains("no template for a discovery"), "{error}");
    }

    #[test]
    fn the_copy_of_the_sdk_is_whole() {
        let has = |file: &str| SDK.iter().any(|(name, _)| *name == file);
        for file in [
            "Cargo.toml",
            "src/lib.rs",
            "src/members/level.rs",
            "src/failover/retries.rs",
            "wit/world.wit",
            "wit/types.wit",
        ] {
            assert!(has(file), "{file}");
        }
    }
}
