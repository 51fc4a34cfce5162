//! The plugins on trial, and their instances in a run: one balancer and one failover policy a worker, one judge of
//! health over all, made, told and replaced as the gateway does it.

use std::sync::Arc;

use super::random::{Stream, stream};
use crate::{
    config::defaults::PLUGIN_MEMORY_BYTES_MAX,
    model::{Clock, Completion, EndpointState, InstantUs},
    plugin::{
        BalancerInstance, FailoverInstance, Fault, HealthInstance, InstanceError, PolicyContext, PolicyInstance,
        Version,
    },
};

/// A plugin with settings.
#[derive(Clone, Debug)]
pub struct Policy {
    /// What it is called in the report.
    pub label: String,
    pub version: Arc<Version>,
    /// An object.
    pub settings: serde_json::Value,
}

/// What is tried together: one row of the report.
#[derive(Clone, Debug)]
pub struct Pairing {
    pub balancer: Policy,
    /// None: nothing is sent again and nothing ejected.
    pub failover: Option<Policy>,
}

/// As the gateway's supervisor has it (`control::supervisor`): until the first restart of an instance that failed,
/// doubling with each failure up to the second, and beginning anew after the third.
const BACKOFF_MIN_US: u64 = 100_000;
const BACKOFF_MAX_US: u64 = 30_000_000;
const HEALTHY_AFTER_US: u64 = 60_000_000;

/// Where an instance stands, and where another comes after it has failed.
#[derive(Debug)]
pub struct Place<I> {
    policy: Policy,
    context: PolicyContext,
    instance: Option<I>,
    faults_in_a_row: u32,
    failed_us: InstantUs,
    pub faults: u64,
}

impl<I: PolicyInstance> Place<I> {
    pub fn new(
        policy: &Policy,
        seed: u64,
        members: &[EndpointState],
        now_us: InstantUs,
    ) -> Result<Self, InstanceError> {
        let context = PolicyContext {
            name: "simulated".to_owned(),
            settings: policy.settings.clone(),
            seed,
            memory_bytes_max: PLUGIN_MEMORY_BYTES_MAX,
            // Only for the rate of log lines and for components that ask WASI for the time: all else is told virtual
            // instants.
            clock: Clock::start(),
        };
        let mut place =
            Self { policy: policy.clone(), context, instance: None, faults_in_a_row: 0, failed_us: 0, faults: 0 };
        place.instance = Some(place.make(members, now_us)?);
        Ok(place)
    }

    fn make(&self, members: &[EndpointState], now_us: InstantUs) -> Result<I, InstanceError> {
        let mut instance = I::make(&self.policy.version, &self.context)?;
        instance.update(members, now_us)?;
        Ok(instance)
    }

    /// Another instance takes the place of this one, with what it has learned: as the gateway does it when the membership
    /// changes, so that no worker waits for `update`.
    pub fn succeed(&mut self, members: &[EndpointState], now_us: InstantUs) {
        let Some(saved) = self.call(now_us, I::save) else { return };
        match self.make(members, now_us) {
            Ok(instance) => self.instance = Some(instance),
            Err(_) => return self.failed(now_us),
        }
        // Where the successor cannot read it, it starts fresh.
        self.call(now_us, |instance| instance.restore(&saved));
    }

    /// None where there is no instance, or the call faults: the instance is discarded then.
    pub fn call<T>(&mut self, now_us: InstantUs, call: impl FnOnce(&mut I) -> Result<T, Fault>) -> Option<T> {
        match call(self.instance.as_mut()?) {
            Ok(answer) => Some(answer),
            Err(fault) => {
                tracing::debug!(policy = %self.policy.label, %fault, "an instance failed");
                self.failed(now_us);
                None
            }
        }
    }

    /// When another instance is to be made, where there is none.
    fn restart_at_us(&self) -> Option<InstantUs> {
        let doublings = self.faults_in_a_row.saturating_sub(1).min(20);
        let backoff_us = (BACKOFF_MIN_US << doublings).min(BACKOFF_MAX_US);
        self.instance.is_none().then(|| self.failed_us + backoff_us)
    }

    fn restart(&mut self, members: &[EndpointState], now_us: InstantUs) {
        match self.make(members, now_us) {
            Ok(instance) => self.instance = Some(instance),
            Err(_) => self.failed(now_us),
        }
    }

    fn failed(&mut self, now_us: InstantUs) {
        let anew = now_us.saturating_sub(self.failed_us) >= HEALTHY_AFTER_US;
        self.faults_in_a_row = if anew { 1 } else { self.faults_in_a_row.saturating_add(1) };
        self.failed_us = now_us;
        self.faults += 1;
        self.instance = None;
    }
}

/// What one worker has.
#[derive(Debug)]
pub struct Worker {
    pub balancer: Place<BalancerInstance>,
    pub failover: Option<Place<FailoverInstance>>,
    /// What the failover policy answered last.
    pub hedge_after_us: Option<u32>,
    /// Completions that were not delivered yet.
    pub waiting: Vec<Completion>,
    /// Whether their delivery is due already.
    pub delivery_due: bool,
}

/// The kinds of instances, for their seeds.
const BALANCER: u64 = 0;
const FAILOVER: u64 = 1;
const HEALTH: u64 = 2;

/// All instances of a run.
#[derive(Debug)]
pub struct Instances {
    pub workers: Vec<Worker>,
    pub health: Option<Place<HealthInstance>>,
}

impl Instances {
    pub fn make(
        pairing: &Pairing,
        workers: usize,
        members: &[EndpointState],
        now_us: InstantUs,
        seed: u64,
    ) -> Result<Self, InstanceError> {
        let seed = |worker: usize, kind| stream(seed, Stream::Instance { worker: worker as u64, kind }).u64(..);
        let failover = pairing.failover.as_ref();
        let worker = |index| {
            Ok(Worker {
                balancer: Place::new(&pairing.balancer, seed(index, BALANCER), members, now_us)?,
                failover: failover
                    .map(|policy| Place::new(policy, seed(index, FAILOVER), members, now_us))
                    .transpose()?,
                hedge_after_us: None,
                waiting: Vec::new(),
                delivery_due: false,
            })
        };
        let health = failover.map(|policy| Place::new(policy, seed(0, HEALTH), members, now_us)).transpose()?;
        let workers = (0..workers).map(worker).collect::<Result<_, InstanceError>>()?;
        Ok(Self { workers, health })
    }

    /// The membership has changed, or who of it is available.
    pub fn update(&mut self, members: &[EndpointState], now_us: InstantUs) {
        for worker in &mut self.workers {
            worker.balancer.succeed(members, now_us);
        }
        if let Some(health) = &mut self.health {
            health.call(now_us, |instance| instance.update(members, now_us));
        }
    }

    /// Brings back those whose time has come.
    pub fn restart(&mut self, members: &[EndpointState], now_us: InstantUs) {
        for worker in &mut self.workers {
            restart(&mut worker.balancer, members, now_us);
            worker.failover.iter_mut().for_each(|place| restart(place, members, now_us));
        }
        self.health.iter_mut().for_each(|place| restart(place, members, now_us));
    }

    /// Faults of all of them.
    pub fn faults(&self) -> u64 {
        let of_worker =
            |worker: &Worker| worker.balancer.faults + worker.failover.as_ref().map_or(0, |place| place.faults);
        self.workers.iter().map(of_worker).sum::<u64>() + self.health.as_ref().map_or(0, |place| place.faults)
    }
}

fn restart<I: PolicyInstance>(place: &mut Place<I>, members: &[EndpointState], now_us: InstantUs) {
    if place.restart_at_us().is_some_and(|at_us| at_us <= now_us) {
        place.restart(members, now_us);
    }
}
