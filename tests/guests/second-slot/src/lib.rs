//! Always picks the available endpoint with the second lowest slot, or the only one.

use sluice_sdk::{Balancer, Context, Endpoint, InstantUs, Request, Settings, Slot};

struct Second(Vec<Slot>);

impl Balancer for Second {
    fn configure(_: &Context, _: &mut Settings) -> Self {
        Self(Vec::new())
    }

    fn update(&mut self, endpoints: &[Endpoint], _: InstantUs) {
        self.0 = endpoints.iter().filter(|endpoint| endpoint.available).map(|endpoint| endpoint.slot).collect();
        self.0.sort_unstable();
    }

    fn pick(&mut self, _: &Request) -> Option<Slot> {
        self.0.get(1).or(self.0.first()).copied()
    }
}

sluice_sdk::balancer!(Second);
