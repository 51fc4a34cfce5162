//! Components that transactions keep to: kept apart from the plugins' own versions, which may be forgotten, and from the
//! stock ones, which another binary has not.

use std::{collections::BTreeSet, path::Path, sync::Arc};

use crate::{
    model::{Clock, PluginName, VersionId},
    plugin::{ComponentStore, Runtime, StoreError},
    transactions::{ComponentProtocol, Pin, Protocol, Versions},
};

/// Within `data_dir`.
const DIR: &str = "transactions";

pub struct PinnedVersions {
    store: ComponentStore,
    runtime: Arc<Runtime>,
    clock: Clock,
}

impl PinnedVersions {
    pub fn open(data_dir: &Path, runtime: Arc<Runtime>, clock: Clock) -> Result<Self, StoreError> {
        Ok(Self { store: ComponentStore::open(&data_dir.join(DIR))?, runtime, clock })
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
            tracing::warn!(%error, "versions that no transaction needs were not removed");
        }
    }
}

impl Versions for PinnedVersions {
    fn load(&self, pin: &Pin) -> Result<Arc<dyn Protocol>, String> {
        let named = |error: &dyn std::fmt::Display| format!("plugin {} {}: {error}", pin.plugin, pin.version);
        let bytes = self.store.get(&pin.plugin, pin.version).map_err(|error| error.to_string())?;
        let bytes = bytes.ok_or_else(|| named(&"the version that it began with is not there any more"))?;
        let version = self.runtime.load(&pin.plugin, &bytes).map_err(|error| named(&error))?;
        let protocol = ComponentProtocol::new(version, pin, self.clock, fastrand::u64(..));
        Ok(Arc::new(protocol.map_err(|error| named(&error))?))
    }
}
