//! One event a key, under the key itself, as it is answered.

use sluice_sdk::{
    event_handler::{Answer, Event, Failure, Page, Query, STRUCTURED, State},
    json::{Value, quoted},
};

/// What the gateway takes as a key and as a value, in bytes.
const KEY_BYTES_MAX: usize = 1 << 10;
const VALUE_BYTES_MAX: usize = 1 << 20;

/// Where numbers in JSON stop being exact (RFC 8259 §6).
const NUMBER_MAX: f64 = 9_007_199_254_740_991.0;

/// Where an event has its key.
#[derive(Debug, PartialEq, Eq)]
pub enum Key {
    Subject,
    Stream,
    Extension(String),
    /// A JSON Pointer (RFC 6901) into the data.
    Pointer(String),
}

impl Key {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "subject" => Some(Self::Subject),
            "stream" => Some(Self::Stream),
            pointer if pointer.starts_with('/') => Some(Self::Pointer(pointer.to_owned())),
            other => {
                let name = other.strip_prefix("extension:").filter(|name| !name.is_empty())?;
                Some(Self::Extension(name.to_owned()))
            }
        }
    }

    /// The key of `event`, which is never empty: the path without a key is the list.
    pub fn of(&self, event: &Event) -> Option<String> {
        let key = match self {
            Self::Subject => event.draft.subject.clone(),
            Self::Stream => Some(event.draft.stream_name.clone()),
            Self::Extension(name) => event.extension(name).map(str::to_owned),
            Self::Pointer(pointer) => match event.json()?.at(pointer)? {
                Value::Text(text) => Some(text.clone()),
                Value::Number(number) if number.trunc() == *number && number.abs() <= NUMBER_MAX => {
                    Some((*number as i64).to_string())
                }
                _ => None,
            },
        };
        key.filter(|key| !key.is_empty())
    }
}

pub fn keep(key: &str, event: &Event, state: &mut State) -> Result<(), Failure> {
    if key.len() > KEY_BYTES_MAX {
        return Err(Failure::lasting(format!("its key has {} bytes, and {KEY_BYTES_MAX} are the most", key.len())));
    }
    let text = event.structured();
    if text.len() > VALUE_BYTES_MAX {
        let len = text.len();
        return Err(Failure::lasting(format!("as JSON it has {len} bytes, and {VALUE_BYTES_MAX} are the most")));
    }
    state.put(key, text);
    Ok(())
}

pub fn all(query: &Query, state: &State) -> Answer {
    let page = match Page::asked_for(query, state, "") {
        Ok(page) => page,
        Err(answer) => return answer,
    };
    let mut body = "{\"entries\":[".to_owned();
    for (at, (key, event)) in page.entries.iter().enumerate() {
        if at > 0 {
            body.push(',');
        }
        body.push_str("{\"key\":");
        body.push_str(&quoted(key));
        body.push_str(",\"event\":");
        body.push_str(&String::from_utf8_lossy(event));
        body.push('}');
    }
    body.push_str("],\"next\":");
    body.push_str(&page.next_json());
    body.push('}');
    Answer::json(body)
}

pub fn one(key: &str, state: &State) -> Answer {
    match state.text(key) {
        Some(event) => Answer { content_type: STRUCTURED.to_owned(), ..Answer::json(event) },
        None => Answer::not_found("there is no event of this key"),
    }
}
