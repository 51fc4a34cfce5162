//! Of a few endpoints drawn at random, the one with the fewest requests in flight.
//!
//! Settings: `choices` (2), how many are drawn; `bias` (1.0), how much load counts against weight; those of
//! [`Rules`].

mod load;

use load::Load;
use sluice_sdk::{
    Balancer, Context, Endpoint, InstantUs, Request, Settings, Slot,
    choices::{CHOICES_MAX, Choices},
    incoming,
    load::in_flight,
    members::{Levels, Rules},
};

struct LeastRequest {
    levels: Levels<Choices>,
    load: Load,
}

impl Balancer for LeastRequest {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        let choices = settings.integer("choices", 2, 1..=CHOICES_MAX);
        let bias = settings.number("bias", 1.0, 0.0..=10.0);
        Self { levels: Levels::new(Rules::from_settings(settings), Choices::new(choices)), load: Load::new(bias) }
    }

    fn update(&mut self, endpoints: &[Endpoint], now: InstantUs) {
        self.levels.update(endpoints.iter().map(Into::into), now);
    }

    fn pick(&mut self, request: &Request) -> Option<Slot> {
        let load = &self.load;
        self.levels.pick(request.now, request.random, request.attempt, incoming::tried, |choices, members, turn| {
            choices.choose(members, request.random, turn, |member| load.of(in_flight(member.slot), member.share))
        })
    }
}

sluice_sdk::balancer!(LeastRequest);
