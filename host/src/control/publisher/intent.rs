//! What each change means for how things should be.

use std::sync::Arc;

use super::{
    Published, Publisher,
    desired::Desired,
    plan::{HEALTH_PLACE, Restarted, place},
    transaction::Draft,
};
use crate::{
    control::{
        change::{Change, PolicyChange, Refusal},
        discovery::lost,
        history::{About, HistoryKind},
        overlay::ServiceOverlay,
    },
    model::{EndpointSpec, PluginName, ServiceName, VersionId},
};

/// A draft, and what will be said of it when it has come about.
pub struct Intent {
    pub draft: Draft,
    pub kind: HistoryKind,
    pub about: About,
    /// None: it is told elsewhere.
    pub message: Option<String>,
}

impl Intent {
    fn new(desired: Desired, kind: HistoryKind, message: impl Into<String>) -> Self {
        Self { draft: Draft::of(desired), kind, about: About::default(), message: Some(message.into()) }
    }

    pub fn of_plugin(
        draft: Draft,
        kind: HistoryKind,
        plugin: &PluginName,
        version: Option<VersionId>,
        what: impl std::fmt::Display,
    ) -> Self {
        let about = About { plugin: Some(plugin.clone()), version, ..About::default() };
        Self { draft, kind, about, message: Some(format!("plugin {plugin}: {what}")) }
    }

    fn of_service(desired: Desired, kind: HistoryKind, service: &ServiceName, what: impl std::fmt::Display) -> Self {
        let about = About { service: Some(service.clone()), ..About::default() };
        Self { draft: Draft::of(desired), kind, about, message: Some(format!("service {service}: {what}")) }
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
            Change::Health => Ok(Intent { message: None, ..Intent::new(desired, HistoryKind::MembershipChanged, "") }),
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
            Change::SetPolicies { service, balancer, failover, discovery, force } => {
                set_policies(desired, &service, [balancer, failover, discovery], force)
            }
            Change::Discovered { memberships } => Ok(discovered(desired, memberships)),
            Change::ClearOverlay { service } => clear_overlay(desired, &service),
            Change::Restart { service, worker, version } => {
                let exists = worker == HEALTH_PLACE || worker < self.gateway.worker_count();
                if before.plugin_of(&service, version).is_none() || !exists {
                    return Err(Refusal::Conflict(format!("service {service} does not use version {version}")));
                }
                let what = format!("{} has a new instance of version {version}", place(worker));
                let mut intent = Intent::of_service(desired, HistoryKind::Restarted, &service, what);
                intent.about.version = Some(version);
                intent.draft.restarts.push(Restarted { service, worker, version });
                Ok(intent)
            }
        }
    }
}

fn set_policies(
    mut desired: Desired,
    service: &ServiceName,
    [balancer, failover, discovery]: [PolicyChange; 3],
    force: bool,
) -> Result<Intent, Refusal> {
    must_have_service(&desired, service)?;
    let mut overlay = desired.overlay.services.remove(service).unwrap_or_default();
    let mut what = Vec::new();
    let reopened = discovery != PolicyChange::Keep;
    for (name, change, place) in [
        ("balancer", balancer, &mut overlay.balancer),
        ("failover", failover, &mut overlay.failover),
        ("discovery", discovery, &mut overlay.discovery),
    ] {
        match change {
            PolicyChange::Keep => {}
            PolicyChange::Clear => {
                what.push(format!("its {name} is the configuration file's"));
                *place = None;
            }
            PolicyChange::Set(policy) => {
                what.push(format!("its {name} is {}, with {}", policy.plugin, policy.settings));
                *place = Some(policy);
            }
        }
    }
    if overlay != ServiceOverlay::default() {
        desired.overlay.services.insert(service.clone(), overlay);
    }
    let mut intent = Intent::of_service(desired, HistoryKind::PolicyChanged, service, what.join("; "));
    intent.draft.forced = force;
    // Asked for by name: what was held back is looked at again.
    intent.draft.reopened = Some(service.clone()).filter(|_| reopened && force);
    Ok(intent)
}

fn discovered(mut desired: Desired, memberships: Vec<(ServiceName, Arc<[EndpointSpec]>)>) -> Intent {
    let mut all = (*desired.discovered).clone();
    let mut what = Vec::new();
    let one = match memberships.as_slice() {
        [(service, _)] => Some(service.clone()),
        _ => None,
    };
    for (service, endpoints) in memberships {
        let before = all.insert(service.clone(), Arc::clone(&endpoints));
        let before = before.as_deref().unwrap_or_default();
        let (joined, left) = (lost(&endpoints, before), lost(before, &endpoints));
        what.push(format!("service {service}: {joined} endpoints joined, {left} left, {} are there", endpoints.len()));
    }
    desired.discovered = Arc::new(all);
    let mut intent = Intent::new(desired, HistoryKind::MembershipChanged, what.join("; "));
    intent.about.service = one;
    intent
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
