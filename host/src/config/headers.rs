//! `request_headers = { set = { … }, remove = [ … ] }`.

use std::collections::HashSet;

use http::{
    HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};

use super::reader::{Key, Value};
use crate::model::HeaderEdits;

const WANTED: &str = "a table such as { set = { \"x-env\" = \"prod\" }, remove = [\"x-internal\"] }";

pub(super) fn read(value: &Value<'_>) -> Option<HeaderEdits> {
    let mut table = value.table(WANTED)?;
    let set = table.read("set", |value| set(value, may_edit)).unwrap_or_default();
    let remove = table.read("remove", |value| {
        Some(value.distinct("a list such as [\"x-internal\"]", |item| {
            let name = item.header_name()?;
            may_edit(&name).map_err(|why| item.refuse(why)).ok()?;
            Some(name)
        }))
    });
    table.finish();
    Some(HeaderEdits { set, remove: remove.unwrap_or_default() })
}

/// Headers with values, each of a name that `may` allows.
pub(super) fn set(
    value: &Value<'_>,
    may: impl Fn(&HeaderName) -> Result<(), String>,
) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let entries = value.entries("a table such as { \"x-env\" = \"prod\" }")?;
    let mut seen = HashSet::new();
    let mut pairs = Vec::with_capacity(entries.len());
    for (key, value) in &entries {
        let name = name(key, &may).filter(|name| {
            let first = seen.insert(name.clone());
            if !first {
                key.refuse(format_args!("{name} is set already; upper and lower case are the same header"));
            }
            first
        });
        let value = header_value(value);
        pairs.extend(name.zip(value));
    }
    Some(pairs)
}

fn name(key: &Key<'_>, may: impl Fn(&HeaderName) -> Result<(), String>) -> Option<HeaderName> {
    let Ok(name) = HeaderName::from_bytes(key.text.as_bytes()) else {
        key.refuse("is no header name: letters, digits and '-' make one (RFC 9110 §5.1)");
        return None;
    };
    may(&name).map_err(|why| key.refuse(why)).ok()?;
    Some(name)
}

fn header_value(value: &Value<'_>) -> Option<HeaderValue> {
    let text = value.text("a string")?;
    let right = !text.starts_with([' ', '\t']) && !text.ends_with([' ', '\t']);
    let parsed = HeaderValue::from_str(text).ok().filter(|_| right);
    if parsed.is_none() {
        value.refuse(format_args!(
            "{text:?} cannot be a header's value: visible ASCII characters, with spaces only between them"
        ));
    }
    parsed
}

/// Whether a route may touch a header, or why not.
pub(super) fn may_edit(name: &HeaderName) -> Result<(), String> {
    /// They say where a message ends: a wrong one lets two requests be read as one (RFC 9112 §6).
    const FRAMING: [HeaderName; 2] = [CONTENT_LENGTH, TRANSFER_ENCODING];
    /// They concern one connection (RFC 9110 §7.6.1), and the gateway ends connections on both sides.
    const HOP_BY_HOP: [HeaderName; 4] = [CONNECTION, TE, TRAILER, UPGRADE];
    let of_one_connection = HOP_BY_HOP.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection");
    if FRAMING.contains(name) {
        Err(format!("{name} says where a message ends; only the gateway sets it"))
    } else if of_one_connection {
        Err(format!("{name} concerns a single connection; only the gateway sets or removes it"))
    } else if *name == HOST || *name == EXPECT {
        Err(format!("{name} is needed to forward a request; only the gateway sets it"))
    } else {
        Ok(())
    }
}
