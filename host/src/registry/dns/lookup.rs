//! The registry, as DNS sees it.

use super::{Host, Lookup, Target};
use crate::registry::{RegisteredInstance, Registry};

impl Lookup for Registry {
    fn instances(&self, service: &str, tag: Option<&str>) -> Vec<Target> {
        let Some(listing) = self.service_in_any_case(service) else { return Vec::new() };
        let has =
            |instance: &RegisteredInstance, tag: &str| instance.tags.iter().any(|own| own.eq_ignore_ascii_case(tag));
        let wanted = listing.usable().filter(|instance| tag.is_none_or(|tag| has(instance, tag)));
        wanted.filter_map(|instance| target(instance)).collect()
    }

    fn index(&self) -> u64 {
        Self::index(self)
    }
}

/// None: its address is neither an address nor a name that DNS could carry.
fn target(instance: &RegisteredInstance) -> Option<Target> {
    Some(Target {
        host: Host::parse(&instance.address)?,
        port: instance.port,
        weight: u16::try_from(instance.weight()).unwrap_or(u16::MAX),
    })
}
