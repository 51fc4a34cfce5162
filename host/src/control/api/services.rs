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
        change::{Applied, Change, ChangeProblem, Refusal},
        handle::Control,
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

/// What to change.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is read field by field so that every problem is found")]
pub struct ServicePatch {
    /// `null`: the configuration file's again.
    balancer: Option<PolicyText>,
}

/// Parts of a service that a later version of Sluice takes over the API.
const NOT_YET: [&str; 2] = ["failover", "discovery"];

/// Gives a service another policy. Wins over the configuration file until it is removed.
#[utoipa::path(patch, path = "/services/{name}", tag = "services", params(("name" = String, Path)),
    request_body = ServicePatch,
    responses((status = 200, body = Applied), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub async fn patch(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Applied>, Problem> {
    let service = path_name(&name)?;
    let mut fields = Fields::of(json_object(request).await?);
    for part in NOT_YET {
        if fields.take(part).is_some() {
            fields.refuse(part, "is not available in this version of Sluice".to_owned());
        }
    }
    let change = match fields.take("balancer") {
        None => {
            fields.add([ChangeProblem::plain(
                "\"balancer\" is missing, such as {\"balancer\": {\"plugin\": \"maglev\"}}",
            )]);
            None
        }
        Some(Value::Null) => Some(Change::ClearOverlay { service }),
        Some(balancer) => match policy_from_json(&balancer, &known_plugins(&control)?) {
            Ok(policy) => Some(Change::SetBalancer { service, policy }),
            Err(problems) => {
                fields.add(problems.into_iter().map(|problem| ChangeProblem {
                    pointer: format!("/balancer{}", problem.path),
                    message: problem.message,
                    service: None,
                }));
                None
            }
        },
    };
    fields.finish()?;
    let applied = control.apply(change.expect("no problem was found with it")).await;
    Ok(Json(applied.map_err(within_settings)?))
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
        if !problem.pointer.is_empty() {
            problem.pointer = format!("/balancer/settings{}", problem.pointer);
        }
    }
    Refusal::Invalid { detail, problems }
}
