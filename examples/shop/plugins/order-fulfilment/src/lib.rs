//! Places the orders that events wish for: an `order.requested` in a stream `order-ID` causes an `order.placed` there and a
//! call of the orders service, which has the coordinator carry the order out as a saga. The transaction's outcome appends
//! `order.confirmed` or `order.failed`.
//!
//! The call is made at least once, and the order is placed once: its transaction is named after the stream, so that whoever
//! asks again asks for the one that there is. A wish that nobody could fulfil is answered with `order.failed` and no call.
//!
//! Data of `order.requested`: `{"sku": "tea", "quantity": 2, "card": "…"}`; the card may be left out.
//!
//! | path | answer |
//! | --- | --- |
//! | (none) | `{"placed": N, "refused": N, "repeated": N}`: what became of the wishes; `repeated` were those for an order that there was already |
//!
//! | setting | meaning | default |
//! | --- | --- | --- |
//! | `target` | where orders are sent to be carried out | `service://orders/fulfil` |

mod algorithm;

use sluice_sdk::{
    Context, Settings,
    event_handler::{Answer, Effects, Event, EventHandler, Failure, Query, State, Subscription},
};

struct OrderFulfilment {
    target: String,
}

impl EventHandler for OrderFulfilment {
    fn configure(_: &Context, settings: &mut Settings) -> Self {
        let target = settings.text("target", "service://orders/fulfil");
        if !target.starts_with("service://") {
            settings.problem("target", "must begin with service://");
        }
        Self { target }
    }

    fn subscription(&self) -> Subscription {
        let streams = vec![format!("{}*", algorithm::STREAM_PREFIX)];
        Subscription { types: vec![algorithm::REQUESTED.to_owned()], streams }
    }

    fn handle(&mut self, event: &Event, state: &mut State, effects: &mut Effects) -> Result<(), Failure> {
        algorithm::place(event, &self.target, state, effects);
        Ok(())
    }

    fn read(&self, query: &Query, state: &State) -> Answer {
        match query.path.as_str() {
            "" => algorithm::figures(state),
            _ => Answer::not_found("there is only one answer, at the path without a name"),
        }
    }
}

sluice_sdk::event_handler!(OrderFulfilment);

#[cfg(test)]
mod tests;
