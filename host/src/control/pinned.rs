//! Components that something keeps to (a transaction, the state of an event handler): kept apart from the plugins' own
//! versions, which may be forgotten, and from the stock ones, which another binary has not.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use crate::{
    model::{Clock, PluginName, VersionId},
    plugin::{ComponentStore, Runtime, StoreError, Version},
};

pub struct PinnedVersions {
    store: ComponentStore,
    runtime: Arc<Runtime>,
    /// For the instances of what is loaded.
    pub clock: Clock,
}

impl PinnedVersions {
    /// In a folder of its own.
    pub fn open(dir: &Path, runtime: Arc<Runtime>, clock: Clock) -> Result<Self, StoreError> {
        Ok(Self { store: ComponentStore::open(dir)?, runtime, clock })
    }

    /// Durable when it returns. Blocks.
    pub fn keep(&self, plugin: &PluginName, component: &[u8]) -> Result<(), StoreError> {
        if !self.store.contains(plugin, VersionId::of(component)) {
            self.store.put(plugin, component)?;
        }
        Ok(())
    }

    /// Best effort: a version that stays does no harm. Blocks.
    pub fn retain(&self, needed: &[(PluginName, VersionId)]) {
        let removed = self.store.plugins().and_then(|plugins| {
            for plugin in plugins {
                let of_plugin = needed.iter().filter(|(needed, _)| *needed == plugin);
                let versions: BTreeSet<_> = of_plugin.map(|(_, version)| *version).collect();
                self.store.prune(&plugin, 0, &versions)?;
            }
            Ok(())
        });
        if let Err(error) = removed {
            tracing::warn!(%error, "versions that nothing keeps to were not removed");
        }
    }

    /// Takes milliseconds to seconds: not for an async task.
    pub fn load(&self, plugin: &PluginName, version: VersionId) -> Result<Arc<Version>, String> {
        let named = |error: &dyn std::fmt::Display| format!("plugin {plugin} {version}: {error}");
        let bytes = self.store.get(plugin, version).map_err(|error| error.to_string())?;
        let bytes = bytes.ok_or_else(|| named(&"the version that it began with is not there any more"))?;
        self.runtime.load(plugin, &bytes).map_err(|error| named(&error))
    }
}
