//! `sluice registry …`.

mod flags;

pub(super) use flags::RegistryCommand;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::flags::RegisterFlags;
use super::{
    client::{Client, understood},
    failure::{Exit, Failure},
    output::{Output, table},
};

pub(super) fn run(command: RegistryCommand) -> Result<Output, Failure> {
    match command {
        RegistryCommand::List { control } => list(&Client::new(&control)?),
        RegistryCommand::Register(flags) => register(&Client::new(&flags.control)?, &flags),
        RegistryCommand::Deregister { id, control } => deregister(&Client::new(&control)?, &id),
        RegistryCommand::Maintenance { id, on: _, off, reason, control } => {
            maintenance(&Client::new(&control)?, id.as_deref(), !off, reason.as_deref())
        }
    }
}

/// What `GET /registry` says, as far as the list shows it.
#[derive(Deserialize)]
struct Registry {
    maintenance: Option<String>,
    instances: Vec<Instance>,
    held: Vec<Held>,
}

#[derive(Deserialize)]
struct Instance {
    id: String,
    service: String,
    address: String,
    port: u16,
    status: String,
    tags: Vec<String>,
    maintenance: Option<String>,
    checks: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    status: String,
    output: String,
}

#[derive(Deserialize)]
struct Held {
    service: String,
    silent: usize,
    of: usize,
}

fn list(client: &Client) -> Result<Output, Failure> {
    let answer = client.get("/registry")?;
    let Registry { maintenance, mut instances, held } = understood(&answer)?;
    instances.sort_by(|one, other| (&one.service, &one.id).cmp(&(&other.service, &other.id)));
    let heading = ["SERVICE", "ID", "ADDRESS", "STATUS", "TAGS", "WHY"];
    let rows: Vec<_> = instances.iter().map(row).collect();
    let node = maintenance.map(|reason| format!("the node is in maintenance, no instance gets traffic: {reason}"));
    let held = held.iter().map(|held| {
        let Held { service, silent, of } = held;
        format!("{service}: {silent} of {of} leases ran out at once; its last membership is kept")
    });
    let lines: Vec<_> = std::iter::once(table(heading, &rows)).chain(node).chain(held).collect();
    Ok(Output::new(lines.join("\n"), answer))
}

fn row(instance: &Instance) -> [String; 6] {
    // The first line of the worst check says enough.
    let worst = instance.checks.first().filter(|check| check.status != "passing");
    let why = worst.and_then(|check| check.output.lines().next()).map(str::to_owned);
    [
        instance.service.clone(),
        instance.id.clone(),
        format!("{}:{}", instance.address, instance.port),
        instance.status.clone(),
        instance.tags.join(","),
        instance.maintenance.as_ref().map(|reason| format!("maintenance: {reason}")).or(why).unwrap_or_default(),
    ]
}

fn register(client: &Client, flags: &RegisterFlags) -> Result<Output, Failure> {
    let (host, port) =
        flags.address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?))).ok_or_else(
            || {
                Failure::new(
                    Exit::WrongInput,
                    format_args!("{}: must be a host and port, such as 10.0.0.7:8080", flags.address),
                )
            },
        )?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let id = flags.id.clone().unwrap_or_else(|| format!("{}:{}", flags.service, flags.address));
    let mut body = json!({
        "ID": id,
        "Name": flags.service,
        "Address": host,
        "Port": port,
        "Tags": flags.tag,
        "Meta": flags.meta.iter().cloned().map(|(key, value)| (key, value.into())).collect::<Map<String, Value>>(),
        "Locality": {"Zone": flags.zone.as_deref().unwrap_or_default()},
    });
    if let Some(check) = check(flags) {
        body["Check"] = check;
    }
    client.put("/v1/agent/service/register", &body)?;
    Ok(Output::new(format!("registered {id}"), json!({"id": id})))
}

/// None where it shall live without one.
fn check(flags: &RegisterFlags) -> Option<Value> {
    if flags.no_check {
        return None;
    }
    let after = &flags.deregister_after;
    Some(if let Some(ttl) = &flags.ttl {
        json!({"TTL": ttl, "DeregisterCriticalServiceAfter": after})
    } else if let Some(url) = &flags.http {
        json!({"HTTP": url, "Interval": flags.interval, "DeregisterCriticalServiceAfter": after})
    } else {
        json!({"TCP": flags.address, "Interval": flags.interval, "DeregisterCriticalServiceAfter": after})
    })
}

fn deregister(client: &Client, id: &str) -> Result<Output, Failure> {
    client.delete(&format!("/register/{}", in_path(id)))?;
    Ok(Output::new(format!("deregistered {id}"), json!({"id": id})))
}

fn maintenance(client: &Client, id: Option<&str>, enable: bool, reason: Option<&str>) -> Result<Output, Failure> {
    let path = match id {
        Some(id) => format!("/v1/agent/service/maintenance/{}", in_path(id)),
        None => "/v1/agent/maintenance".to_owned(),
    };
    let reason = reason.map(|reason| format!("&reason={}", in_path(reason))).unwrap_or_default();
    client.put(&format!("{path}?enable={enable}{reason}"), &json!({}))?;
    let what = id.unwrap_or("every instance");
    let text = if enable { format!("{what} gets no traffic") } else { format!("{what} is no longer in maintenance") };
    Ok(Output::new(text, json!({"id": id, "maintenance": enable})))
}

/// Whatever characters it has.
fn in_path(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}
