//! `/v1/catalog/`: what is registered, whether it is well or not.

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    response::Response,
};
use serde_json::{Value, json};

use super::{
    error::Error,
    output::{self, DATACENTER},
    query::Asked,
    reply,
};
use crate::control::handle::Control;

pub async fn datacenters(asked: Asked) -> Result<Response, Error> {
    Ok(reply::json(&asked.query()?, &json!([DATACENTER])))
}

/// The one node. It never changes.
pub async fn nodes(State(control): State<Arc<Control>>, asked: Asked) -> Result<Response, Error> {
    let query = asked.query()?;
    let registry = &control.registry;
    query.wait(&control, |known, wait| registry.changed(known, wait)).await?;
    let nodes = query.filtered(std::iter::once(output::node(registry.options())));
    Ok(reply::indexed(&query, registry.index(), &Value::Array(nodes)))
}

pub async fn services(State(control): State<Arc<Control>>, asked: Asked) -> Result<Response, Error> {
    let query = asked.query()?;
    let registry = &control.registry;
    query.wait(&control, |known, wait| registry.catalog_changed(known, wait)).await?;
    let listing = registry.services();
    Ok(reply::indexed(&query, listing.index, &json!(listing.services)))
}

pub async fn service(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    asked: Asked,
) -> Result<Response, Error> {
    let query = asked.query()?;
    let registry = &control.registry;
    query.wait(&control, async |known, wait| drop(registry.service_changed(&name, known, wait).await)).await?;
    let listing = registry.service_or_absent(&name);
    let instances = listing.instances.iter().filter(|instance| query.tags.iter().all(|tag| instance.has_tag(tag)));
    let entries = query.filtered(instances.map(|instance| output::catalog_service(registry.options(), instance)));
    Ok(reply::indexed(&query, listing.index, &Value::Array(entries)))
}
