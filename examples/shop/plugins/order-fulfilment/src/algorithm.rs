//! From a wish to an order that is placed, or to one that cannot be.

use sluice_sdk::{
    event_handler::{Answer, Call, Draft, Effects, Event, State},
    json::{Value, quoted},
};

pub const REQUESTED: &str = "order.requested";
const PLACED: &str = "order.placed";
const FAILED: &str = "order.failed";

/// In front of an order's id: its stream, and its transaction.
pub const STREAM_PREFIX: &str = "order-";

/// Of an order's stream: what a transaction's id may have.
const STREAM_BYTES_MAX: usize = 128;

/// Of a product's or an instance's name, and of a card's number.
const TEXT_BYTES_MAX: usize = 100;

/// Who took an order where the wish does not say.
const TAKEN_BY: &str = "order-fulfilment";

/// What an order is made of.
struct Wish {
    order: String,
    sku: String,
    quantity: u32,
    card: String,
    taken_by: String,
}

/// What a wish causes is a function of its event alone: a call that is made twice says the same twice.
pub fn place(event: &Event, target: &str, state: &mut State, effects: &mut Effects) {
    // An order begins with its wish. Later in a stream another wish is the same one again, or comes too late.
    if event.revision > 0 {
        state.add("repeated", 1);
        return;
    }
    let stream = &event.draft.stream_name;
    match Wish::of(event) {
        Ok(wish) => {
            effects.emit(Draft::json(stream, PLACED, wish.placed()));
            effects.call(Call::post(target, "application/json", wish.body()));
            state.add("placed", 1);
        }
        Err(reason) => {
            effects.emit(Draft::json(stream, FAILED, format!("{{\"reason\":{}}}", quoted(&reason))));
            state.add("refused", 1);
        }
    }
}

pub fn figures(state: &State) -> Answer {
    let [placed, refused, repeated] = ["placed", "refused", "repeated"].map(|figure| state.number(figure));
    Answer::json(format!("{{\"placed\":{placed},\"refused\":{refused},\"repeated\":{repeated}}}"))
}

impl Wish {
    /// Why nobody could fulfil it otherwise.
    fn of(event: &Event) -> Result<Self, String> {
        let order = order_of(&event.draft.stream_name)?;
        let data = event.json().filter(|data| matches!(data, Value::Table(_)));
        let data = data.ok_or("the data must be a JSON object, such as {\"sku\": \"tea\", \"quantity\": 2}")?;
        let text = |name: &str| match data.get(name) {
            None => Ok(None),
            Some(Value::Text(text)) if text.len() <= TEXT_BYTES_MAX => Ok(Some(text.clone())),
            Some(_) => Err(format!("{name}: must be a text of at most {TEXT_BYTES_MAX} bytes")),
        };
        let sku = text("sku")?.filter(|sku| !sku.is_empty()).ok_or("sku: must be given")?;
        let quantity = data.get("quantity").and_then(Value::integer).filter(|quantity| *quantity > 0);
        Ok(Self {
            order,
            sku,
            quantity: quantity.ok_or("quantity: must be a whole number, at least 1")?,
            card: text("card")?.unwrap_or_default(),
            taken_by: text("taken_by")?.unwrap_or_else(|| TAKEN_BY.to_owned()),
        })
    }

    /// Data of `order.placed`: without the card, which is nobody's business but the bank's.
    fn placed(&self) -> String {
        let Self { sku, quantity, .. } = self;
        format!("{{\"lines\":[{{\"sku\":{},\"quantity\":{quantity}}}],\"protocol\":\"event\"}}", quoted(sku))
    }

    fn body(&self) -> String {
        let Self { order, sku, quantity, card, taken_by } = self;
        let [order, sku, card, taken_by] = [order, sku, card, taken_by].map(|text| quoted(text));
        format!("{{\"order\":{order},\"sku\":{sku},\"quantity\":{quantity},\"card\":{card},\"taken_by\":{taken_by}}}")
    }
}

fn order_of(stream: &str) -> Result<String, String> {
    let is_right = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:~@+=".contains(&byte);
    let order = stream.strip_prefix(STREAM_PREFIX).filter(|order| !order.is_empty() && order.bytes().all(is_right));
    let order = order.filter(|_| stream.len() <= STREAM_BYTES_MAX);
    order.map(str::to_owned).ok_or_else(|| {
        format!(
            "the stream must be {STREAM_PREFIX} and an id of a-z, A-Z, 0-9 and -_.:~@+=, \
             {STREAM_BYTES_MAX} characters at most"
        )
    })
}
