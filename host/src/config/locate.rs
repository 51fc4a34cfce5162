//! Places in a configuration file for what is found out only after it was read: a plugin's own word on its settings.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::{
    files,
    problem::{ConfigErrors, LineIndex, Problem},
    reader::join,
};
use crate::model::{PluginName, ServiceName};

/// Something wrong with a value that had nothing wrong with it when the file was read.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The keys that lead to the value; an element of an array by its index.
    way: Vec<String>,
    message: String,
}

impl Finding {
    /// With the settings of a service's policy (`balancer`, `discovery`), where `pointer` (RFC 6901) leads to from
    /// these.
    pub fn in_settings(service: &ServiceName, policy: &str, pointer: &str, message: String) -> Self {
        let settings = ["services", service.as_str(), policy, "settings"].map(str::to_owned);
        let within = pointer.split('/').skip(1).map(|segment| segment.replace("~1", "/").replace("~0", "~"));
        Self { way: settings.into_iter().chain(within).collect(), message }
    }

    /// With the plugin that a service names for a policy.
    pub fn in_policy(service: &ServiceName, policy: &str, message: String) -> Self {
        Self { way: ["services", service.as_str(), policy, "plugin"].map(str::to_owned).into(), message }
    }

    /// With the file that holds a plugin of one's own.
    pub fn in_component(plugin: &PluginName, message: String) -> Self {
        Self { way: ["plugins", plugin.as_str(), "path"].map(str::to_owned).into(), message }
    }

    /// With the hash that this file should have.
    pub fn in_sha256(plugin: &PluginName, message: String) -> Self {
        Self { way: ["plugins", plugin.as_str(), "sha256"].map(str::to_owned).into(), message }
    }
}

/// The findings, each shown at its value in the file, or at the nearest one around it. At least one finding.
pub fn locate(path: &Path, findings: Vec<Finding>) -> ConfigErrors {
    let file = path.display().to_string();
    let text = files::read(path, &file).unwrap_or_default();
    let (tree, _) = DeTable::parse_recoverable(&text);
    let lines = LineIndex::of(&text);
    let problem = |Finding { way, message }| {
        let (offset, key) = nearest(tree.get_ref(), &way);
        // A file that cannot be read any more has no places, but the finding stands.
        let position = offset.map(|offset| lines.position(offset));
        Problem { file: file.clone(), position, key, message }
    };
    ConfigErrors::new(findings.into_iter().map(problem).collect())
}

/// The `gateway.data_dir` of a file, whatever else is right or wrong with it: what was uploaded is kept there, and has
/// to be [`super::Known`] before the file can be read.
pub fn data_dir(path: &Path) -> PathBuf {
    let base_dir = path.parent().unwrap_or(Path::new(""));
    let text = files::read(path, "").unwrap_or_default();
    let (tree, _) = DeTable::parse_recoverable(&text);
    let gateway = tree.get_ref().get("gateway").and_then(|value| value.get_ref().as_table());
    let given = gateway.and_then(|gateway| gateway.get("data_dir")).and_then(|value| value.get_ref().as_str());
    base_dir.join(given.unwrap_or(super::defaults::DATA_DIR))
}

/// Where the deepest value that is there on a way through the tree begins, and its key.
fn nearest(tree: &DeTable<'_>, way: &[String]) -> (Option<usize>, String) {
    let Some((first, rest)) = way.split_first() else { return (None, String::new()) };
    let Some(mut here) = tree.get(first.as_str()) else { return (None, way.join(".")) };
    let mut key = first.clone();
    for segment in rest {
        let (next, next_key) = match here.get_ref() {
            DeValue::Table(table) => (table.get(segment.as_str()), join(&key, segment)),
            DeValue::Array(items) => {
                let index = segment.parse::<usize>().ok();
                (index.and_then(|index| items.get(index)), format!("{key}[{segment}]"))
            }
            _ => break,
        };
        let Some(next) = next else { break };
        (here, key) = (next, next_key);
    }
    (Some(here.span().start), key)
}
