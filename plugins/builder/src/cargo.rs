//! Runs cargo for the guests and finds out what it made.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::toolchain::{TARGET, Toolchain};

/// A guest's stack, in bytes: the deepest call of a policy (reading its settings) needs a few KiB, and the linker's
/// default of 1 MiB would be resident for each worker and service.
const STACK_BYTES: u32 = 32 * 1024;

/// A core module that cargo made.
#[derive(Debug)]
pub struct Module {
    /// The package's name, with hyphens.
    pub name: String,
    pub manifest: PathBuf,
    pub path: PathBuf,
}

/// Builds all packages that belong to `manifest`, and answers with those that are WebAssembly modules.
pub fn build(toolchain: &Toolchain, manifest: &Path, target_dir: Option<&Path>) -> Result<Vec<Module>> {
    let mut command = command(toolchain, manifest, target_dir);
    let mut child = command.spawn().context("cargo does not start; is it installed?")?;
    let output = child.stdout.take().context("cargo's output was asked for")?;
    let mut modules = Vec::new();
    for line in BufReader::new(output).lines() {
        modules.extend(module(&line.context("reading cargo's output")?));
    }
    let status = child.wait().context("waiting for cargo")?;
    if !status.success() {
        bail!("cargo could not build {} for {TARGET} (see above)", manifest.display());
    }
    modules.sort_by(|a, b| a.manifest.cmp(&b.manifest));
    Ok(modules)
}

fn command(toolchain: &Toolchain, manifest: &Path, target_dir: Option<&Path>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"])
        .arg("--manifest-path")
        .arg(manifest)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if let Some(dir) = target_dir {
        command.arg("--target-dir").arg(dir);
    }
    // What is set for the host's own build (a caller's `cargo test`, say) is not meant for guests.
    for name in ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"] {
        command.env_remove(name);
    }
    for (name, _) in std::env::vars_os().filter(|(name, _)| {
        name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_PROFILE_"))
    }) {
        command.env_remove(name);
    }
    // In this form flags may contain spaces, and no configuration file adds to them.
    command.env("CARGO_ENCODED_RUSTFLAGS", format!("-Clink-arg=-zstack-size={STACK_BYTES}"));
    toolchain.apply(&mut command);
    command
}

/// The module that a line of cargo's output tells of.
fn module(line: &str) -> Option<Module> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" {
        return None;
    }
    let path =
        message["filenames"].as_array()?.iter().filter_map(Value::as_str).find(|name| name.ends_with(".wasm"))?;
    let is_cdylib = message["target"]["crate_types"].as_array()?.iter().any(|kind| kind == "cdylib");
    let manifest = PathBuf::from(message["manifest_path"].as_str()?);
    let name = message["target"]["name"].as_str()?.replace('_', "-");
    is_cdylib.then(|| Module { name, manifest, path: path.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cdylibs_that_are_modules_count() {
        let line = |kind: &str, file: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/x/my-policy/Cargo.toml",
                    "target":{{"name":"my_policy","crate_types":["{kind}"]}},"filenames":["/t/{file}"]}}"#
            )
        };
        let found = module(&line("cdylib", "my_policy.wasm")).expect("a module");
        assert_eq!((found.name.as_str(), found.path.to_str()), ("my-policy", Some("/t/my_policy.wasm")));
        assert!(module(&line("rlib", "my_policy.wasm")).is_none());
        assert!(module(&line("cdylib", "libmy_policy.so")).is_none());
        assert!(module("not json").is_none());
    }
}
