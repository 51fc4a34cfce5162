//! How things should be: the configuration file, what was changed over the API on top of it, and canaries.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    control::{canary::Canary, change::ChangeProblem, overlay::Overlay},
    model::{Config, EndpointSpec, Grants, Percent, PluginName, PolicyConfig, ServiceConfig, ServiceName, VersionId},
};

#[derive(Clone, Debug)]
pub struct Desired {
    pub file: Arc<Config>,
    /// What the file and the binary bring.
    pub bases: Arc<BTreeMap<PluginName, Base>>,
    pub overlay: Overlay,
    pub canaries: BTreeMap<PluginName, Canary>,
    /// What the sources of endpoints said last, of services that have one.
    pub discovered: Arc<BTreeMap<ServiceName, Arc<[EndpointSpec]>>>,
}

/// The version of a plugin that is there without any upload.
#[derive(Clone, Debug)]
pub struct Base {
    pub version: VersionId,
    pub component: Bytes,
    /// `File` or `Default`.
    pub source: Source,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The configuration file.
    File,
    /// A change made over the API.
    Overlay,
    /// The gateway itself.
    Default,
}

/// What decides for one service, and with which limits: two that are equal need no new instances.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    pub policy: PolicyConfig,
    pub version: VersionId,
    pub memory_bytes_max: usize,
    pub candidate: Option<(VersionId, Percent)>,
}

impl Binding {
    /// Whether the version is in use or on trial.
    pub fn has(&self, version: VersionId) -> bool {
        self.version == version || self.candidate.is_some_and(|(candidate, _)| candidate == version)
    }
}

/// What finds a service's endpoints, and within which bounds: two that are equal need no new source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceBinding {
    pub policy: PolicyConfig,
    pub version: VersionId,
    pub memory_bytes_max: usize,
    pub grants: Arc<Grants>,
}

impl Desired {
    /// The version of a plugin that is in use; none where there is no such plugin.
    pub fn active(&self, plugin: &PluginName) -> Option<VersionId> {
        let overlay = self.overlay.plugins.get(plugin).and_then(|overlay| overlay.active);
        overlay.or_else(|| self.base(plugin))
    }

    pub fn active_source(&self, plugin: &PluginName) -> Source {
        match self.overlay.plugins.get(plugin).and_then(|overlay| overlay.active) {
            Some(_) => Source::Overlay,
            None => self.bases.get(plugin).map_or(Source::Default, |base| base.source),
        }
    }

    pub fn base(&self, plugin: &PluginName) -> Option<VersionId> {
        self.bases.get(plugin).map(|base| base.version)
    }

    pub fn balancer<'a>(&'a self, service: &'a ServiceConfig) -> &'a PolicyConfig {
        self.overlay_balancer(&service.name).unwrap_or(&service.balancer)
    }

    pub fn overlay_balancer(&self, service: &ServiceName) -> Option<&PolicyConfig> {
        self.overlay.services.get(service)?.balancer.as_ref()
    }

    pub fn failover<'a>(&'a self, service: &'a ServiceConfig) -> &'a PolicyConfig {
        self.overlay_failover(&service.name).unwrap_or(&service.failover)
    }

    pub fn overlay_failover(&self, service: &ServiceName) -> Option<&PolicyConfig> {
        self.overlay.services.get(service)?.failover.as_ref()
    }

    /// What finds the endpoints of a service; none where the file gives them.
    pub fn discovery<'a>(&'a self, service: &'a ServiceConfig) -> Option<&'a PolicyConfig> {
        self.overlay_discovery(&service.name).or(service.discovery.as_ref())
    }

    pub fn overlay_discovery(&self, service: &ServiceName) -> Option<&PolicyConfig> {
        self.overlay.services.get(service)?.discovery.as_ref()
    }

    /// The endpoints of a service, wherever they come from.
    pub fn endpoints<'a>(&'a self, service: &'a ServiceConfig) -> &'a [EndpointSpec] {
        match self.discovery(service) {
            Some(_) => self.discovered.get(&service.name).map_or(&[], |endpoints| endpoints),
            None => &service.endpoints,
        }
    }

    /// None where the file gives the endpoints; one sentence where no version is there.
    pub fn source(&self, service: &ServiceConfig) -> Result<Option<SourceBinding>, String> {
        let Some(policy) = self.discovery(service) else { return Ok(None) };
        let plugin = &policy.plugin;
        let version = self.active(plugin).ok_or_else(|| self.no_such_plugin(plugin))?;
        let grants = self.file.plugins.get(plugin).map(|options| Arc::clone(&options.grants)).unwrap_or_default();
        let memory_bytes_max = self.memory_bytes_max(plugin);
        Ok(Some(SourceBinding { policy: policy.clone(), version, memory_bytes_max, grants }))
    }

    /// The services that some policy of this plugin decides for.
    pub fn bound(&self, plugin: &PluginName) -> Vec<ServiceName> {
        let uses = |service: &&ServiceConfig| {
            self.balancer(service).plugin == *plugin
                || self.failover(service).plugin == *plugin
                || self.discovery(service).is_some_and(|used| used.plugin == *plugin)
        };
        self.file.services.values().filter(uses).map(|service| service.name.clone()).collect()
    }

    /// The services that a balancer of this plugin decides for.
    pub fn balanced_by(&self, plugin: &PluginName) -> Vec<ServiceName> {
        let services = self.file.services.values();
        services
            .filter(|service| self.balancer(service).plugin == *plugin)
            .map(|service| service.name.clone())
            .collect()
    }

    /// Whether it is the discovery plugin of some service.
    pub fn is_source(&self, plugin: &PluginName) -> bool {
        let mut services = self.file.services.values();
        services.any(|service| self.discovery(service).is_some_and(|used| used.plugin == *plugin))
    }

    /// The candidate that runs in the shadow of a service's source.
    pub fn shadow(&self, service: &ServiceConfig) -> Option<VersionId> {
        let canary = self.canaries.get(&self.discovery(service)?.plugin)?;
        canary.service.as_ref().is_none_or(|only| *only == service.name).then_some(canary.version)
    }

    /// The canary of this plugin that runs for a service.
    pub fn canary(&self, service: &ServiceConfig, plugin: &PluginName) -> Option<&Canary> {
        let canary = self.canaries.get(plugin)?;
        canary.service.as_ref().is_none_or(|only| *only == service.name).then_some(canary)
    }

    /// Of one of a service's policies. One sentence where no version is there.
    pub fn binding(&self, service: &ServiceConfig, policy: &PolicyConfig) -> Result<Binding, String> {
        let plugin = &policy.plugin;
        let version = self.active(plugin).ok_or_else(|| self.no_such_plugin(plugin))?;
        let candidate = self.canary(service, plugin).map(|canary| (canary.version, canary.percent));
        Ok(Binding { version, memory_bytes_max: self.memory_bytes_max(plugin), candidate, policy: policy.clone() })
    }

    /// Of a protocol. One sentence where no version is there.
    pub fn protocol_binding(&self, policy: &PolicyConfig) -> Result<Binding, String> {
        let plugin = &policy.plugin;
        let version = self.active(plugin).ok_or_else(|| self.no_such_plugin(plugin))?;
        let candidate = self.canaries.get(plugin).map(|canary| (canary.version, canary.percent));
        Ok(Binding { version, memory_bytes_max: self.memory_bytes_max(plugin), candidate, policy: policy.clone() })
    }

    pub fn memory_bytes_max(&self, plugin: &PluginName) -> usize {
        let options = self.file.plugins.get(plugin);
        options.map_or(crate::config::defaults::PLUGIN_MEMORY_BYTES_MAX, |options| options.memory_bytes_max)
    }

    /// Canaries that have lost their meaning end: the candidate is in use, or the plugin or service is gone.
    pub fn end_pointless_canaries(&mut self) {
        let pointless: Vec<_> = self
            .canaries
            .iter()
            .filter(|(plugin, canary)| {
                let bound = self.bound(plugin);
                let covers_none = match &canary.service {
                    Some(only) => !bound.contains(only),
                    None => bound.is_empty() && self.protocols_of(plugin).is_empty(),
                };
                covers_none || self.active(plugin) == Some(canary.version)
            })
            .map(|(plugin, _)| plugin.clone())
            .collect();
        for plugin in pointless {
            self.canaries.remove(&plugin);
        }
    }

    /// What is left without what the API changed for what these problems are of: for a start that would fail otherwise.
    pub fn without_overlay_of(&self, problems: &[ChangeProblem]) -> Self {
        let mut reduced = self.clone();
        for plugin in problems.iter().filter_map(|problem| problem.plugin.as_ref()) {
            reduced.overlay.plugins.remove(plugin);
        }
        for service in problems.iter().filter_map(|problem| problem.service.as_ref()) {
            let Some(config) = self.file.services.get(service) else { continue };
            reduced.overlay.plugins.remove(&self.balancer(config).plugin);
            reduced.overlay.plugins.remove(&self.failover(config).plugin);
            if let Some(discovery) = self.discovery(config) {
                reduced.overlay.plugins.remove(&discovery.plugin);
            }
            reduced.overlay.services.remove(service);
        }
        reduced
    }

    pub(super) fn no_such_plugin(&self, plugin: &PluginName) -> String {
        let built_in = self.bases.values().any(|base| base.source == Source::Default);
        if built_in {
            format!("there is no plugin named {plugin}")
        } else {
            format!(
                "there is no plugin named {plugin}: this binary was built without the stock plugins; run `make plugins` and build it again, or give a path in [plugins.{plugin}]"
            )
        }
    }
}
