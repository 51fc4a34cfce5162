//! Event handlers: made when a change brings others into use. What they have stored is theirs to replace
//! ([`crate::events::handlers`]): a change has come about when the new version takes its settings and says which events it
//! wants.

use std::{collections::BTreeMap, sync::Arc};

use super::{Published, Publisher, desired::Desired, transaction::Draft};
use crate::{
    control::change::{ChangeProblem, Refusal},
    events::handlers::{Making, Pin, Wanted},
    model::{HandlerConfig, HandlerName, PluginName, VersionId},
    plugin::Version,
};

/// What follows the events, and within which bounds: two that are equal need no new instances.
#[derive(Clone, Debug, PartialEq)]
pub struct HandlerBinding {
    pub config: HandlerConfig,
    pub version: VersionId,
    pub making: Making,
}

/// A handler that is in force, and what it was made of.
#[derive(Clone)]
pub struct PublishedHandler {
    pub binding: HandlerBinding,
    pub wanted: Wanted,
    pub version: Arc<Version>,
}

pub type PublishedHandlers = BTreeMap<HandlerName, PublishedHandler>;

impl Publisher {
    /// Makes the handlers that `draft` needs and that are not in use. None where nothing differs.
    pub(super) async fn open_handlers(
        &self,
        before: Option<&Published>,
        draft: &mut Draft,
    ) -> Result<Option<PublishedHandlers>, Refusal> {
        let wanted = wanted(&draft.desired)?;
        let old = before.map(|before| &before.handlers);
        let is_same = |(name, binding): (&HandlerName, &HandlerBinding)| {
            old.and_then(|old| old.get(name)).is_some_and(|old| old.binding == *binding)
        };
        if old.is_some_and(|old| old.len() == wanted.len()) && wanted.iter().all(is_same) {
            return Ok(None);
        }
        let needed =
            wanted.values().map(|binding| ((binding.config.policy.plugin.clone(), binding.version), Vec::new()));
        let known = std::mem::take(&mut draft.loaded);
        let in_force = old.into_iter().flat_map(|old| old.values()).map(|handler| Arc::clone(&handler.version));
        let at_hand = known.iter().cloned().chain(in_force).collect();
        let loaded = self.load(before, &draft.desired, needed.collect(), at_hand).await;
        let loaded = loaded.map_err(|problems| Refusal::invalid("the change was refused", problems))?;
        draft.loaded = known;
        draft.loaded.extend(loaded.values().cloned());
        let mut handlers = PublishedHandlers::new();
        for (name, binding) in wanted {
            let version = Arc::clone(&loaded[&(binding.config.policy.plugin.clone(), binding.version)]);
            let old = old.and_then(|old| old.get(&name));
            let wanted = self.handler(&name, &binding, old, &version).await?;
            // Not before: what is refused would stay there.
            self.pin(&self.handlers.pinned, draft, &version)?;
            handlers.insert(name, PublishedHandler { binding, wanted, version });
        }
        Ok(Some(handlers))
    }

    async fn handler(
        &self,
        name: &HandlerName,
        binding: &HandlerBinding,
        old: Option<&PublishedHandler>,
        version: &Arc<Version>,
    ) -> Result<Wanted, Refusal> {
        let HandlerBinding { config, making, .. } = binding;
        let settings = config.policy.settings.as_object().cloned().unwrap_or_default();
        let pin = Pin { plugin: config.policy.plugin.clone(), version: version.id(), settings };
        let (on_failure, from) = (config.on_failure, config.from);
        if let Some(old) = old.filter(|old| old.wanted.pin == pin && old.wanted.making == *making) {
            return Ok(Wanted { on_failure, from, ..old.wanted.clone() });
        }
        let made = self.handlers.make(name, Arc::clone(version), &pin, making).await;
        let handler = made.map_err(|error| {
            let message = format!("events.handlers.{name}: {error}");
            let problem = ChangeProblem::of_plugin(&config.policy.plugin, message);
            Refusal::invalid("the change was refused", vec![problem])
        })?;
        Ok(Wanted { pin, handler: Arc::new(handler), making: making.clone(), on_failure, from })
    }

    /// What the handlers in force keep to.
    pub fn handler_pins(&self) -> Vec<Pin> {
        self.current.borrow().as_ref().map(|current| current.handler_pins()).unwrap_or_default()
    }

    /// These run from here on; calls may go where the configuration says now.
    pub(super) fn install_handlers(&self, desired: &Desired, handlers: Option<&PublishedHandlers>) {
        let file = &desired.file;
        let services = file.services.keys().cloned().collect();
        self.handlers.directory.set(services, file.events.allow_hosts.clone());
        if let Some(handlers) = handlers {
            let wanted = handlers.iter().map(|(name, handler)| (name.clone(), handler.wanted.clone()));
            self.handlers.handlers.set(wanted.collect());
        }
    }
}

impl Published {
    pub(super) fn handler_pins(&self) -> Vec<Pin> {
        self.handlers.values().map(|handler| handler.wanted.pin.clone()).collect()
    }
}

fn wanted(desired: &Desired) -> Result<BTreeMap<HandlerName, HandlerBinding>, Refusal> {
    let mut problems = Vec::new();
    let mut wanted = BTreeMap::new();
    for (name, config) in &desired.file.events.handlers {
        match desired.handler_binding(config) {
            Ok(binding) => drop(wanted.insert(name.clone(), binding)),
            Err(message) => problems.push(ChangeProblem::plain(format!("events.handlers.{name}: {message}"))),
        }
    }
    if problems.is_empty() { Ok(wanted) } else { Err(Refusal::invalid("the change was refused", problems)) }
}

impl Desired {
    /// One sentence where no version is there.
    fn handler_binding(&self, config: &HandlerConfig) -> Result<HandlerBinding, String> {
        let plugin = &config.policy.plugin;
        let version = self.active(plugin).ok_or_else(|| self.no_such_plugin(plugin))?;
        let grants = self.file.plugins.get(plugin).map(|options| Arc::clone(&options.grants)).unwrap_or_default();
        let making = Making { memory_bytes_max: self.memory_bytes_max(plugin), grants };
        Ok(HandlerBinding { config: config.clone(), version, making })
    }

    /// The event handlers that are of a plugin.
    pub fn handlers_of(&self, plugin: &PluginName) -> Vec<&str> {
        let handlers = self.file.events.handlers.iter();
        handlers.filter(|(_, handler)| handler.policy.plugin == *plugin).map(|(name, _)| name.as_str()).collect()
    }
}
