//! `balancer = { plugin = …, settings = { … } }`: a plugin bound to a service, from TOML or from JSON.

use serde_json::{Map, Number, Value as Json, json};
use toml::de::DeValue;

use super::{
    known::Known,
    reader::{Table, Value},
    suggest,
};
use crate::model::{PluginName, PolicyConfig};

/// One thing wrong with a JSON value that a client sent.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PointerProblem {
    /// JSON Pointer (RFC 6901) into the policy; empty for the whole.
    pub path: String,
    pub message: String,
}

/// A policy as the API takes it: `{"plugin": "…", "settings": {…}}`, settings being optional. Whether the plugin
/// likes its settings is the plugin's own to say.
pub fn policy_from_json(value: &Json, known: &Known) -> Result<PolicyConfig, Vec<PointerProblem>> {
    let mut problems = Vec::new();
    let mut refuse = |path: String, message: String| problems.push(PointerProblem { path, message });
    let Json::Object(fields) = value else {
        refuse(String::new(), format!("must be an object such as {EXAMPLE_JSON}"));
        return Err(problems);
    };
    let plugin = match fields.get("plugin") {
        Some(Json::String(name)) => {
            let found = known.plugins().find(|plugin| plugin.as_str() == name);
            if found.is_none() {
                let hint = suggest::hint(name, known.plugins().map(PluginName::as_str));
                refuse("/plugin".to_owned(), format!("no plugin named {name:?}{hint}"));
            }
            found.cloned()
        }
        Some(_) => {
            refuse("/plugin".to_owned(), "must be a plugin's name, a string".to_owned());
            None
        }
        None => {
            refuse(String::new(), format!("\"plugin\" is missing; right would be {EXAMPLE_JSON}"));
            None
        }
    };
    let settings = match fields.get("settings") {
        None => json!({}),
        Some(settings @ Json::Object(_)) => settings.clone(),
        Some(_) => {
            refuse("/settings".to_owned(), "must be an object".to_owned());
            json!({})
        }
    };
    for name in fields.keys().filter(|name| !KEYS.contains(&name.as_str())) {
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        refuse(pointer, format!("is no known key{}", suggest::hint(name, KEYS)));
    }
    match plugin {
        Some(plugin) if problems.is_empty() => Ok(PolicyConfig { plugin, settings }),
        _ => Err(problems),
    }
}

const KEYS: [&str; 2] = ["plugin", "settings"];
const EXAMPLE_JSON: &str = r#"{"plugin": "least-request", "settings": {"choices": 2}}"#;

/// The policy that a value describes; `own` are the plugins that the file itself brings, and `example` is one that
/// would fit.
pub(super) fn read<'a>(
    value: &Value<'a>,
    own: impl Iterator<Item = &'a PluginName>,
    example: &str,
) -> Option<PolicyConfig> {
    if let Some(name) = value.value.as_str() {
        value.refuse(format_args!("must be a table; did you mean {{ plugin = {name:?} }}?"));
        return None;
    }
    let mut table = value.table(&format!("a table such as {{ plugin = {example:?} }}"))?;
    let plugin = plugin(&mut table, own, example);
    let settings = table.get("settings").map_or(Some(json!({})), |value| settings(&value));
    table.finish();
    Some(PolicyConfig { plugin: plugin?, settings: settings? })
}

/// The plugin that a table names under `plugin`.
pub(super) fn plugin<'a>(
    table: &mut Table<'a>,
    own: impl Iterator<Item = &'a PluginName>,
    example: &str,
) -> Option<PluginName> {
    table.require("plugin", &format!("{example:?}"), |value| {
        let name = value.text("a plugin's name")?;
        let known: Vec<&PluginName> = own.chain(value.cx.known.plugins()).collect();
        let found = known.iter().copied().find(|plugin| plugin.as_str() == name);
        if found.is_none() {
            let hint = value.cx.hint(name, known.into_iter().map(PluginName::as_str));
            value.refuse(format_args!("no plugin named {name:?}{hint}"));
        }
        found.cloned()
    })
}

/// The settings of a plugin, in JSON, which is what it is given.
pub(crate) fn settings(value: &Value<'_>) -> Option<Json> {
    if !value.value.is_table() {
        value.refuse_type("a table, as the plugin documents it");
        return None;
    }
    json(value)
}

/// The same value in JSON, which is what a plugin is given. The parser bounds the depth.
fn json(value: &Value<'_>) -> Option<Json> {
    Some(match value.value {
        DeValue::String(text) => Json::String(text.to_string()),
        DeValue::Boolean(boolean) => Json::Bool(*boolean),
        DeValue::Integer(_) => Json::Number(value.integer(i64::MIN..=i64::MAX)?.into()),
        DeValue::Float(float) => {
            let number = float.as_str().parse().ok().and_then(Number::from_f64);
            if number.is_none() {
                value.refuse(format_args!("{float} cannot be given to a plugin; a finite number can"));
            }
            Json::Number(number?)
        }
        DeValue::Datetime(_) => {
            value.refuse("a date cannot be given to a plugin; write it as a string");
            return None;
        }
        DeValue::Array(_) => {
            let items: Vec<Option<Json>> = value.items("an array")?.iter().map(json).collect();
            Json::Array(items.into_iter().collect::<Option<_>>()?)
        }
        DeValue::Table(_) => {
            let entries = value.entries("a table")?;
            let fields: Vec<_> = entries.iter().map(|(key, value)| (key.text.to_owned(), json(value))).collect();
            let fields = fields.into_iter().map(|(key, value)| Some((key, value?)));
            Json::Object(fields.collect::<Option<Map<_, _>>>()?)
        }
    })
}
