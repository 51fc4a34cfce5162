//! What each change means for how things should be, and what is remembered of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;

use super::{
    Published, Publisher,
    desired::{Base, Desired, Source},
    transaction::Draft,
};
use crate::{
    config::restart_differences,
    control::{
        canary::Canary,
        change::{Applied, Change, ChangeProblem, Refusal},
        history::{About, HistoryKind},
        overlay::ServiceOverlay,
        stock,
    },
    model::{Config, Percent, PluginKind, PluginName, ServiceName, VersionId},
    telemetry,
};

/// Uploaded versions of one plugin that are kept, besides those that are needed.
const VERSIONS_KEPT_MAX: usize = 16;

/// A draft, and what will be said of it.
struct Intent {
    draft: Draft,
    kind: HistoryKind,
    about: About,
    message: String,
    /// The plugin that the change is about.
    plugin: Option<PluginName>,
}

impl Publisher {
    /// Carries out one change and remembers how it went.
    pub(super) async fn apply(&mut self, change: Change) -> Result<Applied, Refusal> {
        let quiet = matches!(change, Change::Refresh | Change::Restart { .. });
        let metric = match change {
            Change::GiveUp { .. } => telemetry::Change::RolledBack,
            Change::Withdraw { .. } => telemetry::Change::Withdrawn,
            _ => telemetry::Change::Applied,
        };
        let forgotten = if let Change::Forget { plugin } = &change { Some(plugin.clone()) } else { None };
        let what = describe(&change);
        let result = self.carry_out(change).await;
        match &result {
            Ok((applied, intent)) if applied.changed => {
                self.metrics.changed(metric);
                self.history.note(intent.0, intent.1.clone(), intent.2.clone());
                for warning in &applied.warnings {
                    self.history.note(HistoryKind::Warning, intent.1.clone(), warning.clone());
                }
                self.tidy_store(intent.1.plugin.as_ref(), forgotten.is_some());
            }
            Ok(_) => {}
            Err(Refusal::ShuttingDown) => {}
            Err(refusal) => {
                self.metrics.changed(telemetry::Change::Refused);
                let message = format!("{what}: {}", refusal.in_full());
                if quiet {
                    tracing::warn!("{message}");
                } else {
                    self.history.note(HistoryKind::Refused, About::default(), message);
                }
            }
        }
        result.map(|(applied, _)| applied)
    }

    async fn carry_out(&mut self, change: Change) -> Result<(Applied, (HistoryKind, About, String)), Refusal> {
        let before = self.current.borrow().clone().ok_or(Refusal::ShuttingDown)?;
        let Intent { mut draft, kind, about, message, plugin } = self.intend(&before, change).await?;
        draft.desired.end_pointless_canaries();
        let mut applied = self.transact(draft).await?;
        if let Some(plugin) = plugin {
            let current = self.current.borrow();
            applied.version = current.as_ref().and_then(|current| current.desired.active(&plugin));
        }
        Ok((applied, (kind, about, message)))
    }

    async fn intend(&mut self, before: &Arc<Published>, change: Change) -> Result<Intent, Refusal> {
        let mut desired = before.desired.clone();
        let of_plugin =
            |plugin: &PluginName, version| About { plugin: Some(plugin.clone()), version, ..About::default() };
        let of_service = |service: &ServiceName| About { service: Some(service.clone()), ..About::default() };
        let intent = |desired, kind, about: About, message: String| Intent {
            plugin: about.plugin.clone(),
            draft: Draft::of(desired),
            kind,
            about,
            message,
        };
        Ok(match change {
            Change::Reload => {
                self.reread(&mut desired).await?;
                intent(desired, HistoryKind::Reloaded, About::default(), "the configuration was read again".into())
            }
            Change::Push { plugin, component } => self.push(before, plugin, component).await?,
            Change::Activate { plugin, version } => {
                self.must_have(&desired, &plugin, version)?;
                let message = format!("plugin {plugin}: version {version} is in use");
                let draft = self.activated(before, &plugin, version);
                let about = of_plugin(&plugin, Some(version));
                Intent { draft, kind: HistoryKind::Activated, about, message, plugin: Some(plugin) }
            }
            Change::RollBack { plugin } => {
                let version = self.roll_back(&mut desired, &plugin)?;
                let message = format!("plugin {plugin}: back to version {version}");
                intent(desired, HistoryKind::RolledBack, of_plugin(&plugin, Some(version)), message)
            }
            Change::GiveUp { plugin, version, reason } => {
                if desired.active(&plugin) != Some(version) {
                    return Err(Refusal::Conflict(format!("version {version} of plugin {plugin} is not in use")));
                }
                let back_to = self.roll_back(&mut desired, &plugin)?;
                let message = format!("plugin {plugin}: version {version} {reason}; back to version {back_to}");
                intent(desired, HistoryKind::RolledBack, of_plugin(&plugin, Some(version)), message)
            }
            Change::Forget { plugin } => {
                let stored = self.store.versions(&plugin).map_err(|error| Refusal::Failed(error.to_string()))?;
                forget(&mut desired, &plugin, stored.is_empty())?;
                let message = format!("plugin {plugin}: uploaded versions are forgotten");
                intent(desired, HistoryKind::OverlayRemoved, of_plugin(&plugin, None), message)
            }
            Change::StartCanary { plugin, version, percent, service } => {
                self.start_canary(&mut desired, &plugin, version, percent, service)?;
                let message = format!("plugin {plugin}: {}% of requests go to version {version}", percent.get());
                intent(desired, HistoryKind::CanaryStarted, of_plugin(&plugin, Some(version)), message)
            }
            Change::EndCanary { plugin } => {
                let canary = desired.canaries.remove(&plugin).ok_or_else(|| no_canary(&plugin))?;
                let message = format!("plugin {plugin}: the canary of version {} has ended", canary.version);
                intent(desired, HistoryKind::CanaryEnded, of_plugin(&plugin, Some(canary.version)), message)
            }
            Change::Withdraw { plugin, number, reason } => {
                let running = desired.canaries.get(&plugin).is_some_and(|canary| canary.number == number);
                let canary = desired.canaries.remove(&plugin).filter(|_| running).ok_or_else(|| no_canary(&plugin))?;
                let message = format!("plugin {plugin}: version {} is withdrawn: {reason}", canary.version);
                intent(desired, HistoryKind::CanaryWithdrawn, of_plugin(&plugin, Some(canary.version)), message)
            }
            Change::SetBalancer { service, policy } => {
                must_have_service(&desired, &service)?;
                let message = format!("service {service}: balancer {}, {}", policy.plugin, policy.settings);
                desired.overlay.services.insert(service.clone(), ServiceOverlay { balancer: Some(policy) });
                intent(desired, HistoryKind::PolicyChanged, of_service(&service), message)
            }
            Change::ClearOverlay { service } => {
                if desired.overlay.services.remove(&service).is_none() {
                    must_have_service(&desired, &service)?;
                }
                let message = format!("service {service}: the configuration file's policies hold again");
                intent(desired, HistoryKind::OverlayRemoved, of_service(&service), message)
            }
            Change::Refresh => {
                let message = "endpoints came or went".to_owned();
                intent(desired, HistoryKind::MembershipChanged, About::default(), message)
            }
            Change::Restart { service, worker, version } => {
                if before.plugin_of(&service, version).is_none() || worker >= self.gateway.worker_count() {
                    return Err(Refusal::Conflict(format!("service {service} does not use version {version}")));
                }
                let message = format!("service {service}: worker {worker} has a new instance of version {version}");
                let about = About { service: Some(service.clone()), version: Some(version), ..About::default() };
                let mut intent = intent(desired, HistoryKind::Restarted, about, message);
                intent.draft.restarts.push((service, worker));
                intent
            }
        })
    }

    async fn reread(&self, desired: &mut Desired) -> Result<(), Refusal> {
        let read = Arc::clone(&self.read_config);
        let (old, file) = (Arc::clone(&desired.file), tokio::task::spawn_blocking(move || read()).await);
        let file = file.map_err(|error| Refusal::Failed(format!("reading the configuration failed: {error}")))?;
        let file = file.map_err(|errors| {
            let problems = errors.problems().iter().map(|problem| ChangeProblem::plain(problem.to_string()));
            Refusal::invalid("the configuration is wrong, and nothing has changed", problems.collect())
        })?;
        let mut differences = restart_differences(&old, &file);
        if old.control.operator_token_file != file.control.operator_token_file {
            differences.push("control.operator_token_file changes, which needs a restart".to_owned());
        }
        if old.gateway.nameservers != file.gateway.nameservers {
            differences.push("gateway.nameservers changes, which needs a restart".to_owned());
        }
        if !differences.is_empty() {
            let problems = differences.into_iter().map(ChangeProblem::plain).collect();
            return Err(Refusal::invalid("the configuration has changes that need a restart", problems));
        }
        let file = Arc::new(file);
        let of_file = Arc::clone(&file);
        let bases = tokio::task::spawn_blocking(move || bases(&of_file)).await;
        desired.bases = Arc::new(
            bases
                .map_err(|error| Refusal::Failed(error.to_string()))?
                .map_err(|problems| Refusal::invalid("the configuration's plugins cannot be read", problems))?,
        );
        desired.file = file;
        Ok(())
    }

    async fn push(&self, before: &Published, plugin: PluginName, component: Bytes) -> Result<Intent, Refusal> {
        let (runtime, name, bytes) = (Arc::clone(&self.runtime), plugin.clone(), component.clone());
        let loaded = tokio::task::spawn_blocking(move || runtime.load(&name, &bytes)).await;
        let version = loaded
            .map_err(|error| Refusal::Failed(format!("compiling failed: {error}")))?
            .map_err(|error| Refusal::invalid("this is no plugin", vec![ChangeProblem::plain(error.to_string())]))?;
        if version.kind() != PluginKind::Balancer {
            let message = format!("a plugin of kind {} is not available in this version of Sluice", version.kind());
            return Err(Refusal::invalid("this plugin cannot be used", vec![ChangeProblem::plain(message)]));
        }
        let id = version.id();
        let mut draft = self.activated(before, &plugin, id);
        draft.loaded.push(version);
        draft.components.push((plugin.clone(), component));
        let message = format!("plugin {plugin}: version {id} was uploaded and is in use");
        let about = About { plugin: Some(plugin.clone()), version: Some(id), ..About::default() };
        Ok(Intent { draft, kind: HistoryKind::Activated, about, message, plugin: Some(plugin) })
    }

    /// With `version` in use. What it replaces is kept on disk if it came with the file or the binary, so that a
    /// rollback finds it after an upgrade of these.
    fn activated(&self, before: &Published, plugin: &PluginName, version: VersionId) -> Draft {
        let mut desired = before.desired.clone();
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

    fn roll_back(&self, desired: &mut Desired, plugin: &PluginName) -> Result<VersionId, Refusal> {
        let base = desired.base(plugin);
        let version = desired
            .overlay
            .roll_back(plugin, base)
            .ok_or_else(|| Refusal::Conflict(format!("plugin {plugin} has no previous version to go back to")))?;
        self.must_have(desired, plugin, version)?;
        desired.canaries.remove(plugin);
        Ok(version)
    }

    fn start_canary(
        &mut self,
        desired: &mut Desired,
        plugin: &PluginName,
        version: VersionId,
        percent: Percent,
        service: Option<ServiceName>,
    ) -> Result<(), Refusal> {
        self.must_have(desired, plugin, version)?;
        if desired.active(plugin) == Some(version) {
            return Err(Refusal::Conflict(format!("version {version} of plugin {plugin} is in use already")));
        }
        if !(1..=99).contains(&percent.get()) {
            let problem = ChangeProblem {
                pointer: "/percent".to_owned(),
                message: "must be 1 to 99: a canary is compared with the requests that it does not get".to_owned(),
                service: None,
            };
            return Err(Refusal::invalid("the canary is not possible", vec![problem]));
        }
        let bound = desired.bound(plugin);
        match &service {
            Some(service) if !bound.contains(service) => {
                must_have_service(desired, service)?;
                return Err(Refusal::Conflict(format!("service {service} does not use plugin {plugin}")));
            }
            None if bound.is_empty() => {
                return Err(Refusal::Conflict(format!("no service uses plugin {plugin}")));
            }
            _ => {}
        }
        self.canaries_started += 1;
        let (started_at, number) = (SystemTime::now(), self.canaries_started);
        desired.canaries.insert(plugin.clone(), Canary { version, percent, service, started_at, number });
        Ok(())
    }

    fn must_have(&self, desired: &Desired, plugin: &PluginName, version: VersionId) -> Result<(), Refusal> {
        if desired.base(plugin) == Some(version) || self.store.contains(plugin, version) {
            return Ok(());
        }
        Err(Refusal::NotFound(format!("plugin {plugin} has no version {version}")))
    }

    /// Counters from here on are the canaries'.
    pub(super) fn book_canaries(&self, desired: &Desired) {
        let numbers: Vec<_> = desired.canaries.values().map(|canary| canary.number).collect();
        self.canaries.retain(&numbers);
        for service in desired.file.services.values() {
            let plugin = &desired.policy(service).plugin;
            if let (Some(canary), Some(active)) = (desired.canary(service), desired.active(plugin)) {
                self.canaries.comparison(&self.metrics, canary, &service.name, plugin, active);
            }
        }
    }

    /// Best effort: a version that stays does no harm.
    fn tidy_store(&self, plugin: Option<&PluginName>, forgotten: bool) {
        let (Some(plugin), Some(current)) = (plugin, self.current.borrow().clone()) else { return };
        let desired = &current.desired;
        let overlay = desired.overlay.plugins.get(plugin).cloned().unwrap_or_default();
        let mut needed: BTreeSet<_> = overlay.previous.into_iter().chain(overlay.active).collect();
        needed.extend(desired.canaries.get(plugin).map(|canary| canary.version));
        let keep = if forgotten { 0 } else { VERSIONS_KEPT_MAX };
        if let Err(error) = self.store.prune(plugin, keep, &needed) {
            tracing::warn!(%plugin, %error, "old plugin versions were not removed");
        }
    }
}

/// What the file and the binary bring; a problem for each file that cannot be read or is another than expected.
pub fn bases(config: &Config) -> Result<BTreeMap<PluginName, Base>, Vec<ChangeProblem>> {
    let mut bases: BTreeMap<_, _> = stock::components()
        .map(|(plugin, component)| {
            (plugin, Base { version: VersionId::of(&component), component, source: Source::Default })
        })
        .collect();
    let mut problems = Vec::new();
    for (plugin, options) in &config.plugins {
        let Some(path) = &options.path else { continue };
        match stock::read_component(path, options.sha256.as_ref()) {
            Ok(component) => {
                let version = VersionId::of(&component);
                bases.insert(plugin.clone(), Base { version, component, source: Source::File });
            }
            Err(problem) => problems.push(ChangeProblem::plain(format!("plugins.{plugin}: {problem}"))),
        }
    }
    if problems.is_empty() { Ok(bases) } else { Err(problems) }
}

fn forget(desired: &mut Desired, plugin: &PluginName, nothing_stored: bool) -> Result<(), Refusal> {
    let had_overlay = desired.overlay.plugins.remove(plugin).is_some();
    if !had_overlay && nothing_stored {
        return Err(Refusal::NotFound(format!("plugin {plugin} has no uploaded version")));
    }
    desired.canaries.remove(plugin);
    let bound = desired.bound(plugin);
    if desired.base(plugin).is_none() && !bound.is_empty() {
        let problems = bound.iter().map(|service| ChangeProblem::of(service, "it uses the plugin")).collect();
        return Err(Refusal::invalid(format!("plugin {plugin} is in use, and nothing else brings it"), problems));
    }
    Ok(())
}

fn must_have_service(desired: &Desired, service: &ServiceName) -> Result<(), Refusal> {
    if desired.file.services.contains_key(service) {
        Ok(())
    } else {
        Err(Refusal::NotFound(format!("there is no service named {service}")))
    }
}

fn no_canary(plugin: &PluginName) -> Refusal {
    Refusal::NotFound(format!("plugin {plugin} has no canary"))
}

/// What was tried, for the note on a refusal.
fn describe(change: &Change) -> String {
    match change {
        Change::Reload => "reload".to_owned(),
        Change::Push { plugin, component } => format!("push of plugin {plugin} ({} bytes)", component.len()),
        Change::Activate { plugin, version } => format!("activation of {plugin} {version}"),
        Change::RollBack { plugin } => format!("rollback of plugin {plugin}"),
        Change::Forget { plugin } => format!("removal of plugin {plugin}"),
        Change::StartCanary { plugin, version, .. } => format!("canary of {plugin} {version}"),
        Change::EndCanary { plugin } => format!("end of the canary of plugin {plugin}"),
        Change::SetBalancer { service, policy } => format!("balancer {} for service {service}", policy.plugin),
        Change::ClearOverlay { service } => format!("removal of the overlay of service {service}"),
        Change::Refresh => "change of endpoints".to_owned(),
        Change::Restart { service, worker, .. } => format!("restart for service {service} on worker {worker}"),
        Change::GiveUp { plugin, version, .. } => format!("automatic rollback of {plugin} {version}"),
        Change::Withdraw { plugin, .. } => format!("withdrawal of the canary of plugin {plugin}"),
    }
}
