//! `GET /streams`, and what is kept of a stream.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::{Request, State},
    http::StatusCode,
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Named, Surface, operators_only,
    query::{ListQuery, no_name},
};
use crate::{
    control::api::{
        access::Caller,
        body::{Fields, json_object},
        parameters::Parameters,
        problem::Problem,
    },
    events::StreamInfo,
    model::{Retention, StreamName},
};

#[derive(Serialize, ToSchema)]
pub struct StreamPage {
    /// In the order of their names, bytewise.
    streams: Vec<StreamReport>,
    /// Where the next page is; null where nothing is left.
    next: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub struct StreamReport {
    stream: String,
    /// Of the first event that is there; null where none is. One that is older than is kept counts until it is removed.
    first_revision: Option<u64>,
    /// Of the last event that it ever had; null where it never had one.
    last_revision: Option<u64>,
    #[serde(flatten)]
    retention: RetentionReport,
}

/// What of a stream is kept; null: as much as there is.
#[derive(Serialize, ToSchema)]
pub struct RetentionReport {
    /// Only its last events, so many.
    max_count: Option<u64>,
    /// Only what was appended within this time, such as `30days`.
    #[schema(example = "30days")]
    max_age: Option<String>,
    /// Nothing before this revision; 0: it was not truncated.
    truncated_before: u64,
}

impl StreamReport {
    fn of(info: StreamInfo) -> Self {
        let StreamInfo { stream, first_revision, last_revision, retention } = info;
        let retention = RetentionReport::of(retention);
        Self { stream: stream.to_string(), first_revision, last_revision, retention }
    }
}

impl RetentionReport {
    fn of(Retention { max_count, max_age_ms, first_revision }: Retention) -> Self {
        let max_age = max_age_ms.map(|age_ms| humantime::format_duration(Duration::from_millis(age_ms)).to_string());
        Self { max_count, max_age: max_age.map(|age| age.replace(' ', "")), truncated_before: first_revision }
    }
}

/// Streams with events, or with something set, by their names.
#[utoipa::path(get, path = "/streams", tag = "events",
    params(("prefix" = Option<String>, Query, description = "Only those whose names begin so"),
        ("limit" = Option<usize>, Query, description = "1 to 1000, 100 where it is not given"),
        ("after" = Option<String>, Query, description = "As in `next`")),
    responses((status = 200, body = StreamPage), (status = 400, body = Problem), (status = 503, body = Problem)))]
pub async fn list(State(surface): State<Arc<Surface>>, parameters: Parameters) -> Result<Json<StreamPage>, Problem> {
    let query = ListQuery::read(parameters)?;
    let after =
        query.after.as_deref().map(str::parse::<StreamName>).transpose().map_err(|problem| no_name(&problem))?;
    let mut streams = surface.events.store.streams(&query.prefix, after, query.limit + 1).await?;
    let is_more = streams.len() > query.limit;
    streams.truncate(query.limit);
    let next = streams.last().filter(|_| is_more).map(|last| query.url(last.stream.as_str()));
    Ok(Json(StreamPage { streams: streams.into_iter().map(StreamReport::of).collect(), next }))
}

/// What of a stream is kept.
#[utoipa::path(get, path = "/streams/{stream}/retention", tag = "events", params(("stream" = String, Path)),
    responses((status = 200, body = RetentionReport),
        (status = 404, body = Problem, description = "it never had an event, and nothing is set for it"),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn show_retention(
    State(surface): State<Arc<Surface>>,
    Named(stream): Named,
    parameters: Parameters,
) -> Result<Json<RetentionReport>, Problem> {
    parameters.none()?;
    Ok(Json(RetentionReport::of(surface.known(&stream).await?.retention)))
}

#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is read field by field so that every problem is found")]
pub struct NewRetention {
    /// Only its last events, so many; all where it is not given.
    max_count: Option<u64>,
    /// Only what was appended within this time; all where it is not given.
    #[schema(example = "30days")]
    max_age: Option<String>,
}

/// Sets what of a stream is kept from here on, before it has events too. What is not given is not bounded. What need not be kept is
/// not shown in reads of the stream any more, and goes from everything else within seconds.
#[utoipa::path(put, path = "/streams/{stream}/retention", tag = "events", request_body = NewRetention,
    params(("stream" = String, Path)),
    responses((status = 200, body = RetentionReport), (status = 403, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)))]
pub async fn set_retention(
    State(surface): State<Arc<Surface>>,
    Extension(caller): Extension<Caller>,
    Named(stream): Named,
    parameters: Parameters,
    request: Request,
) -> Result<Json<RetentionReport>, Problem> {
    operators_only(caller)?;
    parameters.none()?;
    let mut body = json_object(request).await?;
    body.retain(|_, value| !value.is_null());
    let mut fields = Fields::of(body);
    let max_count = fields.optional("max_count", |value| at_least_one(&value));
    let max_age_ms = fields.optional("max_age", |value| age_ms(&value));
    fields.finish()?;
    surface.retain(&stream, |kept| Retention { max_count, max_age_ms, ..kept }).await
}

#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is read field by field so that every problem is found")]
pub struct Truncation {
    /// The first revision that stays. At most the next one: then no event does.
    before: u64,
}

/// Takes away the events of a stream before a revision. Its revisions go on from where they are.
#[utoipa::path(post, path = "/streams/{stream}/truncate", tag = "events", request_body = Truncation,
    params(("stream" = String, Path)),
    responses((status = 200, body = RetentionReport), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn truncate(
    State(surface): State<Arc<Surface>>,
    Extension(caller): Extension<Caller>,
    Named(stream): Named,
    parameters: Parameters,
    request: Request,
) -> Result<Json<RetentionReport>, Problem> {
    operators_only(caller)?;
    parameters.none()?;
    let mut fields = Fields::of(json_object(request).await?);
    let before = fields.required("before", |value| value.as_u64().ok_or_else(|| "must be a revision".to_owned()));
    let info = surface.known(&stream).await?;
    let next = info.last_revision.map_or(0, |last| last.saturating_add(1));
    if before.is_some_and(|before| before > next) {
        fields.refuse("before", format!("must be at most the next revision of stream {stream}, {next}"));
    }
    fields.finish()?;
    let before = before.unwrap_or_default();
    let truncated = |kept: Retention| Retention { first_revision: kept.first_revision.max(before), ..kept };
    surface.retain(&stream, truncated).await
}

impl Surface {
    async fn known(&self, stream: &StreamName) -> Result<StreamInfo, Problem> {
        let unknown = || Problem::new(StatusCode::NOT_FOUND, format!("stream {stream} never had an event"));
        self.events.store.stream(stream).await?.ok_or_else(unknown)
    }

    /// One change after the other.
    async fn retain(
        &self,
        stream: &StreamName,
        change: impl FnOnce(Retention) -> Retention,
    ) -> Result<Json<RetentionReport>, Problem> {
        let _turn = self.events.retaining.lock().await;
        let info = self.events.store.stream(stream).await?;
        let kept = info.map(|info| info.retention).unwrap_or_default();
        let retention = change(kept);
        if retention != kept {
            self.events.store.set_retention(stream.clone(), retention).await?;
        }
        Ok(Json(RetentionReport::of(retention)))
    }
}

fn at_least_one(value: &Value) -> Result<u64, String> {
    value.as_u64().filter(|count| *count > 0).ok_or_else(|| "must be a whole number, at least 1".to_owned())
}

fn age_ms(value: &Value) -> Result<u64, String> {
    let age = value.as_str().and_then(|text| humantime::parse_duration(text).ok());
    let age_ms = age.and_then(|age| u64::try_from(age.as_millis()).ok()).filter(|age_ms| *age_ms > 0);
    age_ms.ok_or_else(|| "must be a duration of at least a millisecond, such as \"30days\"".to_owned())
}
