//! What plugins that wait may ask of the gateway and of the world, an interface a file; each under its grant.

mod clients;
mod clock;
mod dns;
mod fetch;
mod files;
pub(super) mod http;
mod registry;
mod state;

pub use fetch::{OutsideCall, OutsideError};
pub use registry::{RegistryListing, RegistryLookup};
pub(super) use state::Stored;
pub use state::{
    HandlerState, STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX, STATE_WRITES_BYTES_MAX, StateQuota, StateWrites,
};

use std::{net::SocketAddr, pin::Pin, sync::Arc};

use hickory_resolver::TokioResolver;
use wasmtime::component::ResourceTable;

use super::{bindings::discovery::sluice::plugin::types::Instance as GuestInstance, instance, log::printable};
use crate::model::{Clock, Grants, OwnAnswer, OwnCall, OwnCallError};

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What stands behind an instance that may wait.
pub(super) type State = instance::State<Imports>;

/// Refusals of one instance that are kept to be told; the rest is only counted.
const REFUSALS_TOLD_MAX: usize = 16;

/// Longest text about a refusal, in bytes.
const REFUSAL_BYTES_MAX: usize = 512;

/// The gateway's own services, which this module knows by what they must answer.
pub trait ServiceCalls: Send + Sync {
    /// Dropping the future cancels the call.
    fn call_service(&self, call: OwnCall) -> BoxFuture<'_, Result<OwnAnswer, OwnCallError>>;
}

/// The world as plugins that wait see it. One a gateway.
pub struct Outside {
    http: clients::Clients,
    resolver: TokioResolver,
    registry: Option<Arc<dyn RegistryLookup>>,
    services: Option<Arc<dyn ServiceCalls>>,
}

impl Outside {
    /// `control` is the gateway's own control listener, which no plugin reaches whatever it is granted.
    pub fn new(
        resolver: TokioResolver,
        control: SocketAddr,
        registry: Option<Arc<dyn RegistryLookup>>,
        services: Option<Arc<dyn ServiceCalls>>,
    ) -> Arc<Self> {
        Arc::new(Self { http: clients::Clients::new(resolver.clone(), control), resolver, registry, services })
    }
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").finish_non_exhaustive()
    }
}

/// What one instance's imports answer from.
pub(super) struct Imports {
    /// None on a trial: then nothing is reached, and nothing waits.
    outside: Option<Arc<Outside>>,
    grants: Arc<Grants>,
    clock: Clock,
    /// Open responses.
    table: ResourceTable,
    open_responses: usize,
    /// An event handler's, during a call that may read it.
    pub stored: Option<Stored>,
    refused: u64,
    refusals: Vec<String>,
}

impl Imports {
    pub fn new(outside: Option<Arc<Outside>>, grants: Arc<Grants>, clock: Clock) -> Self {
        let table = ResourceTable::new();
        Self { outside, grants, clock, table, open_responses: 0, stored: None, refused: 0, refusals: Vec::new() }
    }

    pub fn reaches_out(&self) -> bool {
        self.outside.is_some()
    }

    /// How often something was not granted, and what, since the last time.
    pub fn take_refusals(&mut self) -> (u64, Vec<String>) {
        (std::mem::take(&mut self.refused), std::mem::take(&mut self.refusals))
    }

    /// Counts something that was not granted; answers with the sentence for the guest.
    fn refuse(&mut self, what: impl std::fmt::Display) -> String {
        let sentence = printable(&what.to_string(), REFUSAL_BYTES_MAX);
        self.refused += 1;
        if self.refusals.len() < REFUSALS_TOLD_MAX && !self.refusals.contains(&sentence) {
            self.refusals.push(sentence.clone());
        }
        sentence
    }
}

/// One address of a service, as a source of membership gives it (WIT `types.instance`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub id: String,
    pub address: String,
    pub weight: u32,
    pub priority: u32,
    pub zone: String,
    pub metadata: Vec<(String, String)>,
    pub healthy: bool,
}

impl From<GuestInstance> for Instance {
    fn from(given: GuestInstance) -> Self {
        let GuestInstance { id, address, weight, priority, zone, metadata, healthy } = given;
        Self { id, address, weight, priority, zone, metadata, healthy }
    }
}

impl From<Instance> for GuestInstance {
    fn from(instance: Instance) -> Self {
        let Instance { id, address, weight, priority, zone, metadata, healthy } = instance;
        Self { id, address, weight, priority, zone, metadata, healthy }
    }
}
