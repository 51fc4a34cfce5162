//! Media types, and how data goes with them.

use serde_json::value::RawValue;

use crate::model::{Draft, is_media_type};

/// Of data in JSON without `datacontenttype`.
pub const DEFAULT_TYPE: &str = "application/json";

/// Deepest JSON that is taken, and given out, as JSON: parsers stop at 128 levels or earlier (serde_json at 128), and what
/// is given out stands in a page.
const JSON_DEPTH_MAX: usize = 100;

/// What data is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Json,
    Text,
    Other,
}

/// None: it is no media type.
fn kind(content_type: &str) -> Option<Kind> {
    if !is_media_type(content_type) {
        return None;
    }
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let (kind, subtype) = essence.split_once('/')?;
    let suffix = subtype.rsplit('+').next().unwrap_or(subtype);
    Some(if suffix.eq_ignore_ascii_case("json") {
        Kind::Json
    } else if kind.eq_ignore_ascii_case("text") {
        Kind::Text
    } else {
        Kind::Other
    })
}

/// Whether data of this type stands in JSON as it is.
pub fn is_json(content_type: &str) -> bool {
    kind(content_type) == Some(Kind::Json)
}

/// How an event's data stands in JSON.
#[derive(Debug)]
pub enum Form<'e> {
    Nothing,
    /// `data`, as it is.
    Json(&'e RawValue),
    /// `data`, a string.
    Text(&'e str),
    /// `data_base64`.
    Bytes(&'e [u8]),
}

pub fn form(draft: &Draft) -> Form<'_> {
    if draft.data.is_empty() {
        return Form::Nothing;
    }
    // Without a type it is JSON where it reads as JSON: nothing would be lost.
    let kind = draft.content_type.as_deref().map_or(Some(Kind::Json), kind);
    let text = std::str::from_utf8(&draft.data).ok();
    match (kind, text) {
        (Some(Kind::Json), Some(text)) => whole_json(text).map_or(Form::Bytes(&draft.data), Form::Json),
        (Some(Kind::Text), Some(text)) => Form::Text(text),
        _ => Form::Bytes(&draft.data),
    }
}

/// Where it is nothing else, with no blanks around it that would be lost, and not deeper than others can read.
fn whole_json(text: &str) -> Option<&RawValue> {
    let value: &RawValue = serde_json::from_str(text).ok()?;
    (value.get().len() == text.len() && !is_too_deep(text)).then_some(value)
}

/// Of text that is JSON.
pub fn is_too_deep(json: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > JSON_DEPTH_MAX {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Said of data that [`is_too_deep`].
pub fn too_deep() -> String {
    format!("must not be nested deeper than {JSON_DEPTH_MAX} levels")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_says_what_data_is() {
        for (given, wanted) in [
            ("application/json", Some(Kind::Json)),
            ("Application/Vnd.Shop+JSON; charset=utf-8", Some(Kind::Json)),
            ("text/json", Some(Kind::Json)),
            ("text/plain;charset=utf-8", Some(Kind::Text)),
            ("application/xml", Some(Kind::Other)),
            ("application/jsonl", Some(Kind::Other)),
            ("json", None),
            ("", None),
            ("a/", None),
            ("a b/c", None),
            ("a/b/c", None),
        ] {
            assert_eq!(kind(given), wanted, "{given:?}");
        }
    }

    #[test]
    fn depth_is_that_of_brackets_outside_strings() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!is_too_deep(&nested(JSON_DEPTH_MAX)));
        assert!(is_too_deep(&nested(JSON_DEPTH_MAX + 1)));
        assert!(!is_too_deep(&format!("\"{}\\\"{}\"", "[".repeat(200), "{".repeat(200))));
        assert!(!is_too_deep(&format!("[{}1]", "[],".repeat(200))));
    }
}
