//! Charging cards. The same `Idempotency-Key` charges once, whichever instance is asked.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Instance;
use crate::{
    barrier::{Guarded, Operation},
    participant::{Deed, HOLDS_MAX, Outcome, Part, Participant, nothing_of},
    recent::Recent,
    reply::{Refusal, Reply, blocking},
    store::Store,
};

/// What the bank lets through at once.
const LIMIT_CENTS: u64 = 1_000_000;

/// A card number that is always declined, to see an order fail.
pub const DECLINED_CARD: &str = "4000-0000-0000-0002";

/// Payments that are remembered; the oldest go first.
const KEPT_MAX: usize = 2_000;

#[derive(Debug)]
pub struct Payments {
    instance: String,
    store: Store<Guarded<Book>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Book {
    /// By the order's id.
    payments: Recent<Payment, KEPT_MAX>,
    /// Amounts that cards have promised, by the order's id: not taken yet.
    holds: BTreeMap<String, u64>,
    /// Of all payments, the forgotten ones too.
    taken_cents: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payment {
    pub id: String,
    pub amount_cents: u64,
    /// Who took it.
    pub instance: String,
}

#[derive(Debug, Deserialize)]
struct Charge {
    amount_cents: u64,
    card: String,
}

impl Payments {
    pub fn open(instance: &Instance) -> anyhow::Result<Self> {
        Ok(Self { instance: instance.name.clone(), store: Store::open(&instance.data, "payments")? })
    }

    fn charge(&self, key: &str, charge: &Charge) -> Reply<Payment> {
        self.store.change(|kept| kept.business.take(key, charge, &self.instance))?
    }

    /// What all orders together have brought in.
    fn till(&self) -> Reply<Value> {
        self.store.read(|kept| {
            let Book { holds, taken_cents, .. } = &kept.business;
            json!({ "instance": self.instance, "taken_cents": taken_cents, "held_cents": holds.values().sum::<u64>() })
        })
        .map_err(Refusal::from)
    }

    fn payment(&self, id: &str) -> Reply<Payment> {
        self.store
            .read(|kept| kept.business.payments.get(id).cloned())?
            .ok_or_else(|| Refusal::not_found("payment", id))
    }
}

impl Participant for Payments {
    fn carry_out(&self, operation: Operation<'_>, deed: Deed, part: &Part) -> Reply<Outcome> {
        let charge = Charge { amount_cents: part.price_cents, card: part.card.clone() };
        let business = |book: &mut Book| match deed {
            Deed::Hold => book.hold(&part.order, &charge),
            Deed::Settle => book.settle(&part.order, &self.instance),
            Deed::Release => book.holds.remove(&part.order).map(|_| ()).ok_or_else(|| nothing_of(&part.order)),
            Deed::Perform => book.take(&part.order, &charge, &self.instance).map(|_| ()),
            Deed::Revert => book.refund(&part.order),
        };
        self.store.change(|kept| Ok::<_, Refusal>(kept.pass(operation, business)))?
    }
}

impl Book {
    fn take(&mut self, key: &str, charge: &Charge, instance: &str) -> Reply<Payment> {
        if let Some(payment) = self.payments.get(key) {
            return Ok(payment.clone());
        }
        charge.check()?;
        Ok(self.keep(key, charge.amount_cents, instance))
    }

    fn hold(&mut self, order: &str, charge: &Charge) -> Reply<()> {
        charge.check()?;
        if self.holds.len() >= HOLDS_MAX {
            return Err(Refusal::new(StatusCode::CONFLICT, format!("{HOLDS_MAX} orders are under way: no more")));
        }
        self.holds.insert(order.to_owned(), charge.amount_cents);
        Ok(())
    }

    /// The amount that is held is taken.
    fn settle(&mut self, order: &str, instance: &str) -> Reply<()> {
        let amount_cents = self.holds.remove(order).ok_or_else(|| nothing_of(order))?;
        self.keep(order, amount_cents, instance);
        Ok(())
    }

    fn refund(&mut self, order: &str) -> Reply<()> {
        let payment = self.payments.remove(order).ok_or_else(|| nothing_of(order))?;
        self.taken_cents -= payment.amount_cents;
        Ok(())
    }

    fn keep(&mut self, key: &str, amount_cents: u64, instance: &str) -> Payment {
        let payment = Payment { id: key.to_owned(), amount_cents, instance: instance.to_owned() };
        self.payments.keep(key, payment.clone());
        self.taken_cents += amount_cents;
        payment
    }
}

impl Charge {
    fn check(&self) -> Reply<()> {
        let declined = |why: &str| Err(Refusal::new(StatusCode::PAYMENT_REQUIRED, why));
        if self.card == DECLINED_CARD {
            return declined("the card is declined");
        }
        if self.amount_cents > LIMIT_CENTS {
            return declined("the amount is above the card's limit of 10 000.00");
        }
        Ok(())
    }
}

pub fn router(payments: Arc<Payments>) -> Router {
    Router::new()
        .route("/payments", post(charge))
        .route("/payments/till", get(till))
        .route("/payments/{id}", get(payment))
        .with_state(payments)
}

async fn charge(State(payments): State<Arc<Payments>>, headers: HeaderMap, Json(charge): Json<Charge>) -> Response {
    let key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
    blocking(StatusCode::CREATED, move || {
        let key = key.ok_or_else(|| Refusal::new(StatusCode::BAD_REQUEST, "an Idempotency-Key header is needed"))?;
        payments.charge(&key, &charge)
    })
    .await
}

async fn payment(State(payments): State<Arc<Payments>>, Path(id): Path<String>) -> Response {
    blocking(StatusCode::OK, move || payments.payment(&id)).await
}

async fn till(State(payments): State<Arc<Payments>>) -> Response {
    blocking(StatusCode::OK, move || payments.till()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charge(card: &str) -> Charge {
        Charge { amount_cents: 10, card: card.to_owned() }
    }

    #[test]
    fn one_key_is_charged_once() {
        let mut book = Book::default();
        let first = book.take("k", &charge("1"), "payments-1").unwrap();
        assert_eq!(book.take("k", &charge("1"), "payments-2").unwrap(), first);
        assert_eq!((book.payments.newest().count(), book.taken_cents), (1, 10));
    }

    #[test]
    fn a_declined_card_is_charged_nothing() {
        let mut book = Book::default();
        let declined = charge(DECLINED_CARD);
        assert_eq!(book.take("k", &declined, "a").unwrap_err().status, StatusCode::PAYMENT_REQUIRED);
        assert_eq!(book.hold("k", &declined).unwrap_err().status, StatusCode::PAYMENT_REQUIRED);
        assert_eq!((book.payments.newest().count(), book.holds.len(), book.taken_cents), (0, 0, 0));
    }

    #[test]
    fn what_is_held_is_taken_once_and_what_is_taken_can_be_given_back() {
        let mut book = Book::default();
        book.hold("k", &charge("1")).unwrap();
        assert_eq!(book.taken_cents, 0);
        book.settle("k", "a").unwrap();
        assert_eq!((book.taken_cents, book.holds.len()), (10, 0));
        assert_eq!(book.settle("k", "a").unwrap_err().status, StatusCode::CONFLICT);
        book.refund("k").unwrap();
        assert_eq!(book.taken_cents, 0);
        assert_eq!(book.refund("k").unwrap_err().status, StatusCode::CONFLICT);
    }
}
