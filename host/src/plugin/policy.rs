//! What the gateway does alike with every kind of which it keeps an instance a place: makes it away from the data path,
//! tells it the membership, and hands what it has learned to its successor.

use super::{BalancerInstance, FailoverInstance, Fault, HealthInstance, InstanceError, PolicyContext, Version};
use crate::model::{EndpointState, InstantUs};

/// An instance that is made, told, and replaced, whatever it decides.
pub trait PolicyInstance: Send + Sized + 'static {
    /// Instantiates and configures.
    fn make(version: &Version, context: &PolicyContext) -> Result<Self, InstanceError>;

    /// The whole membership, where the kind is told of it.
    fn update(&mut self, members: &[EndpointState], now_us: InstantUs) -> Result<(), Fault>;

    /// At most 1 MiB; more is a fault.
    fn save(&mut self) -> Result<Vec<u8>, Fault>;

    /// The inner error is the guest's own word that it starts fresh.
    fn restore(&mut self, state: &[u8]) -> Result<Result<(), String>, Fault>;
}

impl PolicyInstance for BalancerInstance {
    fn make(version: &Version, context: &PolicyContext) -> Result<Self, InstanceError> {
        version.balancer(context)
    }

    fn update(&mut self, members: &[EndpointState], now_us: InstantUs) -> Result<(), Fault> {
        self.update(members, now_us)
    }

    fn save(&mut self) -> Result<Vec<u8>, Fault> {
        self.save()
    }

    fn restore(&mut self, state: &[u8]) -> Result<Result<(), String>, Fault> {
        self.restore(state)
    }
}

impl PolicyInstance for FailoverInstance {
    fn make(version: &Version, context: &PolicyContext) -> Result<Self, InstanceError> {
        version.failover(context)
    }

    /// It is not told: what it must know of an endpoint comes with each failure.
    fn update(&mut self, _: &[EndpointState], _: InstantUs) -> Result<(), Fault> {
        Ok(())
    }

    fn save(&mut self) -> Result<Vec<u8>, Fault> {
        self.save()
    }

    fn restore(&mut self, state: &[u8]) -> Result<Result<(), String>, Fault> {
        self.restore(state)
    }
}

impl PolicyInstance for HealthInstance {
    fn make(version: &Version, context: &PolicyContext) -> Result<Self, InstanceError> {
        version.health(context)
    }

    fn update(&mut self, members: &[EndpointState], now_us: InstantUs) -> Result<(), Fault> {
        self.update(members, now_us)
    }

    fn save(&mut self) -> Result<Vec<u8>, Fault> {
        self.save()
    }

    fn restore(&mut self, state: &[u8]) -> Result<Result<(), String>, Fault> {
        self.restore(state)
    }
}
