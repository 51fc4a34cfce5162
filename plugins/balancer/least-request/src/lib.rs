//! Of a few endpoints drawn at random, the one with the fewest requests in flight (Mitzenmacher, "The Power of Two
//! Choices in Randomized Load Balancing", 2001).
//!
//! Settings: `choices` (2), how many are drawn; `bias` (1.0), how much load counts against weight; those of
//! [`Rules`].

mod fewest;

use fewest::Fewest;
use sluice_sdk::{
    Balancer, Context, Endpoint, InstantUs, Request, Settings, Slot, incoming, load,
    members::{Levels, Rules},
};

struct LeastRequest(Levels<Fewest>);

impl Balancer for LeastRequest {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        let choices = settings.integer("choices", 2, 1..=16);
        let bias = settings.number("bias", 1.0, 0.0..=10.0);
        Self(Levels::new(Rules::from_settings(settings), Fewest::new(choices, bias)))
    }

    fn update(&mut self, endpoints: &[Endpoint], now: InstantUs) {
        self.0.update(endpoints.iter().map(Into::into), now);
    }

    fn pick(&mut self, request: &Request) -> Option<Slot> {
        self.0.pick(request.now, request.random, request.attempt, incoming::tried, |fewest, members, turn| {
            fewest.choose(members, request.random, turn, load::in_flight)
        })
    }
}

sluice_sdk::balancer!(LeastRequest);
