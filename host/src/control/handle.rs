//! Everything that somebody outside may ask of the control plane.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Semaphore;

use super::{
    canary::CanaryBook,
    change::{Applied, Change, Refusal},
    discovery::Sources,
    events::{EventSide, SUBSCRIBERS_MAX},
    history::History,
    membership::names::Names,
    publisher::{Handle, Published},
    supervisor::GoneInstances,
};
use crate::{
    events::{
        groups::{EventGroups, GroupShown},
        handlers::{EventHandlers, HandlerShown},
    },
    failover::{ActiveChecks, Monitor},
    gateway::{Gateway, ServiceSnapshot},
    model::Endpoint,
    plugin::ComponentStore,
    registry::Registry,
    storage::Storage,
    telemetry::{
        EndpointGauges, EventGauges, FailoverGauges, Gauges, GroupGauges, HandlerGauges, Metrics, PluginGauges,
        RegistryGauges, SourceGauges, TransactionGauges,
    },
    transactions::Coordinator,
};

/// The running gateway, as its API sees it.
pub struct Control {
    /// Of the control listener, as bound.
    pub address: SocketAddr,
    /// Of the DNS server, as bound.
    pub dns: Option<SocketAddr>,
    pub gateway: Arc<Gateway>,
    pub publisher: Handle,
    pub metrics: Arc<Metrics>,
    pub store: Arc<ComponentStore>,
    pub names: Arc<Names>,
    pub sources: Arc<Sources>,
    /// Watches over health.
    pub monitor: Arc<Monitor>,
    pub checks: Arc<ActiveChecks>,
    pub canaries: CanaryBook,
    pub history: History,
    pub gone: GoneInstances,
    pub registry: Registry,
    pub transactions: Coordinator,
    pub handlers: EventHandlers,
    pub groups: EventGroups,
    pub events: EventSide,
    pub storage: Arc<dyn Storage>,
    /// Bounds the connections that wait for the registry to change.
    pub waits: Semaphore,
    /// Bounds the memory that uploads take.
    pub uploads: Semaphore,
    pub shutting_down: AtomicBool,
}

impl Control {
    /// Waits until the change is in force everywhere, or nothing has changed.
    pub async fn apply(&self, change: Change) -> Result<Applied, Refusal> {
        if self.shutting_down.load(Ordering::Relaxed) {
            return Err(Refusal::ShuttingDown);
        }
        self.publisher.apply(change).await
    }

    /// What is in force.
    pub fn current(&self) -> Result<Arc<Published>, Refusal> {
        self.publisher.current().ok_or(Refusal::ShuttingDown)
    }

    /// Whether every listener serves.
    pub fn is_ready(&self) -> bool {
        self.publisher.current().is_some() && !self.shutting_down.load(Ordering::Relaxed)
    }

    /// The addresses bound, in the order of the configuration.
    pub fn bound(&self) -> &[SocketAddr] {
        self.gateway.bound()
    }

    /// For a scrape.
    pub fn gauges(&self) -> Gauges {
        let Some(current) = self.publisher.current() else { return Gauges::default() };
        let members = current.snapshot.services.iter().flat_map(|service| service.members());
        let endpoints = members.map(|member| EndpointGauges {
            service: member.endpoint.service.clone(),
            endpoint: member.endpoint.address.to_string(),
            in_flight: member.endpoint.in_flight(),
            available: member.available,
            ejections: member.endpoint.fitness.ejections(),
            ejected: self.reason_out(&member.endpoint),
        });
        let plugins = current.live_versions().into_iter().map(|version| PluginGauges {
            plugin: version.plugin().clone(),
            version: version.id(),
            live_instances: version.live_instances(),
            memory_bytes: version.memory_bytes(),
        });
        let sources = current.snapshot.services.iter().filter_map(|service| {
            let name = &service.config.name;
            let (status, plugin) = (self.sources.status(name)?, service.config.discovery.as_ref()?.plugin.clone());
            Some(SourceGauges {
                service: name.clone(),
                plugin,
                answers: status.answers,
                errors: status.errors,
                refusals: status.refusals,
                held_back: status.held_back.is_some(),
            })
        });
        Gauges {
            connections: self.gateway.connections(),
            generation: current.snapshot.generation,
            endpoints: endpoints.collect(),
            plugins: plugins.collect(),
            sources: sources.collect(),
            failover: current.snapshot.services.iter().map(|service| self.failover_gauges(service)).collect(),
            health_batches_dropped: self.monitor.batches_dropped(),
            registry: self.registry_gauges(),
            transactions: self.transaction_gauges(),
            events: self.event_gauges(),
            handlers: self.handlers.list().iter().map(handler_gauges).collect(),
            groups: self.groups.list().iter().map(group_gauges).collect(),
        }
    }

    /// Why an endpoint is ejected or probed, if it is.
    fn reason_out(&self, endpoint: &Endpoint) -> Option<String> {
        let out = endpoint.fitness.is_ejected() || endpoint.fitness.is_probed();
        out.then(|| self.monitor.book().of(&endpoint.service).last_reason(endpoint).unwrap_or_default())
    }

    fn failover_gauges(&self, service: &ServiceSnapshot) -> FailoverGauges {
        let mut events = service.shared.counts.events();
        events.extend(self.monitor.book().of(&service.config.name).events());
        FailoverGauges { service: service.config.name.clone(), events, waiting: service.shared.waiting() }
    }

    fn registry_gauges(&self) -> RegistryGauges {
        let figures = self.registry.figures();
        RegistryGauges {
            services: figures.services,
            instances: [("passing", figures.passing), ("warning", figures.warning), ("critical", figures.critical)],
            held: figures.held.into_iter().map(|(service, leases)| (service, leases.held)).collect(),
            heartbeats: figures.heartbeats,
            waiting: super::api::WAITS_MAX - self.waits.available_permits(),
            commits: [("durable", figures.commits), ("failed", figures.commits_failed)],
        }
    }

    fn event_gauges(&self) -> EventGauges {
        let EventSide { store, subscribers, .. } = &self.events;
        EventGauges {
            head: store.head().0,
            appended: store.appended(),
            subscribers: SUBSCRIBERS_MAX - subscribers.available_permits(),
        }
    }

    fn transaction_gauges(&self) -> TransactionGauges {
        let figures = self.transactions.figures();
        let calls = [
            ("succeeded", figures.calls_succeeded),
            ("refused", figures.calls_refused),
            ("unclear", figures.calls_unclear),
        ];
        TransactionGauges {
            live: figures.live,
            begun: figures.begun,
            ended: [("succeeded", figures.succeeded), ("failed", figures.failed), ("stopped", figures.stopped)],
            hazards: figures.hazards,
            calls,
            commits: figures.commits,
        }
    }
}

fn handler_gauges(shown: &HandlerShown) -> HandlerGauges {
    let progress = shown.active.as_ref().map(|active| active.progress).unwrap_or_default();
    HandlerGauges {
        handler: shown.name.clone(),
        lag: shown.lag(),
        handled: progress.handled,
        parked: progress.parked,
        calls_waiting: shown.calls_waiting,
        calls_parked: shown.calls_parked,
        calls_made: shown.calls_made,
        faults: shown.faults,
        replayed: shown.rebuilding.as_ref().map(|rebuilding| rebuilding.progress.checkpoint.0),
    }
}

fn group_gauges(shown: &GroupShown) -> GroupGauges {
    let counts = shown.counts;
    GroupGauges {
        group: shown.name.clone(),
        lag: shown.lag(),
        in_flight: shown.in_flight,
        parked: shown.parked,
        delivered: counts.delivered,
        settled: [
            ("acknowledged", counts.acknowledged),
            ("retried", counts.retried),
            ("parked", counts.parked),
            ("timed-out", counts.timed_out),
        ],
    }
}
