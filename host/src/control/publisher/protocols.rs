//! The protocols of transactions: made when a change brings others into use.

use std::{collections::BTreeMap, sync::Arc};

use tokio::task::{block_in_place, spawn_blocking};

use super::{
    Published, Publisher,
    desired::{Binding, Desired},
    transaction::Draft,
};
use crate::{
    control::{
        change::{ChangeProblem, Refusal},
        pinned::PinnedVersions,
    },
    model::{Percent, PluginName, VersionId},
    plugin::Version,
    transactions::{ComponentProtocol, Pin, Pinned, ProtocolInForce, Protocols},
};

/// A protocol that is in force, and what it was made of.
#[derive(Clone)]
pub struct PublishedProtocol {
    pub binding: Binding,
    pub in_force: ProtocolInForce,
    pub versions: Vec<Arc<Version>>,
}

/// By DTM's `trans_type`.
pub type PublishedProtocols = BTreeMap<String, PublishedProtocol>;

impl Publisher {
    /// Makes the protocols that `draft` needs and that are not in use. None where nothing differs.
    pub(super) async fn open_protocols(
        &self,
        before: Option<&Published>,
        draft: &mut Draft,
    ) -> Result<Option<PublishedProtocols>, Refusal> {
        let wanted = wanted(&draft.desired)?;
        let timeout = draft.desired.file.transactions.timeout;
        let old = before.map(|before| &before.protocols);
        let is_same = |name: &String, binding: &Binding| {
            let old = old.and_then(|old| old.get(name));
            old.is_some_and(|old| old.binding == *binding && old.in_force.timeout == timeout)
        };
        if old.is_some_and(|old| old.len() == wanted.len())
            && wanted.iter().all(|(name, binding)| is_same(name, binding))
        {
            return Ok(None);
        }
        let mut needed: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for binding in wanted.values() {
            for version in binding.versions() {
                needed.entry((binding.policy.plugin.clone(), version)).or_default();
            }
        }
        let known = std::mem::take(&mut draft.loaded);
        let loaded = self.load(before, &draft.desired, needed, known.clone()).await;
        let loaded = loaded.map_err(|problems| Refusal::invalid("the change was refused", problems))?;
        draft.loaded = known;
        draft.loaded.extend(loaded.values().cloned());
        let mut protocols = PublishedProtocols::new();
        for (name, binding) in wanted {
            // DTM's names for it are the same protocol.
            let same = protocols.values().find(|made| made.binding == binding).cloned();
            if let Some(same) = same {
                protocols.insert(name, same);
                continue;
            }
            let versions: Vec<_> = binding
                .versions()
                .map(|version| Arc::clone(&loaded[&(binding.policy.plugin.clone(), version)]))
                .collect();
            for version in &versions {
                self.pin(&self.transactions.pinned, draft, version)?;
            }
            let made = self.protocol(&name, &binding, &versions, timeout).await?;
            protocols.insert(name, PublishedProtocol { binding, in_force: made, versions });
        }
        Ok(Some(protocols))
    }

    /// The component, for as long as something will keep to it.
    pub(super) fn pin(&self, pinned: &PinnedVersions, draft: &Draft, version: &Version) -> Result<(), Refusal> {
        let (plugin, id) = (version.plugin(), version.id());
        let base = draft.desired.bases.get(plugin).filter(|base| base.version == id);
        let pushed = draft.components.iter().find(|(of, bytes)| of == plugin && VersionId::of(bytes) == id);
        let brought = base.map(|base| &base.component).or(pushed.map(|(_, bytes)| bytes));
        let kept = block_in_place(|| match brought {
            Some(bytes) => pinned.keep(plugin, bytes),
            None => match self.store.get(plugin, id)? {
                Some(bytes) => pinned.keep(plugin, &bytes),
                None => Ok(()),
            },
        });
        kept.map_err(|error| Refusal::Failed(error.to_string()))
    }

    async fn protocol(
        &self,
        name: &str,
        binding: &Binding,
        versions: &[Arc<Version>],
        timeout: std::time::Duration,
    ) -> Result<ProtocolInForce, Refusal> {
        let mut made = Vec::new();
        for version in versions {
            let settings = binding.policy.settings.as_object().cloned().unwrap_or_default();
            let pin = Pin {
                plugin: binding.policy.plugin.clone(),
                version: version.id(),
                settings,
                memory_bytes_max: binding.memory_bytes_max,
            };
            let (version, clock, of) = (Arc::clone(version), self.clock, pin.clone());
            let protocol = spawn_blocking(move || ComponentProtocol::new(version, &of, clock, fastrand::u64(..))).await;
            let protocol = protocol.map_err(|error| Refusal::Failed(error.to_string()))?;
            let of_plugin = &binding.policy.plugin;
            let protocol = protocol.map_err(|error| {
                let problem = ChangeProblem::of_plugin(of_plugin, format!("transactions.protocols.{name}: {error}"));
                Refusal::invalid("the change was refused", vec![problem])
            })?;
            made.push(Pinned { pin, protocol: Arc::new(protocol) });
        }
        let mut made = made.into_iter();
        let incumbent = made.next().expect("a binding has a version");
        let percent = binding.candidate.map(|(_, percent)| percent);
        let candidate: Option<(Percent, Pinned)> = percent.zip(made.next());
        Ok(ProtocolInForce { incumbent, candidate, timeout })
    }

    /// New transactions get these from here on; calls may go where the configuration says now.
    pub(super) fn install_protocols(&self, desired: &Desired, protocols: Option<&PublishedProtocols>) {
        let file = &desired.file;
        let services = file.services.keys().cloned().collect();
        self.transactions.directory.set(services, file.transactions.allow_hosts.clone());
        if let Some(protocols) = protocols {
            let in_force: Protocols =
                protocols.iter().map(|(name, protocol)| (name.clone(), protocol.in_force.clone())).collect();
            self.transactions.coordinator.set_protocols(in_force);
        }
    }
}

impl Binding {
    /// The one in use, and the one on trial.
    fn versions(&self) -> impl Iterator<Item = VersionId> {
        std::iter::once(self.version).chain(self.candidate.map(|(version, _)| version))
    }
}

fn wanted(desired: &Desired) -> Result<BTreeMap<String, Binding>, Refusal> {
    let mut problems = Vec::new();
    let mut wanted = BTreeMap::new();
    for (name, protocol) in &desired.file.transactions.protocols {
        match desired.protocol_binding(&protocol.policy) {
            Ok(binding) => drop(wanted.insert(name.clone(), binding)),
            Err(message) => problems.push(ChangeProblem::plain(format!("transactions.protocols.{name}: {message}"))),
        }
    }
    if problems.is_empty() { Ok(wanted) } else { Err(Refusal::invalid("the change was refused", problems)) }
}

impl Desired {
    /// The protocols that a plugin steps.
    pub fn protocols_of(&self, plugin: &PluginName) -> Vec<&str> {
        let protocols = self.file.transactions.protocols.iter();
        protocols.filter(|(_, protocol)| protocol.policy.plugin == *plugin).map(|(name, _)| name.as_str()).collect()
    }
}
