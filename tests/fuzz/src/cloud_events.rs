//! No bytes may make the readers of CloudEvents panic. What they take is right in every attribute, and written and read again,
//! in either mode, it is the same event; what they refuse they refuse with an attribute and a reason for each problem.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use sluice::{
    events::cloud_events::{Placed, Refused, read_batch, read_binary, read_one, to_binary, to_json},
    model::{Event, EventTime, Extension, Position},
};

pub fn check(data: &[u8]) {
    match read_one(data, None) {
        Ok(placed) => is_the_same(placed),
        Err(refused) => has_reasons(&refused),
    }
    match read_batch(data, None) {
        Ok(batch) => batch.into_iter().for_each(is_the_same),
        Err(refused) => has_reasons(&refused),
    }
    let (headers, body) = message(data);
    match read_binary(&headers, body, None) {
        Ok(placed) => is_the_same(placed),
        Err(refused) => has_reasons(&refused),
    }
}

/// Lines before an empty one are headers, if they can be.
fn message(data: &[u8]) -> (HeaderMap, Bytes) {
    let end = data.windows(2).position(|two| two == b"\n\n").unwrap_or(data.len());
    let (head, body) = data.split_at(end);
    let mut headers = HeaderMap::new();
    for line in head.split(|&byte| byte == b'\n') {
        let colon = line.iter().position(|&byte| byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let value = HeaderValue::from_bytes(value.strip_prefix(b":").unwrap_or_default());
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
            headers.append(name, value);
        }
    }
    (headers, Bytes::copy_from_slice(body.strip_prefix(b"\n\n").unwrap_or_default()))
}

fn is_the_same(Placed { stream, mut draft }: Placed) {
    assert_eq!(draft.check(), Ok(()));
    // What has none gets the moment of its append.
    draft.time.get_or_insert_with(|| EventTime::of_unix_ms(1_800_000_000_000));
    let event = Event { position: Position(7), stream, revision: 3, recorded_ms: 1, draft: draft.clone() };
    let again = read_one(&to_json(&event), None).expect("what was written can be read");
    assert_eq!(again.stream, event.stream);
    // JSON without a type of its data has JSON's, and its null is no data.
    let is_null = draft.data.trim_ascii() == b"null";
    if draft.content_type.is_some() && !draft.data.is_empty() && !is_null {
        assert_eq!(again.draft, draft);
    }
    let (headers, body) = to_binary(&event);
    let again = read_binary(&headers, body, None).expect("what was written can be read");
    for (_, value) in &mut draft.extensions {
        *value = Extension::Text(value.to_string().into());
    }
    let attributes = |mut of: sluice::model::Draft| {
        of.content_type = None;
        of.extensions.sort_by(|one, other| one.0.cmp(&other.0));
        of
    };
    assert_eq!(attributes(again.draft), attributes(draft));
}

fn has_reasons(refused: &Refused) {
    assert!(!refused.to_string().is_empty());
}
