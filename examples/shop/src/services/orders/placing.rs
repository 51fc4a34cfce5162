//! The ways in which an order is placed, and what each tells the event store.

use axum::{
    Json,
    http::{Method, Request, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Carried, Order, Orders};
use crate::{
    coordinator::{Coordinator, Protocol, Submission, Verdict},
    events::{self, CONFIRMED, FAILED, PLACED, REQUESTED},
    participant::Part,
    reply::{Refusal, Reply},
};

/// `?protocol=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) enum Way {
    Transaction(Protocol),
    Event,
}

#[derive(Debug, Deserialize)]
pub(super) struct Wish {
    sku: String,
    quantity: u64,
    #[serde(default)]
    card: String,
}

/// As `order-fulfilment` sends it: the same each time that it does.
#[derive(Debug, Deserialize)]
pub(super) struct Fulfilment {
    order: String,
    taken_by: String,
    #[serde(flatten)]
    wish: Wish,
}

impl Orders {
    /// As plainly as can be: 201, or why not. Where this instance is killed on the way, an order stays `placed` for ever.
    pub(super) fn place(&self, wish: &Wish, carried: &Carried) -> Reply<Order> {
        let id = new_id();
        self.tell(&id, PLACED, &events::placed(&wish.sku, wish.quantity, "none"))?;
        let placed = self.chain(&id, wish, carried);
        let told = match &placed {
            Ok(order) => self.tell(&id, CONFIRMED, &json!({ "total_cents": order.price_cents })),
            Err(refused) => self.tell(&id, FAILED, &json!({ "reason": refused.detail })),
        };
        if let Err(untold) = told {
            // It is as it is, whoever knows of it.
            eprintln!("{}: {untold}", self.instance);
        }
        placed
    }

    /// Reserves, charges, records; where the charge is refused, the reservation is given back.
    fn chain(&self, id: &str, wish: &Wish, carried: &Carried) -> Reply<Order> {
        let reservation = json!({ "order": id, "sku": wish.sku, "quantity": wish.quantity });
        let reserved = self.call(Method::POST, "/inventory/reservations", id, carried, &reservation)?;
        let price_cents = reserved["price_cents"].as_u64().ok_or_else(|| incomplete("inventory"))?;
        let charge = json!({ "amount_cents": price_cents, "card": wish.card });
        let paid = match self.call(Method::POST, "/payments", id, carried, &charge) {
            Ok(paid) => paid,
            Err(refused) => {
                self.call(Method::DELETE, &format!("/inventory/reservations/{id}"), id, carried, &Value::Null)?;
                return Err(refused);
            }
        };
        let named = |answer: &Value| answer["instance"].as_str().map(str::to_owned);
        let order = Order {
            id: id.to_owned(),
            sku: wish.sku.clone(),
            quantity: wish.quantity,
            price_cents,
            taken_by: self.instance.clone(),
            reserved_by: named(&reserved),
            paid_by: named(&paid),
            transaction: None,
        };
        self.store.change(|kept| {
            kept.business.keep(order.clone());
            Ok::<_, Refusal>(())
        })??;
        Ok(order)
    }

    /// The same in one transaction; 202 where it goes on and nobody waits any longer. It is there before its order is said to
    /// be placed, so that whatever was placed ends: where this instance is killed in between, with the transaction's time.
    pub(super) fn place_with(&self, protocol: Protocol, wish: &Wish, carried: &Carried) -> Reply<Response> {
        let coordinator = self.coordinator()?;
        let id = new_id();
        let price_cents = self.price_cents(&wish.sku, &id, carried)?;
        let price_cents = price_cents.ok_or_else(|| Refusal::not_found("product", &wish.sku))?;
        let part = wish.part(&id, price_cents, &self.instance);
        let headers = carried.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect();
        let submission = Submission::new(protocol, &part, headers);
        coordinator.prepare(&submission)?;
        self.tell(&id, PLACED, &events::placed(&wish.sku, wish.quantity, protocol.name()))?;
        let gid = events::stream_of(&id);
        match coordinator.outcome(&submission)? {
            Verdict::Committed => Ok((StatusCode::CREATED, Json(Order::of(&part))).into_response()),
            Verdict::Aborted(why) => {
                let detail = format!("nothing of order {id} is left (transaction {gid}): {why}");
                Err(Refusal::new(StatusCode::CONFLICT, detail))
            }
            Verdict::Open(status) => {
                let open = json!({ "id": id, "transaction": gid, "status": status });
                Ok((StatusCode::ACCEPTED, Json(open)).into_response())
            }
        }
    }

    /// Only says that an order is wished for, and is done when that is durable: `order-fulfilment` follows.
    pub(super) fn request(&self, wish: &Wish) -> Reply<Value> {
        if self.events.is_none() {
            return Err(untold_of("an event store"));
        }
        let id = new_id();
        let Wish { sku, quantity, card } = wish;
        let data = json!({ "sku": sku, "quantity": quantity, "card": card, "taken_by": self.instance });
        self.tell(&id, REQUESTED, &data)?;
        Ok(json!({ "id": id, "stream": events::stream_of(&id), "status": "requested" }))
    }

    /// Has a requested order carried out as a saga. It may be asked for many times, by way of any instance: the
    /// transaction is named after the order, and is begun once. Whatever is wrong with the order, it is the participants
    /// who refuse it, so that it ends as an event says.
    pub(super) fn fulfil(&self, fulfilment: &Fulfilment, carried: &Carried) -> Reply<Value> {
        let coordinator = self.coordinator()?;
        let Fulfilment { order, taken_by, wish } = fulfilment;
        let gid = events::stream_of(order);
        let verdict = match coordinator.standing(&gid)? {
            // Prices may have changed meanwhile: what it was begun with holds.
            Some(verdict) => verdict,
            None => {
                let price_cents = self.price_cents(&wish.sku, order, carried)?.unwrap_or(0);
                let part = wish.part(order, price_cents, taken_by);
                coordinator.submit(&Submission::new(Protocol::Saga, &part, Map::new()))?
            }
        };
        let status = match verdict {
            Verdict::Committed => "succeeded".to_owned(),
            Verdict::Aborted(_) => "failed".to_owned(),
            Verdict::Open(status) => status,
        };
        Ok(json!({ "id": order, "transaction": gid, "status": status }))
    }

    fn coordinator(&self) -> Reply<&Coordinator> {
        self.coordinator.as_ref().ok_or_else(|| untold_of("a coordinator"))
    }

    /// Of one piece, as the catalogue says; none where it has no such product.
    fn price_cents(&self, sku: &str, key: &str, carried: &Carried) -> Reply<Option<u64>> {
        let catalogue = self.call(Method::GET, "/inventory/products", key, carried, &Value::Null)?;
        Ok(catalogue["products"][sku]["price_cents"].as_u64())
    }

    /// Nobody is told where there is no event store.
    fn tell(&self, order: &str, event_type: &str, data: &Value) -> Reply<()> {
        self.events.as_ref().map_or(Ok(()), |events| events.append(order, event_type, data))
    }

    /// Asks another service, through the gateway.
    fn call(&self, method: Method, path: &str, key: &str, carried: &Carried, body: &Value) -> Reply<Value> {
        let unreachable = |why: &dyn std::fmt::Display| {
            Refusal::new(StatusCode::BAD_GATEWAY, format!("{path} through the gateway: {why}"))
        };
        let mut request = Request::builder().method(&method).uri(format!("{}{path}", self.gateway));
        request = request.header("content-type", "application/json").header("idempotency-key", key);
        for (name, value) in carried {
            request = request.header(*name, value);
        }
        let answer = if body.is_null() {
            self.agent.run(request.body(()).map_err(|error| unreachable(&error))?)
        } else {
            self.agent.run(request.body(body.to_string()).map_err(|error| unreachable(&error))?)
        };
        let mut answer = answer.map_err(|error| unreachable(&error))?;
        let status = answer.status();
        let body: Value = answer.body_mut().read_json().map_err(|error| unreachable(&error))?;
        if status.is_success() {
            return Ok(body);
        }
        let detail = body["detail"].as_str().unwrap_or("it said no without a reason");
        Err(Refusal::new(status, format!("{path}: {detail}")))
    }
}

impl TryFrom<String> for Way {
    type Error = String;

    fn try_from(given: String) -> Result<Self, String> {
        if given == "event" {
            return Ok(Self::Event);
        }
        let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.name() == given);
        protocol.map(Self::Transaction).ok_or_else(|| "protocol must be saga, tcc, 2pc or event".to_owned())
    }
}

impl Wish {
    fn part(&self, order: &str, price_cents: u64, taken_by: &str) -> Part {
        Part {
            order: order.to_owned(),
            sku: self.sku.clone(),
            quantity: self.quantity,
            price_cents: price_cents.saturating_mul(self.quantity),
            card: self.card.clone(),
            taken_by: taken_by.to_owned(),
        }
    }
}

fn new_id() -> String {
    format!("{:016x}", fastrand::u64(..))
}

fn untold_of(what: &str) -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, format!("this instance was not told of {what}"))
}

fn incomplete(service: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_GATEWAY, format!("{service} answered without a price"))
}
