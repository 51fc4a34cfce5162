//! `/projections`: how the event handlers stand, what can be asked of them, and the read models that they serve.

mod error;
pub(super) mod read;
mod report;

use axum::{
    Extension, Json, Router,
    extract::{FromRef, Path, State},
    http::StatusCode,
    routing::{get, post},
};
use serde::Serialize;
use utoipa::ToSchema;

use self::report::{DetailsReport, ProjectionReport};
use super::{access::Caller, path_name, problem::Problem};
use crate::{
    control::events::{EventSide, SUBSCRIBERS_MAX},
    events::handlers::{Discarded, EventHandlers, Replayed},
    model::HandlerName,
};

/// Of what was put aside, as much as is shown of events and of calls each.
const ASIDE_SHOWN_MAX: usize = 100;

/// Whether this is about projections, so that services may ask with their own token.
pub fn is_for_services(path: &str) -> bool {
    path.strip_prefix("/projections").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// All of it. What is not asked for with `POST` is the read model's, whatever its path.
pub fn routes(handlers: EventHandlers, events: EventSide) -> Router {
    Router::new()
        .route("/projections", get(list))
        .route("/projections/{name}", get(show))
        .route("/projections/{name}/", get(read::read))
        .route("/projections/{name}/rebuild", post(rebuild).get(read::read))
        .route("/projections/{name}/resume", post(resume).get(read::read))
        .route("/projections/{name}/replay-parked", post(replay_parked).get(read::read))
        .route("/projections/{name}/discard-parked", post(discard_parked).get(read::read))
        .route("/projections/{name}/{*path}", get(read::read))
        .with_state(Surface { handlers, events })
}

#[derive(Clone)]
pub(super) struct Surface {
    handlers: EventHandlers,
    /// What they follow.
    events: EventSide,
}

impl FromRef<Surface> for EventHandlers {
    fn from_ref(surface: &Surface) -> Self {
        surface.handlers.clone()
    }
}

#[derive(Serialize, ToSchema)]
pub struct ProjectionsReport {
    /// By name.
    projections: Vec<ProjectionReport>,
    log: LogReport,
}

/// The events that all of them follow.
#[derive(Serialize, ToSchema)]
pub struct LogReport {
    /// Of the last event that there is.
    head: u64,
    /// Events made durable since the gateway started.
    appended: u64,
    /// Who follows the events over HTTP.
    subscribers: usize,
}

/// The event handlers, and how far each has come.
#[utoipa::path(get, path = "/projections", tag = "projections", responses((status = 200, body = ProjectionsReport)))]
pub async fn list(
    State(Surface { handlers, events }): State<Surface>,
    Extension(caller): Extension<Caller>,
) -> Json<ProjectionsReport> {
    let log = LogReport {
        head: events.store.head().0,
        appended: events.store.appended(),
        subscribers: SUBSCRIBERS_MAX - events.subscribers.available_permits(),
    };
    let shown = handlers.list().into_iter();
    Json(ProjectionsReport { projections: shown.map(|shown| ProjectionReport::of(shown, caller)).collect(), log })
}

/// One event handler, with what was put aside.
#[utoipa::path(get, path = "/projections/{name}", tag = "projections", params(("name" = String, Path)),
    responses((status = 200, body = DetailsReport), (status = 404, body = Problem)))]
pub async fn show(
    State(handlers): State<EventHandlers>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<DetailsReport>, Problem> {
    let name = path_name(&name)?;
    details(&handlers, &name, caller).await.map(Json)
}

/// Builds the state anew from the log, beside the one in use, which is read until the new one has caught up. No effect is
/// repeated. One that is under way goes on.
#[utoipa::path(post, path = "/projections/{name}/rebuild", tag = "projections", params(("name" = String, Path)),
    responses((status = 202, body = DetailsReport), (status = 403, body = Problem), (status = 404, body = Problem)))]
pub async fn rebuild(
    State(handlers): State<EventHandlers>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<DetailsReport>), Problem> {
    operators_only(caller)?;
    let name = path_name(&name)?;
    handlers.rebuild(&name).await?;
    Ok((StatusCode::ACCEPTED, Json(details(&handlers, &name, caller).await?)))
}

/// A handler that is halted tries the event again.
#[utoipa::path(post, path = "/projections/{name}/resume", tag = "projections", params(("name" = String, Path)),
    responses((status = 200, body = DetailsReport), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem, description = "it is not halted")))]
pub async fn resume(
    State(handlers): State<EventHandlers>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<DetailsReport>, Problem> {
    operators_only(caller)?;
    let name = path_name(&name)?;
    handlers.resume(&name).await?;
    details(&handlers, &name, caller).await.map(Json)
}

/// What became of what was put aside.
#[derive(Serialize, ToSchema)]
pub struct ReplayedReport {
    events_handled: u64,
    /// That stay aside.
    events_failed: u64,
    /// That are made again.
    calls: u64,
}

/// Handles the events that were put aside once more, with all that they cause, and makes the calls again that were.
#[utoipa::path(post, path = "/projections/{name}/replay-parked", tag = "projections", params(("name" = String, Path)),
    responses((status = 200, body = ReplayedReport), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem, description = "it builds its state anew")))]
pub async fn replay_parked(
    State(handlers): State<EventHandlers>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<ReplayedReport>, Problem> {
    operators_only(caller)?;
    let Replayed { events_handled, events_failed, calls } = handlers.replay_parked(&path_name(&name)?).await?;
    Ok(Json(ReplayedReport { events_handled, events_failed, calls }))
}

/// What was put aside and is no more.
#[derive(Serialize, ToSchema)]
pub struct DiscardedReport {
    events: u64,
    calls: u64,
}

/// Forgets the events and the calls that were put aside: they are neither handled nor made any more.
#[utoipa::path(post, path = "/projections/{name}/discard-parked", tag = "projections", params(("name" = String, Path)),
    responses((status = 200, body = DiscardedReport), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem, description = "it builds its state anew")))]
pub async fn discard_parked(
    State(handlers): State<EventHandlers>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Json<DiscardedReport>, Problem> {
    operators_only(caller)?;
    let Discarded { events, calls } = handlers.discard_parked(&path_name(&name)?).await?;
    Ok(Json(DiscardedReport { events, calls }))
}

async fn details(handlers: &EventHandlers, name: &HandlerName, caller: Caller) -> Result<DetailsReport, Problem> {
    let shown = handlers.show(name)?;
    let aside = handlers.aside(name, ASIDE_SHOWN_MAX).await?;
    Ok(DetailsReport::of(shown, aside, caller))
}

fn operators_only(caller: Caller) -> Result<(), Problem> {
    match caller {
        Caller::Operator => Ok(()),
        Caller::Service => Err(Problem::new(StatusCode::FORBIDDEN, "event handlers are led with the operators' token")),
    }
}

#[cfg(test)]
mod tests {
    use super::is_for_services;

    #[test]
    fn services_may_read_projections_and_nothing_beside_them() {
        for path in ["/projections", "/projections/a", "/projections/a/b/c"] {
            assert!(is_for_services(path), "{path}");
        }
        for path in ["/", "/projection", "/projections-of-others"] {
            assert!(!is_for_services(path), "{path}");
        }
    }
}
