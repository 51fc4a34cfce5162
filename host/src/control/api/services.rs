//! `/services`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Request, State},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    body::{Fields, json_object},
    path_name,
    problem::Problem,
};
use crate::{
    config::{Known, policy_from_json},
    control::{
        change::{Applied, Change, ChangeProblem, PolicyChange, Refusal},
        handle::Control,
        publisher::{DISCOVERY_SETTINGS, FAILOVER_SETTINGS},
        report::{self, PolicyText, ServiceReport},
    },
};

#[derive(Serialize, ToSchema)]
pub struct Services {
    services: Vec<ServiceReport>,
}

/// All services.
#[utoipa::path(get, path = "/services", tag = "services", responses((status = 200, body = Services)))]
pub async fn list(State(control): State<Arc<Control>>) -> Result<Json<Services>, Problem> {
    Ok(Json(Services { services: report::services(&control)? }))
}

/// One service: endpoints, counters, the policy and the limits in force, and where each value comes from.
#[utoipa::path(get, path = "/services/{name}", tag = "services", params(("name" = String, Path)),
    responses((status = 200, body = ServiceReport), (status = 404, body = Problem)))]
pub async fn show(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
) -> Result<Json<ServiceReport>, Problem> {
    Ok(Json(report::service(&control, &path_name(&name)?)?))
}

/// What to change; at least one policy.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is read field by field so that every problem is found")]
pub struct ServicePatch {
    /// `null`: the configuration file's again.
    balancer: Option<PolicyText>,
    /// `null`: the configuration file's again.
    failover: Option<PolicyText>,
    /// Where endpoints come from. `null`: the configuration file's way again. The new source must answer first.
    discovery: Option<PolicyText>,
    /// Whether discovery may take more than half of the endpoints away.
    force: Option<bool>,
}

/// Gives a service other policies. Wins over the configuration file until it is removed.
#[utoipa::path(patch, path = "/services/{name}", tag = "services", params(("name" = String, Path)),
    request_body = ServicePatch,
    responses((status = 200, body = Applied), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
pub async fn patch(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Applied>, Problem> {
    let service = path_name(&name)?;
    let mut fields = Fields::of(json_object(request).await?);
    let known = known_plugins(&control)?;
    let balancer = policy(&mut fields, "balancer", &known);
    let failover = policy(&mut fields, "failover", &known);
    let discovery = policy(&mut fields, "discovery", &known);
    let force = fields.optional("force", |value| value.as_bool().ok_or_else(|| "must be true or false".to_owned()));
    if balancer.is_none() && failover.is_none() && discovery.is_none() {
        fields.add([ChangeProblem::plain(
            "\"balancer\", \"failover\" or \"discovery\" is missing, such as {\"balancer\": {\"plugin\": \"maglev\"}}",
        )]);
    }
    fields.finish()?;
    let change = Change::SetPolicies {
        service,
        balancer: balancer.unwrap_or_default(),
        failover: failover.unwrap_or_default(),
        discovery: discovery.unwrap_or_default(),
        force: force.unwrap_or_default(),
    };
    Ok(Json(control.apply(change).await.map_err(within_settings)?))
}

/// None where the field is absent; what is wrong with it is noted.
fn policy(fields: &mut Fields, name: &str, known: &Known) -> Option<PolicyChange> {
    let given = fields.take(name)?;
    if given == Value::Null {
        return Some(PolicyChange::Clear);
    }
    match policy_from_json(&given, known) {
        Ok(policy) => Some(PolicyChange::Set(policy)),
        Err(problems) => {
            fields.add(problems.into_iter().map(|problem| ChangeProblem {
                pointer: format!("/{name}{}", problem.path),
                message: problem.message,
                ..Default::default()
            }));
            Some(PolicyChange::Keep)
        }
    }
}

/// The configuration file's policies hold for the service again.
#[utoipa::path(delete, path = "/services/{name}/overlay", tag = "services", params(("name" = String, Path)),
    responses((status = 200, body = Applied), (status = 404, body = Problem)))]
pub async fn clear_overlay(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
) -> Result<Json<Applied>, Problem> {
    Ok(Json(control.apply(Change::ClearOverlay { service: path_name(&name)? }).await?))
}

fn known_plugins(control: &Control) -> Result<Known, Refusal> {
    Ok(report::plugin_names(control, &*control.current()?)?.into_iter().collect())
}

/// A plugin points into its settings; the client sent them within a policy.
fn within_settings(refusal: Refusal) -> Refusal {
    let Refusal::Invalid { detail, mut problems } = refusal else { return refusal };
    for problem in &mut problems {
        let elsewhere = [DISCOVERY_SETTINGS, FAILOVER_SETTINGS].iter().any(|other| problem.pointer.starts_with(other));
        if !problem.pointer.is_empty() && !elsewhere {
            problem.pointer = format!("/balancer/settings{}", problem.pointer);
        }
    }
    Refusal::Invalid { detail, problems }
}
