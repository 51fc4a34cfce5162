//! Builds Rust crates into Sluice plugin components: finds a toolchain that can compile for
//! `wasm32-unknown-unknown`, runs cargo, wraps the result as a component, and checks that it is a plugin.
//!
//! `sluice plugin build` and `make plugins` are both this crate. It needs no WebAssembly engine.

mod cargo;
mod component;
mod template;
mod toolchain;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

pub use component::{Checked, check};
pub use template::new_crate;
pub use toolchain::Toolchain;

/// A component that was built.
#[derive(Clone, Debug)]
pub struct Built {
    /// The plugin's name: that of the crate, with hyphens.
    pub name: String,
    /// `balancer` or another kind, by what it exports.
    pub kind: String,
    /// Where the component is.
    pub path: PathBuf,
    pub size_bytes: u64,
    /// False where the file was there already, byte for byte.
    pub changed: bool,
}

/// Builds the guest crate in `crate_dir` into the file `out`; without one, into `<name>.wasm` inside of
/// `crate_dir`. Cargo's progress goes to stderr.
pub fn build(crate_dir: &Path, out: Option<&Path>) -> Result<Built> {
    let manifest = manifest(crate_dir)?;
    let toolchain = Toolchain::find()?;
    let modules = cargo::build(&toolchain, &manifest, None)?;
    ensure!(
        modules.len() == 1,
        "{} is not one plugin: it gives {} WebAssembly modules; a plugin is a package with crate-type = [\"cdylib\"]",
        manifest.display(),
        modules.len()
    );
    let module = &modules[0];
    let default = crate_dir.join(format!("{}.wasm", module.name));
    componentize(module, out.unwrap_or(&default))
}

/// Builds every guest crate of the workspace in `workspace_dir` into `out_dir/<folder>/<crate>.wasm`, where the crate
/// stands in `workspace_dir/<folder>/…`. Workspaces that share a `target_dir` compile the standard library and the
/// SDK's dependencies once. `done` hears of each component.
pub fn build_all(
    workspace_dir: &Path,
    target_dir: &Path,
    out_dir: &Path,
    mut done: impl FnMut(&Built),
) -> Result<Vec<Built>> {
    let manifest = manifest(workspace_dir)?;
    let workspace_dir = manifest.parent().context("a manifest has a folder")?;
    let toolchain = Toolchain::find()?;
    let modules = cargo::build(&toolchain, &manifest, Some(target_dir))?;
    ensure!(!modules.is_empty(), "{} has no crates with crate-type = [\"cdylib\"]", workspace_dir.display());
    modules
        .iter()
        .map(|module| {
            let crate_dir = module.manifest.parent().and_then(|dir| dir.strip_prefix(workspace_dir).ok());
            let folder = crate_dir.and_then(Path::parent).unwrap_or(Path::new(""));
            let built = componentize(module, &out_dir.join(folder).join(format!("{}.wasm", module.name)))?;
            done(&built);
            Ok(built)
        })
        .collect()
}

/// What [`build`] and [`build_all`] say about one component.
pub fn in_words(built: &Built) -> String {
    let state = if built.changed { "built" } else { "unchanged" };
    let kib = built.size_bytes.div_ceil(1024);
    format!("{state}: {} {} ({kib} KiB) {}", built.kind, built.name, built.path.display())
}

fn manifest(dir: &Path) -> Result<PathBuf> {
    let manifest = dir.join("Cargo.toml");
    manifest
        .canonicalize()
        .with_context(|| format!("{} is no crate: there is no {}", dir.display(), manifest.display()))
}

fn componentize(module: &cargo::Module, out: &Path) -> Result<Built> {
    let bytes = fs::read(&module.path).with_context(|| format!("reading {}", module.path.display()))?;
    let component = component::encode(&bytes).with_context(|| format!("{} is no plugin", module.name))?;
    let checked = check(&component).with_context(|| format!("{} is no plugin", module.name))?;
    let changed = fs::read(out).ok().as_deref() != Some(&component[..]);
    if changed {
        write(out, &component).with_context(|| format!("writing {}", out.display()))?;
    }
    let size_bytes = component.len() as u64;
    Ok(Built { name: module.name.clone(), kind: checked.kind, path: out.to_owned(), size_bytes, changed })
}

/// Whole or not at all: another process may be reading the file.
fn write(out: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = out.parent() {
        fs::create_dir_all(folder)?;
    }
    let partial = out.with_extension(format!("{}.partial", std::process::id()));
    fs::write(&partial, bytes)?;
    fs::rename(&partial, out)
}
