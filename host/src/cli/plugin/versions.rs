//! Commands about the versions that a gateway has.

use bytesize::ByteSize;
use serde::Deserialize;
use serde_json::json;

use crate::{
    cli::{
        applied,
        client::{Client, understood},
        failure::Failure,
        output::{Output, table},
    },
    model::{Percent, PluginName, ServiceName, VersionId},
};

#[derive(Deserialize)]
struct Plugins {
    plugins: Vec<Plugin>,
}

/// A plugin in `GET /plugins`, as far as the list shows it.
#[derive(Deserialize)]
struct Plugin {
    name: String,
    kind: String,
    active: Option<String>,
    source: String,
    versions: Vec<Version>,
    services: Vec<String>,
    canary: Option<Canary>,
}

#[derive(Deserialize)]
struct Version {
    version: String,
    r#use: String,
    bytes: u64,
    live_instances: usize,
}

#[derive(Deserialize)]
struct Canary {
    version: String,
    percent: u8,
}

pub(super) fn list(client: &Client) -> Result<Output, Failure> {
    let answer = client.get("/plugins")?;
    let Plugins { plugins } = understood(&answer)?;
    let rows: Vec<[String; 8]> = plugins.iter().flat_map(rows).collect();
    let heading = ["PLUGIN", "KIND", "VERSION", "USE", "FROM", "SIZE", "INSTANCES", "SERVICES"];
    Ok(Output::new(table(heading, &rows), answer))
}

/// A line a version; what is the plugin's own stands in the line of the version in use.
fn rows(plugin: &Plugin) -> Vec<[String; 8]> {
    let row = |version: &Version| {
        let active = plugin.active.as_ref() == Some(&version.version);
        let canary = plugin.canary.as_ref().filter(|canary| canary.version == version.version);
        let share = canary.map(|canary| format!(" {} %", canary.percent)).unwrap_or_default();
        [
            plugin.name.clone(),
            plugin.kind.clone(),
            version.version.clone(),
            format!("{}{share}", version.r#use),
            if active { plugin.source.clone() } else { String::new() },
            ByteSize(version.bytes).to_string(),
            version.live_instances.to_string(),
            if active { plugin.services.join(" ") } else { String::new() },
        ]
    };
    plugin.versions.iter().map(row).collect()
}

pub(super) fn activate(client: &Client, name: &PluginName, version: VersionId) -> Result<Output, Failure> {
    let answer = client.post(&format!("/plugins/{name}/activate"), &json!({"version": version}))?;
    applied::output(&format!("plugin {name}"), answer)
}

pub(super) fn roll_back(client: &Client, name: &PluginName) -> Result<Output, Failure> {
    let answer = client.post(&format!("/plugins/{name}/rollback"), &json!({}))?;
    applied::output(&format!("plugin {name}"), answer)
}

pub(super) fn start_canary(
    client: &Client,
    name: &PluginName,
    version: VersionId,
    percent: Percent,
    service: Option<ServiceName>,
) -> Result<Output, Failure> {
    let mut body = json!({"version": version, "percent": percent});
    if let Some(service) = service {
        body["service"] = json!(service);
    }
    let answer = client.post(&format!("/plugins/{name}/canary"), &body)?;
    applied::output(&format!("canary of plugin {name} with {} % of requests", percent.get()), answer)
}

pub(super) fn end_canary(client: &Client, name: &PluginName) -> Result<Output, Failure> {
    let answer = client.delete(&format!("/plugins/{name}/canary"))?;
    applied::output(&format!("canary of plugin {name} ended"), answer)
}
