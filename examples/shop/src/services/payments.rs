//! Charging cards. The same `Idempotency-Key` charges once, whichever instance is asked.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};

use super::Instance;
use crate::{
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
    store: Store<Book>,
}

type Book = Recent<Payment, KEPT_MAX>;

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
        self.store.change(|book| take(book, key, charge, &self.instance))?
    }

    fn payment(&self, id: &str) -> Reply<Payment> {
        self.store.read(|book| book.get(id).cloned())?.ok_or_else(|| Refusal::not_found("payment", id))
    }
}

fn take(book: &mut Book, key: &str, charge: &Charge, instance: &str) -> Reply<Payment> {
    if let Some(payment) = book.get(key) {
        return Ok(payment.clone());
    }
    let declined = |why: &str| Err(Refusal::new(StatusCode::PAYMENT_REQUIRED, why));
    if charge.card == DECLINED_CARD {
        return declined("the card is declined");
    }
    if charge.amount_cents > LIMIT_CENTS {
        return declined("the amount is above the card's limit of 10 000.00");
    }
    let payment = Payment { id: key.to_owned(), amount_cents: charge.amount_cents, instance: instance.to_owned() };
    book.keep(key, payment.clone());
    Ok(payment)
}

pub fn router(payments: Arc<Payments>) -> Router {
    Router::new().route("/payments", post(charge)).route("/payments/{id}", get(payment)).with_state(payments)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_is_charged_once() {
        let mut book = Book::default();
        let charge = Charge { amount_cents: 10, card: "1".into() };
        let first = take(&mut book, "k", &charge, "payments-1").unwrap();
        assert_eq!(take(&mut book, "k", &charge, "payments-2").unwrap(), first);
        assert_eq!(book.newest().count(), 1);
    }

    #[test]
    fn a_declined_card_is_charged_nothing() {
        let mut book = Book::default();
        let charge = Charge { amount_cents: 10, card: DECLINED_CARD.into() };
        assert_eq!(take(&mut book, "k", &charge, "a").unwrap_err().status, StatusCode::PAYMENT_REQUIRED);
        assert_eq!(book.newest().count(), 0);
    }
}
