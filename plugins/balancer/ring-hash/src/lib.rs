//! The same endpoint for the same hash: the next of its points on a ring, clockwise.
//!
//! Settings: `points` (160), how many a unit of weight has; `bounded_load` (off), how many times its fair share of
//! the load an endpoint may have before the next one helps, 1.25 by convention; those of [`Rules`].

mod ring;

use ring::Ring;
use sluice_sdk::{
    Balancer, Context, Endpoint, InstantUs, Request, Settings, Slot,
    hashing::{Bound, choose},
    incoming, load,
    members::{Levels, Rules},
};

struct RingHash {
    levels: Levels<Ring>,
    bound: Bound,
}

impl Balancer for RingHash {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        let points = settings.integer("points", ring::POINTS, 1..=ring::POINTS_MAX);
        let bound = Bound::from_settings(settings);
        Self { levels: Levels::new(Rules::from_settings(settings), Ring::new(points)), bound }
    }

    fn update(&mut self, endpoints: &[Endpoint], now: InstantUs) {
        self.levels.update(endpoints.iter().map(Into::into), now);
        self.bound.forget();
    }

    fn pick(&mut self, request: &Request) -> Option<Slot> {
        self.bound.refresh(&self.levels, request.now, load::in_flight);
        let (hash, bound) = (request.hash, &self.bound);
        self.levels.pick(request.now, hash, request.attempt, incoming::tried, |ring, members, turn| {
            let at = ring.find(hash);
            choose(members, hash, turn, bound, load::in_flight, |n| ring.member(at, n))
        })
    }
}

sluice_sdk::balancer!(RingHash);
