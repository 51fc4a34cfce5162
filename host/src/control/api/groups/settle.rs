//! `POST /groups/{group}/settle`: what a consumer says of its deliveries.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Request, State},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Surface;
use crate::{
    control::{
        api::{
            body::{Fields, json_object, text},
            parameters::Parameters,
            path_name,
            problem::Problem,
        },
        change::ChangeProblem,
    },
    events::groups::{How, NotSettled, Settled, Token},
};

/// Of one request: as many as may be in flight.
const SETTLEMENTS_MAX: usize = 500;

#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is read field by field so that every problem is found")]
pub struct Settlements {
    /// Tokens of what is done.
    ack: Option<Vec<String>>,
    /// To be delivered again after a pause, and parked where that was the last attempt; a token alone will do.
    retry: Option<Vec<Unsettled>>,
    /// To be put aside.
    park: Option<Vec<Unsettled>>,
}

#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is read field by field so that every problem is found")]
pub struct Unsettled {
    token: String,
    /// For whoever looks at what stands aside.
    reason: Option<String>,
}

/// What became of it.
#[derive(Serialize, ToSchema)]
pub struct SettledReport {
    /// Settlements that are durable.
    settled: usize,
    /// Those that changed nothing.
    refused: Vec<RefusedReport>,
}

#[derive(Serialize, ToSchema)]
pub struct RefusedReport {
    token: String,
    /// lease-over, already-settled, being-settled
    code: &'static str,
    reason: &'static str,
}

impl From<Settled> for SettledReport {
    fn from(settled: Settled) -> Self {
        let refused = settled.refused.into_iter().map(|(token, why)| RefusedReport {
            token: token.to_string(),
            code: why.as_str(),
            reason: match why {
                NotSettled::LeaseOver => "its time was over: the event is delivered again, or was",
                NotSettled::AlreadySettled => "the event is acknowledged or parked already",
                NotSettled::BeingSettled => "another settlement of the same delivery is on its way",
            },
        });
        Self { settled: settled.settled.len(), refused: refused.collect() }
    }
}

/// Settles deliveries, durably when it answers. What comes too late is among `refused`, and changes nothing; where the body is
/// wrong, nothing is settled.
#[utoipa::path(post, path = "/groups/{group}/settle", tag = "groups", request_body = Settlements,
    params(("group" = String, Path)),
    responses((status = 200, body = SettledReport), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn settle(
    State(surface): State<Arc<Surface>>,
    Path(name): Path<String>,
    parameters: Parameters,
    request: Request,
) -> Result<Json<SettledReport>, Problem> {
    parameters.none()?;
    let name = path_name(&name)?;
    let given = read(Fields::of(json_object(request).await?))?;
    Ok(Json(surface.groups.settle(&name, &given).await?.into()))
}

fn read(mut fields: Fields) -> Result<Vec<(Token, How)>, Problem> {
    let (mut given, mut problems) = (Vec::new(), Vec::new());
    for field in ["ack", "retry", "park"] {
        let list = match fields.take(field) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(list)) => list,
            Some(_) => {
                fields.refuse(field, "must be a list".to_owned());
                continue;
            }
        };
        for (nth, value) in list.into_iter().enumerate() {
            match one(field, value) {
                Ok(settlement) => given.push(settlement),
                Err((below, message)) => {
                    let pointer = format!("/{field}/{nth}{below}");
                    problems.push(ChangeProblem { pointer, message, service: None, plugin: None });
                }
            }
        }
    }
    if given.len() + problems.len() > SETTLEMENTS_MAX {
        problems.push(ChangeProblem::plain(format!("at most {SETTLEMENTS_MAX} are settled at once")));
    } else if given.is_empty() && problems.is_empty() {
        problems.push(ChangeProblem::plain("one of \"ack\", \"retry\" and \"park\" must have a token"));
    }
    fields.add(problems);
    fields.finish()?;
    Ok(given)
}

/// One settlement, or what of it is wrong.
fn one(field: &str, value: Value) -> Result<(Token, How), (&'static str, String)> {
    let (token, below, reason) = match value {
        Value::Object(mut object) if field != "ack" => {
            let token = object.remove("token").unwrap_or_default();
            let reason = match object.remove("reason") {
                None | Some(Value::Null) => None,
                Some(reason) => Some(text::<String>(reason).map_err(|message| ("/reason", message))?),
            };
            if let Some(unknown) = object.keys().next() {
                return Err(("", format!("there is no such field: {unknown:?}")));
            }
            (token, "/token", reason)
        }
        token => (token, "", None),
    };
    let token = text(token).map_err(|message| (below, message))?;
    Ok((
        token,
        match field {
            "ack" => How::Ack,
            "retry" => How::Retry(reason),
            _ => How::Park(reason.unwrap_or_else(|| "its consumer parked it".to_owned())),
        },
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn given(value: Value) -> Result<Vec<(Token, How)>, Problem> {
        let Value::Object(object) = value else { panic!("{value} is no object") };
        read(Fields::of(object))
    }

    #[test]
    fn settlements_are_read_with_their_reasons() {
        let read = given(json!({"ack": ["1-1-1"], "retry": ["2-1-2", {"token": "3-1-3", "reason": "busy"}],
            "park": [{"token": "4-1-4"}]}));
        let how: Vec<_> = read.expect("right").into_iter().map(|(token, how)| (token.position.0, how)).collect();
        let parked = How::Park("its consumer parked it".to_owned());
        let expected = [(1, How::Ack), (2, How::Retry(None)), (3, How::Retry(Some("busy".to_owned()))), (4, parked)];
        assert_eq!(how, expected);
    }

    #[test]
    fn every_wrong_token_is_named_and_nothing_is_settled() {
        let problem = given(json!({"ack": ["1-1-1", "x", {"token": "1-1-1"}], "retry": [{"reason": "no"}, {"token": "1-1-1", "reason": 3}],
            "park": 7, "nack": []})).expect_err("wrong");
        let pointers: Vec<_> = problem.problems.iter().map(|problem| problem.pointer.as_str()).collect();
        for pointer in ["/ack/1", "/ack/2", "/retry/0/token", "/retry/1/reason", "/park", "/nack"] {
            assert!(pointers.contains(&pointer), "{pointer} is not in {:?}", problem.problems);
        }
        assert!(given(json!({})).is_err());
        assert!(given(json!({"ack": vec!["1-1-1"; 501]})).is_err());
    }
}
