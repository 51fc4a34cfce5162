//! Each endpoint in turn, as often as its weight says, spread evenly.
//!
//! Settings: those of [`Rules`] only.

mod turns;

use sluice_sdk::{
    Balancer, Context, Endpoint, InstantUs, Request, Settings, Slot, incoming,
    members::{Levels, Rules},
    state::{Reader, Writer},
};
use turns::Turns;

/// Records of an endpoint's key and its turn.
const FORMAT: &str = "round-robin/1";
const RECORD_LEN: usize = 16;

struct RoundRobin(Levels<Turns>);

impl Balancer for RoundRobin {
    fn configure(context: &Context, settings: &mut Settings) -> Self {
        Self(Levels::new(Rules::from_settings(settings), Turns::new(context.seed)))
    }

    fn update(&mut self, endpoints: &[Endpoint], now: InstantUs) {
        self.0.update(endpoints.iter().map(Into::into), now);
    }

    fn pick(&mut self, request: &Request) -> Option<Slot> {
        self.0.pick(request.now, request.random, request.attempt, incoming::tried, |turns, _, _| turns.next())
    }

    fn save(&self) -> Vec<u8> {
        let mut state = Writer::new(FORMAT);
        for (members, turns) in self.0.choices() {
            for (index, turn) in turns.positions() {
                state.u64(members[index].key);
                state.f64(turn);
            }
        }
        state.finish()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), String> {
        let mut state = Reader::new(FORMAT, RECORD_LEN, state)?;
        let mut saved = Vec::new();
        while !state.is_empty() {
            saved.push((state.u64(), state.f64()));
        }
        for (members, turns) in self.0.choices_mut() {
            turns.resume(members, saved.clone());
        }
        Ok(())
    }
}

sluice_sdk::balancer!(RoundRobin);

#[cfg(test)]
mod tests;
