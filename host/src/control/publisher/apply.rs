//! One change from the question to the answer, and what is remembered of it.

use std::collections::BTreeSet;

use tokio::task::block_in_place;

use super::{Publisher, desired::Desired, intent::Intent};
use crate::{
    control::{
        change::{Applied, Change, Refusal},
        history::{About, HistoryKind},
    },
    model::{PluginName, VersionId},
    telemetry,
};

/// Uploaded versions of one plugin that are kept, besides those that are needed.
const VERSIONS_KEPT_MAX: usize = 16;

impl Publisher {
    /// An error means that nothing has changed.
    pub(super) async fn apply(&mut self, change: Change) -> Result<Applied, Refusal> {
        let by_itself =
            matches!(change, Change::Refresh | Change::Health | Change::Restart { .. } | Change::Discovered { .. });
        let metric = match change {
            Change::GiveUp { .. } => telemetry::Change::RolledBack,
            Change::Withdraw { .. } => telemetry::Change::Withdrawn,
            _ => telemetry::Change::Applied,
        };
        let what = describe(&change);
        let result = self.carry_out(change).await;
        match &result {
            Ok(applied) if applied.changed => self.metrics.changed(metric),
            Ok(_) | Err(Refusal::ShuttingDown) => {}
            Err(refusal) => {
                self.metrics.changed(telemetry::Change::Refused);
                let message = format!("{what}: {}", refusal.in_full());
                if by_itself {
                    // It is tried again and again: the ring has better things to hold.
                    tracing::warn!("{message}");
                } else {
                    self.history.note(HistoryKind::Refused, About::default(), message);
                }
            }
        }
        result
    }

    async fn carry_out(&mut self, change: Change) -> Result<Applied, Refusal> {
        let before = self.current.borrow().clone().ok_or(Refusal::ShuttingDown)?;
        let uploaded = match &change {
            Change::Push { component, .. } | Change::Upload { component, .. } => Some(VersionId::of(component)),
            _ => None,
        };
        let Intent { mut draft, kind, about, message } = self.intend(&before, change).await?;
        draft.desired.end_pointless_canaries();
        let forgotten = draft.forgotten.is_some();
        let mut applied = self.transact(draft).await?;
        applied.uploaded = uploaded;
        if let Some(plugin) = &about.plugin {
            let current = self.current.borrow();
            applied.version = current.as_ref().and_then(|current| current.desired.active(plugin));
        }
        let (pins, pins_before) = (self.handler_pins(), before.handler_pins());
        if pins != pins_before {
            // Those before are in use until the new ones have taken over.
            self.handlers.tidy([pins, pins_before].concat()).await;
        }
        if applied.changed {
            for warning in &applied.warnings {
                self.history.note(HistoryKind::Warning, about.clone(), warning.clone());
            }
            if let Some(plugin) = &about.plugin {
                block_in_place(|| self.tidy_store(plugin, if forgotten { 0 } else { VERSIONS_KEPT_MAX }));
            }
            if let Some(message) = message {
                self.history.note(kind, about, message);
            }
        }
        Ok(applied)
    }

    /// Counters from here on are the canaries'.
    pub(super) fn book_canaries(&self, desired: &Desired) {
        let numbers: Vec<_> = desired.canaries.values().map(|canary| canary.number).collect();
        self.canaries.retain(&numbers);
        for service in desired.file.services.values() {
            for plugin in [&desired.balancer(service).plugin, &desired.failover(service).plugin] {
                if let (Some(canary), Some(active)) = (desired.canary(service, plugin), desired.active(plugin)) {
                    self.canaries.comparison(&self.metrics, canary, &service.name, plugin, active);
                }
            }
        }
    }

    /// Best effort: a version that stays does no harm.
    fn tidy_store(&self, plugin: &PluginName, keep: usize) {
        let Some(current) = self.current.borrow().clone() else { return };
        let desired = &current.desired;
        let overlay = desired.overlay.plugins.get(plugin).cloned().unwrap_or_default();
        let mut needed: BTreeSet<_> = overlay.previous.into_iter().chain(overlay.active).collect();
        needed.extend(desired.canaries.get(plugin).map(|canary| canary.version));
        if let Err(error) = self.store.prune(plugin, keep, &needed) {
            tracing::warn!(%plugin, %error, "old plugin versions were not removed");
        }
    }
}

/// What was tried, for the note on a refusal.
fn describe(change: &Change) -> String {
    match change {
        Change::Reload => "reload".to_owned(),
        Change::Push { plugin, component } => format!("push of plugin {plugin} ({} bytes)", component.len()),
        Change::Upload { plugin, component } => format!("upload of plugin {plugin} ({} bytes)", component.len()),
        Change::Activate { plugin, version } => format!("activation of {plugin} {version}"),
        Change::RollBack { plugin } => format!("rollback of plugin {plugin}"),
        Change::Forget { plugin } => format!("removal of plugin {plugin}"),
        Change::StartCanary { plugin, version, .. } => format!("canary of {plugin} {version}"),
        Change::EndCanary { plugin } => format!("end of the canary of plugin {plugin}"),
        Change::SetPolicies { service, .. } => format!("other policies for service {service}"),
        Change::Discovered { memberships } => format!("endpoints found for {} services", memberships.len()),
        Change::ClearOverlay { service } => format!("removal of the overlay of service {service}"),
        Change::Refresh => "change of endpoints".to_owned(),
        Change::Health => "change of endpoints' health".to_owned(),
        Change::Restart { service, worker, .. } => format!("restart for service {service} on worker {worker}"),
        Change::GiveUp { plugin, version, .. } => format!("automatic rollback of {plugin} {version}"),
        Change::Withdraw { plugin, .. } => format!("withdrawal of the canary of plugin {plugin}"),
    }
}
