//! Endpoints as people and programs write them: `"10.0.0.1:9001"`, or an object.
//!
//! An object has `address` (`host:port`), or `host` and `port`; and, if wanted, `id`, `weight` (1 to 65535), `priority`,
//! `zone`, `metadata` (texts by name) and `healthy`. Other entries are for others, and are left alone.

use crate::{
    discovery::{Member, address, member},
    json::Value,
};

/// One endpoint. Its id is `id` where it gives none itself: of `id` and address, that is the address where `id` is none.
pub fn instance(value: &Value, id: Option<&str>) -> Result<Member, String> {
    if let Some(plain) = value.text() {
        return Ok(member(id.unwrap_or(plain), plain));
    }
    let Value::Table(_) = value else {
        return Err("must be \"host:port\", or an object with an \"address\"".to_owned());
    };
    let address = where_it_is(value)?;
    let mut made = member(id.unwrap_or(&address), &*address);
    if let Some(id) = value.get("id") {
        made.id = id.text().filter(|id| !id.is_empty()).ok_or("\"id\" must be a text")?.to_owned();
    }
    if let Some(weight) = value.get("weight") {
        let weight = weight.integer().filter(|weight| (1..=65535).contains(weight));
        made.weight = weight.ok_or("\"weight\" must be a whole number from 1 to 65535")?;
    }
    if let Some(priority) = value.get("priority") {
        made.priority = priority.integer().ok_or("\"priority\" must be a whole number from 0 on")?;
    }
    if let Some(zone) = value.get("zone") {
        made.zone = zone.text().ok_or("\"zone\" must be a text")?.to_owned();
    }
    if let Some(healthy) = value.get("healthy") {
        let Value::Boolean(healthy) = healthy else { return Err("\"healthy\" must be true or false".to_owned()) };
        made.healthy = *healthy;
    }
    if let Some(metadata) = value.get("metadata") {
        let Value::Table(entries) = metadata else { return Err("\"metadata\" must be an object of texts".to_owned()) };
        for (name, value) in entries {
            let text = value.text().ok_or_else(|| format!("\"metadata\": {name:?} must be a text"))?;
            made.metadata.push((name.clone(), text.to_owned()));
        }
    }
    Ok(made)
}

fn where_it_is(value: &Value) -> Result<String, String> {
    if let Some(given) = value.get("address").or_else(|| value.get("Addr")) {
        return given.text().map(str::to_owned).ok_or_else(|| "\"address\" must be a text, \"host:port\"".to_owned());
    }
    let host = value.get("host").and_then(Value::text);
    let port = value.get("port").and_then(Value::integer).and_then(|port| u16::try_from(port).ok());
    match host.zip(port) {
        Some((host, port)) => Ok(address(host, port)),
        None => Err("must have an \"address\" (\"host:port\"), or \"host\" and \"port\"".to_owned()),
    }
}

/// All endpoints of a list, or everything wrong with it, each problem with its place.
pub fn instances(list: &[Value]) -> Result<Vec<Member>, String> {
    let mut problems = Vec::new();
    let mut members = Vec::with_capacity(list.len());
    for (index, value) in list.iter().enumerate() {
        match instance(value, None) {
            Ok(member) => members.push(member),
            Err(problem) => problems.push(format!("endpoint {}: {problem}", index + 1)),
        }
    }
    if problems.is_empty() { Ok(members) } else { Err(problems.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse;

    #[test]
    fn endpoints_are_read_in_every_form() {
        let list = parse(
            r#"["10.0.0.1:1", {"address": "b:2", "weight": 7, "priority": 1, "zone": "z", "healthy": false,
                "metadata": {"track": "stable"}, "more": null}, {"host": "::1", "port": 3, "id": "c"}]"#,
        )
        .expect("JSON");
        let members = instances(list.list().expect("a list")).expect("right");
        let shown: Vec<_> = members.iter().map(|m| (m.id.as_str(), m.address.as_str(), m.weight, m.healthy)).collect();
        assert_eq!(shown, [("10.0.0.1:1", "10.0.0.1:1", 1, true), ("b:2", "b:2", 7, false), ("c", "[::1]:3", 1, true)]);
        assert_eq!(members[1].metadata, [("track".to_owned(), "stable".to_owned())]);
    }

    #[test]
    fn everything_wrong_is_told_with_its_place() {
        let list = parse(r#"[1, {"weight": 1}, {"address": "a:1", "weight": 0}, "b:2", {"address": "a:1", "id": ""}]"#);
        let problems = instances(list.expect("JSON").list().expect("a list")).expect_err("wrong");
        for place in ["endpoint 1:", "endpoint 2:", "endpoint 3: \"weight\"", "endpoint 5: \"id\""] {
            assert!(problems.contains(place), "{problems}");
        }
    }
}
