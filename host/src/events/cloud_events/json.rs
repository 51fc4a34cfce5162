//! The JSON format (CloudEvents 1.0.2, JSON Event Format), one event or a batch.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    Placed, Refused, SPEC_VERSION,
    data::{DEFAULT_TYPE, Form, form, is_json, is_too_deep, too_deep},
    problem::Problems,
    reading::{Given, Reading},
};
use crate::{
    events::append::EVENTS_MAX,
    model::{Event, EventProblem, EventTime, Extension, MEMBERS_MAX, StreamName},
};

/// Structured mode. Everything goes to `one_stream` where there is one.
///
/// # Errors
///
/// Each attribute that is wrong; then nothing of it is taken.
pub fn read_one(body: &[u8], one_stream: Option<&StreamName>) -> Result<Placed, Refused> {
    let raw: &RawValue = parsed(body)?;
    let mut problems = Problems::default();
    let placed = read(raw, "", one_stream, &mut problems);
    if placed.is_none() && problems.is_empty() {
        return Err(Refused::Shape("a JSON object: an event"));
    }
    problems.or(placed)?.ok_or(Refused::Shape("a JSON object: an event"))
}

/// Batch mode: the events in their order. There may be none.
///
/// # Errors
///
/// Each attribute of each event that is wrong; then none of them is taken.
pub fn read_batch(body: &[u8], one_stream: Option<&StreamName>) -> Result<Vec<Placed>, Refused> {
    let raw: &RawValue = parsed(body)?;
    let Ok(Events { events, given }) = serde_json::from_str(raw.get()) else {
        return Err(Refused::Shape("a JSON array of events"));
    };
    if given > EVENTS_MAX {
        return Err(Refused::Count { given, max: EVENTS_MAX });
    }
    let mut problems = Problems::default();
    let mut placed = Vec::with_capacity(events.len());
    for (nth, raw) in events.into_iter().enumerate() {
        if problems.is_full() {
            break;
        }
        let pointer = format!("/{nth}");
        let before = problems.count();
        match read(raw, &pointer, one_stream, &mut problems) {
            Some(event) => placed.push(event),
            None if problems.count() == before => {
                let rule = EventProblem::new("event", "must be a JSON object");
                problems.add(pointer, rule);
            }
            None => {}
        }
    }
    problems.or(placed)
}

fn parsed(body: &[u8]) -> Result<&RawValue, Refused> {
    let text = std::str::from_utf8(body).map_err(|error| Refused::NotJson(error.to_string()))?;
    serde_json::from_str(text).map_err(|error| Refused::NotJson(error.to_string()))
}

/// The elements of a JSON array: those that one append may have, and how many there are.
struct Events<'a> {
    events: Vec<&'a RawValue>,
    given: usize,
}

impl<'de> Deserialize<'de> for Events<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Events<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Events<'de>, A::Error> {
                let mut events = Vec::new();
                while events.len() < EVENTS_MAX
                    && let Some(event) = seq.next_element()?
                {
                    events.push(event);
                }
                let mut given = events.len();
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    given += 1;
                }
                Ok(Events { events, given })
            }
        }

        deserializer.deserialize_seq(Collect)
    }
}

/// The members of a JSON object as they came and in their order, also those of the same name; at most [`MEMBERS_MAX`].
pub struct Members<'a>(pub Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(12);
                while let Some(member) = map.next_entry()? {
                    if members.len() == MEMBERS_MAX {
                        return Err(A::Error::custom(format_args!("it has more than {MEMBERS_MAX} members")));
                    }
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

/// None where it is no object, or where something of it is wrong, which is told.
fn read(raw: &RawValue, pointer: &str, one_stream: Option<&StreamName>, problems: &mut Problems) -> Option<Placed> {
    let Members(mut members) = match serde_json::from_str(raw.get()) {
        Ok(members) => members,
        Err(error) => {
            if raw.get().starts_with('{') {
                problems.add(pointer.to_owned(), EventProblem::new("event", error.to_string()));
            }
            return None;
        }
    };
    // "Unset attributes MAY be encoded to the JSON value of null" (JSON format, 2.2).
    members.retain(|(_, value)| value.get() != "null");
    let mut reading = Reading::new(problems, Some(pointer));
    let (mut data, mut base64) = (None, None);
    for (name, value) in members {
        match name.as_str() {
            "data" if reading.is_first("data") => data = Some(value),
            "data_base64" if reading.is_first("data_base64") => base64 = Some(value),
            "data" | "data_base64" => {}
            _ => match given(value) {
                Some(given) => reading.attribute(&name, given, one_stream.is_some()),
                None => wrong_type(&mut reading, &name),
            },
        }
    }
    match (data, base64) {
        (Some(_), Some(_)) => reading.refuse("data_base64", "must not be there together with data"),
        (Some(value), None) => read_data(&mut reading, value),
        (None, Some(value)) => read_base64(&mut reading, value),
        (None, None) => {}
    }
    reading.finish(one_stream)
}

/// None: of a type that no attribute has.
fn given(value: &RawValue) -> Option<Given> {
    let text = value.get();
    match text.as_bytes().first()? {
        b'"' => serde_json::from_str(text).ok().map(Given::Text),
        b't' => Some(Given::Boolean(true)),
        b'f' => Some(Given::Boolean(false)),
        _ => text.parse().ok().map(Given::Integer),
    }
}

fn wrong_type(reading: &mut Reading<'_>, name: &str) {
    if reading.is_first(name) {
        let rule = "must be a string, or where it is an extension attribute a boolean or a whole number of 32 bits";
        reading.refuse(name, rule);
    }
}

fn read_data(reading: &mut Reading<'_>, value: &RawValue) {
    let is_json = match &reading.content_type {
        Some(content_type) => is_json(content_type),
        // One that is wrong has been told.
        None => {
            reading.content_type = Some(DEFAULT_TYPE.into());
            true
        }
    };
    if is_json {
        if is_too_deep(value.get()) {
            reading.refuse("data", too_deep());
        } else {
            reading.data("data", Bytes::copy_from_slice(value.get().as_bytes()));
        }
    } else {
        match serde_json::from_str::<String>(value.get()) {
            Ok(text) => reading.data("data", text.into()),
            Err(_) => reading.refuse("data", "must be a string where datacontenttype is not JSON, or data_base64"),
        }
    }
}

fn read_base64(reading: &mut Reading<'_>, value: &RawValue) {
    let decoded = serde_json::from_str::<String>(value.get()).ok().and_then(|text| STANDARD.decode(text).ok());
    match decoded {
        Some(data) => reading.data("data_base64", data.into()),
        None => reading.refuse("data_base64", "must be a string of Base64 (RFC 4648, 4), with its padding"),
    }
}

/// One event, as structured mode has it.
pub fn to_json(event: &Event) -> Vec<u8> {
    let mut json = Vec::with_capacity(event.weight_bytes() + 256);
    write_json(event, &mut json);
    json
}

/// The same, behind what is there.
pub fn write_json(event: &Event, json: &mut Vec<u8>) {
    let draft = &event.draft;
    json.extend_from_slice(b"{\"specversion\":");
    value(json, SPEC_VERSION);
    member(json, "id", draft.id.as_str());
    member(json, "source", draft.source.as_str());
    member(json, "type", draft.event_type.as_str());
    let optional =
        [("subject", &draft.subject), ("datacontenttype", &draft.content_type), ("dataschema", &draft.schema)];
    for (name, text) in optional {
        if let Some(text) = text {
            member(json, name, text);
        }
    }
    match &draft.time {
        Some(time) => member(json, "time", time.as_str()),
        None => member(json, "time", EventTime::of_unix_ms(event.recorded_ms).as_str()),
    }
    for (name, extension) in &draft.extensions {
        match extension {
            Extension::Boolean(value) => member(json, name, value),
            Extension::Integer(value) => member(json, name, value),
            Extension::Text(text) => member(json, name, text),
        }
    }
    member(json, "stream", event.stream.as_str());
    member(json, "revision", &event.revision.to_string());
    member(json, "position", &event.position.to_string());
    match form(draft) {
        Form::Nothing => {}
        Form::Json(raw) => member(json, "data", raw),
        Form::Text(text) => member(json, "data", text),
        Form::Bytes(bytes) => member(json, "data_base64", &STANDARD.encode(bytes)),
    }
    json.push(b'}');
}

fn member(json: &mut Vec<u8>, name: &str, given: &(impl Serialize + ?Sized)) {
    json.push(b',');
    value(json, name);
    json.push(b':');
    value(json, given);
}

fn value(json: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    serde_json::to_writer(json, value).expect("memory takes all that is written, and texts and numbers are JSON");
}
