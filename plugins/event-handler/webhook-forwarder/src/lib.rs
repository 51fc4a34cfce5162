//! Sends each event to a URL: `POST`, in structured mode (`application/cloudevents+json`), at least once, in the order of
//! the log where the receiver answers. What it does not take is tried again by the gateway, and then parked.
//!
//! | path | answer |
//! | --- | --- |
//! | (none) | `{"forwarded": N, "position": P}`: how many events were given to the gateway to be sent, and the last one's position |
//!
//! | setting | meaning | default |
//! | --- | --- | --- |
//! | `target` | `service://NAME/path`, or a URL whose host is among the gateway's `allow_hosts` | required |
//! | `types`, `streams` | which events: names, or beginnings of names with a `*` behind | all |
//! | `headers` | header fields of each call, such as `{ authorization = "Bearer …" }` | none |

mod algorithm;

use sluice_sdk::{
    Context, Settings,
    event_handler::{Answer, Effects, Event, EventHandler, Failure, Query, State, Subscription, subscription_settings},
};

use algorithm::Webhook;

struct Forwarder {
    webhook: Webhook,
    subscription: Subscription,
}

impl EventHandler for Forwarder {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        Self { webhook: Webhook::configure(settings), subscription: subscription_settings(settings) }
    }

    fn subscription(&self) -> Subscription {
        self.subscription.clone()
    }

    fn handle(&mut self, event: &Event, state: &mut State, effects: &mut Effects) -> Result<(), Failure> {
        effects.call(self.webhook.call(event)?);
        algorithm::note(event, state);
        Ok(())
    }

    fn read(&self, query: &Query, state: &State) -> Answer {
        match query.path.as_str() {
            "" => algorithm::progress(state),
            _ => Answer::not_found("there is only one answer, at the path without a name"),
        }
    }
}

sluice_sdk::event_handler!(Forwarder);

#[cfg(test)]
mod tests;
