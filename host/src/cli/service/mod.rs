//! `sluice service …`.

mod shown;

use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    applied,
    client::{Client, understood},
    failure::Failure,
    flags::ServiceCommand,
    output::{Output, table},
};
use crate::model::{PluginName, ServiceName};

pub(super) fn run(command: ServiceCommand) -> Result<Output, Failure> {
    match command {
        ServiceCommand::List { control } => list(&Client::new(&control)?),
        ServiceCommand::Show { name, control } => show(&Client::new(&control)?, &name),
        ServiceCommand::Set { name, balancer, failover, discovery, settings, force, reset: _, control } => {
            let settings = settings.as_deref().map(super::settings).transpose()?;
            let client = Client::new(&control)?;
            let settings = settings.unwrap_or_else(|| json!({}));
            let policy = |plugin: &PluginName| json!({"plugin": plugin, "settings": settings});
            match (balancer, failover, discovery) {
                (Some(plugin), ..) => {
                    set(&client, &name, &format!("balancer {plugin}"), &json!({"balancer": policy(&plugin)}))
                }
                (None, Some(plugin), _) => {
                    set(&client, &name, &format!("failover {plugin}"), &json!({"failover": policy(&plugin)}))
                }
                (None, None, Some(plugin)) => {
                    let patch = json!({"discovery": policy(&plugin), "force": force});
                    set(&client, &name, &format!("discovery {plugin}"), &patch)
                }
                (None, None, None) => reset(&client, &name),
            }
        }
    }
}

#[derive(Deserialize)]
struct Services {
    services: Vec<Service>,
}

/// A service in `GET /services`, as far as the list shows it.
#[derive(Deserialize)]
struct Service {
    name: String,
    balancer: Balancer,
    endpoints: Vec<Endpoint>,
    in_flight: u64,
    attempts: u64,
    failures: u64,
}

#[derive(Deserialize)]
struct Balancer {
    plugin: String,
    version: String,
    source: String,
}

#[derive(Deserialize)]
struct Endpoint {
    available: bool,
}

fn list(client: &Client) -> Result<Output, Failure> {
    let answer = client.get("/services")?;
    let Services { services } = understood(&answer)?;
    let heading = ["SERVICE", "BALANCER", "VERSION", "FROM", "ENDPOINTS", "IN FLIGHT", "ATTEMPTS", "FAILURES"];
    let rows: Vec<_> = services.iter().map(row).collect();
    Ok(Output::new(table(heading, &rows), answer))
}

fn row(service: &Service) -> [String; 8] {
    let available = service.endpoints.iter().filter(|endpoint| endpoint.available).count();
    [
        service.name.clone(),
        service.balancer.plugin.clone(),
        service.balancer.version.clone(),
        service.balancer.source.clone(),
        format!("{available}/{}", service.endpoints.len()),
        service.in_flight.to_string(),
        service.attempts.to_string(),
        service.failures.to_string(),
    ]
}

fn show(client: &Client, name: &ServiceName) -> Result<Output, Failure> {
    let answer = client.get(&format!("/services/{name}"))?;
    let service: shown::Service = understood(&answer)?;
    Ok(Output::new(service.in_words(), answer))
}

fn set(client: &Client, name: &ServiceName, what: &str, patch: &Value) -> Result<Output, Failure> {
    let answer = client.patch(&format!("/services/{name}"), patch)?;
    applied::output(&format!("service {name}: {what}"), answer)
}

fn reset(client: &Client, name: &ServiceName) -> Result<Output, Failure> {
    let answer = client.delete(&format!("/services/{name}/overlay"))?;
    applied::output(&format!("service {name}: the configuration file's policies"), answer)
}
