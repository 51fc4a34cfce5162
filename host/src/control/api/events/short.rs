//! `POST /event`: the shortest form.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use bytes::Bytes;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Surface, append::AppendReport};
use crate::{
    control::api::{
        body::{Fields, text},
        parameters::Parameters,
        problem::Problem,
    },
    events::cloud_events::{Members, Placed},
    model::{Draft, EventId, EventProblem, EventSource, EventType, Expected, StreamName},
};

/// Where events of the short form come from, where they do not say.
const SOURCE: &str = "/event";

/// An event in the fewest words.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is read field by field so that every problem is found")]
pub struct ShortEvent {
    #[schema(example = "order.placed")]
    event_type: String,
    /// Any JSON; kept as it is.
    #[schema(value_type = Option<Object>)]
    event_data: Option<Value>,
    /// Its type where it is not given.
    stream: Option<String>,
    /// One is made up where it is not given; with one, the same request once more is harmless.
    event_id: Option<String>,
    /// A URI reference; `/event` where it is not given.
    source: Option<String>,
}

/// Appends one event.
#[utoipa::path(post, path = "/event", tag = "events", request_body = ShortEvent,
    responses((status = 201, body = AppendReport, description = "durable"),
        (status = 200, body = AppendReport, description = "it was there already"), (status = 400, body = Problem),
        (status = 409, body = Problem, description = "its stream has another event with this id"),
        (status = 413, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn append(
    State(surface): State<Arc<Surface>>,
    parameters: Parameters,
    request: Request,
) -> Result<Response, Problem> {
    parameters.none()?;
    let now_ms = surface.events.wall.now_ms();
    let placed = surface.with_body(request, move |body: Bytes| read(&body, now_ms)).await?;
    surface.append(vec![placed], |_| Expected::Any).await
}

/// `now_ms` is what an id that is made up begins with.
fn read(body: &[u8], now_ms: u64) -> Result<Placed, Problem> {
    let wrong = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let members = serde_json::from_slice::<Members<'_>>(body);
    let Members(members) = members.map_err(|error| wrong(format!("the body must be a JSON object: {error}")))?;
    let (mut object, mut data) = (Map::new(), None);
    for (name, value) in members.into_iter().filter(|(_, value)| value.get() != "null") {
        let is_first = if name == "event_data" {
            // As it came, with every digit.
            data.replace(value).is_none()
        } else {
            let read = serde_json::from_str(value.get());
            let read = read.map_err(|error| wrong(format!("{name:?} is not JSON that can be read: {error}")))?;
            object.insert(name.clone(), read).is_none()
        };
        if !is_first {
            return Err(wrong(format!("{name:?} is there twice")));
        }
    }
    let mut fields = Fields::of(object);
    let event_type = fields.required("event_type", text::<EventType>);
    let stream = fields.optional("stream", text::<StreamName>);
    let id = fields.optional("event_id", text::<EventId>);
    let source = fields.optional("source", text::<EventSource>);
    let stream = match (&event_type, stream) {
        (Some(event_type), None) => {
            let named = event_type.as_str().parse::<StreamName>();
            named
                .map_err(|problem| {
                    fields.refuse("stream", format!("is needed, as the type is no stream's name: {problem}"))
                })
                .ok()
        }
        (_, stream) => stream,
    };
    let (event_type, stream) = match (event_type, stream) {
        (Some(event_type), Some(stream)) => (event_type, stream),
        _ => {
            fields.finish()?;
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "the body is wrong"));
        }
    };
    let source = source.unwrap_or_else(|| SOURCE.parse().expect("a URI reference"));
    let mut draft = Draft::new(id.unwrap_or_else(|| EventId::made_up(now_ms, fastrand::u128(..))), source, event_type);
    if let Some(data) = data {
        draft.content_type = Some("application/json".into());
        draft.data = Bytes::copy_from_slice(data.get().as_bytes());
    }
    let too_large = draft.check();
    fields.finish()?;
    too_large.map_err(|EventProblem { rule, .. }| {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("event_data: {rule}"))
    })?;
    Ok(Placed { stream, draft })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8]) -> Result<Placed, Problem> {
        super::read(body, 1_700_000_000_000)
    }

    #[test]
    fn the_type_is_enough_and_data_keeps_its_digits() {
        let least = read(br#"{"event_type": "order.placed"}"#).expect("right");
        assert_eq!((least.stream.as_str(), least.draft.source.as_str()), ("order.placed", "/event"));
        assert_eq!((least.draft.data.len(), least.draft.content_type), (0, None));
        let whole = read(
            br#"{"event_type": "t", "event_data": {"a": 1.10e400}, "stream": "s", "event_id": "1", "source": "/x"}"#,
        );
        let Placed { stream, draft } = whole.expect("right");
        assert_eq!((stream.as_str(), draft.id.as_str(), draft.source.as_str()), ("s", "1", "/x"));
        assert_eq!(draft.data, r#"{"a": 1.10e400}"#);
    }

    #[test]
    fn every_wrong_field_is_named() {
        for (body, pointers) in [
            ("{}", vec![""]),
            (
                r#"{"event_type": 1, "event_id": "", "source": "a b", "x": 1}"#,
                vec!["/event_type", "/event_id", "/source", "/x"],
            ),
            (r#"{"event_type": "$t"}"#, vec!["/stream"]),
            (r#"{"event_type": "t", "stream": "a b", "more": 1}"#, vec!["/stream", "/more"]),
        ] {
            let problem = read(body.as_bytes()).expect_err(body);
            let found: Vec<_> = problem.problems.iter().map(|it| it.pointer.as_str()).collect();
            assert_eq!((problem.status, found), (422, pointers), "{body}");
        }
        assert_eq!(read(b"[]").expect_err("wrong").status, 400);
        assert_eq!(read(br#"{"event_type": "t", "event_data": 1, "event_data": 2}"#).expect_err("wrong").status, 400);
    }

    #[test]
    fn made_up_ids_are_in_the_order_of_time() {
        let ids: Vec<_> = (0..3)
            .map(|nth| super::read(br#"{"event_type": "t"}"#, 1_700_000_000_000 + nth).expect("right").draft.id)
            .collect();
        assert_eq!(ids[0].as_str().len(), 36);
        assert_eq!(&ids[0].as_str()[14..15], "7");
        assert!(ids[0] != ids[1] && ids[0].as_str()[..8] <= ids[2].as_str()[..8]);
    }
}
