//! Answers: JSON, with the headers that Consul's clients read.

use axum::{
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, ser::PrettyFormatter};

use super::query::Query;

/// As Consul indents.
const INDENT: &[u8] = b"    ";

/// A JSON answer that belongs to no index.
pub fn json(query: &Query, value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text(query, value)).into_response()
}

/// An answer that a client can wait behind. A gateway is always its own leader, and its answers are never stale.
pub fn indexed(query: &Query, index: u64, value: &Value) -> Response {
    let mut response = json(query, value);
    let headers = response.headers_mut();
    headers.insert("x-consul-index", HeaderValue::from(index));
    headers.insert("x-consul-knownleader", HeaderValue::from_static("true"));
    headers.insert("x-consul-lastcontact", HeaderValue::from_static("0"));
    headers.insert("x-consul-effective-consistency", HeaderValue::from_static("leader"));
    response
}

/// Of a change that was made: no body, as Consul.
pub fn done() -> Response {
    Response::default()
}

fn text(query: &Query, value: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    let written = if query.pretty {
        let formatter = PrettyFormatter::with_indent(INDENT);
        value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
    } else {
        serde_json::to_writer(&mut text, value)
    };
    written.expect("plain values are JSON");
    if query.pretty {
        text.push(b'\n');
    }
    text
}
