//! Any endpoint, as likely as its weight says.
//!
//! Settings: those of [`Rules`] only.

use sluice_sdk::{
    Balancer, Context, Endpoint, InstantUs, Request, Settings, Slot,
    alias::Alias,
    incoming,
    members::{Choice, Levels, Member, Rules},
    random::mix,
};

struct Random(Levels<Draw>);

/// The whole algorithm is the SDK's weighted draw.
#[derive(Clone, Debug, Default)]
struct Draw(Alias);

impl Choice for Draw {
    fn rebuild(&mut self, members: &[Member]) {
        self.0.rebuild(members.iter().map(|member| member.share));
    }
}

impl Balancer for Random {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        Self(Levels::new(Rules::from_settings(settings), Draw::default()))
    }

    fn update(&mut self, endpoints: &[Endpoint], now: InstantUs) {
        self.0.update(endpoints.iter().map(Into::into), now);
    }

    fn pick(&mut self, request: &Request) -> Option<Slot> {
        self.0.pick(request.now, request.random, request.attempt, incoming::tried, |draw, _, turn| {
            draw.0.draw(mix(request.random, u64::from(turn)))
        })
    }
}

sluice_sdk::balancer!(Random);

#[cfg(test)]
mod tests;
