//! Taking orders: reserve, charge, record.
//!
//! Without a protocol an order is a plain chain of calls, and where the charge is refused the reservation is given back:
//! unless this instance is killed between the two. With `?protocol=` it is a transaction of the gateway's coordinator,
//! and happens in all three services or in none, whoever is killed when.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, Method, Request, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Instance;
use crate::{
    barrier::{Guarded, Operation},
    coordinator::{Coordinator, Protocol, Verdict},
    participant::{Deed, HOLDS_MAX, Outcome, Part, Participant, nothing_of},
    recent::Recent,
    reply::{Refusal, Reply, answering, blocking},
    store::Store,
};

/// Of one call to another service.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Orders that are remembered; the oldest go first.
const KEPT_MAX: usize = 2_000;

/// Of which a list shows so many.
const LATEST: usize = 20;

/// Headers that go on to the services called, so that one trace shows an order's whole way.
const CARRIED: [&str; 4] = ["traceparent", "tracestate", "x-request-id", "x-customer"];

#[derive(Debug)]
pub struct Orders {
    instance: String,
    gateway: String,
    agent: ureq::Agent,
    /// None where nobody said where it is.
    coordinator: Option<Coordinator>,
    store: Store<Guarded<Ledger>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Ledger {
    orders: Recent<Order, KEPT_MAX>,
    /// By their ids: not for good yet.
    pending: BTreeMap<String, Order>,
    /// Of all orders, the forgotten ones too.
    total_cents: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    id: String,
    sku: String,
    quantity: u64,
    price_cents: u64,
    /// The instances that took part: this shop's way of showing who was picked.
    taken_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reserved_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paid_by: Option<String>,
    /// The transaction that placed it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Manner {
    protocol: Option<Protocol>,
}

#[derive(Debug, Deserialize)]
struct Wish {
    sku: String,
    quantity: u64,
    #[serde(default)]
    card: String,
}

/// The headers of [`CARRIED`] that the order came with.
type Carried = Vec<(&'static str, String)>;

impl Orders {
    pub fn open(instance: &Instance) -> anyhow::Result<Self> {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(CALL_TIMEOUT))
            .http_status_as_error(false)
            .proxy(None)
            .build()
            .into();
        let store = Store::open(&instance.data, "orders")?;
        let coordinator = instance.control.clone().map(Coordinator::new);
        Ok(Self { instance: instance.name.clone(), gateway: instance.gateway.clone(), agent, coordinator, store })
    }

    fn place(&self, wish: &Wish, carried: &Carried) -> Reply<Order> {
        let id = format!("{:016x}", fastrand::u64(..));
        let reservation = json!({ "order": id, "sku": wish.sku, "quantity": wish.quantity });
        let reserved = self.call(Method::POST, "/inventory/reservations", &id, carried, &reservation)?;
        let price_cents = reserved["price_cents"].as_u64().ok_or_else(|| incomplete("inventory"))?;
        let charge = json!({ "amount_cents": price_cents, "card": wish.card });
        let paid = match self.call(Method::POST, "/payments", &id, carried, &charge) {
            Ok(paid) => paid,
            Err(refused) => {
                self.call(Method::DELETE, &format!("/inventory/reservations/{id}"), &id, carried, &Value::Null)?;
                return Err(refused);
            }
        };
        let named = |answer: &Value| answer["instance"].as_str().map(str::to_owned);
        let order = Order {
            id: id.clone(),
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

    /// The same in one transaction; 202 where it goes on and nobody waits any longer.
    fn place_with(&self, protocol: Protocol, wish: &Wish, carried: &Carried) -> Reply<Response> {
        let unknown = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "this instance was not told of a coordinator");
        let coordinator = self.coordinator.as_ref().ok_or_else(unknown)?;
        let id = format!("{:016x}", fastrand::u64(..));
        let gid = transaction_of(&id);
        let catalogue = self.call(Method::GET, "/inventory/products", &id, carried, &Value::Null)?;
        let price_cents = catalogue["products"][&wish.sku]["price_cents"].as_u64();
        let price_cents = price_cents.ok_or_else(|| Refusal::not_found("product", &wish.sku))?;
        let part = Part {
            order: id.clone(),
            sku: wish.sku.clone(),
            quantity: wish.quantity,
            price_cents: price_cents.saturating_mul(wish.quantity),
            card: wish.card.clone(),
            taken_by: self.instance.clone(),
        };
        let headers = carried.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into())).collect();
        match coordinator.run(&gid, protocol, &part, headers)? {
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

    fn order(&self, id: &str) -> Reply<Order> {
        self.store.read(|kept| kept.business.orders.get(id).cloned())?.ok_or_else(|| Refusal::not_found("order", id))
    }

    fn latest(&self) -> Reply<Value> {
        let report = |kept: &Guarded<Ledger>| {
            let Ledger { orders, pending, total_cents } = &kept.business;
            let latest: Vec<_> = orders.newest().take(LATEST).collect();
            json!({
                "instance": self.instance,
                "total_cents": total_cents,
                "pending": pending.len(),
                "orders": latest,
            })
        };
        Ok(self.store.read(report)?)
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

impl Participant for Orders {
    fn carry_out(&self, operation: Operation<'_>, deed: Deed, part: &Part) -> Reply<Outcome> {
        let missing = || nothing_of(&part.order);
        let business = |ledger: &mut Ledger| match deed {
            Deed::Hold if ledger.pending.len() >= HOLDS_MAX => {
                Err(Refusal::new(StatusCode::CONFLICT, format!("{HOLDS_MAX} orders are under way: no more")))
            }
            Deed::Hold => {
                ledger.pending.insert(part.order.clone(), Order::of(part));
                Ok(())
            }
            Deed::Settle => ledger.pending.remove(&part.order).map(|order| ledger.keep(order)).ok_or_else(missing),
            Deed::Release => ledger.pending.remove(&part.order).map(|_| ()).ok_or_else(missing),
            Deed::Perform => {
                ledger.keep(Order::of(part));
                Ok(())
            }
            Deed::Revert => ledger.forget(&part.order).ok_or_else(missing),
        };
        self.store.change(|kept| Ok::<_, Refusal>(kept.pass(operation, business)))?
    }
}

impl Ledger {
    fn keep(&mut self, order: Order) {
        self.total_cents += order.price_cents;
        self.orders.keep(&order.id.clone(), order);
    }

    fn forget(&mut self, id: &str) -> Option<()> {
        let order = self.orders.remove(id)?;
        self.total_cents -= order.price_cents;
        Some(())
    }
}

impl Order {
    /// Placed by a transaction.
    fn of(part: &Part) -> Self {
        Self {
            id: part.order.clone(),
            sku: part.sku.clone(),
            quantity: part.quantity,
            price_cents: part.price_cents,
            taken_by: part.taken_by.clone(),
            reserved_by: None,
            paid_by: None,
            transaction: Some(transaction_of(&part.order)),
        }
    }
}

/// The transaction's id, so that each is found by the other.
fn transaction_of(order: &str) -> String {
    format!("order-{order}")
}

pub fn router(orders: Arc<Orders>) -> Router {
    Router::new().route("/orders", post(place).get(latest)).route("/orders/{id}", get(order)).with_state(orders)
}

async fn place(
    State(orders): State<Arc<Orders>>,
    Query(manner): Query<Manner>,
    headers: HeaderMap,
    Json(wish): Json<Wish>,
) -> Response {
    let carried = CARRIED.iter().filter_map(|&name| Some((name, headers.get(name)?.to_str().ok()?.to_owned())));
    let carried = carried.collect();
    match manner.protocol {
        Some(protocol) => answering(move || orders.place_with(protocol, &wish, &carried)).await,
        None => blocking(StatusCode::CREATED, move || orders.place(&wish, &carried)).await,
    }
}

async fn order(State(orders): State<Arc<Orders>>, Path(id): Path<String>) -> Response {
    blocking(StatusCode::OK, move || orders.order(&id)).await
}

async fn latest(State(orders): State<Arc<Orders>>) -> Response {
    blocking(StatusCode::OK, move || orders.latest()).await
}

fn incomplete(service: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_GATEWAY, format!("{service} answered without a price"))
}
