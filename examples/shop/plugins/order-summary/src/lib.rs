//! What has become of the shop's orders, from the events in their streams, `order-ID`:
//!
//! | event | data | the order is |
//! | --- | --- | --- |
//! | `order.requested` | `{"sku", "quantity"}` | `requested`: wished for by an event |
//! | `order.placed` | `{"lines": [{"sku", "quantity"}], "protocol"}` | `placed` |
//! | `order.confirmed` | `{"total_cents", "transaction"}` | `confirmed` |
//! | `order.failed` | `{"reason", "transaction"}`, each may be missing | `failed`: nothing of it is left |
//!
//! What is confirmed or failed stays so.
//!
//! | path | answer |
//! | --- | --- |
//! | (none) | `{"orders": {"requested", "placed", "confirmed", "failed"}, "confirmed_cents": N}`: how many orders are what now |
//! | `orders/ID` | `{"order", "state", "lines", "total_cents", "protocol", "transaction", "reason", "changed_at"}`; null: not known |
//! | `orders` | `{"orders": […], "next": ID or null}`: in the order of ids; parameters `prefix`, `start`, `limit` (100, 1 to 1,000) |
//! | `skus/SKU` | `{"sku", "requested", "placed", "confirmed", "failed"}`: pieces, in orders that are that now |
//! | `skus` | `{"skus": […], "next": SKU or null}`: as `orders` |

mod algorithm;
mod order;

use sluice_sdk::{
    Context, Settings,
    event_handler::{Answer, Effects, Event, EventHandler, Failure, Query, State, Subscription},
};

struct OrderSummary;

impl EventHandler for OrderSummary {
    fn configure(_: &Context, _: &mut Settings) -> Self {
        Self
    }

    fn subscription(&self) -> Subscription {
        Subscription { types: vec!["order.*".to_owned()], streams: vec![format!("{}*", algorithm::STREAM_PREFIX)] }
    }

    fn handle(&mut self, event: &Event, state: &mut State, _: &mut Effects) -> Result<(), Failure> {
        algorithm::follow(event, state)
    }

    fn read(&self, query: &Query, state: &State) -> Answer {
        match query.path.split_once('/') {
            None if query.path.is_empty() => algorithm::summary(state),
            None if query.path == "orders" => algorithm::orders(query, state),
            None if query.path == "skus" => algorithm::skus(query, state),
            Some(("orders", id)) => algorithm::order(id, state),
            Some(("skus", sku)) => algorithm::sku(sku, state),
            _ => Answer::not_found(
                "there are orders, orders/ID, skus, skus/SKU, and the summary at the path without a name",
            ),
        }
    }
}

sluice_sdk::event_handler!(OrderSummary);

#[cfg(test)]
mod tests;
