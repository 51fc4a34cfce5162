//! Binary mode (CloudEvents 1.0.2, HTTP Protocol Binding, 3.1): attributes are headers, the body is the data.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

use super::{
    Placed, Refused, SPEC_VERSION,
    data::{DEFAULT_TYPE, Form, form},
    problem::Problems,
    reading::{Given, Reading},
};
use crate::model::{Event, EventTime, StreamName};

/// Of every header that is an attribute.
pub const BINARY_PREFIX: &str = "ce-";

/// What the value of a header never has as it is (HTTP binding, 3.1.3.2); what is not ASCII is encoded too.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Binary mode. It goes to `one_stream` where there is one.
///
/// # Errors
///
/// Each attribute that is wrong; then nothing is taken.
pub fn read_binary(headers: &HeaderMap, body: Bytes, one_stream: Option<&StreamName>) -> Result<Placed, Refused> {
    let mut problems = Problems::default();
    let mut reading = Reading::new(&mut problems, None);
    for (name, value) in headers {
        let name = if name == CONTENT_TYPE {
            "datacontenttype"
        } else {
            match name.as_str().strip_prefix(BINARY_PREFIX) {
                Some("datacontenttype") => {
                    reading.refuse("datacontenttype", "is sent as Content-Type, and not as a header of its own");
                    continue;
                }
                Some(name) => name,
                None => continue,
            }
        };
        // A media type is sent as it is (HTTP binding, 3.1.1).
        let text = if name == "datacontenttype" { value.to_str().ok().map(str::to_owned) } else { decoded(value) };
        match text {
            Some(text) => reading.attribute(name, Given::Text(text), one_stream.is_some()),
            None => reading.refuse(name, "must be ASCII, with all other characters percent-encoded as UTF-8"),
        }
    }
    reading.data("data", body);
    let placed = reading.finish(one_stream);
    problems.or(placed)?.ok_or(Refused::Shape("an event"))
}

/// Without quotes and percent-encoding; None where that is no text.
fn decoded(value: &HeaderValue) -> Option<String> {
    let unquoted = unquoted(value.to_str().ok()?.trim());
    percent_decode(unquoted.as_bytes()).decode_utf8().ok().map(Cow::into_owned)
}

/// Older versions of the specification had values with blanks in double quotes: RFC 9110, 5.6.4.
fn unquoted(value: &str) -> Cow<'_, str> {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return value.into() };
    if !inner.contains('\\') {
        return inner.into();
    }
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    text.into()
}

/// The headers, `Content-Type` among them where there is one, and the body.
pub fn to_binary(event: &Event) -> (HeaderMap, Bytes) {
    let draft = &event.draft;
    let mut headers = HeaderMap::with_capacity(12 + draft.extensions.len());
    let mut put = |name: &str, value: &str| {
        let name = HeaderName::try_from(format!("{BINARY_PREFIX}{name}"));
        let value = HeaderValue::try_from(utf8_percent_encode(value, ENCODED).to_string());
        // Names of attributes are letters and digits, and what is encoded is ASCII.
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.insert(name, value);
        }
    };
    put("specversion", SPEC_VERSION);
    put("id", draft.id.as_str());
    put("source", draft.source.as_str());
    put("type", draft.event_type.as_str());
    for (name, text) in [("subject", &draft.subject), ("dataschema", &draft.schema)] {
        if let Some(text) = text {
            put(name, text);
        }
    }
    match &draft.time {
        Some(time) => put("time", time.as_str()),
        None => put("time", EventTime::of_unix_ms(event.recorded_ms).as_str()),
    }
    for (name, extension) in &draft.extensions {
        put(name, &extension.to_string());
    }
    put("stream", event.stream.as_str());
    put("revision", &event.revision.to_string());
    put("position", &event.position.to_string());
    let implied = || matches!(form(draft), Form::Json(_)).then_some(DEFAULT_TYPE);
    let content_type = draft.content_type.as_deref().or_else(implied);
    if let Some(value) = content_type.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok()) {
        headers.insert(CONTENT_TYPE, value);
    }
    (headers, draft.data.clone())
}
