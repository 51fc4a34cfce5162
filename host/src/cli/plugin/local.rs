//! Making and building plugins, without a gateway.

use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use serde_json::json;

use crate::{
    cli::{
        failure::{Exit, Failure},
        output::Output,
    },
    model::{PluginKind, PluginName},
};

pub(super) fn new(name: &PluginName, kind: PluginKind, dir: Option<PathBuf>) -> Result<Output, Failure> {
    let dir = dir.unwrap_or_else(|| PathBuf::from(name.as_str()));
    sluice_plugin_builder::new_crate(&dir, name.as_str(), kind.as_str()).map_err(failed)?;
    let shown = dir.display();
    let text = format!(
        "made {shown}, a {kind}\n\n  cargo test --manifest-path {shown}/Cargo.toml   # its algorithm, natively\n  \
         sluice plugin build {shown}   # into a component\n  sluice plugin push {shown}/{name}.wasm"
    );
    Ok(Output::new(text, json!({"name": name, "kind": kind, "dir": dir})))
}

pub(super) fn build(crate_dir: &Path, out: Option<&Path>) -> Result<Output, Failure> {
    let built = sluice_plugin_builder::build(crate_dir, out).map_err(failed)?;
    let (size, path) = (ByteSize(built.size_bytes), built.path.display());
    let state = if built.changed { "built" } else { "unchanged" };
    let text = format!("{state}: {path}, a {} of {size}", built.kind);
    let json = json!({
        "name": built.name,
        "kind": built.kind,
        "path": built.path,
        "bytes": built.size_bytes,
        "changed": built.changed,
    });
    Ok(Output::new(text, json))
}

/// The builder's errors are whole sentences with their causes.
fn failed(error: anyhow::Error) -> Failure {
    Failure::new(Exit::Failed, format_args!("{error:#}"))
}
