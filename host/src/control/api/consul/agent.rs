//! `/v1/agent/`: services, and the agent itself. The gateway is the agent of every service.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Extension,
    extract::{Path, Request, State},
    http::{HeaderValue, StatusCode},
    response::Response,
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{
    error::Error,
    input,
    output::{self, DATACENTER, NODE_ID},
    query::{Asked, Query},
    reply,
};
use crate::control::{api::access::Caller, handle::Control};

/// What maintenance says where nobody gave a reason. Consul's words.
const SERVICE_REASON: &str = "Maintenance mode is enabled for this service, but no reason was provided. \
     This is a default message.";
const NODE_REASON: &str = "Maintenance mode is enabled for this node, but no reason was provided. \
     This is a default message.";
/// A member that is there, in serf's numbers.
const ALIVE: u8 = 1;

pub async fn own(State(control): State<Arc<Control>>, asked: Asked) -> Result<Response, Error> {
    let options = control.registry.options();
    let config = json!({
        "Datacenter": DATACENTER,
        "PrimaryDatacenter": DATACENTER,
        "NodeName": options.node_name,
        "NodeID": NODE_ID,
        "Server": true,
        "Revision": "",
        "Version": env!("CARGO_PKG_VERSION"),
    });
    let value = json!({"Config": config, "DebugConfig": {}, "Coord": null, "Member": member(&control), "Meta": {}});
    Ok(reply::json(&asked.query()?, &value))
}

pub async fn members(State(control): State<Arc<Control>>, asked: Asked) -> Result<Response, Error> {
    Ok(reply::json(&asked.query()?, &json!([member(&control)])))
}

fn member(control: &Control) -> Value {
    let options = control.registry.options();
    json!({
        "Name": options.node_name,
        "Addr": options.node_address,
        "Port": control.address.port(),
        "Tags": {"dc": DATACENTER, "role": "consul", "id": NODE_ID},
        "Status": ALIVE,
    })
}

pub async fn services(State(control): State<Arc<Control>>, asked: Asked) -> Result<Response, Error> {
    let query = asked.query()?;
    let services = query.filtered(control.registry.instances().iter().map(|it| output::agent_service(it)));
    let by_id = services.into_iter().map(|service| (service["ID"].as_str().unwrap_or_default().to_owned(), service));
    Ok(reply::json(&query, &Value::Object(by_id.collect::<Map<_, _>>())))
}

pub async fn service(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Response, Error> {
    let query = asked.query()?;
    let (mut hash, mut value) = hashed(&control, &id)?;
    if query.hash.as_ref() == Some(&hash) {
        query.wait_in_any_case(&control, |wait| until_other(&control, &id, &hash, wait)).await?;
        (hash, value) = hashed(&control, &id)?;
    }
    value["ContentHash"] = hash.as_str().into();
    let mut response = reply::json(&query, &value);
    if let Ok(hash) = HeaderValue::from_str(&hash) {
        response.headers_mut().insert("x-consul-contenthash", hash);
    }
    Ok(response)
}

/// What is shown of an instance, and its hash.
fn hashed(control: &Control, id: &str) -> Result<(String, Value), Error> {
    let unknown = || {
        let text =
            format!("unknown service ID {id:?}. Ensure that the service instance ID is passed, not the service name.");
        Error::new(StatusCode::NOT_FOUND, text)
    };
    let instance = control.registry.instance(id).ok_or_else(unknown)?;
    let value = output::agent_service(&instance);
    let digest = Sha256::digest(value.to_string());
    Ok((hex::encode(&digest[..HASH_BYTES]), value))
}

/// Until the instance has another hash or is gone, or `wait` is over.
async fn until_other(control: &Control, id: &str, hash: &str, wait: Duration) {
    let until = Instant::now() + wait;
    loop {
        let index = control.registry.index();
        if !hashed(control, id).is_ok_and(|(now, _)| now == hash) {
            return;
        }
        control.registry.changed(index, until.saturating_duration_since(Instant::now())).await;
        // The time is over, or the gateway shuts down.
        if control.registry.index() == index {
            return;
        }
    }
}

/// As long as Consul's.
const HASH_BYTES: usize = 8;

pub async fn register(State(control): State<Arc<Control>>, asked: Asked, request: Request) -> Result<Response, Error> {
    let query = asked.query()?;
    let registration = input::registration(input::object(request).await?)?;
    control.registry.register_with(registration, query.replace_existing_checks).await?;
    Ok(reply::done())
}

pub async fn deregister(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Response, Error> {
    asked.query()?;
    if control.registry.deregister(&id).await? {
        return Ok(reply::done());
    }
    let text = format!("Unknown service ID {id:?}. Ensure that the service ID is passed, not the service name.");
    Err(Error::new(StatusCode::NOT_FOUND, text))
}

pub async fn maintenance(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
    asked: Asked,
) -> Result<Response, Error> {
    let reason = reason(asked.query()?, SERVICE_REASON)?;
    control.registry.set_maintenance(Some(&id), reason).await?;
    Ok(reply::done())
}

pub async fn node_maintenance(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    asked: Asked,
) -> Result<Response, Error> {
    Error::unless_operator(caller)?;
    let reason = reason(asked.query()?, NODE_REASON)?;
    control.registry.set_maintenance(None, reason).await?;
    Ok(reply::done())
}

/// None: it shall end.
fn reason(query: Query, default: &str) -> Result<Option<String>, Error> {
    let Some(enable) = query.enable else {
        return Err(Error::bad_request("enable: must be true or false"));
    };
    let reason = query.reason.filter(|reason| !reason.is_empty()).unwrap_or_else(|| default.to_owned());
    Ok(enable.then_some(reason))
}
