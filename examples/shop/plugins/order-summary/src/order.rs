//! An order as it is kept: as the JSON that is answered.

use sluice_sdk::{
    event_handler::{Event, rfc3339},
    json::{self, Value, quoted},
};

/// Lines of an order; of a product's name in bytes, and of everything else that is a text.
const LINES_MAX: usize = 100;
const SKU_BYTES_MAX: usize = 100;
const TEXT_CHARS_MAX: usize = 500;

/// Where numbers in JSON stop being exact (RFC 8259 §6).
const NUMBER_MAX: f64 = 9_007_199_254_740_991.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Requested,
    Placed,
    Confirmed,
    Failed,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub sku: String,
    pub quantity: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub stage: Stage,
    pub lines: Vec<Line>,
    pub total_cents: Option<u64>,
    pub protocol: Option<String>,
    pub transaction: Option<String>,
    pub reason: Option<String>,
    pub changed_at: String,
}

impl Stage {
    pub const ALL: [Self; 4] = [Self::Requested, Self::Placed, Self::Confirmed, Self::Failed];

    pub fn name(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Placed => "placed",
            Self::Confirmed => "confirmed",
            Self::Failed => "failed",
        }
    }

    fn is_the_end(self) -> bool {
        matches!(self, Self::Confirmed | Self::Failed)
    }
}

/// What an event makes of an order; none where it changes nothing, an error where it cannot be read.
pub fn next(before: Option<&Order>, event: &Event) -> Result<Option<Order>, String> {
    let Some(stage) = Stage::ALL.into_iter().find(|stage| event.draft.event_type == format!("order.{}", stage.name()))
    else {
        return Ok(None);
    };
    let is_late = match stage {
        Stage::Requested => before.is_some(),
        Stage::Placed => before.is_some_and(|order| order.stage != Stage::Requested),
        Stage::Confirmed | Stage::Failed => before.is_some_and(|order| order.stage.is_the_end()),
    };
    if is_late {
        return Ok(None);
    }
    let data = event.json().unwrap_or(Value::Null);
    let unknown = Order {
        stage,
        lines: Vec::new(),
        total_cents: None,
        protocol: None,
        transaction: None,
        reason: None,
        changed_at: String::new(),
    };
    let mut order = Order { stage, changed_at: rfc3339(event.time_ms), ..before.cloned().unwrap_or(unknown) };
    match stage {
        // A wish may be nonsense: then the order fails, which is not for this handler to say.
        Stage::Requested => order.lines = line(&data).into_iter().collect(),
        Stage::Placed => {
            order.lines = lines(&data)?;
            order.protocol = text(&data, "protocol");
        }
        Stage::Confirmed => {
            let total_cents = data.get("total_cents").and_then(whole);
            order.total_cents = Some(total_cents.ok_or("total_cents: must be a whole number")?);
        }
        Stage::Failed => order.reason = text(&data, "reason"),
    }
    order.transaction = text(&data, "transaction").or(order.transaction);
    Ok(Some(order))
}

impl Order {
    /// As [`Self::json`] wrote it.
    pub fn read(kept: &str) -> Option<Self> {
        let value = json::parse(kept)?;
        Some(Self {
            stage: Stage::ALL
                .into_iter()
                .find(|stage| value.get("state").and_then(Value::text) == Some(stage.name()))?,
            lines: lines(&value).ok()?,
            total_cents: value.get("total_cents").and_then(whole),
            protocol: text(&value, "protocol"),
            transaction: text(&value, "transaction"),
            reason: text(&value, "reason"),
            changed_at: text(&value, "changed_at")?,
        })
    }

    pub fn json(&self, id: &str) -> String {
        let Self { stage, lines, total_cents, protocol, transaction, reason, changed_at } = self;
        let line = |Line { sku, quantity }: &Line| format!("{{\"sku\":{},\"quantity\":{quantity}}}", quoted(sku));
        let or_null = |text: &Option<String>| text.as_deref().map_or_else(|| "null".to_owned(), quoted);
        format!(
            "{{\"order\":{},\"state\":\"{}\",\"lines\":[{}],\"total_cents\":{},\"protocol\":{},\"transaction\":{},\
             \"reason\":{},\"changed_at\":{}}}",
            quoted(id),
            stage.name(),
            lines.iter().map(line).collect::<Vec<_>>().join(","),
            total_cents.map_or_else(|| "null".to_owned(), |cents| cents.to_string()),
            or_null(protocol),
            or_null(transaction),
            or_null(reason),
            quoted(changed_at),
        )
    }
}

fn lines(data: &Value) -> Result<Vec<Line>, String> {
    let given = data.get("lines").and_then(Value::list).filter(|lines| lines.len() <= LINES_MAX);
    let given = given.ok_or_else(|| format!("lines: must be a list of at most {LINES_MAX}"))?;
    let wrong = || format!("lines: each must have a sku of at most {SKU_BYTES_MAX} bytes and a whole quantity");
    given.iter().map(|given| line(given).ok_or_else(wrong)).collect()
}

fn line(value: &Value) -> Option<Line> {
    let sku = value.get("sku")?.text().filter(|sku| !sku.is_empty() && sku.len() <= SKU_BYTES_MAX)?;
    Some(Line { sku: sku.to_owned(), quantity: value.get("quantity").and_then(whole)? })
}

/// Cut where it is too long: what is kept has a bound.
fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.text().map(|text| text.chars().take(TEXT_CHARS_MAX).collect())
}

fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) if (0.0..=NUMBER_MAX).contains(number) && number.trunc() == *number => {
            Some(*number as u64)
        }
        _ => None,
    }
}
