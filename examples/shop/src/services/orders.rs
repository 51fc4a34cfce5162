//! Taking orders: reserve, charge, record.
//!
//! Without a protocol an order is a plain chain of calls, and where the charge is refused the reservation is given back:
//! unless this instance is killed between the two. With `?protocol=` it is a transaction of the gateway's coordinator,
//! and happens in all three services or in none, whoever is killed when. With `?protocol=event` it is an event first, whose
//! handler then asks for that transaction at `service://orders/fulfil`: no route of the gateway leads there.

mod placing;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::placing::{Fulfilment, Way, Wish};
use super::Instance;
use crate::{
    barrier::{Guarded, Operation},
    coordinator::Coordinator,
    events::{self, Events},
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
    /// None likewise.
    events: Option<Events>,
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
    protocol: Option<Way>,
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
        let (coordinator, events) =
            (instance.control.clone().map(Coordinator::new), instance.control.clone().map(Events::new));
        let Instance { name, gateway, .. } = instance.clone();
        Ok(Self { instance: name, gateway, agent, coordinator, events, store })
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
            transaction: Some(events::stream_of(&part.order)),
        }
    }
}

pub fn router(orders: Arc<Orders>) -> Router {
    Router::new()
        .route("/orders", post(place).get(latest))
        .route("/orders/{id}", get(order))
        .route("/fulfil", post(fulfil))
        .with_state(orders)
}

async fn place(
    State(orders): State<Arc<Orders>>,
    Query(manner): Query<Manner>,
    headers: HeaderMap,
    Json(wish): Json<Wish>,
) -> Response {
    let carried = carried(&headers);
    match manner.protocol {
        None => blocking(StatusCode::CREATED, move || orders.place(&wish, &carried)).await,
        Some(Way::Event) => blocking(StatusCode::ACCEPTED, move || orders.request(&wish)).await,
        Some(Way::Transaction(protocol)) => answering(move || orders.place_with(protocol, &wish, &carried)).await,
    }
}

/// 202 when the order's transaction is durable, or has ended already.
async fn fulfil(State(orders): State<Arc<Orders>>, headers: HeaderMap, Json(fulfilment): Json<Fulfilment>) -> Response {
    let carried = carried(&headers);
    blocking(StatusCode::ACCEPTED, move || orders.fulfil(&fulfilment, &carried)).await
}

fn carried(headers: &HeaderMap) -> Carried {
    let carried = CARRIED.iter().filter_map(|&name| Some((name, headers.get(name)?.to_str().ok()?.to_owned())));
    carried.collect()
}

async fn order(State(orders): State<Arc<Orders>>, Path(id): Path<String>) -> Response {
    blocking(StatusCode::OK, move || orders.order(&id)).await
}

async fn latest(State(orders): State<Arc<Orders>>) -> Response {
    blocking(StatusCode::OK, move || orders.latest()).await
}
