//! The gateway's own registry, as plugins see it.

use std::time::Duration;

use crate::{
    plugin::{BoxFuture, Instance, RegistryListing, RegistryLookup},
    registry::{CheckStatus, RegisteredInstance, Registry},
};

/// Answers the `registry` import.
pub struct OwnRegistry(pub Registry);

/// The name of the metadata entries that are tags (WIT `registry.listing`).
const TAG: &str = "tag";

impl RegistryLookup for OwnRegistry {
    fn list_service<'a>(
        &'a self,
        service: &'a str,
        known: Option<u64>,
        wait: Duration,
    ) -> BoxFuture<'a, Option<RegistryListing>> {
        Box::pin(async move {
            let listing = match known {
                // No index is 0.
                Some(known) => self.0.service_changed(service, known, wait).await?,
                None => self.0.service_or_absent(service),
            };
            // What has no port is reached by nobody here.
            let reachable = listing.instances.iter().filter(|registered| registered.port > 0);
            Some(RegistryListing { index: listing.index, instances: reachable.map(|one| instance(one)).collect() })
        })
    }
}

fn instance(registered: &RegisteredInstance) -> Instance {
    let host = registered.address.as_str();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let meta = registered.meta.iter().map(|(name, value)| (name.clone(), value.clone()));
    let tags = registered.tags.iter().map(|tag| (TAG.to_owned(), tag.clone()));
    Instance {
        id: registered.id.to_string(),
        address: format!("{host}:{}", registered.port),
        // A share of 0 is that of an instance in a critical state, which `healthy` tells.
        weight: registered.weight().max(1),
        priority: 0,
        zone: registered.zone.clone(),
        metadata: meta.chain(tags).collect(),
        healthy: registered.status < CheckStatus::Critical && registered.weight() > 0,
    }
}
