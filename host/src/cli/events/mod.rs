//! `sluice events …`.

mod append;
mod flags;
mod groups;
mod read;
mod server_sent;
mod tail;

pub(super) use flags::EventsCommand;

use serde::Deserialize;
use serde_json::value::RawValue;

use self::flags::WhichFlags;
use super::{client::Client, failure::Failure, output::Output};

pub(super) fn run(command: EventsCommand, json: bool) -> Result<Output, Failure> {
    match command {
        EventsCommand::Append(flags) => append::append(&Client::new(&flags.control)?, &flags),
        EventsCommand::Read(flags) => read::read(&Client::new(&flags.control)?, &flags),
        EventsCommand::Groups(flags) => groups::run(flags),
        EventsCommand::Tail(flags) => tail::tail(&Client::new(&flags.control)?, &flags, json),
    }
}

/// As the gateway gives it out, as far as it is shown.
#[derive(Deserialize)]
struct Shown<'a> {
    position: String,
    stream: String,
    revision: String,
    #[serde(rename = "type")]
    event_type: String,
    id: String,
    time: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
}

/// Of an event's data, as much as a line shows.
const DATA_SHOWN_MAX: usize = 120;

impl Shown<'_> {
    fn of(event: &RawValue) -> Result<Shown<'_>, Failure> {
        serde_json::from_str(event.get()).map_err(|error| not_understood(&error))
    }

    fn data(&self) -> String {
        match (self.data, &self.data_base64) {
            (Some(data), _) => one_line(data.get()),
            (None, Some(base64)) => format!(
                "({} bytes)",
                base64.len() / 4 * 3 - base64.bytes().rev().take_while(|byte| *byte == b'=').count()
            ),
            (None, None) => String::new(),
        }
    }

    fn columns(&self) -> [String; 6] {
        let Self { position, stream, revision, event_type, id, time, .. } = self;
        let place = format!("{stream}@{revision}");
        [position.clone(), time.clone(), place, event_type.clone(), one_line(id), self.data()]
    }
}

fn one_line(text: &str) -> String {
    let end = text.floor_char_boundary(DATA_SHOWN_MAX);
    let shown: String = text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if end < text.len() { format!("{shown}…") } else { shown }
}

fn not_understood(error: &serde_json::Error) -> Failure {
    let message = format!("the gateway's answer is not understood ({error}); is it of another version?");
    Failure::new(super::failure::Exit::Failed, message)
}

/// Where they are, with `more` behind the `?`.
fn path(which: &WhichFlags, more: &str) -> String {
    let types: String = which.types.iter().map(|pattern| format!("&type={}", in_url(pattern))).collect();
    match &which.stream {
        Some(stream) if !stream.ends_with('*') => format!("/streams/{}?{more}{types}", in_url(stream)),
        Some(pattern) => format!("/events?{more}{types}&stream={}", in_url(pattern)),
        None => format!("/events?{more}{types}"),
    }
}

fn in_url(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
