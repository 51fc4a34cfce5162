//! `POST /events` and `POST /streams/{stream}`: one request is one append.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use super::{REQUEST_BYTES_MAX, REQUESTS_BYTES_MAX, Surface, media_type, stream_name};
use crate::{
    control::api::{
        body,
        parameters::{Parameters, in_url},
        problem::Problem,
    },
    events::{
        Append, StreamAppend,
        cloud_events::{BATCH_TYPE, JSON_TYPE, Placed, read_batch, read_binary, read_one},
    },
    model::{Expected, StreamName},
};

/// Says what must be true of the stream: any, none, exists, or the revision of its last event.
const EXPECTED_REVISION: &str = "sluice-expected-revision";

/// Of every type of CloudEvents, those there are not here too.
const CLOUD_EVENTS_TYPES: &str = "application/cloudevents";

/// Where the events of a request stand.
#[derive(Serialize, ToSchema)]
pub struct AppendReport {
    /// In the order of the request.
    events: Vec<EventPlace>,
}

#[derive(Serialize, ToSchema)]
pub struct EventPlace {
    id: String,
    stream: String,
    /// In its stream, from 0 on.
    revision: u64,
    /// In the order of all events.
    position: u64,
    /// It was there already, and nothing was appended for it.
    duplicate: bool,
}

/// Appends CloudEvents: one in binary mode (`ce-` headers) or structured mode (`application/cloudevents+json`), or several in
/// batch mode (`application/cloudevents-batch+json`), all of them or none. The stream of each is its extension attribute
/// `stream`, or else its type. Of one id a stream has one event: the same once more is harmless.
#[utoipa::path(post, path = "/events", tag = "events",
    request_body(content(("application/cloudevents+json"), ("application/cloudevents-batch+json"))),
    responses((status = 201, body = AppendReport, description = "durable"),
        (status = 200, body = AppendReport, description = "every one of them was there already"),
        (status = 400, body = Problem), (status = 409, body = Problem, description = "its stream has another event with this id"),
        (status = 413, body = Problem), (status = 415, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem, description = "not durable; where it says that the events may be there, it can be sent again")))]
pub async fn append(
    State(surface): State<Arc<Surface>>,
    parameters: Parameters,
    request: Request,
) -> Result<Response, Problem> {
    parameters.none()?;
    if request.headers().contains_key(EXPECTED_REVISION) {
        let detail = format!("{EXPECTED_REVISION} is about one stream: it goes with POST /streams/{{stream}}");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    let placed = surface.events_of(request, None).await?;
    surface.append(placed, Expected::Any).await
}

/// Appends CloudEvents to one stream, in any mode, all of them or none.
#[utoipa::path(post, path = "/streams/{stream}", tag = "events",
    request_body(content(("application/cloudevents+json"), ("application/cloudevents-batch+json"))),
    params(("stream" = String, Path),
        ("Sluice-Expected-Revision" = Option<String>, Header, description = "any (as where it is not given), none, exists, or the revision of the stream's last event")),
    responses((status = 201, body = AppendReport, description = "durable"),
        (status = 200, body = AppendReport, description = "every one of them was there already, whatever was expected"),
        (status = 400, body = Problem), (status = 409, body = Problem, description = "the stream stands at actual_revision; or has another event with this id"),
        (status = 413, body = Problem), (status = 415, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn append_to(
    State(surface): State<Arc<Surface>>,
    Path(stream): Path<String>,
    parameters: Parameters,
    request: Request,
) -> Result<Response, Problem> {
    parameters.none()?;
    let stream = stream_name(&stream)?;
    let expected = expected(request.headers())?;
    let placed = surface.events_of(request, Some(&stream)).await?;
    surface.append(placed, expected).await
}

fn expected(headers: &HeaderMap) -> Result<Expected, Problem> {
    let mut given = headers.get_all(EXPECTED_REVISION).iter();
    let Some(value) = given.next() else { return Ok(Expected::Any) };
    let parsed = value.to_str().ok().filter(|_| given.next().is_none()).and_then(|text| text.trim().parse().ok());
    parsed.ok_or_else(|| {
        let detail = format!("{EXPECTED_REVISION} must be any, none, exists, or a revision");
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}

impl Surface {
    /// Everything that a request brings, or what is wrong with it.
    async fn events_of(&self, request: Request, stream: Option<&StreamName>) -> Result<Vec<Placed>, Problem> {
        let headers = request.headers().clone();
        let media_type = media_type(&headers);
        let is_known = media_type == JSON_TYPE || media_type == BATCH_TYPE;
        if !is_known && media_type.starts_with(CLOUD_EVENTS_TYPES) {
            let detail = format!("events are taken as {JSON_TYPE} and {BATCH_TYPE}, or in binary mode");
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        self.with_body(request, |body| match media_type.as_str() {
            JSON_TYPE => Ok(vec![read_one(&body, stream)?]),
            BATCH_TYPE => Ok(read_batch(&body, stream)?),
            _ => Ok(vec![read_binary(&headers, body, stream)?]),
        })
        .await
    }

    /// Reads the body where there is room for it.
    pub async fn with_body<T>(
        &self,
        request: Request,
        read: impl FnOnce(Bytes) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let length =
            request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let length = length.unwrap_or(REQUEST_BYTES_MAX).min(REQUESTS_BYTES_MAX);
        if length > REQUEST_BYTES_MAX {
            let detail = format!("the body may have {REQUEST_BYTES_MAX} bytes at most");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        let room = u32::try_from(length).expect("a request is smaller than 4 GiB");
        let _room = self.requests.acquire_many(room).await.expect("the semaphore is never closed");
        read(body::bytes(request, REQUEST_BYTES_MAX).await?)
    }

    /// One commit, answered once it is durable.
    pub async fn append(&self, placed: Vec<Placed>, expected: Expected) -> Result<Response, Problem> {
        if placed.is_empty() {
            // A batch may have no event (JSON batch format).
            return Ok(Json(AppendReport { events: Vec::new() }).into_response());
        }
        let ids: Vec<_> = placed.iter().map(|event| event.draft.id.clone()).collect();
        let (streams, places) = by_stream(placed, expected);
        let appended = self.events.store.append(Append { streams, ..Append::default() }).await?;
        let events = places.into_iter().zip(ids).map(|((of, nth), id)| {
            let stream = &appended.streams[of];
            let place = stream.events[nth];
            EventPlace {
                id: id.to_string(),
                stream: stream.stream.to_string(),
                revision: place.revision,
                position: place.position.0,
                duplicate: !place.is_new,
            }
        });
        Ok(answer(AppendReport { events: events.collect() }))
    }
}

/// The streams in the order in which they are named first, and of each event its stream and its place among that one's.
fn by_stream(placed: Vec<Placed>, expected: Expected) -> (Vec<StreamAppend>, Vec<(usize, usize)>) {
    let mut streams: Vec<StreamAppend> = Vec::new();
    let mut known: HashMap<StreamName, usize> = HashMap::new();
    let mut places = Vec::with_capacity(placed.len());
    for Placed { stream, draft } in placed {
        let of = *known.entry(stream).or_insert_with_key(|stream| {
            streams.push(StreamAppend { stream: stream.clone(), expected, drafts: Vec::new() });
            streams.len() - 1
        });
        places.push((of, streams[of].drafts.len()));
        streams[of].drafts.push(draft);
    }
    (streams, places)
}

/// With the address of the first of them.
fn answer(report: AppendReport) -> Response {
    let is_new = report.events.iter().any(|event| !event.duplicate);
    let first = &report.events[0];
    let location = format!("/streams/{}?from={}&limit=1", in_url(&first.stream), first.revision);
    let location = HeaderValue::try_from(location).expect("what is percent-encoded is ASCII");
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    (status, [(header::LOCATION, location)], Json(report)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Draft;

    #[test]
    fn events_keep_their_order_within_their_streams_and_are_found_again() {
        let placed = ["a", "b", "a", "c", "b"].iter().enumerate().map(|(nth, stream)| {
            let draft = Draft::new(
                format!("{nth}").parse().expect("an id"),
                "/s".parse().expect("a source"),
                "t".parse().expect("a type"),
            );
            Placed { stream: stream.parse().expect("a name"), draft }
        });
        let (streams, places) = by_stream(placed.collect(), Expected::Any);
        let shown: Vec<_> = streams
            .iter()
            .map(|of| (of.stream.as_str(), of.drafts.iter().map(|draft| draft.id.as_str()).collect::<String>()))
            .collect();
        assert_eq!(shown, [("a", "02".to_owned()), ("b", "14".to_owned()), ("c", "3".to_owned())]);
        assert_eq!(places, [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1)]);
    }
}
