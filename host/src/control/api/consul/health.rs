//! `/v1/health/`: how instances and their checks are.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use serde_json::Value;

use super::{error::Error, output, query::Asked, reply};
use crate::{
    control::handle::Control,
    registry::{CheckStatus, Registry},
};

pub async fn service(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    asked: Asked,
) -> Result<Response, Error> {
    let query = asked.query()?;
    let registry = &control.registry;
    query.wait(&control, async |known, wait| drop(registry.service_changed(&name, known, wait).await)).await?;
    let listing = registry.service_or_absent(&name);
    let node = registry.node();
    let wanted = listing.instances.iter().filter(|instance| {
        query.tags.iter().all(|tag| instance.has_tag(tag))
            && (!query.passing || instance.status == CheckStatus::Passing)
    });
    let entries = query.filtered(wanted.map(|instance| output::health_entry(registry.options(), &node, instance)));
    Ok(reply::indexed(&query, listing.index, &Value::Array(entries)))
}

/// The checks of a service's instances.
pub async fn checks(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    asked: Asked,
) -> Result<Response, Error> {
    let query = asked.query()?;
    let registry = &control.registry;
    query.wait(&control, async |known, wait| drop(registry.service_changed(&name, known, wait).await)).await?;
    let listing = registry.service_or_absent(&name);
    let checks = listing.instances.iter().flat_map(|it| output::instance_checks(registry.options(), it));
    Ok(reply::indexed(&query, listing.index, &Value::Array(query.filtered(checks))))
}

/// All checks of the one node.
pub async fn node(
    State(control): State<Arc<Control>>,
    Path(node): Path<String>,
    asked: Asked,
) -> Result<Response, Error> {
    let query = asked.query()?;
    let registry = &control.registry;
    query.wait(&control, |known, wait| registry.changed(known, wait)).await?;
    let index = registry.index();
    let checks = if node == registry.options().node_name { all_checks(registry) } else { Vec::new() };
    Ok(reply::indexed(&query, index, &Value::Array(query.filtered(checks.into_iter()))))
}

/// All checks in a state.
pub async fn state(
    State(control): State<Arc<Control>>,
    Path(state): Path<String>,
    asked: Asked,
) -> Result<Response, Error> {
    let query = asked.query()?;
    if state != "any" && state.parse::<CheckStatus>().is_err() {
        return Err(Error::bad_request(format!("invalid state {state:?}: must be any, passing, warning or critical")));
    }
    let registry = &control.registry;
    query.wait(&control, |known, wait| registry.changed(known, wait)).await?;
    let index = registry.index();
    let checks = all_checks(registry).into_iter().filter(|check| state == "any" || check["Status"] == state);
    Ok(reply::indexed(&query, index, &Value::Array(query.filtered(checks))))
}

fn all_checks(registry: &Registry) -> Vec<Value> {
    let options = registry.options();
    let mut checks = output::node_checks(options, &registry.node());
    checks.extend(registry.instances().iter().flat_map(|instance| output::instance_checks(options, instance)));
    checks
}
