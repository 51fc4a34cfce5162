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
    barrier::{Guarded, Operation},
    participant::{Deed, HOLDS_MAX, Outcome, Part, Participant, nothing_of},
    recent::Recent,
    reply::{Refusal, Reply, blocking},
    store::Store,
};

/// Reservations that can still be given back; the oldest count as sold.
const RESERVATIONS_MAX: usize = 2_000;

#[derive(Debug)]
pub struct Inventory {
    instance: String,
    store: Store<Guarded<Stock>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Product {
    name: String,
    price_cents: u64,
    /// That can be had.
    stock: u64,
    /// Set aside for orders that are under way.
    held: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stock {
    products: BTreeMap<String, Product>,
    /// By the order's id, so that asking again reserves nothing more.
    reservations: Recent<Reservation, RESERVATIONS_MAX>,
    /// By the order's id: not for good yet.
    holds: BTreeMap<String, Reservation>,
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
        let product = |name: &str, price_cents| Product { name: name.to_owned(), price_cents, stock: 100_000, held: 0 };
        let products = [
            ("tea", product("Darjeeling, 100 g", 890)),
            ("pot", product("Cast-iron teapot", 4_900)),
            ("cup", product("Porcelain cup", 1_250)),
        ];
        Self {
            products: products.into_iter().map(|(sku, product)| (sku.to_owned(), product)).collect(),
            reservations: Recent::default(),
            holds: BTreeMap::new(),
        }
    }
}

impl Inventory {
    pub fn open(instance: &Instance) -> anyhow::Result<Self> {
        Ok(Self { instance: instance.name.clone(), store: Store::open(&instance.data, "inventory")? })
    }

    fn products(&self) -> Reply<Value> {
        let products = self.store.read(|kept| kept.business.products.clone())?;
        Ok(json!({ "instance": self.instance, "products": products }))
    }

    fn product(&self, sku: &str) -> Reply<Product> {
        let product = self.store.read(|kept| kept.business.products.get(sku).cloned())?;
        product.ok_or_else(|| Refusal::not_found("product", sku))
    }

    fn reserve(&self, wish: Wish) -> Reply<Value> {
        let reservation = self.store.change(|kept| kept.business.reserve(&wish))??;
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
        let released = self.store.change(|kept| Ok::<_, Refusal>(kept.business.release(order)))??;
        Ok(json!({ "instance": self.instance, "order": order, "released": released }))
    }
}

impl Participant for Inventory {
    fn carry_out(&self, operation: Operation<'_>, deed: Deed, part: &Part) -> Reply<Outcome> {
        let wish = Wish { order: part.order.clone(), sku: part.sku.clone(), quantity: part.quantity };
        let business = |stock: &mut Stock| match deed {
            Deed::Hold => stock.hold(&wish),
            Deed::Settle => stock.settle(&part.order),
            Deed::Release => stock.give_back(&part.order),
            Deed::Perform => stock.reserve(&wish).map(|_| ()),
            Deed::Revert if stock.release(&part.order) == 0 => Err(nothing_of(&part.order)),
            Deed::Revert => Ok(()),
        };
        self.store.change(|kept| Ok::<_, Refusal>(kept.pass(operation, business)))?
    }
}

impl Stock {
    fn reserve(&mut self, wish: &Wish) -> Reply<Reservation> {
        if let Some(reservation) = self.reservations.get(&wish.order) {
            return Ok(reservation.clone());
        }
        let reservation = self.take(wish)?;
        self.reservations.keep(&wish.order, reservation.clone());
        Ok(reservation)
    }

    /// Out of the stock, where there is enough.
    fn take(&mut self, wish: &Wish) -> Reply<Reservation> {
        let product = self.products.get_mut(&wish.sku).ok_or_else(|| Refusal::not_found("product", &wish.sku))?;
        if wish.quantity == 0 {
            return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "quantity: must be 1 or more"));
        }
        product.stock = product.stock.checked_sub(wish.quantity).ok_or_else(|| {
            Refusal::new(StatusCode::CONFLICT, format!("only {} of {:?} are left", product.stock, wish.sku))
        })?;
        let price_cents = product.price_cents.saturating_mul(wish.quantity);
        Ok(Reservation { sku: wish.sku.clone(), quantity: wish.quantity, price_cents })
    }

    fn hold(&mut self, wish: &Wish) -> Reply<()> {
        if self.holds.len() >= HOLDS_MAX {
            return Err(Refusal::new(StatusCode::CONFLICT, format!("{HOLDS_MAX} orders are under way: no more")));
        }
        let reservation = self.take(wish)?;
        self.product_of(&reservation)?.held += reservation.quantity;
        self.holds.insert(wish.order.clone(), reservation);
        Ok(())
    }

    /// What is held for the order is sold.
    fn settle(&mut self, order: &str) -> Reply<()> {
        let hold = self.holds.remove(order).ok_or_else(|| nothing_of(order))?;
        self.product_of(&hold)?.held -= hold.quantity;
        self.reservations.keep(order, hold);
        Ok(())
    }

    /// What is held for the order can be had again.
    fn give_back(&mut self, order: &str) -> Reply<()> {
        let hold = self.holds.remove(order).ok_or_else(|| nothing_of(order))?;
        let product = self.product_of(&hold)?;
        product.held -= hold.quantity;
        product.stock += hold.quantity;
        Ok(())
    }

    fn product_of(&mut self, Reservation { sku, .. }: &Reservation) -> Reply<&mut Product> {
        self.products.get_mut(sku).ok_or_else(|| Refusal::not_found("product", sku))
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
    fn what_is_held_is_sold_or_given_back() {
        let mut stock = Stock::default();
        for (order, quantity) in [("a", 3), ("b", 5)] {
            stock.hold(&wish(order, quantity)).unwrap();
        }
        assert_eq!((stock.products["tea"].stock, stock.products["tea"].held), (99_992, 8));
        stock.settle("a").unwrap();
        stock.give_back("b").unwrap();
        assert_eq!((stock.products["tea"].stock, stock.products["tea"].held), (99_997, 0));
        assert_eq!(stock.settle("b").unwrap_err().status, StatusCode::CONFLICT);
        (0..HOLDS_MAX).for_each(|order| stock.hold(&wish(&order.to_string(), 1)).unwrap());
        assert_eq!(stock.hold(&wish("one more", 1)).unwrap_err().status, StatusCode::CONFLICT);
    }

    #[test]
    fn more_than_there_is_is_refused() {
        let mut stock = Stock::default();
        assert_eq!(stock.reserve(&wish("a", 100_001)).unwrap_err().status, StatusCode::CONFLICT);
        assert_eq!(stock.reserve(&wish("a", 0)).unwrap_err().status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(stock.products["tea"].stock, 100_000);
    }
}
