//! `/groups`: consumer groups and webhooks, how they stand, and what their consumers take and settle.
//!
//! ```text
//!  POST /groups/{group}/take?consumer=&limit=&wait= ──▶ {"deliveries": [{"token", "attempt", "event"}]}
//!  POST /groups/{group}/settle {"ack": [token], "retry": [{token, reason}], "park": [{token, reason}]}
//!                              ──▶ {"settled": n, "refused": [{"token", "code", "reason"}]}, once it is durable
//! ```

mod error;
mod report;
pub(super) mod settings;
pub(super) mod settle;
pub(super) mod take;

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{Path, Request, State},
    http::StatusCode,
    routing::{delete, get, post},
};
use serde::Serialize;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use self::report::{GroupReport, GroupsReport, ParkedReport};
use super::{
    access::Caller,
    body::{Fields, json_object},
    parameters::Parameters,
    path_name,
    problem::Problem,
};
use crate::{
    events::groups::{EventGroups, Replay},
    model::{GroupName, Position},
};

/// Takes under way at once, most of which wait; others are told to come back. Each holds a connection of the control
/// listener's.
const TAKES_MAX: usize = 1_024;

/// Of what stands aside, on one page.
const PARKED_MAX: usize = 100;

/// Whether this is about groups, so that services may ask with their own token.
pub fn is_for_services(path: &str) -> bool {
    path.strip_prefix("/groups").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// All of it.
pub fn routes(groups: EventGroups) -> Router {
    let surface = Arc::new(Surface { groups, takes: Semaphore::new(TAKES_MAX) });
    Router::new()
        .route("/groups", get(list))
        .route("/groups/{group}", get(show).put(settings::put).delete(remove))
        .route("/groups/{group}/take", post(take::take))
        .route("/groups/{group}/settle", post(settle::settle))
        .route("/groups/{group}/consumers/{consumer}", delete(release))
        .route("/groups/{group}/parked", get(parked))
        .route("/groups/{group}/parked/replay", post(replay))
        .route("/groups/{group}/reset", post(reset))
        .with_state(surface)
}

/// What the handlers share.
pub(super) struct Surface {
    groups: EventGroups,
    takes: Semaphore,
}

impl Surface {
    fn report(&self, name: &GroupName) -> Result<Json<GroupReport>, Problem> {
        Ok(Json(GroupReport::of(self.groups.show(name)?)))
    }
}

/// The consumer groups, and how far each has come.
#[utoipa::path(get, path = "/groups", tag = "groups", responses((status = 200, body = GroupsReport)))]
pub async fn list(State(surface): State<Arc<Surface>>, parameters: Parameters) -> Result<Json<GroupsReport>, Problem> {
    parameters.none()?;
    Ok(Json(GroupsReport::new(surface.groups.list().into_iter().map(GroupReport::of).collect())))
}

/// One group: its checkpoint, who consumes, what is in flight, and what is wrong.
#[utoipa::path(get, path = "/groups/{group}", tag = "groups", params(("group" = String, Path)),
    responses((status = 200, body = GroupReport), (status = 404, body = Problem)))]
pub async fn show(
    State(surface): State<Arc<Surface>>,
    Path(name): Path<String>,
    parameters: Parameters,
) -> Result<Json<GroupReport>, Problem> {
    parameters.none()?;
    surface.report(&path_name(&name)?)
}

/// Takes a group away, with its checkpoint and with what it parked.
#[utoipa::path(delete, path = "/groups/{group}", tag = "groups", params(("group" = String, Path)),
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 503, body = Problem)))]
pub async fn remove(
    State(surface): State<Arc<Surface>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, Problem> {
    operators_only(caller)?;
    parameters.none()?;
    surface.groups.delete(&path_name(&name)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How much was given back.
#[derive(Serialize, ToSchema)]
pub struct ReleasedReport {
    /// Deliveries that are others' now.
    released: usize,
}

/// A consumer goes: what it has and has not settled is delivered to others at once.
#[utoipa::path(delete, path = "/groups/{group}/consumers/{consumer}", tag = "groups",
    params(("group" = String, Path), ("consumer" = String, Path)),
    responses((status = 200, body = ReleasedReport), (status = 404, body = Problem)))]
pub async fn release(
    State(surface): State<Arc<Surface>>,
    Path((name, consumer)): Path<(String, String)>,
    parameters: Parameters,
) -> Result<Json<ReleasedReport>, Problem> {
    parameters.none()?;
    Ok(Json(ReleasedReport { released: surface.groups.release(&path_name(&name)?, &consumer)? }))
}

/// What stands aside, by position, with why: a page of at most 100, and of some 4 MiB.
#[utoipa::path(get, path = "/groups/{group}/parked", tag = "groups",
    params(("group" = String, Path), ("after" = Option<u64>, Query, description = "Behind which position; as in `next`"),
        ("limit" = Option<usize>, Query, description = "1 to 100, and 100 where it is not given")),
    responses((status = 200, body = ParkedReport), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 503, body = Problem)))]
pub async fn parked(
    State(surface): State<Arc<Surface>>,
    Path(name): Path<String>,
    parameters: Parameters,
) -> Result<Json<ParkedReport>, Problem> {
    let (mut after, mut limit) = (Position::START, PARKED_MAX);
    parameters.read(|parameter, value| {
        match parameter {
            "after" => after = Position(value.parse().map_err(|_| "must be a position".to_owned())?),
            "limit" => {
                let fits = value.parse().ok().filter(|limit| (1..=PARKED_MAX).contains(limit));
                limit = fits.ok_or_else(|| format!("must be a whole number from 1 to {PARKED_MAX}"))?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    let name = path_name(&name)?;
    let page = surface.groups.parked(&name, after, limit).await?;
    Ok(Json(ParkedReport::of(&name, page)))
}

#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is read field by field so that every problem is found")]
pub struct WhichParked {
    /// Only this event; all that stand aside where it is not given.
    position: Option<u64>,
}

/// How much is delivered again.
#[derive(Serialize, ToSchema)]
pub struct ReplayReport {
    replayed: u64,
}

/// Has what stands aside delivered again, as if it never had been, and before later events of its streams.
#[utoipa::path(post, path = "/groups/{group}/parked/replay", tag = "groups", request_body = WhichParked,
    params(("group" = String, Path)),
    responses((status = 202, body = ReplayReport), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 410, body = Problem, description = "the event was removed"), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub async fn replay(
    State(surface): State<Arc<Surface>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    parameters: Parameters,
    request: Request,
) -> Result<(StatusCode, Json<ReplayReport>), Problem> {
    operators_only(caller)?;
    parameters.none()?;
    let mut fields = Fields::of(json_object(request).await?);
    let position = fields.optional("position", |value| position(&value));
    fields.finish()?;
    let which = position.map_or(Replay::All, Replay::One);
    let replayed = surface.groups.replay(&path_name(&name)?, which).await?;
    Ok((StatusCode::ACCEPTED, Json(ReplayReport { replayed })))
}

#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is read field by field so that every problem is found")]
pub struct NewCheckpoint {
    /// The last position that is not delivered; 0: everything is.
    to: u64,
}

/// Moves a group: what is behind a position is delivered again, or not at all. What is in flight can be settled no more; what
/// stands aside stays there.
#[utoipa::path(post, path = "/groups/{group}/reset", tag = "groups", request_body = NewCheckpoint,
    params(("group" = String, Path)),
    responses((status = 200, body = GroupReport), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 422, body = Problem, description = "also where the log has not come that far"),
        (status = 503, body = Problem)))]
pub async fn reset(
    State(surface): State<Arc<Surface>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    parameters: Parameters,
    request: Request,
) -> Result<Json<GroupReport>, Problem> {
    operators_only(caller)?;
    parameters.none()?;
    let name = path_name(&name)?;
    let mut fields = Fields::of(json_object(request).await?);
    let to = fields.required("to", |value| position(&value));
    fields.finish()?;
    surface.groups.reset(&name, to.unwrap_or_default()).await?;
    surface.report(&name)
}

fn position(value: &serde_json::Value) -> Result<Position, String> {
    value.as_u64().map(Position).ok_or_else(|| "must be a position: a whole number".to_owned())
}

/// What changes a group for all of its consumers is not one service's.
fn operators_only(caller: Caller) -> Result<(), Problem> {
    match caller {
        Caller::Operator => Ok(()),
        Caller::Service => {
            let detail =
                "consumer groups are set, moved and removed with the operators' token; services take and settle";
            Err(Problem::new(StatusCode::FORBIDDEN, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_for_services;

    #[test]
    fn services_may_use_groups_and_nothing_beside_them() {
        for path in ["/groups", "/groups/a", "/groups/a/take"] {
            assert!(is_for_services(path), "{path}");
        }
        for path in ["/", "/group", "/groups-of-others"] {
            assert!(!is_for_services(path), "{path}");
        }
    }
}
