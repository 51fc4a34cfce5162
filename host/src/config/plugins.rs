//! `[plugins.NAME]`: plugins of one's own, and limits for any.

use std::{collections::BTreeMap, hash::Hash, ops::RangeInclusive, sync::Arc};

use toml::de::DeValue;

use super::{
    defaults,
    reader::{Key, Table, Value},
};
use crate::model::{FileGrant, Grants, PluginName, PluginOptions, ServiceName};

/// A component built from Rust begins with 1.1 MiB; a core module's memory ends at 4 GiB.
const MEMORY_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 32;

/// And the services that they name, which are to be looked up once those are known.
pub(super) fn read<'a>(root: &mut Table<'a>) -> (BTreeMap<PluginName, PluginOptions>, Vec<Value<'a>>) {
    let wanted = "a table of plugins: [plugins.NAME]";
    let entries = root.read("plugins", |value| value.entries(wanted)).unwrap_or_default();
    let mut services = Vec::new();
    let plugins = entries.iter().filter_map(|(key, value)| plugin(key, value, &mut services));
    let plugins = plugins.map(|plugin| (plugin.name.clone(), plugin)).collect();
    (plugins, services)
}

/// Also one with problems in it is answered where it has a name, so that references to it are no problems too.
fn plugin<'a>(key: &Key<'_>, value: &Value<'a>, services: &mut Vec<Value<'a>>) -> Option<PluginOptions> {
    let name = key.text.parse::<PluginName>().map_err(|error| key.refuse(error)).ok();
    let mut table = value.table("a table such as { path = \"my_policy.wasm\" }")?;
    let path = table.get("path");
    let sha256 = table.get("sha256");
    let memory = table.read("memory_max", |value| usize::try_from(value.size(MEMORY_BYTES)?).ok());
    let grants = Grants {
        hosts: list(&mut table, "allow_hosts", |value| value.parsed("host:port or a host")),
        services: table.get("allow_services").map(|value| service_grants(&value, services)).unwrap_or_default(),
        names: list(&mut table, "allow_names", |value| value.parsed("a name")),
        files: list(&mut table, "allow_files", file_grant),
    };
    let brought = name.as_ref().is_some_and(|name| value.cx.known.contains(name));
    if path.is_none() && !brought {
        table.refuse("\"path\" is missing: no plugin of this name is built in or was uploaded");
    }
    if let (None, Some(sha256)) = (&path, &sha256) {
        sha256.refuse("says nothing without \"path\"");
    }
    table.finish();
    Some(PluginOptions {
        name: name?,
        path: path.and_then(|path| path.readable_file()),
        sha256: sha256.and_then(|value| digest(&value)),
        memory_bytes_max: memory.unwrap_or(defaults::PLUGIN_MEMORY_BYTES_MAX),
        grants: Arc::new(grants),
    })
}

fn list<T: Eq + Hash + Clone>(
    table: &mut Table<'_>,
    key: &'static str,
    read: impl Fn(&Value<'_>) -> Option<T>,
) -> Vec<T> {
    table.get(key).map(|value| value.distinct("a list", read)).unwrap_or_default()
}

/// What is no name at all is a service that there is not.
fn service_grants<'a>(value: &Value<'a>, named: &mut Vec<Value<'a>>) -> Vec<ServiceName> {
    let names = value.distinct("a list", |item| item.value.as_str()?.parse().ok());
    if let DeValue::Array(_) = value.value {
        named.extend(value.items("a list").unwrap_or_default());
    }
    names
}

/// The file need not be there yet.
fn file_grant(value: &Value<'_>) -> Option<FileGrant> {
    let path = value.file_path()?;
    let path = std::path::absolute(&path).unwrap_or(path);
    Some(FileGrant { written: value.text("a path")?.into(), path })
}

fn digest(value: &Value<'_>) -> Option<[u8; 32]> {
    let wanted = "the file's SHA-256, 64 hex digits";
    let text = value.text(wanted)?;
    let mut digest = [0; 32];
    if hex::decode_to_slice(text, &mut digest).is_err() {
        value.refuse(format_args!("must be {wanted} (sha256sum prints them), not {text:?}"));
        return None;
    }
    Some(digest)
}
