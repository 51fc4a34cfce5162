//! What Consul is asked, and what its answer means (`/v1/health/service/{name}`).

use sluice_sdk::{
    discovery::{Member, address, member},
    json::{self, Value},
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pub service: String,
    /// Empty for any.
    pub tag: String,
    /// Empty for Consul's own.
    pub datacenter: String,
    pub passing: bool,
}

impl Query {
    /// Service and parameters. With `known` it waits for another index: "blocking query".
    pub fn in_url(&self, known: Option<u64>, wait_ms: u32) -> String {
        let mut parameters = Vec::new();
        if let Some(index) = known {
            parameters.push(format!("index={index}"));
            parameters.push(format!("wait={wait_ms}ms"));
        }
        if self.passing {
            parameters.push("passing=true".to_owned());
        }
        for (name, value) in [("tag", &self.tag), ("dc", &self.datacenter)] {
            if !value.is_empty() {
                parameters.push(format!("{name}={}", escaped(value)));
            }
        }
        let mark = if parameters.is_empty() { "" } else { "?" };
        format!("{}{mark}{}", escaped(&self.service), parameters.join("&"))
    }
}

/// For a URL (RFC 3986 §2.3).
pub fn escaped(text: &str) -> String {
    let mut url = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}

/// All instances of an answer.
pub fn instances(body: &[u8]) -> Result<Vec<Member>, String> {
    let value = std::str::from_utf8(body).ok().and_then(json::parse).ok_or("the answer is no JSON")?;
    let entries = value.list().ok_or("the answer is no list")?;
    entries
        .iter()
        .map(|entry| instance(entry).ok_or_else(|| "an entry lacks an address or a port".to_owned()))
        .collect()
}

fn instance(entry: &Value) -> Option<Member> {
    let (node, service) = (entry.get("Node")?, entry.get("Service")?);
    let text = |of: &Value, key: &str| of.get(key).and_then(Value::text).unwrap_or_default().to_owned();
    let (own, nodes) = (text(service, "Address"), text(node, "Address"));
    let host = if own.is_empty() { nodes } else { own };
    let port = u16::try_from(service.get("Port")?.integer()?).ok().filter(|port| *port > 0)?;
    if host.is_empty() {
        return None;
    }
    let checks = entry.get("Checks").and_then(Value::list).unwrap_or_default();
    let any = |status: &str| checks.iter().any(|check| check.get("Status").and_then(Value::text) == Some(status));
    let (critical, warning) = (any("critical"), any("warning"));
    let weights = service.get("Weights");
    let weight = weights.and_then(|weights| weights.get(if warning { "Warning" } else { "Passing" })?.integer());
    let mut metadata = named(service.get("Meta"));
    let zone = zone(&metadata).or_else(|| zone(&named(node.get("Meta")))).unwrap_or_default();
    let tags = service.get("Tags").and_then(Value::list).unwrap_or_default();
    metadata.extend(tags.iter().filter_map(Value::text).map(|tag| ("tag".to_owned(), tag.to_owned())));
    // Ids are a node's own: two nodes may use the same.
    let id = format!("{}/{}", text(node, "Node"), text(service, "ID"));
    Some(Member {
        weight: weight.unwrap_or(1).clamp(1, 65535),
        zone,
        metadata,
        healthy: !critical,
        ..member(id, address(&host, port))
    })
}

fn named(meta: Option<&Value>) -> Vec<(String, String)> {
    let Some(Value::Table(entries)) = meta else { return Vec::new() };
    entries.iter().filter_map(|(name, value)| Some((name.clone(), value.text()?.to_owned()))).collect()
}

fn zone(metadata: &[(String, String)]) -> Option<String> {
    metadata.iter().find(|(name, _)| name == "zone").map(|(_, zone)| zone.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_stands_in_the_url() {
        let mut query = Query { service: "a b".into(), ..Query::default() };
        assert_eq!(query.in_url(None, 0), "a%20b");
        query = Query { service: "web".into(), tag: "v2&x".into(), datacenter: "dc1".into(), passing: true };
        assert_eq!(query.in_url(Some(7), 60_000), "web?index=7&wait=60000ms&passing=true&tag=v2%26x&dc=dc1");
    }

    #[test]
    fn an_answer_becomes_instances() {
        let body = r#"[
            {"Node": {"Node": "n1", "Address": "10.0.0.1", "Meta": {"zone": "nz"}},
             "Service": {"ID": "web-1", "Service": "web", "Tags": ["v2"], "Address": "", "Port": 80,
                         "Meta": {"rack": "7"}, "Weights": {"Passing": 10, "Warning": 2}},
             "Checks": [{"Status": "passing"}, {"Status": "warning"}]},
            {"Node": {"Node": "n2", "Address": "10.0.0.2"},
             "Service": {"ID": "web-1", "Tags": null, "Address": "fd00::1", "Port": 81, "Meta": {"zone": "z"}},
             "Checks": [{"Status": "critical"}]}]"#;
        let members = instances(body.as_bytes()).expect("an answer");
        let shown: Vec<_> =
            members.iter().map(|m| (m.id.as_str(), m.address.as_str(), m.weight, m.zone.as_str(), m.healthy)).collect();
        assert_eq!(shown, [("n1/web-1", "10.0.0.1:80", 2, "nz", true), ("n2/web-1", "[fd00::1]:81", 1, "z", false)]);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(members[0].metadata, [pair("rack", "7"), pair("tag", "v2")]);
    }

    #[test]
    fn an_answer_that_cannot_be_understood_is_none() {
        for body in ["", "{}", "[{}]", r#"[{"Node": {"Node": "n"}, "Service": {"ID": "x", "Port": 80}}]"#] {
            assert!(instances(body.as_bytes()).is_err(), "{body}");
        }
        assert!(instances(b"[]").expect("an answer").is_empty());
    }
}
