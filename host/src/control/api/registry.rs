//! The registry's own paths: what is in it, and the shortest form of a registration.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, Request, State},
    http::StatusCode,
};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    body::{Fields, json_object},
    problem::Problem,
};
use crate::{
    control::{change::ChangeProblem, handle::Control},
    registry::{
        CheckDefinition, CheckKind, CheckStatus, RegisteredInstance, Registration, RegistryError, Thresholds,
        rules::{self, FieldProblem},
    },
};

#[derive(Serialize, ToSchema)]
pub struct RegistryReport {
    /// Grows with every change.
    index: u64,
    /// Why no instance gets traffic, where the node is in maintenance.
    maintenance: Option<String>,
    instances: Vec<InstanceReport>,
    /// Services whose last membership is kept although leases of many instances ran out at once.
    held: Vec<HeldReport>,
}

#[derive(Serialize, ToSchema)]
pub struct InstanceReport {
    id: String,
    service: String,
    address: String,
    port: u16,
    /// passing, warning or critical: the worst of its checks.
    status: &'static str,
    tags: Vec<String>,
    zone: String,
    maintenance: Option<String>,
    /// What its checks said last, the worst first.
    checks: Vec<InstanceCheckReport>,
}

#[derive(Serialize, ToSchema)]
pub struct InstanceCheckReport {
    id: String,
    /// ttl, http or tcp.
    kind: &'static str,
    status: &'static str,
    output: String,
}

#[derive(Serialize, ToSchema)]
pub struct HeldReport {
    service: String,
    /// Leases that ran out.
    silent: usize,
    /// Of so many.
    of: usize,
}

/// All registered instances. Consul's API under `/v1/` has more, and waits for changes.
#[utoipa::path(get, path = "/registry", tag = "registry", responses((status = 200, body = RegistryReport)))]
pub async fn show(State(control): State<Arc<Control>>) -> Json<RegistryReport> {
    let registry = &control.registry;
    let held = registry.figures().held.into_iter();
    Json(RegistryReport {
        index: registry.index(),
        maintenance: registry.node().maintenance,
        instances: registry.instances().iter().map(|instance| report(instance)).collect(),
        held: held.map(|(service, leases)| HeldReport { service, silent: leases.held, of: leases.of }).collect(),
    })
}

fn report(instance: &RegisteredInstance) -> InstanceReport {
    let mut checks: Vec<_> = instance.checks.iter().collect();
    checks.sort_by_key(|check| std::cmp::Reverse(check.status));
    let checks = checks.into_iter().map(|check| InstanceCheckReport {
        id: check.id().to_owned(),
        kind: check.definition.kind.as_str(),
        status: check.status.as_str(),
        output: check.output().to_string(),
    });
    InstanceReport {
        id: instance.id.to_string(),
        service: instance.service.clone(),
        address: instance.address.clone(),
        port: instance.port,
        status: instance.status.as_str(),
        tags: instance.tags.clone(),
        zone: instance.zone.clone(),
        maintenance: instance.maintenance.clone(),
        checks: checks.collect(),
    }
}

/// Where an instance of a service is.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documents the body, which is read field by field so that every problem is found")]
pub struct ShortRegistration {
    #[schema(example = "orders")]
    service_name: String,
    /// A host name or IP address.
    #[schema(example = "127.0.0.1")]
    service_address: String,
    #[schema(example = 9001)]
    service_port: u16,
}

/// What was registered or removed.
#[derive(Serialize, ToSchema)]
pub struct Registered {
    #[schema(example = "orders:127.0.0.1:9001")]
    id: String,
}

/// How often the gateway looks whether an instance registered in the short form is there.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// A connection within a data centre that takes longer lost a packet.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);
/// An instance that could not be reached for so long is taken out of the registry.
const DEREGISTER_AFTER: Duration = Duration::from_secs(10 * 60);

/// Registers an instance in the shortest form. The gateway connects to it every 5 s, for the first time at once; it
/// gets traffic while that works, and leaves the registry when it has not worked for 10 minutes.
#[utoipa::path(post, path = "/register", tag = "registry", request_body = ShortRegistration,
    responses((status = 201, body = Registered, description = "new"), (status = 200, body = Registered, description = "was there"),
        (status = 422, body = Problem)))]
pub async fn register(
    State(control): State<Arc<Control>>,
    request: Request,
) -> Result<(StatusCode, Json<Registered>), Problem> {
    let short = Short::read(json_object(request).await?)?;
    let id = short.id();
    let is_new = control.registry.instance(&id).is_none();
    control.registry.register(short.registration()).await.map_err(refused)?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(Registered { id })))
}

/// Removes an instance: the same body that registered it.
#[utoipa::path(delete, path = "/register", tag = "registry", request_body = ShortRegistration,
    responses((status = 200, body = Registered), (status = 404, body = Problem), (status = 422, body = Problem)))]
pub async fn deregister(State(control): State<Arc<Control>>, request: Request) -> Result<Json<Registered>, Problem> {
    let short = Short::read(json_object(request).await?)?;
    remove(&control, short.id()).await
}

/// Removes an instance by its id.
#[utoipa::path(delete, path = "/register/{id}", tag = "registry", params(("id" = String, Path)),
    responses((status = 200, body = Registered), (status = 404, body = Problem)))]
pub async fn deregister_id(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
) -> Result<Json<Registered>, Problem> {
    remove(&control, id).await
}

async fn remove(control: &Control, id: String) -> Result<Json<Registered>, Problem> {
    if control.registry.deregister(&id).await.map_err(refused)? {
        return Ok(Json(Registered { id }));
    }
    Err(refused(RegistryError::UnknownService { id }))
}

struct Short {
    service: String,
    address: String,
    port: u16,
}

impl Short {
    fn read(body: Map<String, Value>) -> Result<Self, Problem> {
        let mut fields = Fields::of(body);
        let checked = |check: fn(&str) -> Result<(), String>| {
            move |value: Value| match value {
                Value::String(text) => check(&text).map(|()| text),
                _ => Err("must be a string".to_owned()),
            }
        };
        let port = |value: Value| {
            let port = value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|&port| port > 0);
            port.ok_or_else(|| "must be a whole number from 1 to 65535".to_owned())
        };
        let service = fields.required("service_name", checked(rules::service_name));
        let address = fields.required("service_address", checked(rules::address));
        let port = fields.required("service_port", port);
        fields.finish()?;
        let whole = service.zip(address).zip(port);
        let ((service, address), port) = whole.expect("each is there where no problem was found");
        Ok(Self { service, address, port })
    }

    /// The same instance has the same id however often it registers.
    fn id(&self) -> String {
        format!("{}:{}", self.service, self.target())
    }

    fn target(&self) -> String {
        let Self { address, port, .. } = self;
        if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
    }

    fn registration(self) -> Registration {
        let id = self.id();
        let check = CheckDefinition {
            id: format!("service:{id}"),
            name: format!("Service '{}' check", self.service),
            notes: String::new(),
            kind: CheckKind::Tcp { target: self.target(), interval: LOOK_INTERVAL, timeout: LOOK_TIMEOUT },
            initial: CheckStatus::Critical,
            deregister_after: Some(DEREGISTER_AFTER),
            thresholds: Thresholds::default(),
        };
        let Self { service, address, port } = self;
        Registration { id, service, address, port, checks: vec![check], ..Registration::default() }
    }
}

fn refused(error: RegistryError) -> Problem {
    let status = match &error {
        RegistryError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        RegistryError::UnknownService { .. } | RegistryError::UnknownCheck { .. } => StatusCode::NOT_FOUND,
        RegistryError::NoTtl { .. } => StatusCode::CONFLICT,
        RegistryError::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
        RegistryError::Closed => StatusCode::SERVICE_UNAVAILABLE,
        RegistryError::NotDurable(_) | RegistryError::Unreadable(_) | RegistryError::Damaged { .. } => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    let RegistryError::Invalid(problems) = error else { return Problem::new(status, error.to_string()) };
    let problem =
        |FieldProblem { field, message }| ChangeProblem { pointer: format!("/{field}"), message, ..Default::default() };
    Problem::with_problems(status, "the body is wrong", problems.into_iter().map(problem).collect())
}
