//! `/v1/agent/check/`: checks, and what instances say of themselves.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, Request, State},
    response::Response,
};
use serde_json::{Map, Value};

use super::{error::Error, fields::Fields, input, output, query::Asked, reply};
use crate::{
    control::{api::access::Caller, handle::Control},
    registry::{CheckStatus, RegistryError},
};

pub async fn list(State(control): State<Arc<Control>>, asked: Asked) -> Result<Response, Error> {
    let query = asked.query()?;
    let registry = &control.registry;
    let mut checks = output::agent_node_checks(registry.options(), &registry.node());
    let instances = registry.instances();
    checks.extend(instances.iter().flat_map(|instance| output::instance_checks(registry.options(), instance)));
    let checks = query.filtered(checks.into_iter());
    let by_id = checks.into_iter().map(|check| (check["CheckID"].as_str().unwrap_or_default().to_owned(), check));
    Ok(reply::json(&query, &Value::Object(by_id.collect::<Map<_, _>>())))
}

pub async fn register(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    asked: Asked,
    request: Request,
) -> Result<Response, Error> {
    asked.query()?;
    let (instance, check) = input::check(input::object(request).await?)?;
    if instance.is_none() {
        Error::unless_operator(caller)?;
    }
    control.registry.register_check(instance.as_deref(), check).await?;
    Ok(reply::done())
}

pub async fn deregister(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Response, Error> {
    asked.query()?;
    may_touch(&control, caller, &id)?;
    control.registry.deregister_check(&id).await?;
    Ok(reply::done())
}

pub async fn pass(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    path: Path<String>,
    asked: Asked,
) -> Result<Response, Error> {
    report(&control, caller, &path, asked, CheckStatus::Passing).await
}

pub async fn warn(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    path: Path<String>,
    asked: Asked,
) -> Result<Response, Error> {
    report(&control, caller, &path, asked, CheckStatus::Warning).await
}

pub async fn fail(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    path: Path<String>,
    asked: Asked,
) -> Result<Response, Error> {
    report(&control, caller, &path, asked, CheckStatus::Critical).await
}

async fn report(
    control: &Control,
    caller: Caller,
    id: &str,
    asked: Asked,
    status: CheckStatus,
) -> Result<Response, Error> {
    let query = asked.query()?;
    may_touch(control, caller, id)?;
    control.registry.report(id, status, &query.note).await?;
    Ok(reply::done())
}

/// The node's own checks are the operators'.
fn may_touch(control: &Control, caller: Caller, check: &str) -> Result<(), Error> {
    let is_of_node = || control.registry.node().checks.iter().any(|own| own.id() == check);
    if caller == Caller::Service && is_of_node() { Error::unless_operator(caller) } else { Ok(()) }
}

/// The status and the output stand in the body.
pub async fn update(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    asked: Asked,
    request: Request,
) -> Result<Response, Error> {
    asked.query()?;
    may_touch(&control, caller, &id)?;
    let mut problems = Vec::new();
    let mut fields = Fields::of(input::object(request).await?, String::new(), &mut problems);
    let output = fields.text("Output").unwrap_or_default();
    let status = fields.text("Status").map_or(Ok(CheckStatus::Critical), |status| status.parse());
    let status = status.map_err(|rule| fields.refuse("Status", rule));
    fields.ignore(&["CheckID"]);
    fields.finish();
    match status {
        Ok(status) if problems.is_empty() => {
            control.registry.report(&id, status, &output).await?;
            Ok(reply::done())
        }
        _ => Err(RegistryError::Invalid(problems).into()),
    }
}
