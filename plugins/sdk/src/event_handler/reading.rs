//! How a read model is asked, and how it answers.

use super::{Answer, Query, State};
use crate::json::quoted;

/// Entries of a page where nothing is asked for, and at most.
const PAGE_LEN: u32 = 100;
const PAGE_LEN_MAX: u32 = 1_000;

/// Of a page's keys, as JSON has them, and values together, in bytes: the gateway takes answers of 4 MiB, and one more value of 1 MiB may come on top
/// of this, with its key.
const PAGE_BYTES_MAX: usize = 2 << 20;

impl Answer {
    /// Status 200.
    pub fn json(body: impl Into<String>) -> Self {
        Self { status: 200, content_type: "application/json".to_owned(), body: body.into().into_bytes() }
    }

    pub fn not_found(what: &str) -> Self {
        Self::problem(404, what)
    }

    pub fn bad_request(why: &str) -> Self {
        Self::problem(400, why)
    }

    /// As RFC 9457 has it.
    fn problem(status: u16, detail: &str) -> Self {
        let body = format!("{{\"status\":{status},\"detail\":{}}}", quoted(detail));
        Self { status, content_type: "application/problem+json".to_owned(), body: body.into_bytes() }
    }
}

impl Query {
    /// First value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

/// Some of what is stored, in order.
#[derive(Debug, PartialEq)]
pub struct Page {
    /// Keys without what they have in common.
    pub entries: Vec<(String, Vec<u8>)>,
    /// `start` of the next page; none where there is nothing more.
    pub next: Option<String>,
}

impl Page {
    /// The page that a client asks for: of the keys below `space` those that begin with parameter `prefix`, from
    /// parameter `start` on, at most parameter `limit` (100 unless given, 1 to 1,000). An error is what to answer.
    pub fn asked_for(query: &Query, state: &State, space: &str) -> Result<Self, Answer> {
        let limit = match query.parameter("limit") {
            None => PAGE_LEN,
            Some(given) => {
                let limit = given.parse().ok().filter(|limit| (1..=PAGE_LEN_MAX).contains(limit));
                limit.ok_or_else(|| Answer::bad_request("limit must be a whole number from 1 to 1000"))?
            }
        };
        let below = |name: &str| query.parameter(name).map(|text| [space, text].concat());
        let prefix = below("prefix").unwrap_or_else(|| space.to_owned());
        Ok(Self::of(state, &prefix, below("start"), space.len(), limit as usize))
    }

    fn of(state: &State, prefix: &str, mut start: Option<String>, cut: usize, limit: usize) -> Self {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let key_below = |key: &str| key.get(cut..).unwrap_or_default().to_owned();
        loop {
            // One more than wanted, to know whether there is a next page.
            let wanted = (limit + 1 - entries.len()).min(PAGE_LEN_MAX as usize) as u32;
            let piece = state.scan(prefix, start.as_deref(), wanted);
            let Some((last, _)) = piece.last() else { return Self { entries, next: None } };
            start = Some(format!("{last}\0"));
            for (key, value) in piece {
                if entries.len() == limit || bytes > PAGE_BYTES_MAX {
                    return Self { entries, next: Some(key_below(&key)) };
                }
                // Control characters take six bytes each in an answer.
                bytes += quoted(&key).len() + value.len();
                entries.push((key_below(&key), value));
            }
        }
    }

    /// `next` as JSON.
    pub fn next_json(&self) -> String {
        self.next.as_deref().map_or_else(|| "null".to_owned(), quoted)
    }
}
