//! `[events]`: which event handlers there are, and what they may call.

use std::collections::BTreeMap;

use serde_json::json;

use super::{
    policy,
    reader::{Key, Table, Value},
};
use crate::model::{
    EventsConfig, HandlerConfig, HandlerName, HandlerStart, OnFailure, PluginName, PluginOptions, PolicyConfig,
};

/// Handlers of one gateway: each follows all events on its own, and has a few instances.
const HANDLERS_MAX: usize = 64;

pub(super) fn read(root: &mut Table<'_>, own_plugins: &BTreeMap<PluginName, PluginOptions>) -> EventsConfig {
    let mut config = EventsConfig::default();
    let Some(mut table) = root.read("events", |value| value.table("a table: [events]")) else { return config };
    if let Some(hosts) =
        table.read("allow_hosts", |value| Some(value.distinct("a list", |value| value.parsed("host:port or a host"))))
    {
        config.allow_hosts = hosts;
    }
    let wanted = "a table of event handlers: [events.handlers.NAME]";
    let named = table.read("handlers", |value| value.entries(wanted)).unwrap_or_default();
    for (index, (key, value)) in named.iter().enumerate() {
        if index == HANDLERS_MAX {
            key.refuse(format_args!("is one handler more than the {HANDLERS_MAX} that a gateway takes"));
        }
        let handler = handler(value, own_plugins);
        if let (Some(name), Some(handler)) = (name(key), handler) {
            config.handlers.insert(name, handler);
        }
    }
    table.finish();
    config
}

fn name(key: &Key<'_>) -> Option<HandlerName> {
    key.text.parse().map_err(|error| key.refuse(error)).ok()
}

fn handler<'a>(value: &Value<'a>, own_plugins: &'a BTreeMap<PluginName, PluginOptions>) -> Option<HandlerConfig> {
    let mut table = value.table("a table such as { plugin = \"count-by-type\" }")?;
    let plugin = policy::plugin(&mut table, own_plugins.keys(), "count-by-type");
    let settings = table.get("settings").map_or(Some(json!({})), |value| policy::settings(&value));
    let on_failure =
        table.read("on_failure", |value| one_of(value, [("park", OnFailure::Park), ("halt", OnFailure::Halt)]));
    let from = table.read("from", |value| one_of(value, [("start", HandlerStart::Start), ("now", HandlerStart::Now)]));
    table.finish();
    let policy = PolicyConfig { plugin: plugin?, settings: settings? };
    Some(HandlerConfig { policy, on_failure: on_failure.unwrap_or_default(), from: from.unwrap_or_default() })
}

fn one_of<T: Copy>(value: &Value<'_>, words: [(&str, T); 2]) -> Option<T> {
    let wanted = format!("{:?} or {:?}", words[0].0, words[1].0);
    let given = value.text(&wanted)?;
    let found = words.iter().find(|(word, _)| *word == given);
    if found.is_none() {
        value.refuse(format_args!("must be {wanted}, not {given:?}"));
    }
    found.map(|(_, meant)| *meant)
}
