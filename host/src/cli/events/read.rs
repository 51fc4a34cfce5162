//! `sluice events read`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Shown, flags::ReadFlags, not_understood, path};
use crate::cli::{
    client::Client,
    failure::Failure,
    output::{Output, table},
};

/// Of a page that is asked for.
const PAGE: usize = 1_000;

/// As `GET /events` answers.
#[derive(Deserialize)]
struct Page {
    events: Vec<Box<RawValue>>,
    next: Option<String>,
}

pub(super) fn read(client: &Client, flags: &ReadFlags) -> Result<Output, Failure> {
    let limit = flags.limit as usize;
    let from = flags.from.iter().map(|from| format!("&from={from}"));
    let direction = flags.backward.then(|| "&direction=backward".to_owned());
    let more: String = [format!("limit={}", limit.min(PAGE))].into_iter().chain(from).chain(direction).collect();
    let mut path = path(&flags.which, &more);
    let mut events = Vec::new();
    let is_whole = loop {
        // Not as a `Value`, which would round the numbers in events' data.
        let page: Page = serde_json::from_str(&client.get_text(&path)?).map_err(|error| not_understood(&error))?;
        events.extend(page.events);
        match page.next {
            Some(next) if events.len() < limit => path = next,
            next => break next.is_none() && events.len() <= limit,
        }
    };
    events.truncate(limit);
    let rows: Result<Vec<_>, Failure> = events.iter().map(|event| Ok(Shown::of(event)?.columns())).collect();
    let mut text = table(["POSITION", "TIME", "STREAM", "TYPE", "ID", "DATA"], &rows?);
    if !is_whole {
        text.push_str(&format!("\n(the first {limit}; --limit shows more)"));
    }
    let listed: Vec<_> = events.iter().map(|event| event.get()).collect();
    Ok(Output::with_json(text, format!("{{\"events\":[{}],\"complete\":{is_whole}}}", listed.join(","))))
}
