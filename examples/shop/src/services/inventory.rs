//! The catalogue and the stock.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
    routing::{delete, get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Instance;
use crate::{
    recent::Recent,
    reply::{Refusal, Reply, blocking},
    store::Store,
};

/// Reservations that can still be given back; the oldest count as sold.
const RESERVATIONS_MAX: usize = 2_000;

#[derive(Debug)]
pub struct Inventory {
    instance: String,
    store: Store<Stock>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Product {
    name: String,
    price_cents: u64,
    stock: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stock {
    products: BTreeMap<String, Product>,
    /// By the order's id, so that asking again reserves nothing more.
    reservations: Recent<Reservation, RESERVATIONS_MAX>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reservation {
    sku: String,
    quantity: u64,
    price_cents: u64,
}

#[derive(Debug, Deserialize)]
struct Wish {
    order: String,
    sku: String,
    quantity: u64,
}

impl Default for Stock {
    fn default() -> Self {
        let product = |name: &str, price_cents| Product { name: name.to_owned(), price_cents, stock: 100_000 };
        let products = [
            ("tea", product("Darjeeling, 100 g", 890)),
            ("pot", product("Cast-iron teapot", 4_900)),
            ("cup", product("Porcelain cup", 1_250)),
        ];
        Self {
            products: products.into_iter().map(|(sku, product)| (sku.to_owned(), product)).collect(),
            reservations: Recent::default(),
        }
    }
}

impl Inventory {
    pub fn open(instance: &Instance) -> anyhow::Result<Self> {
        Ok(Self { instance: instance.name.clone(), store: Store::open(&instance.data, "inventory")? })
    }

    fn products(&self) -> Reply<Value> {
        let products = self.store.read(|stock| stock.products.clone())?;
        Ok(json!({ "instance": self.instance, "products": products }))
    }

    fn product(&self, sku: &str) -> Reply<Product> {
        let product = self.store.read(|stock| stock.products.get(sku).cloned())?;
        product.ok_or_else(|| Refusal::not_found("product", sku))
    }

    fn reserve(&self, wish: Wish) -> Reply<Value> {
        let reservation = self.store.change(|stock| stock.reserve(&wish))??;
        let Reservation { sku, quantity, price_cents } = reservation;
        Ok(json!({
            "instance": self.instance,
            "order": wish.order,
            "sku": sku,
            "quantity": quantity,
            "price_cents": price_cents,
        }))
    }

    fn release(&self, order: &str) -> Reply<Value> {
        let released = self.store.change(|stock| Ok::<_, Refusal>(stock.release(order)))??;
        Ok(json!({ "instance": self.instance, "order": order, "released": released }))
    }
}

impl Stock {
    fn reserve(&mut self, wish: &Wish) -> Reply<Reservation> {
        if let Some(reservation) = self.reservations.get(&wish.order) {
            return Ok(reservation.clone());
        }
        let product = self.products.get_mut(&wish.sku).ok_or_else(|| Refusal::not_found("product", &wish.sku))?;
        if wish.quantity == 0 {
            return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "quantity: must be 1 or more"));
        }
        product.stock = product.stock.checked_sub(wish.quantity).ok_or_else(|| {
            Refusal::new(StatusCode::CONFLICT, format!("only {} of {:?} are left", product.stock, wish.sku))
        })?;
        let price_cents = product.price_cents.saturating_mul(wish.quantity);
        let reservation = Reservation { sku: wish.sku.clone(), quantity: wish.quantity, price_cents };
        self.reservations.keep(&wish.order, reservation.clone());
        Ok(reservation)
    }

    /// Puts back what the order had reserved; how much that was.
    fn release(&mut self, order: &str) -> u64 {
        let Some(reservation) = self.reservations.remove(order) else { return 0 };
        if let Some(product) = self.products.get_mut(&reservation.sku) {
            product.stock += reservation.quantity;
        }
        reservation.quantity
    }
}

pub fn router(inventory: Arc<Inventory>) -> Router {
    Router::new()
        .route("/inventory/products", get(products))
        .route("/inventory/products/{sku}", get(product))
        .route("/inventory/reservations", post(reserve))
        .route("/inventory/reservations/{order}", delete(release))
        .with_state(inventory)
}

async fn products(State(inventory): State<Arc<Inventory>>) -> Response {
    blocking(StatusCode::OK, move || inventory.products()).await
}

async fn product(State(inventory): State<Arc<Inventory>>, Path(sku): Path<String>) -> Response {
    blocking(StatusCode::OK, move || inventory.product(&sku)).await
}

async fn reserve(State(inventory): State<Arc<Inventory>>, Json(wish): Json<Wish>) -> Response {
    blocking(StatusCode::CREATED, move || inventory.reserve(wish)).await
}

async fn release(State(inventory): State<Arc<Inventory>>, Path(order): Path<String>) -> Response {
    blocking(StatusCode::OK, move || inventory.release(&order)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(order: &str, quantity: u64) -> Wish {
        Wish { order: order.to_owned(), sku: "tea".to_owned(), quantity }
    }

    #[test]
    fn asking_again_reserves_nothing_more_and_releasing_puts_back() {
        let mut stock = Stock::default();
        assert_eq!(stock.reserve(&wish("a", 3)).unwrap().price_cents, 2_670);
        stock.reserve(&wish("a", 3)).unwrap();
        assert_eq!(stock.products["tea"].stock, 99_997);
        assert_eq!(stock.release("a"), 3);
        assert_eq!(stock.release("a"), 0);
        assert_eq!(stock.products["tea"].stock, 100_000);
    }

    #[test]
    fn more_than_there_is_is_refused() {
        let mut stock = Stock::default();
        assert_eq!(stock.reserve(&wish("a", 100_001)).unwrap_err().status, StatusCode::CONFLICT);
        assert_eq!(stock.reserve(&wish("a", 0)).unwrap_err().status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(stock.products["tea"].stock, 100_000);
    }
}
