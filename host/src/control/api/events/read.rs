//! `GET /events` and `GET /streams/{stream}`: pages, or with `Accept: text/event-stream` all of it and what comes.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};
use utoipa::ToSchema;

use super::{
    Named, PAGE_TIMEOUT, PAGES_MAX, Surface, error,
    query::{FollowQuery, Of, PageQuery, last_event_id},
    sse,
};
use crate::{
    control::api::{
        parameters::{Parameters, in_url},
        problem::Problem,
    },
    events::{Page, Read, StreamInfo, cloud_events::write_json},
    model::{Pattern, StreamName},
    storage::Order,
};

/// Events in the JSON format of CloudEvents, with the extension attributes stream, revision and position.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is written event by event")]
pub struct EventPage {
    /// May be fewer than asked for though others follow, none even where few fit: only `next` says that nothing does.
    #[schema(value_type = Vec<Object>)]
    events: Vec<()>,
    /// Where the next page is; null where there is nothing more now.
    next: Option<String>,
}

/// Events of all streams in their one order. With `Accept: text/event-stream` they come as server-sent events, each with
/// its position as `id`, first what is there and then what is appended, until the client has enough.
#[utoipa::path(get, path = "/events", tag = "events",
    params(("from" = Option<u64>, Query, description = "The position of the first; the beginning where it is not given, backward the end"),
        ("limit" = Option<usize>, Query, description = "1 to 1000, 100 where it is not given"),
        ("type" = Option<String>, Query, description = "One or several, separated by commas; what ends in * stands for all that begin so"),
        ("stream" = Option<String>, Query, description = "As type"),
        ("direction" = Option<String>, Query, description = "forward or backward"),
        ("after" = Option<String>, Query, description = "Followed only: behind which position it begins, or end; the beginning where it is not given"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Followed only: goes before after")),
    responses((status = 200, body = EventPage), (status = 400, body = Problem, description = "a wrong parameter, or a position that the log has not reached"),
        (status = 503, body = Problem)))]
pub async fn all(
    State(surface): State<Arc<Surface>>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, Problem> {
    if wants_stream(&headers) {
        let query = FollowQuery::read(parameters, Of::Everything)?;
        return surface.follow(query, &headers);
    }
    let query = PageQuery::read(parameters, Of::Everything)?;
    let head = surface.events.store.head();
    if let Some(from) = query.from.filter(|from| *from > head.next().0) {
        return Err(error::of_the_future("?from", from, head));
    }
    surface.page("/events", &query, None).await
}

/// Events of one stream, in their order. With `Accept: text/event-stream` as at `/events`.
#[utoipa::path(get, path = "/streams/{stream}", tag = "events",
    params(("stream" = String, Path),
        ("from" = Option<u64>, Query, description = "The revision of the first; the beginning where it is not given, backward the end"),
        ("limit" = Option<usize>, Query, description = "1 to 1000, 100 where it is not given"),
        ("type" = Option<String>, Query, description = "As at /events"), ("direction" = Option<String>, Query, description = "forward or backward"),
        ("after" = Option<String>, Query, description = "Followed only: as at /events"),
        ("Last-Event-ID" = Option<u64>, Header, description = "Followed only: goes before after")),
    responses((status = 200, body = EventPage), (status = 400, body = Problem), (status = 404, body = Problem, description = "it never had an event"),
        (status = 503, body = Problem)))]
pub async fn one(
    State(surface): State<Arc<Surface>>,
    Named(stream): Named,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, Problem> {
    if wants_stream(&headers) {
        let mut query = FollowQuery::read(parameters, Of::OneStream)?;
        query.filter.streams = vec![Pattern::Exact(stream.as_str().into())];
        return surface.follow(query, &headers);
    }
    let query = PageQuery::read(parameters, Of::OneStream)?;
    let path = format!("/streams/{}", in_url(stream.as_str()));
    surface.page(&path, &query, Some(stream)).await
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = accepted.flat_map(|value| value.split(','));
    types.any(|given| given.split(';').next().is_some_and(|given| given.trim().eq_ignore_ascii_case(sse::MEDIA_TYPE)))
}

impl Surface {
    fn follow(&self, query: FollowQuery, headers: &HeaderMap) -> Result<Response, Problem> {
        let resumed = last_event_id(headers.get("last-event-id"))?;
        sse::follow(&self.events, query, resumed, self.shutting_down.clone())
    }

    async fn page(&self, path: &str, query: &PageQuery, stream: Option<StreamName>) -> Result<Response, Problem> {
        let turn = timeout(PAGE_TIMEOUT, Arc::clone(&self.pages).acquire_owned()).await;
        let turn = turn.map_err(|_| {
            let detail = format!("{PAGES_MAX} pages are on their way to clients that take their time");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
        })?;
        let turn = turn.expect("the semaphore is never closed");
        let read = Read {
            stream: stream.clone(),
            order: query.order,
            from: query.from,
            filter: query.filter.clone(),
            limit: query.limit,
        };
        let page = self.events.store.read(read).await?;
        if let (Some(stream), true) = (stream, page.events.is_empty() && page.next.is_none()) {
            self.check_end(&stream, query).await?;
        }
        let next = page.next.map(|from| query.url(path, from));
        let body = Body::new(Held { bytes: json(&page, next.as_deref()), turn: Some(turn) });
        Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
    }

    /// Why a page of a stream is empty, where that is a mistake of whoever asked.
    async fn check_end(&self, stream: &StreamName, query: &PageQuery) -> Result<(), Problem> {
        let unknown = || Problem::new(StatusCode::NOT_FOUND, format!("stream {stream} never had an event"));
        let StreamInfo { last_revision, .. } = self.events.store.stream(stream).await?.ok_or_else(unknown)?;
        let end = last_revision.map_or(0, |last| last.saturating_add(1));
        match query.from.filter(|from| *from > end && query.order == Order::Forward) {
            Some(from) => {
                let detail = format!("?from: {from} is beyond the end of stream {stream}: its next revision is {end}");
                Err(Problem::new(StatusCode::BAD_REQUEST, detail))
            }
            None => Ok(()),
        }
    }
}

fn json(page: &Page, next: Option<&str>) -> Bytes {
    let weight: usize = page.events.iter().map(|event| event.weight_bytes() + 256).sum();
    let mut json = Vec::with_capacity(weight + 256);
    json.extend_from_slice(b"{\"events\":[");
    for (nth, event) in page.events.iter().enumerate() {
        if nth > 0 {
            json.push(b',');
        }
        write_json(event, &mut json);
    }
    json.extend_from_slice(b"],\"next\":");
    serde_json::to_writer(&mut json, &next).expect("a text is JSON, and memory takes it");
    json.push(b'}');
    json.into()
}

/// As much of a page is given out at once: its turn is over with the last of it, so that no more is waiting to be sent then.
const SLICE_BYTES: usize = 64 * 1024;

/// A page on its way to a client.
struct Held {
    bytes: Bytes,
    /// None once all of it has been given out.
    turn: Option<OwnedSemaphorePermit>,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        let len = SLICE_BYTES.min(self.bytes.len());
        // Copied: what is waiting to be sent would keep all of the page.
        let slice = Bytes::copy_from_slice(&self.bytes.split_to(len));
        if self.bytes.is_empty() {
            self.turn = None;
        }
        Poll::Ready(Some(Ok(Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn the_turn_of_a_page_is_over_with_the_last_of_it() {
        let turns = Arc::new(Semaphore::new(1));
        let turn = Arc::clone(&turns).try_acquire_owned().expect("there is one");
        let page = Bytes::from((0..SLICE_BYTES * 2 + 7).map(|at| at as u8).collect::<Vec<_>>());
        let mut held = Held { bytes: page.clone(), turn: Some(turn) };
        let mut sent = Vec::new();
        while let Some(frame) = held.frame().await {
            let slice = frame.expect("it cannot fail").into_data().expect("it is data");
            assert!(slice.len() <= SLICE_BYTES);
            sent.extend(slice);
            assert_eq!(turns.available_permits(), usize::from(sent.len() == page.len()));
        }
        assert_eq!(sent, page);
    }
}
