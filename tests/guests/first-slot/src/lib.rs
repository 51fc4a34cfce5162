//! Always picks the available endpoint with the lowest slot.

use sluice_sdk::{Balancer, Context, Endpoint, InstantUs, Request, Settings, Slot};

struct First(Option<Slot>);

impl Balancer for First {
    fn configure(_: &Context, _: &mut Settings) -> Self {
        Self(None)
    }

    fn update(&mut self, endpoints: &[Endpoint], _: InstantUs) {
        self.0 = endpoints.iter().filter(|endpoint| endpoint.available).map(|endpoint| endpoint.slot).min();
    }

    fn pick(&mut self, _: &Request) -> Option<Slot> {
        self.0
    }
}

sluice_sdk::balancer!(First);
