//! The control API: HTTP in front of [`Control`], and nothing more.

mod access;
mod body;
mod consul;
mod drain;
mod events;
mod groups;
mod operation;
mod parameters;
mod plugins;
mod problem;
mod projections;
mod registry;
mod repoll;
mod server;
mod services;
mod transactions;

pub use access::{Access, Tokens};
pub use body::UPLOADS_MAX;
pub use consul::WAITS_MAX;
#[doc(hidden)]
pub use consul::entrance;
pub use server::{CONNECTIONS_MAX, serve};

use std::sync::Arc;

use axum::{
    Json, Router,
    http::StatusCode,
    middleware,
    routing::{get, post},
};
use tokio::sync::watch;
use utoipa::OpenApi;

use super::handle::Control;
use problem::Problem;

/// What the API looks like to other programs.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Sluice",
        description = "Control API of the gateway. Under /v1/ it speaks the agent, catalog, health and \
            status parts of Consul's HTTP API, and under /api/dtmsvr/ DTM's, which those document."
    ),
    paths(
        plugins::list,
        plugins::show,
        plugins::push,
        plugins::forget,
        plugins::activate,
        plugins::roll_back,
        plugins::start_canary,
        plugins::end_canary,
        services::list,
        services::show,
        services::patch,
        services::clear_overlay,
        registry::show,
        registry::register,
        registry::deregister,
        registry::deregister_id,
        events::append::append,
        events::append::append_to,
        events::short::append,
        events::read::all,
        events::streams::list,
        events::read::one,
        events::streams::show_retention,
        events::streams::set_retention,
        events::streams::truncate,
        groups::list,
        groups::show,
        groups::settings::put,
        groups::remove,
        groups::take::take,
        groups::settle::settle,
        groups::release,
        groups::parked,
        groups::replay,
        groups::reset,
        projections::list,
        projections::show,
        projections::rebuild,
        projections::resume,
        projections::replay_parked,
        projections::discard_parked,
        projections::read::read,
        transactions::short::commit,
        transactions::own::list,
        transactions::own::begin,
        transactions::one::show,
        transactions::one::submit,
        transactions::one::abort,
        transactions::one::enlist,
        transactions::one::retry,
        transactions::one::stop,
        transactions::protocols::list,
        transactions::dtm::new_gid,
        transactions::dtm::query,
        transactions::dtm::all,
        transactions::dtm::prepare,
        transactions::dtm::submit,
        transactions::dtm::abort,
        transactions::dtm::register_branch,
        transactions::dtm::force_stop,
        operation::reload,
        operation::listeners,
        operation::history,
        operation::metrics,
        operation::health,
        operation::ready,
    )
)]
struct Document;

/// Everything that the control listener answers.
pub fn router(control: Arc<Control>, access: Arc<Access>, shutting_down: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/plugins", get(plugins::list))
        .route("/plugins/{name}", get(plugins::show).put(plugins::push).delete(plugins::forget))
        .route("/plugins/{name}/activate", post(plugins::activate))
        .route("/plugins/{name}/rollback", post(plugins::roll_back))
        .route("/plugins/{name}/canary", post(plugins::start_canary).delete(plugins::end_canary))
        .route("/services", get(services::list))
        .route("/services/{name}", get(services::show).patch(services::patch))
        .route("/services/{name}/overlay", axum::routing::delete(services::clear_overlay))
        .route("/registry", get(registry::show))
        .route("/register", post(registry::register).delete(registry::deregister))
        .route("/register/{*id}", axum::routing::delete(registry::deregister_id))
        .route("/reload", post(operation::reload))
        .route("/listeners", get(operation::listeners))
        .route("/history", get(operation::history))
        .route("/metrics", get(operation::metrics))
        .route("/healthz", get(operation::health))
        .route("/readyz", get(operation::ready))
        .route("/openapi.json", get(async || Json(Document::openapi())))
        .with_state(Arc::clone(&control))
        .merge(events::routes(control.events.clone(), shutting_down))
        .merge(groups::routes(control.groups.clone()))
        .merge(projections::routes(control.handlers.clone(), control.events.clone()))
        .merge(transactions::routes(control.transactions.clone()))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is nothing at this path; see /openapi.json"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not answer this method; see /openapi.json")
        })
        .merge(super::dashboard::routes())
        .merge(consul::routes(control))
        .layer(middleware::from_fn_with_state(access, access::guard))
        .layer(middleware::from_fn(drain::drain_refused))
}

/// A name in a path: one that cannot be a name is one that is not there.
fn path_name<T: std::str::FromStr<Err: std::fmt::Display>>(name: &str) -> Result<T, Problem> {
    name.parse().map_err(|error: T::Err| Problem::new(StatusCode::NOT_FOUND, error.to_string()))
}
