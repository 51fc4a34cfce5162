//! What each change means for how things should be.

use std::sync::Arc;

use super::{Published, Publisher, desired::Desired, transaction::Draft};
use crate::{
    control::{
        change::{Change, Refusal},
        history::{About, HistoryKind},
        overlay::ServiceOverlay,
    },
    model::{PluginName, PolicyConfig, ServiceName, VersionId},
};

/// A draft, and what will be said of it when it has come about.
pub struct Intent {
    pub draft: Draft,
    pub kind: HistoryKind,
    pub about: About,
    pub message: String,
}

impl Intent {
    fn new(desired: Desired, kind: HistoryKind, message: impl Into<String>) -> Self {
        Self { draft: Draft::of(desired), kind, about: About::default(), message: message.into() }
    }

    pub fn of_plugin(
        draft: Draft,
        kind: HistoryKind,
        plugin: &PluginName,
        version: Option<VersionId>,
        what: impl std::fmt::Display,
    ) -> Self {
        let about = About { plugin: Some(plugin.clone()), version, ..About::default() };
        Self { draft, kind, about, message: format!("plugin {plugin}: {what}") }
    }

    fn of_service(desired: Desired, kind: HistoryKind, service: &ServiceName, what: impl std::fmt::Display) -> Self {
        let about = About { service: Some(service.clone()), ..About::default() };
        Self { draft: Draft::of(desired), kind, about, message: format!("service {service}: {what}") }
    }
}

impl Publisher {
    pub(super) async fn intend(&mut self, before: &Arc<Published>, change: Change) -> Result<Intent, Refusal> {
        let mut desired = before.desired.clone();
        match change {
            Change::Reload => {
                self.reread(&mut desired).await?;
                Ok(Intent::new(desired, HistoryKind::Reloaded, "the configuration was read again"))
            }
            Change::Refresh => Ok(Intent::new(desired, HistoryKind::MembershipChanged, "endpoints came or went")),
            Change::Push { plugin, component } => self.push(desired, &plugin, component).await,
            Change::Upload { plugin, component } => self.upload(desired, &plugin, component).await,
            Change::Activate { plugin, version } => self.activate(desired, &plugin, version),
            Change::RollBack { plugin } => self.roll_back(desired, &plugin),
            Change::GiveUp { plugin, version, reason } => self.give_up(desired, &plugin, version, &reason),
            Change::Forget { plugin } => self.forget(desired, &plugin),
            Change::StartCanary { plugin, version, percent, service } => {
                self.start_canary(desired, &plugin, version, percent, service)
            }
            Change::EndCanary { plugin } => self.end_canary(desired, &plugin),
            Change::Withdraw { plugin, number, reason } => self.withdraw(desired, &plugin, number, &reason),
            Change::SetBalancer { service, policy } => set_balancer(desired, &service, policy),
            Change::ClearOverlay { service } => clear_overlay(desired, &service),
            Change::Restart { service, worker, version } => {
                if before.plugin_of(&service, version).is_none() || worker >= self.gateway.worker_count() {
                    return Err(Refusal::Conflict(format!("service {service} does not use version {version}")));
                }
                let what = format!("worker {worker} has a new instance of version {version}");
                let mut intent = Intent::of_service(desired, HistoryKind::Restarted, &service, what);
                intent.about.version = Some(version);
                intent.draft.restarts.push((service, worker));
                Ok(intent)
            }
        }
    }
}

fn set_balancer(mut desired: Desired, service: &ServiceName, policy: PolicyConfig) -> Result<Intent, Refusal> {
    must_have_service(&desired, service)?;
    let what = format!("its balancer is {}, with {}", policy.plugin, policy.settings);
    desired.overlay.services.insert(service.clone(), ServiceOverlay { balancer: Some(policy) });
    Ok(Intent::of_service(desired, HistoryKind::PolicyChanged, service, what))
}

/// Also for a service that the file does not have any more.
fn clear_overlay(mut desired: Desired, service: &ServiceName) -> Result<Intent, Refusal> {
    if desired.overlay.services.remove(service).is_none() {
        must_have_service(&desired, service)?;
    }
    let what = "the configuration file's policies hold again";
    Ok(Intent::of_service(desired, HistoryKind::OverlayRemoved, service, what))
}

pub(super) fn must_have_service(desired: &Desired, service: &ServiceName) -> Result<(), Refusal> {
    if desired.file.services.contains_key(service) {
        Ok(())
    } else {
        Err(Refusal::NotFound(format!("there is no service named {service}")))
    }
}
