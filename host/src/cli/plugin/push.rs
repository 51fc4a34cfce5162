//! `sluice plugin push`.

use std::path::Path;

use bytesize::ByteSize;

use crate::{
    cli::{applied, client::Client, component, failure::Failure, output::Output},
    model::{PluginName, VersionId},
};

const ACTIVATES: &str =
    "the gateway compiles it, configures it for every service that uses it, and hands it to every worker …";
const KEEPS: &str = "the gateway compiles and keeps it …";

/// Says on stderr what takes long while it does; with `quiet`, nothing.
pub(super) fn run(
    client: &Client,
    name: Option<PluginName>,
    file: &Path,
    keep_only: bool,
    quiet: bool,
) -> Result<Output, Failure> {
    let component = component::read(file)?;
    let name = name.map_or_else(|| component::name_of(file), Ok)?;
    if !quiet {
        let (size, version) = (ByteSize(component.len() as u64), VersionId::of(&component));
        eprintln!("sending {name}, version {version}, {size}, to {}", client.base());
        eprintln!("{}", if keep_only { KEEPS } else { ACTIVATES });
    }
    let options = if keep_only { "?activate=false" } else { "" };
    let answer = client.put_component(&format!("/plugins/{name}{options}"), &component)?;
    if keep_only {
        let version = VersionId::of(&component);
        return Ok(Output::new(format!("plugin {name}: version {version} is kept, and not in use"), answer));
    }
    applied::output(&format!("plugin {name}"), answer)
}
