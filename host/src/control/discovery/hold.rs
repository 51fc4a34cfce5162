//! Memberships that lose too much at once: more often a source's mistake than the truth.
//!
//! - A source that comes into use in another's place (another plugin, version or settings) and would take more than
//!   half of the endpoints away is refused, unless it is forced. This holds for services of any size.
//! - An update that takes more than half away at once is held back where there were at least
//!   [`HELD_BACK_FROM`] endpoints: the last membership stays, and the gateway says so. It comes into force when the
//!   source still says it after [`HELD_BACK_FOR`], asked anew without a cursor; when it is forced; or when a later
//!   update loses no more than half.

use std::{collections::HashSet, time::Duration};

use crate::model::EndpointSpec;

/// Below, an update is believed at once: of a service of three, two may well end together.
pub const HELD_BACK_FROM: usize = 8;

/// Long beside a restart of a registry, short beside an outage.
pub const HELD_BACK_FOR: Duration = Duration::from_secs(60);

/// How many addresses of `before` are not among `after`.
pub fn lost(before: &[EndpointSpec], after: &[EndpointSpec]) -> usize {
    let after: HashSet<_> = after.iter().map(|endpoint| &endpoint.address).collect();
    before.iter().filter(|endpoint| !after.contains(&endpoint.address)).count()
}

/// Whether more than half of `before` is lost.
pub fn loses_most(before: &[EndpointSpec], after: &[EndpointSpec]) -> bool {
    lost(before, after) * 2 > before.len()
}

/// Whether an update of the same source is held back.
pub fn holds_back(before: &[EndpointSpec], after: &[EndpointSpec]) -> bool {
    before.len() >= HELD_BACK_FROM && loses_most(before, after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Weight;

    fn endpoints(ports: impl IntoIterator<Item = u16>) -> Vec<EndpointSpec> {
        let endpoint = |port: u16| EndpointSpec {
            id: port.to_string().into(),
            address: format!("10.0.0.1:{port}").parse().expect("an address"),
            weight: Weight::ONE,
            priority: 0,
            zone: String::new(),
            metadata: Vec::new(),
            healthy: true,
        };
        ports.into_iter().map(endpoint).collect()
    }

    #[test]
    fn more_than_half_of_a_large_service_is_held_back_and_a_small_one_may_shrink() {
        let ten = endpoints(1..=10);
        assert!(!holds_back(&ten, &endpoints(1..=5)), "half is not more than half");
        assert!(holds_back(&ten, &endpoints(1..=4)));
        assert!(holds_back(&ten, &[]));
        assert!(holds_back(&ten, &endpoints(11..=30)), "others in their place are no reason");
        assert!(!holds_back(&endpoints(1..=7), &[]));
        assert!(!holds_back(&[], &ten));
    }

    #[test]
    fn a_source_in_anothers_place_may_not_lose_most_of_any_service() {
        assert!(loses_most(&endpoints(1..=1), &[]));
        assert!(loses_most(&endpoints(1..=3), &endpoints(1..=1)));
        assert!(!loses_most(&endpoints(1..=2), &endpoints(2..=9)));
        assert!(!loses_most(&[], &[]));
    }
}
