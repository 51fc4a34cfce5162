//! Request bodies, bounded, and read no further than it takes to refuse them.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

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

/// Of a body, room for it is asked at this step.
const ROOM_STEP_BYTES: usize = 64 * 1024;

/// How long a body waits for room: others that are read have it back within [`JSON_TIMEOUT`].
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);

/// The whole of a body, and the room that it takes, a permit a byte: taken as it comes, so that one who announces much and
/// sends little keeps no others.
pub async fn bytes_in_room(
    request: Request,
    bytes_max: usize,
    room: &Arc<Semaphore>,
) -> Result<(Bytes, OwnedSemaphorePermit), Problem> {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let first = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(ROOM_STEP_BYTES);
    let read = async {
        let mut held = of_room(room, first.min(ROOM_STEP_BYTES)).await?;
        let (mut bytes, mut body) = (BytesMut::new(), request.into_body());
        while let Some(data) = next_data(&mut body).await? {
            let needed = bytes.len() + data.len();
            if needed > bytes_max {
                return Err(too_large(bytes_max));
            }
            if needed > held.num_permits() {
                let step = needed.next_multiple_of(ROOM_STEP_BYTES).min(bytes_max) - held.num_permits();
                held.merge(of_room(room, step).await?);
            }
            bytes.extend_from_slice(&data);
        }
        Ok((bytes.freeze(), held))
    };
    within(JSON_TIMEOUT, read).await
}

async fn of_room(room: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
    let bytes = u32::try_from(bytes).expect("a step is smaller than 4 GiB");
    match timeout(ROOM_TIMEOUT, Arc::clone(room).acquire_many_owned(bytes)).await {
        Ok(room) => Ok(room.expect("the semaphore is never closed")),
        Err(_) => {
            let detail =
                format!("bodies that are being read took all the room there is for {} s", ROOM_TIMEOUT.as_secs());
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail))
        }
    }
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
    timeout(limit, read).await.unwrap_or_else(|_| Err(late()))
}

async fn collect(
    mut body: Body,
    bytes_max: usize,
    check: impl Fn(&[u8]) -> Result<(), Problem>,
) -> Result<Bytes, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(data) = next_data(&mut body).await? {
        if bytes.len() + data.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        bytes.extend_from_slice(&data);
        check(&bytes)?;
    }
    Ok(bytes.freeze())
}

async fn next_data(body: &mut Body) -> Result<Option<Bytes>, Problem> {
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}")))?;
        // Trailers say nothing here.
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
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
    let detail = format!("the body may have {bytes_max} bytes at most");
    let whole = vec![ChangeProblem::plain(detail.clone())];
    Problem::with_problems(StatusCode::PAYLOAD_TOO_LARGE, detail, whole)
}

/// What is told of one body at most: the first hundred say enough.
const PROBLEMS_MAX: usize = 100;

/// The fields of a JSON object, checked one by one: every problem is found, unknown fields too, and [`PROBLEMS_MAX`] are told.
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
        let unknown: Vec<_> = self.fields.keys().take(PROBLEMS_MAX).cloned().collect();
        for name in unknown {
            self.refuse(&name, "there is no such field".to_owned());
        }
        if self.problems.is_empty() {
            return Ok(());
        }
        self.problems.truncate(PROBLEMS_MAX);
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

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use http_body::Frame;
    use tokio::sync::mpsc;

    use super::*;

    /// A body that comes as it is sent.
    struct Slow(mpsc::Receiver<Bytes>);

    impl http_body::Body for Slow {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.poll_recv(context).map(|data| data.map(|data| Ok(Frame::data(data))))
        }
    }

    fn request() -> (mpsc::Sender<Bytes>, Request) {
        let (sender, sent) = mpsc::channel(1);
        (sender, Request::new(Body::new(Slow(sent))))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_takes_room_as_it_comes_and_waits_for_it_only_so_long() {
        let room = Arc::new(Semaphore::new(3 * ROOM_STEP_BYTES));
        let bytes_max = 2 * ROOM_STEP_BYTES;
        let slow: Vec<_> = (0..3)
            .map(|_| {
                let (sender, request) = request();
                let room = Arc::clone(&room);
                (sender, tokio::spawn(async move { bytes_in_room(request, bytes_max, &room).await }))
            })
            .collect();
        // Though each could be as large as two thirds of the room, all three are read.
        for (sender, _) in &slow {
            sender.send(Bytes::from_static(b"a")).await.expect("it is read");
        }
        while room.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let (sender, another) = request();
        drop(sender);
        let refused = bytes_in_room(another, bytes_max, &room).await.expect_err("there is no room");
        assert_eq!(refused.status, 503, "{}", refused.detail);
        for (sender, reading) in slow {
            drop(sender);
            let (bytes, _room) = reading.await.expect("it ends").expect("it is read");
            assert_eq!(bytes, "a");
        }
        let (sender, large) = request();
        let sending = tokio::spawn(async move {
            for _ in 0..3 {
                // Refused, nobody takes the rest.
                let _ = sender.send(vec![0; ROOM_STEP_BYTES].into()).await;
            }
        });
        assert_eq!(bytes_in_room(large, bytes_max, &room).await.expect_err("it is too large").status, 413);
        sending.await.expect("it ends");
        assert_eq!(room.available_permits(), 3 * ROOM_STEP_BYTES);
    }

    #[test]
    fn a_body_of_nothing_but_unknown_fields_is_answered_briefly() {
        let fields = (0..10_000).map(|nth| (format!("f{nth}"), Value::Null));
        let problem = Fields::of(fields.collect()).finish().expect_err("they are unknown");
        assert_eq!(problem.problems.len(), PROBLEMS_MAX);
    }
}
