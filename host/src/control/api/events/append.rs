//! `POST /events` and `POST /streams/{stream}`: one request is one append.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tokio::task::spawn_blocking;
use utoipa::ToSchema;

use super::{Named, REQUEST_BYTES_MAX, Surface, media_type};
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

/// Says what must be true of the stream: any, none, exists, or the revision of its last event. Of several, `STREAM=` before
/// each, with commas between; names are percent-encoded as in a path.
const EXPECTED_REVISION: &str = "sluice-expected-revision";

/// Of every type of CloudEvents, those there are not here too.
const CLOUD_EVENTS_TYPES: &str = "application/cloudevents";

/// A body of more is read on a thread of its own: this much takes about a millisecond, in which nothing else goes on here.
const READ_AT_ONCE_BYTES: usize = 256 * 1024;

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
/// `stream`, or else its type. Of one id a stream has one event: the same once more is harmless. What is expected of each stream
/// must be true of all of them.
#[utoipa::path(post, path = "/events", tag = "events",
    request_body(content(("application/cloudevents+json"), ("application/cloudevents-batch+json"))),
    params(("Sluice-Expected-Revision" = Option<String>, Header, description = "STREAM=EXPECTED of one or several streams that the events go to, separated by commas, such as order-7=3, order-8=none: as at /streams/{stream}; names percent-encoded as in a path")),
    responses((status = 201, body = AppendReport, description = "durable"),
        (status = 200, body = AppendReport, description = "every one of them was there already, whatever was expected"),
        (status = 400, body = Problem), (status = 409, body = Problem, description = "a stream stands at actual_revision; or has another event with this id"),
        (status = 413, body = Problem), (status = 415, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem, description = "not durable; where it says that the events may be there, it can be sent again")))]
pub async fn append(
    State(surface): State<Arc<Surface>>,
    parameters: Parameters,
    request: Request,
) -> Result<Response, Problem> {
    parameters.none()?;
    let mut expected = expected_of_each(request.headers())?;
    let placed = surface.events_of(request, None).await?;
    if let Some(other) = expected.keys().find(|stream| placed.iter().all(|event| event.stream != **stream)) {
        let detail = format!("{EXPECTED_REVISION} names stream {other}, and no event goes there");
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    }
    surface.append(placed, |stream| expected.remove(stream).unwrap_or_default()).await
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
    Named(stream): Named,
    parameters: Parameters,
    request: Request,
) -> Result<Response, Problem> {
    parameters.none()?;
    let expected = expected(request.headers())?;
    let placed = surface.events_of(request, Some(&stream)).await?;
    surface.append(placed, |_| expected).await
}

/// The streams that are named, and what is expected of each.
fn expected_of_each(headers: &HeaderMap) -> Result<HashMap<StreamName, Expected>, Problem> {
    let wrong = |rule: &str| Problem::new(StatusCode::BAD_REQUEST, format!("{EXPECTED_REVISION} {rule}"));
    let mut expected = HashMap::new();
    for value in headers.get_all(EXPECTED_REVISION) {
        for of_one in value.to_str().map_err(|_| wrong("must be ASCII"))?.split(',') {
            let parsed = of_one.trim().rsplit_once('=').and_then(|(stream, of)| {
                let stream = percent_decode_str(stream.trim()).decode_utf8().ok()?;
                Some((stream.parse().ok()?, of.trim().parse().ok()?))
            });
            let rule = "must be STREAM=EXPECTED here, with commas between several: any, none, exists, or a revision, and names \
                        percent-encoded as in a path; without STREAM= it goes with POST /streams/{stream}";
            let (stream, of) = parsed.ok_or_else(|| wrong(rule))?;
            if expected.insert(stream, of).is_some() {
                return Err(wrong("names a stream twice"));
            }
        }
    }
    Ok(expected)
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
        let stream = stream.cloned();
        let read = move |body: Bytes| match media_type.as_str() {
            JSON_TYPE => Ok(vec![read_one(&body, stream.as_ref())?]),
            BATCH_TYPE => Ok(read_batch(&body, stream.as_ref())?),
            _ => Ok(vec![read_binary(&headers, body, stream.as_ref())?]),
        };
        self.with_body(request, read).await
    }

    /// Takes the body in where there is room for it, and reads it.
    pub async fn with_body<T: Send + 'static>(
        &self,
        request: Request,
        read: impl FnOnce(Bytes) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let (body, _room) = body::bytes_in_room(request, REQUEST_BYTES_MAX, &self.requests).await?;
        if body.len() <= READ_AT_ONCE_BYTES {
            return read(body);
        }
        let gone = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the body cannot be read");
        spawn_blocking(move || read(body)).await.map_err(gone)?
    }

    /// One commit, answered once it is durable.
    pub async fn append(
        &self,
        placed: Vec<Placed>,
        expected: impl FnMut(&StreamName) -> Expected,
    ) -> Result<Response, Problem> {
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
fn by_stream(
    placed: Vec<Placed>,
    mut expected: impl FnMut(&StreamName) -> Expected,
) -> (Vec<StreamAppend>, Vec<(usize, usize)>) {
    let mut streams: Vec<StreamAppend> = Vec::new();
    let mut known: HashMap<StreamName, usize> = HashMap::new();
    let mut places = Vec::with_capacity(placed.len());
    for Placed { stream, draft } in placed {
        let of = *known.entry(stream).or_insert_with_key(|stream| {
            let expected = expected(stream);
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
    fn what_is_expected_of_several_streams_is_read_by_their_names() {
        let read = |values: &[&'static str]| {
            let name = axum::http::HeaderName::from_static(EXPECTED_REVISION);
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(&name, HeaderValue::from_static(value));
            }
            expected_of_each(&headers)
        };
        let found = read(&["a=3, b%2Cc=none", " d=e = exists"]).expect("right");
        let of = |stream: &str| found[&stream.parse::<StreamName>().expect("a name")];
        assert_eq!((of("a"), of("b,c"), of("d=e")), (Expected::Revision(3), Expected::NoStream, Expected::Exists));
        assert_eq!((found.len(), read(&[]).expect("right").len()), (3, 0));
        for wrong in [&["3"][..], &["a="], &["=3"], &["a=3,"], &["a=3", "a=4"], &["a=last"], &["%ff=1"], &["$a=1"]] {
            assert_eq!(read(wrong).expect_err("it is wrong").status, 400, "{wrong:?}");
        }
    }

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
        let (streams, places) = by_stream(placed.collect(), |_| Expected::Any);
        let shown: Vec<_> = streams
            .iter()
            .map(|of| (of.stream.as_str(), of.drafts.iter().map(|draft| draft.id.as_str()).collect::<String>()))
            .collect();
        assert_eq!(shown, [("a", "02".to_owned()), ("b", "14".to_owned()), ("c", "3".to_owned())]);
        assert_eq!(places, [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1)]);
    }
}
