//! What of a change lies on disk: first so that it could be forgotten, and once it is in force for good.

use bytes::Bytes;
use tokio::task::block_in_place;

use super::{Publisher, desired::Desired};
use crate::{
    control::{change::Refusal, overlay::Staged},
    model::{PluginName, VersionId},
    plugin::ComponentStore,
};

/// On disk, and not in force yet.
pub struct StagedChange {
    overlay: Staged,
    /// Components that were not in the store before.
    new: Vec<(PluginName, VersionId)>,
}

impl Publisher {
    /// Puts on disk what the change needs, so that a full disk refuses it.
    pub(super) fn stage(&self, desired: &Desired, components: &[(PluginName, Bytes)]) -> Result<StagedChange, Refusal> {
        block_in_place(|| self.put_on_disk(desired, components))
    }

    fn put_on_disk(&self, desired: &Desired, components: &[(PluginName, Bytes)]) -> Result<StagedChange, Refusal> {
        let overlay = self.overlay_file.stage(&desired.overlay).map_err(|error| Refusal::Failed(error.to_string()))?;
        let mut staged = StagedChange { overlay, new: Vec::new() };
        for (plugin, component) in components {
            let version = VersionId::of(component);
            let known = self.store.contains(plugin, version);
            if let Err(error) = self.store.put(plugin, component) {
                self.unstage(staged);
                return Err(Refusal::Failed(error.to_string()));
            }
            if !known {
                staged.new.push((plugin.clone(), version));
            }
        }
        Ok(staged)
    }

    pub(super) fn unstage(&self, staged: StagedChange) {
        for (plugin, version) in staged.new {
            if let Err(error) = self.store.remove(&plugin, version) {
                tracing::warn!(%error, "a version that did not come into use stays on disk");
            }
        }
    }

    pub(super) fn commit(&self, staged: StagedChange) -> Result<(), Refusal> {
        block_in_place(|| staged.overlay.commit()).map_err(|error| Refusal::Failed(error.to_string()))
    }
}

/// A version that neither the file nor the binary brings.
pub fn stored(store: &ComponentStore, plugin: &PluginName, version: VersionId) -> Result<Bytes, String> {
    match store.get(plugin, version) {
        Ok(Some(component)) => Ok(component.into()),
        Ok(None) => Err(format!("version {version} of plugin {plugin} is not kept any more")),
        Err(error) => Err(error.to_string()),
    }
}
