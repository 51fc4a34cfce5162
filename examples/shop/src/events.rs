//! The gateway's event store, as the shop uses it: each order has a stream of its own, `order-ID`, in which everything stands
//! that happens to it.
//!
//! | event | appended by |
//! | --- | --- |
//! | `order.requested` | `POST /orders?protocol=event`, or anybody: the wish for an order |
//! | `order.placed` | the orders service; of an order by event its handler, `order-fulfilment` |
//! | `order.confirmed`, `order.failed` | the commit that decides the order's transaction; without one, the orders service |

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::reply::{Refusal, Reply};

/// Of one append, which waits for its sync.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

pub const REQUESTED: &str = "order.requested";
pub const PLACED: &str = "order.placed";
pub const CONFIRMED: &str = "order.confirmed";
pub const FAILED: &str = "order.failed";

/// Who says that it happened.
const SOURCE: &str = "/shop/orders";

/// An order's stream. Its transaction has the same name, so that each is found by the other.
pub fn stream_of(order: &str) -> String {
    format!("order-{order}")
}

/// What of an order everybody may know who follows it.
pub fn placed(sku: &str, quantity: u64, protocol: &str) -> Value {
    json!({ "lines": [{ "sku": sku, "quantity": quantity }], "protocol": protocol })
}

#[derive(Debug)]
pub struct Events {
    agent: ureq::Agent,
    /// The gateway's control listener: `http://host:port`.
    control: String,
}

impl Events {
    pub fn new(control: String) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(CALL_TIMEOUT))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        Self { agent, control }
    }

    /// Durable when this returns. Of each type an order has one event, which makes it harmless to append it again.
    pub fn append(&self, order: &str, event_type: &str, data: &Value) -> Reply<()> {
        let stream = stream_of(order);
        let refused = |why: &dyn std::fmt::Display| {
            let detail = format!("{event_type} of order {order} is not in the event store: {why}");
            Refusal::new(StatusCode::BAD_GATEWAY, detail)
        };
        let event = json!({
            "specversion": "1.0",
            "id": format!("{stream}/{event_type}"),
            "source": SOURCE,
            "type": event_type,
            "data": data,
        });
        let request = self.agent.post(format!("{}/streams/{stream}", self.control));
        let answer = request.content_type("application/cloudevents+json").send(event.to_string());
        let mut answer = answer.map_err(|error| refused(&error))?;
        if answer.status().is_success() {
            return Ok(());
        }
        let body: Value = answer.body_mut().read_json().map_err(|error| refused(&error))?;
        Err(refused(&body["detail"].as_str().unwrap_or("no reason is given")))
    }
}
