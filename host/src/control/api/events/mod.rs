//! Events over HTTP: appended as CloudEvents (binary, structured, batch) or in the shortest form, read in pages, and followed
//! as server-sent events.
//!
//! ```text
//!  POST /events, /streams/{stream} ──▶ all of it read and checked ──▶ one append ──▶ 201 once it is durable
//!  GET  … Accept: text/event-stream ──▶ what is there, then what comes: a page in memory, as fast as the client reads
//! ```
//!
//! Nothing of a request is stored where anything of it is wrong. What was in doubt, and any request that got no answer, can be
//! sent again with the same ids: an event that is there already is answered with its place.

pub(super) mod append;
mod error;
mod query;
pub(super) mod read;
pub(super) mod short;
mod sse;
pub(super) mod streams;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{FromRequestParts, Path},
    http::{HeaderMap, Method, header, request::Parts},
    routing::{get, post},
};
use tokio::sync::{Semaphore, watch};

use super::{access::Caller, problem::Problem};
use crate::{
    control::events::EventSide,
    events::{
        APPEND_BYTES_MAX,
        cloud_events::{BATCH_TYPE, BINARY_PREFIX, JSON_TYPE},
    },
    model::StreamName,
};

/// Of a request: the events of one append, in JSON with Base64 (4 bytes for 3) and what JSON adds.
const REQUEST_BYTES_MAX: usize = APPEND_BYTES_MAX / 2 * 3;

/// Of all requests that are read at once; others wait until there is room. A body is held as it came and as events: those of
/// one append, and so not much larger.
const REQUESTS_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Pages that are answered at once, each of some 4 MiB at most (`PAGE_BYTES_MAX`, more where JSON has it in Base64); others
/// wait for their turn.
const PAGES_MAX: usize = 32;

/// How long: behind clients that take their pages slowly it may never come.
const PAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether this is about events, so that services may ask with their own token.
pub fn is_for_services(path: &str) -> bool {
    let below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    path == "/event" || path == "/events" || below("/streams")
}

/// Whether CloudEvents may be sent there.
pub fn takes_cloud_events(method: &Method, path: &str) -> bool {
    let one_stream = path.strip_prefix("/streams/").is_some_and(|rest| !rest.contains('/'));
    method == Method::POST && (path == "/events" || one_stream)
}

/// Whether a request says that it has some: with a header or a type that a page cannot send elsewhere without asking.
pub fn brings_cloud_events(headers: &HeaderMap) -> bool {
    let is_binary = headers.keys().any(|name| name.as_str().starts_with(BINARY_PREFIX));
    let content_type = media_type(headers);
    is_binary || content_type == JSON_TYPE || content_type == BATCH_TYPE
}

/// In small letters and without parameters; empty where there is none.
fn media_type(headers: &HeaderMap) -> String {
    let given = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// All of it.
pub fn routes(events: EventSide, shutting_down: watch::Receiver<bool>) -> Router {
    let surface = Arc::new(Surface {
        events,
        requests: Arc::new(Semaphore::new(REQUESTS_BYTES_MAX)),
        pages: Arc::new(Semaphore::new(PAGES_MAX)),
        shutting_down,
    });
    Router::new()
        .route("/event", post(short::append))
        .route("/events", get(read::all).post(append::append))
        .route("/streams", get(streams::list))
        .route("/streams/{stream}", get(read::one).post(append::append_to))
        .route("/streams/{stream}/retention", get(streams::show_retention).put(streams::set_retention))
        .route("/streams/{stream}/truncate", post(streams::truncate))
        .with_state(surface)
}

/// What the handlers share.
pub(super) struct Surface {
    events: EventSide,
    requests: Arc<Semaphore>,
    pages: Arc<Semaphore>,
    /// Becomes true when those who follow have to end.
    shutting_down: watch::Receiver<bool>,
}

/// The stream that a path names.
pub(super) struct Named(StreamName);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(given) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|rejected| Problem::new(rejected.status(), rejected.body_text()))?;
        given.parse().map(Self).map_err(error::invalid)
    }
}

/// What takes events away is not a service's.
fn operators_only(caller: Caller) -> Result<(), Problem> {
    match caller {
        Caller::Operator => Ok(()),
        Caller::Service => {
            let detail = "what is kept of a stream is set with the operators' token";
            Err(Problem::new(axum::http::StatusCode::FORBIDDEN, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_may_use_events_and_nothing_beside_them() {
        for path in ["/event", "/events", "/streams", "/streams/a", "/streams/a/retention"] {
            assert!(is_for_services(path), "{path}");
        }
        for path in ["/", "/eventual", "/events-of-others", "/event/a", "/streamss"] {
            assert!(!is_for_services(path), "{path}");
        }
    }

    #[test]
    fn other_types_of_content_come_only_with_what_no_page_can_send() {
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(
                axum::http::HeaderName::from_static(name),
                axum::http::HeaderValue::from_static(value),
            )])
        };
        for (name, value) in [
            ("ce-id", "1"),
            ("content-type", "application/cloudevents+json; charset=UTF-8"),
            ("content-type", "Application/CloudEvents-Batch+JSON"),
        ] {
            assert!(brings_cloud_events(&headers(name, value)), "{name}: {value}");
        }
        for (name, value) in
            [("content-type", "text/plain"), ("content-type", "text/plain; application/cloudevents+json")]
        {
            assert!(!brings_cloud_events(&headers(name, value)), "{name}: {value}");
        }
        let post = |path: &str| takes_cloud_events(&Method::POST, path);
        assert!(
            post("/events")
                && post("/streams/a")
                && !post("/streams/a/truncate")
                && !post("/event")
                && !post("/reload")
        );
    }
}
