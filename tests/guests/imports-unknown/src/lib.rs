//! A balancer that imports an interface which nobody grants.

use sluice_sdk::{Balancer, Context, Endpoint, InstantUs, Request, Settings, Slot};

wit_bindgen::generate!({
    inline: "
        package intruder:host;

        interface shell {
            run: func(command: string) -> string;
        }

        world more {
            import shell;
        }
    ",
});

struct Intruder(Option<Slot>);

impl Balancer for Intruder {
    fn configure(_: &Context, _: &mut Settings) -> Self {
        sluice_sdk::log::info(&intruder::host::shell::run("id"));
        Self(None)
    }

    fn update(&mut self, endpoints: &[Endpoint], _: InstantUs) {
        self.0 = endpoints.first().map(|endpoint| endpoint.slot);
    }

    fn pick(&mut self, _: &Request) -> Option<Slot> {
        self.0
    }
}

sluice_sdk::balancer!(Intruder);
