//! One run: the events of a scenario under one pairing, on one thread and a virtual clock.

mod exchange;
mod gateway;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use smallvec::SmallVec;

use super::{
    arrivals::ArrivalTimes,
    events::{BEGIN_US, Events},
    figures::{Figures, Recorder},
    policies::{Instances, Pairing},
    random::{Stream, stream},
    scenario::Scenario,
    server::{AttemptId, Server},
};
use crate::{
    config::defaults,
    failover::{Judge, Shared},
    gateway::ServiceSnapshot,
    model::{
        CircuitLimits, Endpoint, EndpointState, HostPort, InFlight, InstantUs, PolicyConfig, Protocol, ServiceConfig,
        ServiceName, Slot,
    },
    plugin::{InstanceError, Observation},
};

/// How often the health policy is told of what was seen, as in `failover::monitor`.
const OBSERVE_EVERY_US: u64 = 50_000;

/// A request's number in a run.
type RequestId = usize;

#[derive(Clone, Copy, Debug)]
enum Event {
    Arrival,
    /// A request's deadline is over.
    Deadline(RequestId),
    /// An attempt has not been answered for so long that a second copy is due.
    Hedge(AttemptId),
    Retry(RequestId),
    /// The timeout of one attempt is over.
    TryTimeout(AttemptId),
    Done(AttemptId),
    Death {
        endpoint: usize,
    },
    /// A worker's completions have waited long enough.
    Deliver {
        worker: usize,
    },
    Observe,
    /// The workers are told who is available.
    Publish,
}

/// A request, as the gateway sees it.
#[derive(Debug)]
struct Request {
    worker: usize,
    arrived_us: InstantUs,
    deadline_us: InstantUs,
    /// May be sent again although it may have arrived.
    idempotent: bool,
    hash: u64,
    tried: SmallVec<[Slot; 4]>,
    attempts: SmallVec<[AttemptId; 4]>,
    /// The client has its answer.
    ended: bool,
}

#[derive(Debug)]
struct Attempt {
    request: RequestId,
    slot: Slot,
    begun_us: InstantUs,
    is_hedge: bool,
    /// None once it has ended, however it did.
    in_flight: Option<InFlight>,
}

struct Simulation<'a> {
    scenario: &'a Scenario,
    seed: u64,
    end_us: InstantUs,
    events: Events<Event>,
    arrivals: ArrivalTimes<'a>,
    random: fastrand::Rng,
    snapshot: ServiceSnapshot,
    shared: Arc<Shared>,
    /// None without a failover policy.
    judge: Option<Judge>,
    servers: Vec<Server<'a>>,
    instances: Instances,
    /// For the health policy's next look.
    observations: Vec<Observation>,
    publish_due: bool,
    requests: Vec<Request>,
    attempts: Vec<Attempt>,
    open_requests: usize,
    recorder: Recorder,
}

/// Runs a scenario under a pairing. The same seed gives the same figures.
pub fn run(scenario: &Scenario, pairing: &Pairing, seed: u64) -> Result<Figures, InstanceError> {
    let mut simulation = Simulation::new(scenario, pairing, seed)?;
    simulation.begin();
    while let Some(event) = simulation.events.next() {
        simulation.handle(event);
        if simulation.is_over() {
            break;
        }
    }
    Ok(simulation.finish())
}

impl<'a> Simulation<'a> {
    fn new(scenario: &'a Scenario, pairing: &Pairing, seed: u64) -> Result<Self, InstanceError> {
        let workers = scenario.workers.get();
        let members = members(scenario);
        let shared = Shared::new(workers, BEGIN_US);
        let judge = pairing.failover.as_ref().map(|_| {
            let mut judge = Judge::new(scenario.ejection.clone(), Arc::clone(&shared));
            judge.set_members(&members);
            judge
        });
        let instances = Instances::make(pairing, workers, &members, BEGIN_US, seed)?;
        let servers = scenario.endpoints.iter().enumerate().map(|(index, model)| {
            Server::new(model, scenario.failures.iter().filter(move |failure| failure.endpoint == index))
        });
        let duration_s = scenario.duration.as_secs_f64();
        Ok(Self {
            scenario,
            seed,
            end_us: BEGIN_US + micros(scenario.duration),
            events: Events::new(),
            arrivals: ArrivalTimes::new(&scenario.arrivals, duration_s, stream(seed, Stream::Arrivals)),
            random: stream(seed, Stream::Gateway),
            snapshot: ServiceSnapshot {
                config: service_config(scenario),
                endpoints: members.into_iter().map(Some).collect(),
                updated_us: BEGIN_US,
                shared: Arc::clone(&shared),
            },
            shared,
            judge,
            servers: servers.collect(),
            instances,
            observations: Vec::new(),
            publish_due: false,
            requests: Vec::new(),
            attempts: Vec::new(),
            open_requests: 0,
            recorder: Recorder::new(scenario),
        })
    }

    fn begin(&mut self) {
        for (endpoint, server) in self.servers.iter().enumerate() {
            for at_us in server.deaths() {
                self.events.at(at_us, Event::Death { endpoint });
            }
        }
        self.events.after(OBSERVE_EVERY_US, Event::Observe);
        self.schedule_arrival();
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrival => {
                self.arrive();
                self.schedule_arrival();
            }
            Event::Deadline(request) => self.deadline(request),
            Event::Hedge(attempt) => self.hedge(attempt),
            Event::Retry(request) => self.retry(request),
            Event::TryTimeout(attempt) => self.try_timeout(attempt),
            Event::Done(attempt) => self.done(attempt),
            Event::Death { endpoint } => self.death(endpoint),
            Event::Deliver { worker } => self.delivery_due(worker),
            Event::Observe => {
                self.observe();
                self.events.after(OBSERVE_EVERY_US, Event::Observe);
            }
            Event::Publish => self.publish(),
        }
    }

    /// Whether every request that was to come has come, and has its answer.
    fn is_over(&self) -> bool {
        self.events.now_us() >= self.end_us && self.open_requests == 0
    }

    fn finish(self) -> Figures {
        let figures = self.recorder.finish();
        let counts = &self.shared.counts;
        let (retries, hedges) = (counts.retries.get(), counts.hedges.get());
        let hedges_won = counts.hedges_won.get();
        let over_budget = figures.over_budget + counts.over_budget.get();
        let invalid_verdicts = counts.invalid_verdicts.get();
        let faults = self.instances.faults();
        Figures { retries, hedges, hedges_won, over_budget, invalid_verdicts, faults, ..figures }
    }

    fn schedule_arrival(&mut self) {
        if let Some(at_s) = self.arrivals.next() {
            self.events.at(BEGIN_US + micros(Duration::from_secs_f64(at_s)), Event::Arrival);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 2)
}

/// The service as the gateway would have it.
fn service_config(scenario: &Scenario) -> ServiceConfig {
    let policy = |plugin: &str| PolicyConfig {
        plugin: plugin.parse().expect("a default's name is right"),
        settings: serde_json::json!({}),
    };
    ServiceConfig {
        name: service_name(),
        endpoints: Vec::new(),
        discovery: None,
        balancer: policy(defaults::BALANCER),
        failover: policy(defaults::FAILOVER),
        health_check: None,
        retry: scenario.retry.clone(),
        ejection: scenario.ejection.clone(),
        circuit: CircuitLimits::default(),
        timeout: scenario.timeout,
        idle_timeout: defaults::IDLE_TIMEOUT,
        prefer_zone: None,
        max_duration: None,
        connect_timeout: defaults::CONNECT_TIMEOUT,
        protocol: Protocol::Http1,
        stated: Vec::new(),
    }
}

fn service_name() -> ServiceName {
    "simulated".parse().expect("it is a label")
}

/// As they are in the beginning: all of them there for long, and fit.
fn members(scenario: &Scenario) -> Vec<EndpointState> {
    let member = |(index, model): (usize, &super::scenario::EndpointModel)| {
        let slot = Slot::try_from(index).expect("a scenario has few endpoints");
        // Of the block for documentation (RFC 5737); nothing is sent there.
        let label: HostPort = format!("192.0.2.1:{}", 10_000 + index).parse().expect("an address and a port");
        let address: SocketAddr = label.socket_addr().expect("its host is no name");
        let key = xxhash_rust::xxh3::xxh3_64(label.to_string().as_bytes());
        EndpointState {
            endpoint: Endpoint::new(service_name(), slot, key, address, label),
            weight: model.weight,
            priority: 0,
            zone: String::new(),
            metadata: Vec::new(),
            healthy: true,
            available: true,
            // Before the beginning, and no slow start at it.
            since_us: 0,
        }
    };
    scenario.endpoints.iter().enumerate().map(member).collect()
}
