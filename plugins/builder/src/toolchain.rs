//! Which compiler can make guests: rustup's or a distribution's with the target installed, else Debian's `rustc-web`, which
//! builds the target's standard library from source.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

/// What guests are compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's compiler and the sources of its standard library (packages `rustc-web` and `rust-web-src`).
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LIBRARY: &str = "/usr/lib/rustlib/src/rust/library/std/src/lib.rs";

/// A way to compile for [`TARGET`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The compiler on the path has the target's standard library.
    Installed,
    /// Debian's compiler makes it from source, and links with the linker named here.
    FromSource { rustc: PathBuf, linker: PathBuf },
}

impl Toolchain {
    /// Takes what is installed; an error says what to install.
    pub fn find() -> Result<Self> {
        let sysroot = sysroot(&rustc());
        if sysroot.as_ref().is_some_and(|sysroot| has_target(sysroot)) {
            return Ok(Self::Installed);
        }
        if Path::new(DEBIAN_RUSTC).exists() && Path::new(DEBIAN_LIBRARY).exists() {
            let linker = sysroot.and_then(|sysroot| bundled_linker(&sysroot)).or_else(linker_on_path);
            if let Some(linker) = linker {
                return Ok(Self::FromSource { rustc: DEBIAN_RUSTC.into(), linker });
            }
        }
        bail!(
            "no compiler here can build for {TARGET}. Install its standard library with `rustup target add {TARGET}`; \
             on Debian, where rustup cannot download, `apt-get install rustc-web rust-web-src lld` serves instead"
        )
    }

    /// For people, in half a sentence.
    pub fn in_words(&self) -> String {
        match self {
            Self::Installed => format!("the installed {TARGET} target"),
            Self::FromSource { rustc, .. } => format!("{} and the standard library from source", rustc.display()),
        }
    }

    pub(crate) fn apply(&self, command: &mut Command) {
        if let Self::FromSource { rustc, linker } = self {
            command
                .arg("-Zbuild-std=std,panic_abort")
                // Plain sorts instead of three adaptive ones each, and no symbolisation of backtraces: a third of a
                // policy's size.
                .arg("-Zbuild-std-features=optimize_for_size")
                .env("RUSTC", rustc)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
    }
}

fn rustc() -> OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

fn sysroot(rustc: &OsString) -> Option<PathBuf> {
    let output = Command::new(rustc).args(["--print", "sysroot"]).output().ok()?;
    let sysroot = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(sysroot.trim()))
}

fn has_target(sysroot: &Path) -> bool {
    let libraries = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    let Ok(entries) = libraries.read_dir() else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

/// The linker that rustup installs beside the compiler.
fn bundled_linker(sysroot: &Path) -> Option<PathBuf> {
    let hosts = sysroot.join("lib/rustlib").read_dir().ok()?;
    hosts.flatten().map(|host| host.path().join("bin/rust-lld")).find(|path| path.is_file())
}

/// Debian's package `lld`.
fn linker_on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("wasm-ld")).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_counts_as_installed_only_with_its_standard_library() {
        let folder = tempfile::tempdir().expect("a folder");
        let libraries = folder.path().join("lib/rustlib/wasm32-unknown-unknown/lib");
        assert!(!has_target(folder.path()));
        std::fs::create_dir_all(&libraries).expect("a folder");
        assert!(!has_target(folder.path()));
        std::fs::write(libraries.join("libstd-0123.rlib"), b"").expect("a file");
        assert!(has_target(folder.path()));
    }
}
