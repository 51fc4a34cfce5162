//! Tenant affinity: all requests of a tenant go to the same endpoint, so that its caches are warm.
//!
//! The tenant is named by a header. A policy sees only headers that the route exposes, so `sluice.toml` says:
//!
//! ```toml
//! [plugins.tenant-affinity]
//! path = "tenant-affinity.wasm"
//!
//! [services.orders]
//! endpoints = ["127.0.0.1:9001", "127.0.0.1:9002"]
//! balancer = { plugin = "tenant-affinity", settings = { header = "x-tenant" } }
//!
//! [[route]]
//! path = "/orders/"
//! service = "orders"
//! expose = ["x-tenant"]
//! ```
//!
//! Or, while the gateway runs:
//!
//! ```sh
//! cargo test                                              # the algorithm, natively
//! sluice plugin build                                     # tenant-affinity.wasm
//! sluice plugin push tenant-affinity.wasm                 # checked, compiled, there
//! sluice service set orders --balancer tenant-affinity    # from the next request on
//! curl -H 'x-tenant: acme' http://127.0.0.1:8080/orders/  # always the same endpoint
//! ```
//!
//! How it chooses: every endpoint draws a number from the tenant's name and its own key, and the highest wins
//! (rendezvous hashing: Thaler, Ravishankar, 1998). An endpoint that leaves gives up its tenants and no others
//! move. Its key is the same on every gateway and after a restart, and so is the choice. It looks at all endpoints
//! for each request, which is right for some hundred; for more, `ring-hash` and `maglev` know better.

use sluice_sdk::{
    Balancer, Context, Endpoint, InstantUs, Request, Settings, Slot, incoming,
    random::{hash, mix},
};

struct TenantAffinity {
    header: String,
    available: Vec<(Slot, u64)>,
}

impl Balancer for TenantAffinity {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        let header = settings.text("header", "x-tenant");
        if header.is_empty() || header.bytes().any(|b| b.is_ascii_uppercase()) {
            settings.problem("header", "must be a header's name in lower case");
        }
        Self { header, available: Vec::new() }
    }

    fn update(&mut self, endpoints: &[Endpoint], _: InstantUs) {
        self.available = endpoints.iter().filter(|e| e.available).map(|e| (e.slot, e.key)).collect();
    }

    fn pick(&mut self, request: &Request) -> Option<Slot> {
        // Without a tenant any endpoint will do.
        let tenant = incoming::header(&self.header).map_or(request.random, |tenant| hash(tenant.as_bytes()));
        let best = |retry: bool| {
            let fit = self.available.iter().filter(|(slot, _)| !retry || !incoming::tried(*slot));
            fit.max_by_key(|(_, key)| mix(tenant, *key)).map(|(slot, _)| *slot)
        };
        best(request.attempt > 0).or_else(|| best(false))
    }
}

sluice_sdk::balancer!(TenantAffinity);

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_sdk::testing;

    fn policy(slots: &[Slot]) -> TenantAffinity {
        let mut settings = Settings::parse("{}");
        let mut policy = TenantAffinity::configure(&testing::context(), &mut settings);
        assert!(settings.finish().is_empty());
        policy.update(&slots.iter().map(|slot| testing::endpoint(*slot)).collect::<Vec<_>>(), 0);
        policy
    }

    fn pick(policy: &mut TenantAffinity, tenant: &str, random: u64) -> Slot {
        testing::set_header("x-tenant", tenant);
        policy.pick(&Request { random, ..testing::request() }).expect("there are endpoints")
    }

    #[test]
    fn a_tenant_always_gets_the_same_endpoint_and_tenants_spread() {
        let mut policy = policy(&[0, 1, 2, 3]);
        let mut tenants = [0; 4];
        for n in 0..400 {
            let tenant = format!("tenant-{n}");
            let slot = pick(&mut policy, &tenant, 1);
            assert_eq!(slot, pick(&mut policy, &tenant, 2));
            tenants[slot as usize] += 1;
        }
        assert!(tenants.iter().all(|count| (70..130).contains(count)), "{tenants:?}");
    }

    #[test]
    fn only_the_tenants_of_an_endpoint_that_leaves_move() {
        let (mut before, mut after) = (policy(&[0, 1, 2, 3]), policy(&[0, 1, 3]));
        for n in 0..400 {
            let tenant = format!("tenant-{n}");
            let (was, is) = (pick(&mut before, &tenant, 1), pick(&mut after, &tenant, 1));
            assert!(was == is || was == 2, "{tenant}: {was} became {is}");
        }
    }

    #[test]
    fn a_retry_goes_to_another_endpoint() {
        let mut policy = policy(&[0, 1]);
        let first = pick(&mut policy, "acme", 1);
        testing::set_tried(&[first]);
        let retry = Request { attempt: 1, ..testing::request() };
        assert_eq!(policy.pick(&retry), Some(1 - first));
        testing::set_tried(&[0, 1]);
        assert_eq!(policy.pick(&retry), Some(first), "all were tried");
    }

    #[test]
    fn a_header_that_no_route_could_expose_is_refused() {
        let mut settings = Settings::parse(r#"{"header": "X-Tenant"}"#);
        TenantAffinity::configure(&testing::context(), &mut settings);
        assert_eq!(settings.finish()[0].path, "/header");
    }
}
