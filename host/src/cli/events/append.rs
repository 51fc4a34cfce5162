//! `sluice events append`.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, stdin},
    path::Path,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use super::{flags::AppendFlags, in_url};
use crate::{
    cli::{
        client::{Client, understood},
        failure::{Exit, Failure},
        output::Output,
    },
    events::{
        APPEND_BYTES_MAX, EVENTS_MAX,
        cloud_events::{BATCH_TYPE, SPEC_VERSION},
    },
    model::{EventId, Expected, Wall},
};

/// Of one append, as JSON: with an event more it is still taken.
const BATCH_BYTES: usize = APPEND_BYTES_MAX / 2;

/// Of one event as JSON: a mebibyte of data in Base64, and its attributes.
const LINE_BYTES_MAX: u64 = 2 * 1024 * 1024;

#[derive(Deserialize)]
struct Appended {
    events: Vec<Place>,
}

#[derive(Deserialize)]
struct Place {
    id: String,
    stream: String,
    revision: u64,
    position: u64,
    duplicate: bool,
}

pub(super) fn append(client: &Client, flags: &AppendFlags) -> Result<Output, Failure> {
    let mut sender = Sender { client, flags, expected: flags.expected, lines: Vec::new(), answers: Vec::new() };
    match &flags.file {
        None => sender.send(&from_flags(flags)?)?,
        Some(file) => sender.send_file(file).map_err(|failure| sender.told_before(failure))?,
    }
    Ok(Output::new(sender.lines.join("\n"), json!({"events": sender.answers})))
}

struct Sender<'c> {
    client: &'c Client,
    flags: &'c AppendFlags,
    /// Of the next append: where one revision is expected, after the first the one that it left.
    expected: Option<Expected>,
    lines: Vec<String>,
    answers: Vec<Value>,
}

impl Sender<'_> {
    /// A batch of events, in JSON.
    fn send(&mut self, batch: &str) -> Result<(), Failure> {
        let path = match &self.flags.stream {
            Some(stream) => format!("/streams/{}", in_url(stream.as_str())),
            None => "/events".to_owned(),
        };
        let expected = self.expected.map(|expected| ("Sluice-Expected-Revision", expected.to_string()));
        let answer = self.client.post_as(&path, BATCH_TYPE, expected.as_slice(), batch.as_bytes())?;
        let Appended { events } = understood(&answer)?;
        if let (Some(Expected::NoStream | Expected::Revision(_)), Some(last)) = (self.expected, events.last()) {
            self.expected = Some(Expected::Revision(last.revision));
        }
        for Place { id, stream, revision, position, duplicate } in events {
            let already = if duplicate { " (it was there already)" } else { "" };
            self.lines.push(format!("{id} is at {stream}@{revision}, position {position}{already}"));
        }
        self.answers.extend(answer["events"].as_array().cloned().unwrap_or_default());
        Ok(())
    }

    /// A failure, and how far it had come.
    fn told_before(&self, failure: Failure) -> Failure {
        match self.lines.last() {
            Some(last) => {
                failure.after(format_args!("{} events before it are appended: the last, {last}", self.lines.len()))
            }
            None => failure,
        }
    }

    fn send_file(&mut self, path: &Path) -> Result<(), Failure> {
        let wrong = |why: String| Failure::new(Exit::WrongInput, format_args!("{}: {why}", path.display()));
        let unreadable = |error: std::io::Error| wrong(format!("cannot be read: {error}"));
        let mut input: Box<dyn BufRead> = match path.to_str() {
            Some("-") => Box::new(stdin().lock()),
            _ => Box::new(BufReader::new(File::open(path).map_err(unreadable)?)),
        };
        let (mut batch, mut count) = (String::new(), 0);
        for number in 1.. {
            let mut line = String::new();
            let read = (&mut input).take(LINE_BYTES_MAX + 1).read_line(&mut line).map_err(unreadable)?;
            if read as u64 > LINE_BYTES_MAX {
                return Err(wrong(format!("line {number} is longer than {LINE_BYTES_MAX} bytes")));
            }
            let event = line.trim();
            if !event.is_empty() {
                serde_json::from_str::<&RawValue>(event)
                    .map_err(|error| wrong(format!("line {number} is no JSON: {error}")))?;
                batch.push(if count == 0 { '[' } else { ',' });
                batch.push_str(event);
                count += 1;
            }
            if count > 0 && (read == 0 || count == EVENTS_MAX || batch.len() > BATCH_BYTES) {
                batch.push(']');
                self.send(&batch)?;
                batch.clear();
                count = 0;
            }
            if read == 0 {
                break;
            }
        }
        Ok(())
    }
}

/// One event, a batch of its own.
fn from_flags(flags: &AppendFlags) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Event<'a> {
        specversion: &'a str,
        id: EventId,
        source: &'a str,
        #[serde(rename = "type")]
        event_type: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        subject: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        datacontenttype: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<Box<RawValue>>,
    }
    let event = Event {
        specversion: SPEC_VERSION,
        id: flags.id.clone().unwrap_or_else(|| EventId::made_up(Wall::start().now_ms(), fastrand::u128(..))),
        source: flags.source.as_str(),
        event_type: flags.event_type.as_ref().map(|event_type| event_type.as_str()),
        subject: flags.subject.as_deref(),
        datacontenttype: flags.data.as_ref().map(|_| flags.content_type.as_str()),
        data: flags.data.as_ref().map(|data| data_of(data, &flags.content_type)).transpose()?,
    };
    let json = serde_json::to_string(&[event]);
    json.map_err(|error| Failure::new(Exit::WrongInput, format_args!("the event is no JSON: {error}")))
}

/// JSON as it is, and everything else as a string.
fn data_of(data: &str, content_type: &str) -> Result<Box<RawValue>, Failure> {
    let wrong = |error: serde_json::Error| {
        let hint = "--content-type text/plain takes any text";
        Failure::new(Exit::WrongInput, format_args!("--data is no JSON: {error}; {hint}"))
    };
    if crate::events::cloud_events::is_json(content_type) {
        return RawValue::from_string(data.to_owned()).map_err(wrong);
    }
    serde_json::to_string(data).and_then(RawValue::from_string).map_err(wrong)
}
