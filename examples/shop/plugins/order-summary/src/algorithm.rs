//! An order's way, and what all orders together are.
//!
//! | key | value |
//! | --- | --- |
//! | `order/ID` | the order, as JSON |
//! | `sku/SKU` | pieces in orders, a number for each stage |
//! | `orders/STAGE`, `cents` | how many orders are at that stage; what the confirmed ones have brought in |

use sluice_sdk::{
    event_handler::{Answer, Event, Failure, Page, Query, State},
    json::quoted,
};

use crate::order::{Line, Order, Stage, next};

pub const STREAM_PREFIX: &str = "order-";

const ORDER: &str = "order/";
const SKU: &str = "sku/";
const COUNT: &str = "orders/";
const CENTS: &str = "cents";

/// One event of an order.
pub fn follow(event: &Event, state: &mut State) -> Result<(), Failure> {
    let Some(id) = event.draft.stream_name.strip_prefix(STREAM_PREFIX) else { return Ok(()) };
    let key = format!("{ORDER}{id}");
    let before = state.text(&key).and_then(|kept| Order::read(&kept));
    let Some(after) = next(before.as_ref(), event).map_err(Failure::lasting)? else { return Ok(()) };
    if let Some(before) = before {
        count(&before, state, u64::saturating_sub);
    }
    count(&after, state, u64::saturating_add);
    state.put(&key, after.json(id));
    Ok(())
}

/// Takes an order into account, or out of it.
fn count(order: &Order, state: &mut State, change: fn(u64, u64) -> u64) {
    let mut number = |key: &str, by: u64| {
        let now = change(state.number(key), by);
        state.put_number(key, now);
    };
    number(&format!("{COUNT}{}", order.stage.name()), 1);
    if order.stage == Stage::Confirmed {
        number(CENTS, order.total_cents.unwrap_or(0));
    }
    for Line { sku, quantity } in &order.lines {
        let key = format!("{SKU}{sku}");
        let mut pieces = pieces(state.text(&key));
        let of_stage = &mut pieces[order.stage as usize];
        *of_stage = change(*of_stage, *quantity);
        state.put(&key, pieces.map(|pieces| pieces.to_string()).join(" "));
    }
}

pub fn summary(state: &State) -> Answer {
    let counts = Stage::ALL.map(|stage| state.number(&format!("{COUNT}{}", stage.name())));
    let cents = state.number(CENTS);
    Answer::json(format!("{{\"orders\":{{{}}},\"confirmed_cents\":{cents}}}", by_stage(counts)))
}

pub fn order(id: &str, state: &State) -> Answer {
    match state.text(&format!("{ORDER}{id}")) {
        Some(order) => Answer::json(order),
        None => Answer::not_found("there is no event of this order"),
    }
}

pub fn sku(sku: &str, state: &State) -> Answer {
    match state.text(&format!("{SKU}{sku}")) {
        Some(kept) => Answer::json(sku_json(sku, kept)),
        None => Answer::not_found("there is no order with this"),
    }
}

pub fn orders(query: &Query, state: &State) -> Answer {
    page(query, state, "orders", ORDER, |_, order| order)
}

pub fn skus(query: &Query, state: &State) -> Answer {
    page(query, state, "skus", SKU, sku_json)
}

fn page(query: &Query, state: &State, name: &str, space: &str, shown: fn(&str, String) -> String) -> Answer {
    let page = match Page::asked_for(query, state, space) {
        Ok(page) => page,
        Err(answer) => return answer,
    };
    let entries = page.entries.iter().map(|(key, kept)| shown(key, String::from_utf8_lossy(kept).into_owned()));
    let entries = entries.collect::<Vec<_>>().join(",");
    Answer::json(format!("{{\"{name}\":[{entries}],\"next\":{}}}", page.next_json()))
}

fn sku_json(sku: &str, kept: String) -> String {
    format!("{{\"sku\":{},{}}}", quoted(sku), by_stage(pieces(Some(kept))))
}

fn by_stage(numbers: [u64; Stage::ALL.len()]) -> String {
    Stage::ALL.map(|stage| format!("\"{}\":{}", stage.name(), numbers[stage as usize])).join(",")
}

fn pieces(kept: Option<String>) -> [u64; Stage::ALL.len()] {
    let kept = kept.unwrap_or_default();
    let mut numbers = kept.split(' ').map(|number| number.parse().unwrap_or(0));
    Stage::ALL.map(|_| numbers.next().unwrap_or(0))
}
