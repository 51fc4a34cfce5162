//! Counts events by their type.
//!
//! | path | answer |
//! | --- | --- |
//! | (none) | `{"counts": {TYPE: N, …}, "next": TYPE or null}`: in the order of types; parameters `prefix`, `start`, `limit` (100, 1 to 1,000) |
//! | `TYPE` | `{"type": TYPE, "count": N}`, 0 for one that never came |
//!
//! | setting | meaning | default |
//! | --- | --- | --- |
//! | `types`, `streams` | which events are counted: names, or beginnings of names with a `*` behind | all |

mod algorithm;

use sluice_sdk::{
    Context, Settings,
    event_handler::{Answer, Effects, Event, EventHandler, Failure, Query, State, Subscription, subscription_settings},
};

struct CountByType(Subscription);

impl EventHandler for CountByType {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        Self(subscription_settings(settings))
    }

    fn subscription(&self) -> Subscription {
        self.0.clone()
    }

    fn handle(&mut self, event: &Event, state: &mut State, _: &mut Effects) -> Result<(), Failure> {
        algorithm::count(&event.draft.event_type, state);
        Ok(())
    }

    fn read(&self, query: &Query, state: &State) -> Answer {
        match query.path.as_str() {
            "" => algorithm::all(query, state),
            event_type => algorithm::one(event_type, state),
        }
    }
}

sluice_sdk::event_handler!(CountByType);

#[cfg(test)]
mod tests;
