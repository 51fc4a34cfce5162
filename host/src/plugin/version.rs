//! A compiled component, and the count of what lives of it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{
    BalancerInstance, DiscoveryInstance, EventHandlerInstance, FailoverInstance, HealthInstance, InstanceError,
    Outside, PolicyContext, ProtocolInstance, balancer,
    bindings::{
        balancer::BalancerPluginPre, discovery::DiscoveryPluginPre, event_handler::EventHandlerPluginPre,
        failover::FailoverPluginPre, transaction::TransactionPluginPre,
    },
    failover, imports,
    ticker::Ticker,
    transaction,
    waiting::block_on,
};
use crate::model::{Grants, PluginKind, PluginName, VersionId, event::Filter};

/// A compiled, linked component; its instances are made from it in microseconds.
pub struct Version {
    pub(super) identity: Arc<Identity>,
    pub(super) linked: Linked,
}

impl Version {
    pub fn plugin(&self) -> &PluginName {
        &self.identity.plugin
    }

    pub fn id(&self) -> VersionId {
        self.identity.id
    }

    pub fn kind(&self) -> PluginKind {
        match self.linked {
            Linked::Balancer { .. } => PluginKind::Balancer,
            Linked::Failover { .. } => PluginKind::Failover,
            Linked::Discovery { .. } => PluginKind::Discovery,
            Linked::Transaction { .. } => PluginKind::Transaction,
            Linked::EventHandler { .. } => PluginKind::EventHandler,
        }
    }

    /// Instances alive now.
    pub fn live_instances(&self) -> usize {
        self.identity.usage.instances()
    }

    /// Linear memory of all instances alive now, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.identity.usage.memory_bytes()
    }

    /// Lines that its instances wanted to log beyond their rate, since it was loaded.
    pub fn log_lines_dropped(&self) -> u64 {
        self.identity.usage.log_lines_dropped.load(Ordering::Relaxed)
    }

    /// Instantiates and configures.
    pub fn balancer(&self, context: &PolicyContext) -> Result<BalancerInstance, InstanceError> {
        match &self.linked {
            Linked::Balancer { pre, asks } => BalancerInstance::new(pre, *asks, &self.identity, context),
            _ => Err(self.wrong_kind(PluginKind::Balancer)),
        }
    }

    /// Instantiates and configures one that decides what becomes of failed attempts.
    pub fn failover(&self, context: &PolicyContext) -> Result<FailoverInstance, InstanceError> {
        FailoverInstance::new(self.failover_code()?, &self.identity, context)
    }

    /// Instantiates and configures one that judges which endpoints are fit.
    pub fn health(&self, context: &PolicyContext) -> Result<HealthInstance, InstanceError> {
        HealthInstance::new(self.failover_code()?, &self.identity, context)
    }

    fn failover_code(&self) -> Result<&FailoverPluginPre<failover::State>, InstanceError> {
        match &self.linked {
            Linked::Failover { pre } => Ok(pre),
            _ => Err(self.wrong_kind(PluginKind::Failover)),
        }
    }

    /// Instantiates and configures a source of membership, which reaches what `grants` allow of `outside`.
    pub async fn discovery(
        &self,
        context: &PolicyContext,
        outside: &Arc<Outside>,
        grants: &Arc<Grants>,
    ) -> Result<DiscoveryInstance, InstanceError> {
        let Linked::Discovery { pre } = &self.linked else { return Err(self.wrong_kind(PluginKind::Discovery)) };
        let (outside, grants) = (Some(Arc::clone(outside)), Arc::clone(grants));
        DiscoveryInstance::new(pre, &self.identity, context, outside, grants).await
    }

    /// Whether a source of membership takes its settings; it reaches nothing, and nothing waits.
    pub fn try_discovery(&self, context: &PolicyContext) -> Result<(), InstanceError> {
        let Linked::Discovery { pre } = &self.linked else { return Err(self.wrong_kind(PluginKind::Discovery)) };
        block_on(DiscoveryInstance::new(pre, &self.identity, context, None, Arc::default())).map(drop)
    }

    /// Instantiates and configures a transaction protocol.
    pub fn protocol(&self, context: &PolicyContext) -> Result<ProtocolInstance, InstanceError> {
        let Linked::Transaction { pre } = &self.linked else { return Err(self.wrong_kind(PluginKind::Transaction)) };
        ProtocolInstance::new(pre, &self.identity, context)
    }

    /// Instantiates and configures an event handler, which reaches what `grants` allow of `outside`.
    pub async fn event_handler(
        &self,
        context: &PolicyContext,
        outside: &Arc<Outside>,
        grants: &Arc<Grants>,
    ) -> Result<EventHandlerInstance, InstanceError> {
        let (outside, grants) = (Some(Arc::clone(outside)), Arc::clone(grants));
        EventHandlerInstance::new(self.event_handler_code()?, &self.identity, context, outside, grants).await
    }

    /// Whether an event handler takes its settings, and which events it then wants; it reaches nothing, and nothing
    /// waits.
    pub fn try_event_handler(&self, context: &PolicyContext) -> Result<Filter, InstanceError> {
        let code = self.event_handler_code()?;
        block_on(async {
            let mut tried = EventHandlerInstance::new(code, &self.identity, context, None, Arc::default()).await?;
            Ok(tried.subscribe().await?)
        })
    }

    fn event_handler_code(&self) -> Result<&EventHandlerPluginPre<imports::State>, InstanceError> {
        match &self.linked {
            Linked::EventHandler { pre } => Ok(pre),
            _ => Err(self.wrong_kind(PluginKind::EventHandler)),
        }
    }

    fn wrong_kind(&self, wanted: PluginKind) -> InstanceError {
        InstanceError::WrongKind { found: self.kind(), wanted }
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Version")
            .field("plugin", self.plugin())
            .field("id", &self.id())
            .field("kind", &self.kind())
            .field("live_instances", &self.live_instances())
            .finish()
    }
}

/// A component with its imports resolved and its exports found.
pub(super) enum Linked {
    Balancer { pre: BalancerPluginPre<balancer::State>, asks: Asks },
    Failover { pre: FailoverPluginPre<failover::State> },
    Discovery { pre: DiscoveryPluginPre<imports::State> },
    Transaction { pre: TransactionPluginPre<transaction::State> },
    EventHandler { pre: EventHandlerPluginPre<imports::State> },
}

/// What of the `incoming` interface a component imports at all: nothing else is copied for it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asks {
    pub tried: bool,
    pub header: bool,
    pub path: bool,
}

/// What an instance knows of the version that it is of.
pub(super) struct Identity {
    pub plugin: PluginName,
    pub id: VersionId,
    pub usage: Arc<Usage>,
    /// Instances may outlive the runtime, and must not outlive their deadlines.
    pub ticker: Arc<Ticker>,
    /// The runtime's.
    pub patience: u32,
}

/// What the instances of a version use together.
#[derive(Debug, Default)]
pub(super) struct Usage {
    instances: AtomicUsize,
    memory_bytes: AtomicUsize,
    pub log_lines_dropped: AtomicU64,
}

impl Usage {
    pub fn instances(&self) -> usize {
        self.instances.load(Ordering::Relaxed)
    }

    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    pub fn instance_made(&self) {
        self.instances.fetch_add(1, Ordering::Relaxed);
    }

    pub fn memory_grown(&self, bytes: usize) {
        self.memory_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn memory_shrunk(&self, bytes: usize) {
        self.memory_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub fn instance_dropped(&self, memory_bytes: usize) {
        self.memory_shrunk(memory_bytes);
        self.instances.fetch_sub(1, Ordering::Relaxed);
    }
}
