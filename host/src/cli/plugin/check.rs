//! `sluice plugin check`: what a gateway would say to a component, without a gateway.

use std::path::Path;

use bytesize::ByteSize;
use serde_json::{Value, json};

use crate::{
    cli::{
        component,
        failure::{Exit, Failure},
        output::Output,
    },
    config::defaults::PLUGIN_MEMORY_BYTES_MAX,
    model::{Clock, PluginKind, VersionId},
    plugin::{InstanceError, PolicyContext, Runtime, Version},
};

pub(super) fn run(file: &Path, settings: Option<&str>) -> Result<Output, Failure> {
    let settings = settings.map(super::super::settings).transpose()?;
    let component = component::read(file)?;
    let name = component::name_of(file)?;
    let runtime = Runtime::new(None).map_err(|error| Failure::new(Exit::Failed, error))?;
    let version = runtime
        .load(&name, &component)
        .map_err(|error| Failure::new(Exit::WrongInput, format_args!("{} is no plugin: {error}", file.display())))?;
    if let Some(settings) = &settings {
        configure(&version, settings.clone())?;
    }
    let size = ByteSize(component.len() as u64);
    let took = if settings.is_some() { ", and takes these settings" } else { "" };
    let text = format!("{}: a {} of {size}, version {}{took}", file.display(), version.kind(), version.id());
    let json = json!({
        "name": name,
        "kind": version.kind(),
        "version": VersionId::of(&component),
        "bytes": component.len(),
        "settings": settings,
    });
    Ok(Output::new(text, json))
}

/// Tries an instance as a gateway would before traffic.
fn configure(version: &Version, settings: Value) -> Result<(), Failure> {
    let context = PolicyContext {
        name: "check".to_owned(),
        settings,
        seed: 1,
        memory_bytes_max: PLUGIN_MEMORY_BYTES_MAX,
        clock: Clock::start(),
    };
    let tried = match version.kind() {
        PluginKind::Discovery => version.try_discovery(&context),
        PluginKind::Failover => version.failover(&context).map(drop),
        PluginKind::Transaction => version.protocol(&context).map(drop),
        PluginKind::EventHandler => version.try_event_handler(&context).map(drop),
        PluginKind::Balancer => version.balancer(&context).map(drop),
    };
    match tried {
        Ok(()) => Ok(()),
        Err(InstanceError::Settings(problems)) => {
            let lines = problems.iter().map(|problem| match problem.path.as_str() {
                "" => problem.message.clone(),
                path => format!("{path}: {}", problem.message),
            });
            let message = "the plugin refuses these settings";
            let json = json!({"error": message, "problems": problems});
            Err(Failure::with_problems(Exit::WrongInput, message, lines.collect(), json))
        }
        Err(other) => Err(Failure::new(Exit::WrongInput, format_args!("the plugin does not start: {other}"))),
    }
}
