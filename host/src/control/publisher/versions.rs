//! Changes of a plugin's version: pushed, activated, taken back, on trial.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use tokio::task::{block_in_place, spawn_blocking};

use super::{
    Publisher,
    desired::Desired,
    intent::{Intent, must_have_service},
    transaction::Draft,
};
use crate::{
    control::{
        canary::Canary,
        change::{ChangeProblem, Refusal},
        history::HistoryKind,
    },
    model::{Percent, PluginName, ServiceName, VersionId},
    plugin::{StoredVersion, Version},
};

impl Publisher {
    pub(super) async fn push(
        &self,
        desired: Desired,
        plugin: &PluginName,
        component: Bytes,
    ) -> Result<Intent, Refusal> {
        let version = self.load_new(plugin, &component).await?;
        let id = version.id();
        let mut draft = with_active(desired, plugin, id);
        draft.loaded.push(version);
        draft.components.push((plugin.clone(), component));
        let what = format!("version {id} was uploaded and is in use");
        Ok(Intent::of_plugin(draft, HistoryKind::Activated, plugin, Some(id), what))
    }

    /// Kept, and not in use.
    pub(super) async fn upload(
        &self,
        desired: Desired,
        plugin: &PluginName,
        component: Bytes,
    ) -> Result<Intent, Refusal> {
        let id = self.load_new(plugin, &component).await?.id();
        let mut draft = Draft::of(desired);
        draft.components.push((plugin.clone(), component));
        let what = format!("version {id} was uploaded");
        Ok(Intent::of_plugin(draft, HistoryKind::Uploaded, plugin, Some(id), what))
    }

    pub(super) fn activate(
        &self,
        desired: Desired,
        plugin: &PluginName,
        version: VersionId,
    ) -> Result<Intent, Refusal> {
        self.must_have(&desired, plugin, version)?;
        let draft = with_active(desired, plugin, version);
        let what = format!("version {version} is in use");
        Ok(Intent::of_plugin(draft, HistoryKind::Activated, plugin, Some(version), what))
    }

    pub(super) fn roll_back(&self, mut desired: Desired, plugin: &PluginName) -> Result<Intent, Refusal> {
        let version = self.back(&mut desired, plugin)?;
        let what = format!("back to version {version}");
        Ok(Intent::of_plugin(Draft::of(desired), HistoryKind::RolledBack, plugin, Some(version), what))
    }

    pub(super) fn give_up(
        &self,
        mut desired: Desired,
        plugin: &PluginName,
        version: VersionId,
        reason: &str,
    ) -> Result<Intent, Refusal> {
        if desired.active(plugin) != Some(version) {
            return Err(Refusal::Conflict(format!("version {version} of plugin {plugin} is not in use")));
        }
        let back_to = self.back(&mut desired, plugin)?;
        let what = format!("version {version} {reason}; back to version {back_to}");
        Ok(Intent::of_plugin(Draft::of(desired), HistoryKind::RolledBack, plugin, Some(version), what))
    }

    pub(super) fn forget(&self, mut desired: Desired, plugin: &PluginName) -> Result<Intent, Refusal> {
        let stored = block_in_place(|| self.store.versions(plugin));
        let stored = stored.map_err(|error| Refusal::Failed(error.to_string()))?;
        if desired.overlay.plugins.remove(plugin).is_none() && stored.is_empty() {
            return Err(Refusal::NotFound(format!("plugin {plugin} has no uploaded version")));
        }
        desired.canaries.remove(plugin);
        let bound = desired.bound(plugin);
        self.must_not_be_pinned(plugin, &stored)?;
        let protocols = desired.protocols_of(plugin).join(", ");
        if desired.base(plugin).is_none() && !protocols.is_empty() {
            let detail = format!("plugin {plugin} is in use by protocol {protocols}, and nothing else brings it");
            return Err(Refusal::Conflict(detail));
        }
        let handlers = desired.handlers_of(plugin).join(", ");
        if desired.base(plugin).is_none() && !handlers.is_empty() {
            let detail = format!("plugin {plugin} is in use by event handler {handlers}, and nothing else brings it");
            return Err(Refusal::Conflict(detail));
        }
        if desired.base(plugin).is_none() && !bound.is_empty() {
            let problems = bound.iter().map(|service| ChangeProblem::of(service, "it uses the plugin")).collect();
            return Err(Refusal::invalid(format!("plugin {plugin} is in use, and nothing else brings it"), problems));
        }
        let draft = Draft { forgotten: Some(plugin.clone()), ..Draft::of(desired) };
        Ok(Intent::of_plugin(draft, HistoryKind::OverlayRemoved, plugin, None, "uploaded versions are forgotten"))
    }

    /// A version that a transaction keeps to is needed until that has ended.
    fn must_not_be_pinned(&self, plugin: &PluginName, stored: &[StoredVersion]) -> Result<(), Refusal> {
        let pins = self.transactions.coordinator.pins_of(plugin);
        let needed: Vec<_> = stored
            .iter()
            .filter_map(|stored| Some((stored.id, *pins.get(&stored.id)?)))
            .map(|(version, count)| {
                let keep = if count == 1 { "transaction keeps" } else { "transactions keep" };
                format!("{count} {keep} to version {version} of plugin {plugin}")
            })
            .collect();
        if needed.is_empty() {
            return Ok(());
        }
        Err(Refusal::Conflict(format!("{}, until they have ended", needed.join(", "))))
    }

    pub(super) fn start_canary(
        &mut self,
        mut desired: Desired,
        plugin: &PluginName,
        version: VersionId,
        percent: Percent,
        service: Option<ServiceName>,
    ) -> Result<Intent, Refusal> {
        self.must_have(&desired, plugin, version)?;
        if desired.active(plugin) == Some(version) {
            return Err(Refusal::Conflict(format!("version {version} of plugin {plugin} is in use already")));
        }
        if !(1..=99).contains(&percent.get()) {
            let problem = ChangeProblem {
                pointer: "/percent".to_owned(),
                message: "must be 1 to 99: a canary is compared with the requests that it does not get".to_owned(),
                ..Default::default()
            };
            return Err(Refusal::invalid("the canary is not possible", vec![problem]));
        }
        if !desired.handlers_of(plugin).is_empty() {
            let detail = format!(
                "plugin {plugin} is an event handler's, and needs no canary: another version builds its state beside the one in use, and takes over only if it has handled every event that the one in use has"
            );
            return Err(Refusal::Conflict(detail));
        }
        let bound = desired.bound(plugin);
        match &service {
            Some(service) if !bound.contains(service) => {
                must_have_service(&desired, service)?;
                return Err(Refusal::Conflict(format!("service {service} does not use plugin {plugin}")));
            }
            None if bound.is_empty() && desired.protocols_of(plugin).is_empty() => {
                return Err(Refusal::Conflict(format!("no service uses plugin {plugin}")));
            }
            _ => {}
        }
        self.canaries_started += 1;
        let (started_at, number) = (SystemTime::now(), self.canaries_started);
        desired.canaries.insert(plugin.clone(), Canary { version, percent, service, started_at, number });
        let what = if desired.is_source(plugin) {
            format!("version {version} is asked in the shadow of the one in use, and nothing that it says is in force")
        } else if bound.is_empty() {
            format!("{} % of new transactions begin with version {version}", percent.get())
        } else {
            format!("{} % of requests go to version {version}", percent.get())
        };
        Ok(Intent::of_plugin(Draft::of(desired), HistoryKind::CanaryStarted, plugin, Some(version), what))
    }

    pub(super) fn end_canary(&self, mut desired: Desired, plugin: &PluginName) -> Result<Intent, Refusal> {
        let canary = desired.canaries.remove(plugin).ok_or_else(|| no_canary(plugin))?;
        let what = format!("the canary of version {} has ended", canary.version);
        Ok(Intent::of_plugin(Draft::of(desired), HistoryKind::CanaryEnded, plugin, Some(canary.version), what))
    }

    pub(super) fn withdraw(
        &self,
        mut desired: Desired,
        plugin: &PluginName,
        number: u64,
        reason: &str,
    ) -> Result<Intent, Refusal> {
        let canary = desired.canaries.remove(plugin).filter(|canary| canary.number == number);
        let version = canary.ok_or_else(|| no_canary(plugin))?.version;
        let what = format!("version {version} is withdrawn: {reason}");
        Ok(Intent::of_plugin(Draft::of(desired), HistoryKind::CanaryWithdrawn, plugin, Some(version), what))
    }

    /// Compiles and checks.
    async fn load_new(&self, plugin: &PluginName, component: &Bytes) -> Result<Arc<Version>, Refusal> {
        let (runtime, name, bytes) = (Arc::clone(&self.runtime), plugin.clone(), component.clone());
        let loaded = spawn_blocking(move || runtime.load(&name, &bytes)).await;
        loaded
            .map_err(|error| Refusal::Failed(format!("compiling failed: {error}")))?
            .map_err(|error| Refusal::invalid("this is no plugin", vec![ChangeProblem::plain(error.to_string())]))
    }

    fn back(&self, desired: &mut Desired, plugin: &PluginName) -> Result<VersionId, Refusal> {
        let base = desired.base(plugin);
        let version = desired
            .overlay
            .roll_back(plugin, base)
            .ok_or_else(|| Refusal::Conflict(format!("plugin {plugin} has no previous version to go back to")))?;
        self.must_have(desired, plugin, version)?;
        desired.canaries.remove(plugin);
        Ok(version)
    }

    fn must_have(&self, desired: &Desired, plugin: &PluginName, version: VersionId) -> Result<(), Refusal> {
        if desired.base(plugin) == Some(version) || self.store.contains(plugin, version) {
            return Ok(());
        }
        Err(Refusal::NotFound(format!("plugin {plugin} has no version {version}")))
    }
}

/// With `version` in use. What it replaces is kept on disk if it came with the file or the binary, so that a
/// rollback finds it after an upgrade of these.
fn with_active(mut desired: Desired, plugin: &PluginName, version: VersionId) -> Draft {
    let (active, base) = (desired.active(plugin), desired.bases.get(plugin).cloned());
    let base_version = base.as_ref().map(|base| base.version);
    desired.overlay.activate(plugin, version, active, base_version);
    desired.canaries.remove(plugin);
    let mut draft = Draft::of(desired);
    if let Some(base) = base.filter(|base| active == Some(base.version) && version != base.version) {
        draft.components.push((plugin.clone(), base.component));
    }
    draft
}

fn no_canary(plugin: &PluginName) -> Refusal {
    Refusal::NotFound(format!("plugin {plugin} has no canary"))
}
