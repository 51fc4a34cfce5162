//! Events as bytes: one that says the format, then what a filter asks for, then the rest, each as postcard 1.0 writes it
//! (<https://postcard.jamesmunns.com/wire-format>), in the order of the fields here.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use crate::model::{
    Causation, Draft, Event, EventId, EventSource, EventTime, Extension, Filter, Position, Retention, StreamName,
};

/// Counted up with each change of what stands behind it.
const FORMAT: u8 = 2;

/// What is known of an event without reading all of it.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    stream: &'a str,
    revision: u64,
    event_type: &'a str,
    recorded_ms: u64,
    causation: Causation,
}

#[derive(Serialize)]
struct RestRef<'a> {
    id: &'a EventId,
    source: &'a EventSource,
    subject: &'a Option<Arc<str>>,
    time: &'a Option<EventTime>,
    content_type: &'a Option<Arc<str>>,
    schema: &'a Option<Arc<str>>,
    extensions: &'a [(Arc<str>, Extension)],
    data: &'a Bytes,
}

#[derive(Deserialize)]
struct Rest {
    id: EventId,
    source: EventSource,
    subject: Option<Arc<str>>,
    time: Option<EventTime>,
    content_type: Option<Arc<str>>,
    schema: Option<Arc<str>>,
    extensions: Vec<(Arc<str>, Extension)>,
    data: Bytes,
}

pub fn encode(event: &Event) -> Bytes {
    let Draft { id, source, event_type, subject, time, content_type, schema, extensions, data, causation } =
        &event.draft;
    let head = Head {
        stream: event.stream.as_str(),
        revision: event.revision,
        event_type: event_type.as_str(),
        recorded_ms: event.recorded_ms,
        causation: *causation,
    };
    let rest = RestRef { id, source, subject, time, content_type, schema, extensions, data };
    let mut bytes = Vec::with_capacity(event.weight_bytes());
    bytes.push(FORMAT);
    let bytes = postcard::to_extend(&head, bytes).and_then(|bytes| postcard::to_extend(&rest, bytes));
    Bytes::from(bytes.expect("memory takes all that is written, and nothing of it refuses to be"))
}

/// When the event was appended, without reading the rest of it.
pub fn recorded_ms(bytes: &[u8]) -> Result<u64, String> {
    Ok(head(bytes)?.0.recorded_ms)
}

/// What a filter asks for, and what stands behind it.
fn head(bytes: &[u8]) -> Result<(Head<'_>, &[u8]), String> {
    let Some((&FORMAT, bytes)) = bytes.split_first() else { return Err(format!("it is not in format {FORMAT}")) };
    postcard::take_from_bytes(bytes).map_err(|error| error.to_string())
}

/// None: the filter does not want it.
pub fn decode(position: Position, bytes: &[u8], filter: &Filter) -> Result<Option<Event>, String> {
    let (head, bytes) = head(bytes)?;
    if !filter.admits(head.event_type, head.stream) {
        return Ok(None);
    }
    let rest = postcard::from_bytes::<Rest>(bytes).map_err(|error| error.to_string())?;
    let Rest { id, source, subject, time, content_type, schema, extensions, data } = rest;
    let event_type = head.event_type.parse().map_err(|problem: crate::model::EventProblem| problem.to_string())?;
    let stream: StreamName = head.stream.parse().map_err(|problem: crate::model::EventProblem| problem.to_string())?;
    Ok(Some(Event {
        position,
        stream,
        revision: head.revision,
        recorded_ms: head.recorded_ms,
        draft: Draft {
            id,
            source,
            event_type,
            subject,
            time,
            content_type,
            schema,
            extensions,
            data,
            causation: head.causation,
        },
    }))
}

/// Where the event of an id stands, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRecord {
    pub position: Position,
    pub revision: u64,
    pub digest: u64,
}

impl IdRecord {
    pub fn to_bytes(self) -> Bytes {
        let numbers = [self.position.0, self.revision, self.digest];
        Bytes::from(numbers.map(u64::to_be_bytes).concat())
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (position, rest) = bytes.split_first_chunk::<8>()?;
        let (revision, digest) = rest.split_first_chunk::<8>()?;
        let number = |bytes: &[u8; 8]| u64::from_be_bytes(*bytes);
        let digest = digest.first_chunk::<8>()?;
        Some(Self { position: Position(number(position)), revision: number(revision), digest: number(digest) })
    }
}

/// By which a repetition is told from another event of the same id: its author's clock and its traces (extension
/// attributes) may have gone on.
/// XXH3 takes the data at the speed of memory; 64 bits are enough against mistakes, which is what this is for.
pub fn digest(draft: &Draft) -> u64 {
    let mut hash = Xxh3Default::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(draft.source.as_str().as_bytes());
    part(draft.event_type.as_str().as_bytes());
    for text in [&draft.subject, &draft.content_type] {
        // No text is empty, so that none given is another length than any.
        part(text.as_deref().unwrap_or_default().as_bytes());
    }
    if let Some(schema) = &draft.schema {
        part(schema.as_bytes());
    }
    part(&draft.data);
    hash.digest()
}

/// What is set for a stream, and what must be known of it when all its events are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    pub retention: Retention,
    /// The next event has this revision at least.
    pub next_revision: u64,
}

impl StreamRecord {
    pub fn to_bytes(self) -> Bytes {
        Bytes::from(postcard::to_allocvec(&self).expect("numbers can be written"))
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        postcard::from_bytes(bytes).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_another_format_is_refused_with_the_one_that_is_read() {
        let draft =
            Draft::new("1".parse().expect("an id"), "/s".parse().expect("a source"), "t".parse().expect("a type"));
        let stream = "s".parse().expect("a name");
        let event = Event { position: Position(1), stream, revision: 0, recorded_ms: 0, draft };
        let mut bytes = encode(&event).to_vec();
        assert!(decode(Position(1), &bytes, &Filter::default()).is_ok_and(|event| event.is_some()));
        bytes[0] = 1;
        let refused = decode(Position(1), &bytes, &Filter::default()).expect_err("it is of before causes were counted");
        assert_eq!(refused, "it is not in format 2");
    }
}
