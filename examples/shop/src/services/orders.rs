//! Taking orders: reserve, charge, keep; where the charge is refused, give the reservation back.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, Method, Request, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Instance;
use crate::{
    recent::Recent,
    reply::{Refusal, Reply, blocking},
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
    store: Store<Ledger>,
}

type Ledger = Recent<Order, KEPT_MAX>;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Order {
    id: String,
    sku: String,
    quantity: u64,
    price_cents: u64,
    /// The instances that took part: this shop's way of showing who was picked.
    taken_by: String,
    reserved_by: String,
    paid_by: String,
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
        Ok(Self { instance: instance.name.clone(), gateway: instance.gateway.clone(), agent, store })
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
        let named = |answer: &Value| answer["instance"].as_str().unwrap_or_default().to_owned();
        let order = Order {
            id: id.clone(),
            sku: wish.sku.clone(),
            quantity: wish.quantity,
            price_cents,
            taken_by: self.instance.clone(),
            reserved_by: named(&reserved),
            paid_by: named(&paid),
        };
        self.store.change(|ledger| {
            ledger.keep(&id, order.clone());
            Ok::<_, Refusal>(())
        })??;
        Ok(order)
    }

    fn order(&self, id: &str) -> Reply<Order> {
        self.store.read(|ledger| ledger.get(id).cloned())?.ok_or_else(|| Refusal::not_found("order", id))
    }

    fn latest(&self) -> Reply<Value> {
        let latest = self.store.read(|ledger| ledger.newest().take(LATEST).cloned().collect::<Vec<_>>())?;
        Ok(json!({ "instance": self.instance, "orders": latest }))
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
        let answer = if method == Method::DELETE {
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

pub fn router(orders: Arc<Orders>) -> Router {
    Router::new().route("/orders", post(place).get(latest)).route("/orders/{id}", get(order)).with_state(orders)
}

async fn place(State(orders): State<Arc<Orders>>, headers: HeaderMap, Json(wish): Json<Wish>) -> Response {
    let carried = CARRIED.iter().filter_map(|&name| Some((name, headers.get(name)?.to_str().ok()?.to_owned())));
    let carried = carried.collect();
    blocking(StatusCode::CREATED, move || orders.place(&wish, &carried)).await
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
