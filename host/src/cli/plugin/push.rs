//! `sluice plugin push`.

use std::path::Path;

use bytesize::ByteSize;

use crate::{
    cli::{applied, client::Client, component, failure::Failure, output::Output},
    model::{PluginName, VersionId},
};

/// Says on stderr what takes long while it does; with `quiet`, nothing.
pub(super) fn run(client: &Client, name: Option<PluginName>, file: &Path, quiet: bool) -> Result<Output, Failure> {
    let component = component::read(file)?;
    let name = name.map_or_else(|| component::name_of(file), Ok)?;
    if !quiet {
        let (size, version) = (ByteSize(component.len() as u64), VersionId::of(&component));
        eprintln!("sending {name}, version {version}, {size}, to {}", client.base());
        eprintln!(
            "the gateway compiles it, configures it for every service that uses it, and hands it to every worker …"
        );
    }
    let answer = client.put_component(&format!("/plugins/{name}"), &component)?;
    applied::output(&format!("plugin {name}"), answer)
}
