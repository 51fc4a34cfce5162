//! The `registry` import: the gateway's own registry, which this module knows by what it must answer.

use std::time::Duration;

use super::{BoxFuture, Instance, State};
use crate::plugin::bindings::discovery::sluice::plugin::registry;

/// The embedded registry, as plugins see it.
pub trait RegistryLookup: Send + Sync {
    /// At once if the index differs from `known`, else at the next change; none after `wait`.
    fn list_service<'a>(
        &'a self,
        service: &'a str,
        known: Option<u64>,
        wait: Duration,
    ) -> BoxFuture<'a, Option<RegistryListing>>;
}

/// All instances of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryListing {
    /// Grows with every change of the service; never 0.
    pub index: u64,
    pub instances: Vec<Instance>,
}

impl registry::Host for State {
    async fn list_service(&mut self, service: String, known: Option<u64>, wait_ms: u32) -> Option<registry::Listing> {
        let outside = self.imports.outside.clone()?;
        let wait = Duration::from_millis(wait_ms.into());
        let Some(registry) = &outside.registry else {
            tokio::time::sleep(wait).await;
            return None;
        };
        let RegistryListing { index, instances } = registry.list_service(&service, known, wait).await?;
        Some(registry::Listing { index, instances: instances.into_iter().map(Into::into).collect() })
    }
}
