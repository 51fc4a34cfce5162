//! Tries every policy of a configuration before anything is bound: whether its component is a plugin, and takes its
//! settings.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use sha2::{Digest, Sha256};

use super::component;
use crate::{
    config::{self, ConfigErrors, Finding, defaults::PLUGIN_MEMORY_BYTES_MAX},
    model::{Clock, Config, PluginName, PluginOptions, PolicyConfig, ServiceConfig},
    plugin::{ComponentStore, InstanceError, PolicyContext, Runtime, Version, stock},
};

/// Everything that plugins have against a configuration, each at its place in the file.
///
/// A plugin with uploaded versions is left out: which of them is in use, only a gateway knows, and it has checked it.
pub(super) fn check(path: &Path, config: &Config, runtime: &Runtime) -> Result<(), ConfigErrors> {
    let mut trial = Trial { runtime, findings: Vec::new(), clock: Clock::start() };
    let uploaded = ComponentStore::kept_in(&config.gateway.data_dir);
    let mut versions: BTreeMap<&PluginName, Option<Arc<Version>>> = BTreeMap::new();
    // Those of one's own also where no service uses them yet.
    for options in config.plugins.values().filter(|options| options.path.is_some()) {
        versions.insert(&options.name, trial.own(options));
    }
    for service in config.services.values() {
        for (role, policy) in policies(service) {
            if uploaded.contains(&policy.plugin) {
                continue;
            }
            let version = versions.entry(&policy.plugin).or_insert_with(|| trial.stock(service, role, policy));
            if let Some(version) = version {
                trial.configure(service, role, policy, version, config.plugins.get(&policy.plugin));
            }
        }
    }
    match trial.findings {
        findings if findings.is_empty() => Ok(()),
        findings => Err(config::locate(path, findings)),
    }
}

struct Trial<'a> {
    runtime: &'a Runtime,
    findings: Vec<Finding>,
    clock: Clock,
}

impl Trial<'_> {
    /// None, with a finding, where the file is no plugin or not the one that is meant.
    fn own(&mut self, options: &PluginOptions) -> Option<Arc<Version>> {
        let name = &options.name;
        let bytes = component::bytes(options.path.as_deref()?);
        let bytes = bytes.map_err(|why| self.findings.push(Finding::in_component(name, why))).ok()?;
        let found: [u8; 32] = Sha256::digest(&bytes).into();
        if let Some(wanted) = options.sha256.filter(|wanted| *wanted != found) {
            let message = format!("the file's SHA-256 is {}, not {}", hex::encode(found), hex::encode(wanted));
            self.findings.push(Finding::in_sha256(name, message));
            return None;
        }
        let version = self.runtime.load(name, &bytes);
        version.map_err(|error| self.findings.push(Finding::in_component(name, error.to_string()))).ok()
    }

    fn stock(&mut self, service: &ServiceConfig, role: &str, policy: &PolicyConfig) -> Option<Arc<Version>> {
        let name = &policy.plugin;
        let component = stock().iter().find(|stock| stock.name == name.as_str())?.component;
        let version = self.runtime.load(name, component);
        version.map_err(|error| self.findings.push(Finding::in_policy(&service.name, role, error.to_string()))).ok()
    }

    fn configure(
        &mut self,
        service: &ServiceConfig,
        role: &str,
        policy: &PolicyConfig,
        version: &Version,
        options: Option<&PluginOptions>,
    ) {
        let context = PolicyContext {
            name: service.name.to_string(),
            settings: policy.settings.clone(),
            seed: 1,
            memory_bytes_max: options.map_or(PLUGIN_MEMORY_BYTES_MAX, |options| options.memory_bytes_max),
            clock: self.clock,
        };
        let tried = match role {
            DISCOVERY => version.try_discovery(&context),
            FAILOVER => version.failover(&context).map(drop),
            _ => version.balancer(&context).map(drop),
        };
        match tried {
            Ok(()) => {}
            Err(InstanceError::Settings(problems)) => {
                let finding = |problem: crate::plugin::Problem| {
                    Finding::in_settings(&service.name, role, &problem.path, problem.message)
                };
                self.findings.extend(problems.into_iter().map(finding));
            }
            Err(other) => self.findings.push(Finding::in_policy(&service.name, role, other.to_string())),
        }
    }
}

const DISCOVERY: &str = "discovery";
const FAILOVER: &str = "failover";

/// Each policy of a service, with its key.
fn policies(service: &ServiceConfig) -> impl Iterator<Item = (&'static str, &PolicyConfig)> {
    let discovery = service.discovery.as_ref().map(|policy| (DISCOVERY, policy));
    [("balancer", &service.balancer), (FAILOVER, &service.failover)].into_iter().chain(discovery)
}
