//! The plugins that a configuration may name without bringing them along.

use std::collections::BTreeSet;

use crate::model::PluginName;

/// Names of the stock plugins and of those uploaded before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    plugins: BTreeSet<PluginName>,
}

impl Known {
    pub fn contains(&self, plugin: &PluginName) -> bool {
        self.plugins.contains(plugin)
    }

    pub fn plugins(&self) -> impl Iterator<Item = &PluginName> {
        self.plugins.iter()
    }
}

impl FromIterator<PluginName> for Known {
    fn from_iter<I: IntoIterator<Item = PluginName>>(names: I) -> Self {
        Self { plugins: names.into_iter().collect() }
    }
}

impl Extend<PluginName> for Known {
    fn extend<I: IntoIterator<Item = PluginName>>(&mut self, names: I) {
        self.plugins.extend(names);
    }
}
