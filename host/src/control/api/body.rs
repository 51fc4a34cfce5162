//! Request bodies, bounded, and read no further than it takes to refuse them.

use std::time::Duration;

use axum::{
    body::Body,
    extract::Request,
    http::{StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use super::problem::Problem;
use crate::control::{change::ChangeProblem, stock::COMPONENT_BYTES_MAX};

/// A policy's settings are a page of text at most.
const JSON_BYTES_MAX: usize = 1024 * 1024;
/// The whole of a JSON body.
const JSON_TIMEOUT: Duration = Duration::from_secs(10);
/// The whole of a component: 64 MiB over a line of 10 Mbit/s.
const COMPONENT_TIMEOUT: Duration = Duration::from_secs(60);
/// Every WebAssembly binary begins so.
const MAGIC: &[u8] = b"\0asm";

/// The whole of a small body.
pub async fn bytes(request: Request, bytes_max: usize) -> Result<Bytes, Problem> {
    within(JSON_TIMEOUT, collect(request.into_body(), bytes_max, |_| Ok(()))).await
}

/// A JSON object; `{}` where there is no body.
pub async fn json_object(request: Request) -> Result<Map<String, Value>, Problem> {
    json_object_within(request, JSON_BYTES_MAX).await
}

/// The same, of another size.
pub async fn json_object_within(request: Request, bytes_max: usize) -> Result<Map<String, Value>, Problem> {
    let bytes = bytes(request, bytes_max).await?;
    if bytes.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Problem::new(StatusCode::BAD_REQUEST, "the body must be a JSON object")),
        Err(error) => Err(Problem::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}"))),
    }
}

/// Components that are being read at once: each may take [`COMPONENT_BYTES_MAX`].
pub const UPLOADS_MAX: usize = 2;

/// A component. Noise is refused at its first bytes, and what is too large by its announced length.
pub async fn component(request: Request, uploads: &Semaphore) -> Result<Bytes, Problem> {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > COMPONENT_BYTES_MAX as u64) {
        return Err(too_large(COMPONENT_BYTES_MAX));
    }
    let read = async {
        let _turn = uploads.acquire().await.expect("the semaphore is never closed");
        collect(request.into_body(), COMPONENT_BYTES_MAX, begins_like_wasm).await
    };
    within(COMPONENT_TIMEOUT, read).await
}

async fn within<T>(limit: Duration, read: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let late = || Problem::new(StatusCode::REQUEST_TIMEOUT, format!("the body took longer than {} s", limit.as_secs()));
    tokio::time::timeout(limit, read).await.unwrap_or_else(|_| Err(late()))
}

async fn collect(
    mut body: Body,
    bytes_max: usize,
    check: impl Fn(&[u8]) -> Result<(), Problem>,
) -> Result<Bytes, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        bytes.extend_from_slice(&data);
        check(&bytes)?;
    }
    Ok(bytes.freeze())
}

fn begins_like_wasm(bytes: &[u8]) -> Result<(), Problem> {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] == MAGIC[..known] {
        return Ok(());
    }
    let problem = ChangeProblem::plain("a WebAssembly component begins with \\0asm, and this does not");
    Err(Problem::with_problems(StatusCode::UNPROCESSABLE_ENTITY, "this is no plugin", vec![problem]))
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body may have {bytes_max} bytes at most"))
}

/// The fields of a JSON object, checked one by one: every problem is found, unknown fields too.
pub struct Fields {
    fields: Map<String, Value>,
    problems: Vec<ChangeProblem>,
}

impl Fields {
    pub fn of(fields: Map<String, Value>) -> Self {
        Self { fields, problems: Vec::new() }
    }

    /// `read` says what would be right where it answers none.
    pub fn required<T>(&mut self, name: &str, read: impl FnOnce(Value) -> Result<T, String>) -> Option<T> {
        if !self.fields.contains_key(name) {
            self.problems.push(ChangeProblem::plain(format!("{name:?} is missing")));
        }
        self.optional(name, read)
    }

    pub fn optional<T>(&mut self, name: &str, read: impl FnOnce(Value) -> Result<T, String>) -> Option<T> {
        let read = read(self.fields.remove(name)?);
        read.map_err(|message| self.refuse(name, message)).ok()
    }

    pub fn refuse(&mut self, name: &str, message: String) {
        let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
        self.problems.push(ChangeProblem { pointer, message, ..Default::default() });
    }

    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.fields.remove(name)
    }

    pub fn add(&mut self, problems: impl IntoIterator<Item = ChangeProblem>) {
        self.problems.extend(problems);
    }

    pub fn finish(mut self) -> Result<(), Problem> {
        let unknown: Vec<_> = self.fields.keys().cloned().collect();
        for name in unknown {
            self.refuse(&name, "there is no such field".to_owned());
        }
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(Problem::with_problems(StatusCode::UNPROCESSABLE_ENTITY, "the body is wrong", self.problems))
    }
}

/// A string that parses.
pub fn text<T: std::str::FromStr<Err: std::fmt::Display>>(value: Value) -> Result<T, String> {
    match value {
        Value::String(text) => text.parse().map_err(|error: T::Err| error.to_string()),
        _ => Err("must be a string".to_owned()),
    }
}
