//! The last event of each key, as a CloudEvent. Events without the key are left out.
//!
//! | path | answer |
//! | --- | --- |
//! | (none) | `{"entries": [{"key": KEY, "event": EVENT}, …], "next": KEY or null}`: in the order of keys; parameters `prefix`, `start`, `limit` (100, 1 to 1,000) |
//! | `KEY` | the event, `application/cloudevents+json`; 404 where there is none |
//!
//! | setting | meaning | default |
//! | --- | --- | --- |
//! | `key` | `subject`, `stream`, `extension:NAME`, or a JSON Pointer into the data such as `/customer/id`, to a text or a whole number below 2^53 | required |
//! | `types`, `streams` | which events: names, or beginnings of names with a `*` behind | all |

mod algorithm;

use sluice_sdk::{
    Context, Settings,
    event_handler::{Answer, Effects, Event, EventHandler, Failure, Query, State, Subscription, subscription_settings},
};

use algorithm::Key;

struct LatestByKey {
    key: Key,
    subscription: Subscription,
}

impl EventHandler for LatestByKey {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        let given = settings.required_text("key", "subject");
        let key = Key::parse(&given).unwrap_or_else(|| {
            if !given.is_empty() {
                settings.problem(
                    "key",
                    "must be subject, stream, extension:NAME or a JSON Pointer such as \"/customer/id\"",
                );
            }
            Key::Stream
        });
        Self { key, subscription: subscription_settings(settings) }
    }

    fn subscription(&self) -> Subscription {
        self.subscription.clone()
    }

    fn handle(&mut self, event: &Event, state: &mut State, _: &mut Effects) -> Result<(), Failure> {
        match self.key.of(event) {
            Some(key) => algorithm::keep(&key, event, state),
            None => Ok(()),
        }
    }

    fn read(&self, query: &Query, state: &State) -> Answer {
        match query.path.as_str() {
            "" => algorithm::all(query, state),
            key => algorithm::one(key, state),
        }
    }
}

sluice_sdk::event_handler!(LatestByKey);

#[cfg(test)]
mod tests;
