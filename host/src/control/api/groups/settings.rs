//! `PUT /groups/{group}`: all that is set for a group at once.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::{Path, Request, State},
    http::StatusCode,
};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Surface, operators_only, position, report::GroupReport};
use crate::{
    control::api::{
        access::Caller,
        body::{Fields, json_object, text},
        parameters::Parameters,
        path_name,
        problem::Problem,
    },
    events::groups::{Defined, GroupStart, Settings, Webhook},
    model::{EventProblem, Filter, PATTERNS_MAX, Pattern},
};

#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is read field by field so that every problem is found")]
pub struct GroupSettings {
    /// Only events of these types; what ends in * stands for all that begin so. All where it is not given.
    types: Option<Vec<String>>,
    /// Only events of these streams; as types.
    streams: Option<Vec<String>>,
    /// Where a new group begins: start, now, or behind a position. start where it is not given; of no meaning later.
    #[schema(value_type = Option<Object>, example = "now")]
    from: Option<()>,
    /// After which a delivery that is not settled is one that failed; 30s where it is not given.
    #[schema(example = "30s")]
    ack_timeout: Option<String>,
    /// Deliveries of an event, after which it is parked; 10 where it is not given.
    attempts_max: Option<u32>,
    /// Longest pause before the second attempt, which doubles up to 60s; 1s where it is not given.
    #[schema(example = "1s")]
    backoff: Option<String>,
    /// Deliveries of a take that has no limit; 20 where it is not given.
    batch: Option<usize>,
    /// Pushes the events there, so that nobody takes them.
    webhook: Option<WebhookSettings>,
}

#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is read field by field so that every problem is found")]
pub struct WebhookSettings {
    /// service://NAME/path, or a URL of a host that `[events] allow_hosts` lists.
    url: String,
    /// Whom the receiver has to allow (`WebHook-Request-Origin`); sluice where it is not given.
    origin: Option<String>,
    /// Deliveries a minute that it is asked to allow (`WebHook-Request-Rate`).
    rate: Option<u32>,
}

/// Makes a group, or sets all of what is set for it anew; the same once more changes nothing. What is not given is as for a new
/// group. A webhook that has stopped goes on.
#[utoipa::path(put, path = "/groups/{group}", tag = "groups", request_body = GroupSettings,
    params(("group" = String, Path)),
    responses((status = 200, body = GroupReport), (status = 201, body = GroupReport), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem),
        (status = 507, body = Problem, description = "there are as many as there may be")))]
pub async fn put(
    State(surface): State<Arc<Surface>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    parameters: Parameters,
    request: Request,
) -> Result<(StatusCode, Json<GroupReport>), Problem> {
    operators_only(caller)?;
    parameters.none()?;
    let name = name
        .parse()
        .map_err(|error: crate::model::NameError| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))?;
    let (settings, from) = read(Fields::of(json_object(request).await?))?;
    // One that is there begins nowhere else, whatever is not said.
    let settings = |before: Option<&Settings>| Settings {
        from: from.or(before.map(|before| before.from)).unwrap_or_default(),
        ..settings
    };
    let status = match surface.groups.define(&name, settings).await? {
        Defined::Created => StatusCode::CREATED,
        Defined::Changed => StatusCode::OK,
    };
    let shown = surface.groups.show(&path_name(name.as_str())?)?;
    Ok((status, Json(GroupReport::of(shown))))
}

fn read(mut fields: Fields) -> Result<(Settings, Option<GroupStart>), Problem> {
    let plain = Settings::default();
    let types = fields.optional("types", patterns).unwrap_or_default();
    let streams = fields.optional("streams", patterns).unwrap_or_default();
    let from = fields.optional("from", start);
    let settings = Settings {
        filter: Filter { types, streams },
        from: GroupStart::default(),
        ack_timeout: fields
            .optional("ack_timeout", |value| duration(&value).and_then(Settings::check_ack_timeout))
            .unwrap_or(plain.ack_timeout),
        attempts_max: fields
            .optional("attempts_max", |value| number(&value).and_then(Settings::check_attempts_max))
            .unwrap_or(plain.attempts_max),
        batch: fields.optional("batch", |value| number(&value).and_then(Settings::check_batch)).unwrap_or(plain.batch),
        backoff: fields
            .optional("backoff", |value| duration(&value).and_then(Settings::check_backoff))
            .unwrap_or(plain.backoff),
        webhook: fields.take("webhook").filter(|value| !value.is_null()).and_then(|value| webhook(value, &mut fields)),
    };
    fields.finish()?;
    Ok((settings, from))
}

fn webhook(value: Value, of: &mut Fields) -> Option<Webhook> {
    let Value::Object(object) = value else {
        of.refuse("webhook", "must be an object: {\"url\": …}".to_owned());
        return None;
    };
    let mut fields = Fields::of(object);
    let url = fields.required("url", text::<String>);
    let origin = fields.optional("origin", |value| text(value).and_then(Webhook::check_origin));
    let rate = fields.optional("rate", |value| number(&value).and_then(Webhook::check_rate));
    if let Err(problem) = fields.finish() {
        of.add(problem.problems.into_iter().map(|mut problem| {
            problem.pointer = format!("/webhook{}", problem.pointer);
            problem
        }));
        return None;
    }
    let plain = Webhook::to(url?);
    Some(Webhook { origin: origin.unwrap_or(plain.origin), rate, url: plain.url })
}

fn patterns(value: Value) -> Result<Vec<Pattern>, String> {
    let Value::Array(list) = value else { return Err("must be a list of names".to_owned()) };
    if list.len() > PATTERNS_MAX {
        return Err(format!("must be at most {PATTERNS_MAX}"));
    }
    let parse = |value: Value| {
        let given = value.as_str().ok_or_else(|| "must be a list of strings".to_owned())?;
        given.parse().map_err(|problem: EventProblem| format!("{given:?} {}", problem.rule))
    };
    list.into_iter().map(parse).collect()
}

fn start(value: Value) -> Result<GroupStart, String> {
    match value.as_str() {
        Some("start") => Ok(GroupStart::Start),
        Some("now") => Ok(GroupStart::Now),
        _ => match position(&value) {
            Ok(position) => Ok(GroupStart::Position(position)),
            Err(_) => Err("must be \"start\", \"now\", or a position".to_owned()),
        },
    }
}

fn number(value: &Value) -> Result<u64, String> {
    value.as_u64().ok_or_else(|| "must be a whole number".to_owned())
}

fn duration(value: &Value) -> Result<Duration, String> {
    let duration = value.as_str().and_then(|text| humantime::parse_duration(text).ok());
    duration.ok_or_else(|| "must be a duration, such as \"30s\"".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn given(value: Value) -> Result<(Settings, Option<GroupStart>), Problem> {
        let Value::Object(object) = value else { panic!("{value} is no object") };
        read(Fields::of(object))
    }

    #[test]
    fn what_is_not_given_is_as_it_is_for_everybody() {
        let (settings, from) = given(json!({})).expect("right");
        assert_eq!((settings, from), (Settings::default(), None));
        let (settings, from) = given(json!({
            "types": ["order.*"], "streams": ["order-1"], "from": 7, "ack_timeout": "5s", "attempts_max": 3,
            "backoff": "50ms", "batch": 5, "webhook": {"url": "service://billing/", "origin": "a.example", "rate": 60},
        }))
        .expect("right");
        assert_eq!(from, Some(GroupStart::Position(crate::model::Position(7))));
        assert_eq!(settings.ack_timeout, Duration::from_secs(5));
        let webhook = settings.webhook.expect("it has one");
        assert_eq!((webhook.origin.as_str(), webhook.rate), ("a.example", Some(60)));
    }

    #[test]
    fn every_wrong_field_is_named() {
        let problem = given(json!({
            "types": "order", "streams": ["a*b"], "from": "end", "ack_timeout": "1ms", "attempts_max": 0, "batch": 501,
            "backoff": 5, "webhook": {"origin": "a b", "rate": 0, "colour": 1}, "colour": "red",
        }))
        .expect_err("wrong");
        let pointers: Vec<_> = problem.problems.iter().map(|problem| problem.pointer.as_str()).collect();
        for pointer in [
            "/types",
            "/streams",
            "/from",
            "/ack_timeout",
            "/attempts_max",
            "/batch",
            "/backoff",
            "/webhook/origin",
            "/webhook/rate",
            "/webhook/colour",
            "/colour",
        ] {
            assert!(pointers.contains(&pointer), "{pointer} is not in {:?}", problem.problems);
        }
        assert!(problem.problems.iter().any(|problem| problem.message.contains("\"url\" is missing")));
    }
}
