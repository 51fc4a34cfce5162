//! The same endpoint for the same hash, from one table that is shared out evenly and changes little.
//!
//! Settings: `bounded_load` (off), how many times its fair share of the load an endpoint may have before another
//! one helps, 1.25 by convention; those of [`Rules`].

mod table;

use sluice_sdk::{
    Balancer, Context, Endpoint, InstantUs, Request, Settings, Slot,
    hashing::{Bound, choose},
    incoming, load,
    members::{Levels, Rules},
};
use table::Table;

struct Maglev {
    levels: Levels<Table>,
    bound: Bound,
}

impl Balancer for Maglev {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        let bound = Bound::from_settings(settings);
        Self { levels: Levels::new(Rules::from_settings(settings), Table::default()), bound }
    }

    fn update(&mut self, endpoints: &[Endpoint], now: InstantUs) {
        self.levels.update(endpoints.iter().map(Into::into), now);
        self.bound.forget();
    }

    fn pick(&mut self, request: &Request) -> Option<Slot> {
        self.bound.refresh(&self.levels, request.now, load::in_flight);
        let (hash, bound) = (request.hash, &self.bound);
        self.levels.pick(request.now, hash, request.attempt, incoming::tried, |table, members, turn| {
            choose(members, hash, turn, bound, load::in_flight, |n| table.member(hash, n))
        })
    }
}

sluice_sdk::balancer!(Maglev);
