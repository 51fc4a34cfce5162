//! `POST /groups/{group}/take`: the next events for a consumer.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use utoipa::ToSchema;

use super::Surface;
use crate::{
    control::api::{
        body::{Fields, json_object},
        parameters::Parameters,
        path_name,
        problem::Problem,
    },
    events::{
        cloud_events::write_json,
        groups::{Delivery, WAIT_MAX},
    },
};

/// Longest name of a consumer, in bytes.
const CONSUMER_BYTES_MAX: usize = 128;

/// Who takes without a name.
const UNNAMED: &str = "unnamed";

/// Deliveries of one take.
const LIMIT_MAX: usize = 500;

#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is written event by event")]
pub struct Deliveries {
    /// One of a stream at most. Empty where nothing came while it waited.
    deliveries: Vec<DeliveryReport>,
}

#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is written event by event")]
pub struct DeliveryReport {
    /// With which it is settled.
    token: String,
    /// 1 where it is delivered for the first time.
    attempt: u32,
    /// As a CloudEvent.
    #[schema(value_type = Object)]
    event: (),
}

/// The next events that nobody has, the first of each stream, for one consumer. Each is to be settled within the group's
/// `ack_timeout`, and is delivered again otherwise.
#[utoipa::path(post, path = "/groups/{group}/take", tag = "groups",
    params(("group" = String, Path),
        ("consumer" = Option<String>, Query, description = "Who takes, to be shown and to be released; unnamed where it is not given"),
        ("limit" = Option<usize>, Query, description = "1 to 500; the group's batch where it is not given"),
        ("wait" = Option<String>, Query, description = "How long it waits where there is nothing, such as 20s; at most 60s, not at all where it is not given")),
    responses((status = 200, body = Deliveries), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem, description = "it is pushed to a webhook"), (status = 503, body = Problem)))]
pub async fn take(
    State(surface): State<Arc<Surface>>,
    Path(name): Path<String>,
    parameters: Parameters,
    request: Request,
) -> Result<Response, Problem> {
    let query = TakeQuery::read(parameters)?;
    let name = path_name(&name)?;
    // Read although nothing is in it: a connection with bytes unread could not be kept.
    Fields::of(json_object(request).await?).finish()?;
    let busy = || Problem::new(StatusCode::SERVICE_UNAVAILABLE, "as many take events as may at once");
    let _turn = surface.takes.try_acquire().map_err(|_| busy())?;
    let deliveries = surface.groups.take(&name, &query.consumer, query.limit, query.wait).await?;
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, json(&deliveries)).into_response())
}

struct TakeQuery {
    consumer: String,
    limit: Option<usize>,
    wait: Duration,
}

impl TakeQuery {
    fn read(parameters: Parameters) -> Result<Self, Problem> {
        let mut query = Self { consumer: UNNAMED.to_owned(), limit: None, wait: Duration::ZERO };
        parameters.read(|name, value| {
            match name {
                "consumer" => {
                    if !(1..=CONSUMER_BYTES_MAX).contains(&value.len()) || value.chars().any(char::is_control) {
                        return Err(format!("must be 1 to {CONSUMER_BYTES_MAX} bytes without control characters"));
                    }
                    value.clone_into(&mut query.consumer);
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    query.limit = Some(limit.ok_or_else(|| format!("must be a whole number from 1 to {LIMIT_MAX}"))?);
                }
                "wait" => {
                    let wait = humantime::parse_duration(value).ok().filter(|wait| *wait <= WAIT_MAX);
                    query.wait = wait.ok_or_else(|| "must be a duration of at most 60s, such as 20s".to_owned())?;
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(query)
    }
}

fn json(deliveries: &[Delivery]) -> Vec<u8> {
    let weight: usize = deliveries.iter().map(|delivery| delivery.event.weight_bytes() + 256).sum();
    let mut json = Vec::with_capacity(weight + 32);
    json.extend_from_slice(b"{\"deliveries\":[");
    for (nth, Delivery { token, attempt, event }) in deliveries.iter().enumerate() {
        let comma = if nth > 0 { "," } else { "" };
        // A token is of digits and dashes.
        json.extend_from_slice(format!("{comma}{{\"token\":\"{token}\",\"attempt\":{attempt},\"event\":").as_bytes());
        write_json(event, &mut json);
        json.push(b'}');
    }
    json.extend_from_slice(b"]}");
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> Result<TakeQuery, Problem> {
        TakeQuery::read(Parameters::of(&format!("/?{query}").parse().expect("a URI")))
    }

    #[test]
    fn each_wrong_parameter_is_named() {
        let query = asked("consumer=worker%201&limit=7&wait=20s").expect("right");
        assert_eq!((query.consumer.as_str(), query.limit, query.wait), ("worker 1", Some(7), Duration::from_secs(20)));
        let problem = asked("consumer=&limit=501&wait=2h&colour=red").err().expect("wrong");
        let names: Vec<_> = problem.problems.iter().filter_map(|it| Some(it.message.split_once(':')?.0)).collect();
        assert_eq!(names, ["?consumer", "?limit", "?wait", "?colour"]);
    }
}
