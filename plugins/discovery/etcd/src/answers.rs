//! What etcd is asked, and what its answers mean (etcd v3 `rpc.proto`, as JSON).

use std::fmt;

use sluice_sdk::{
    discovery::{Member, member},
    instances::instance,
    json::{self, Value},
};

use crate::base64::{decode, encode};

/// Longest line of a watch: an event has at most etcd's largest request, 1.5 MiB, in base64.
const LINE_BYTES_MAX: usize = 4 << 20;

/// Which history, and how far in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub cluster: String,
    pub revision: u64,
}

impl Place {
    pub fn parse(cursor: &str) -> Option<Self> {
        let (cluster, revision) = cursor.split_once(':')?;
        Some(Self { cluster: cluster.to_owned(), revision: revision.parse().ok()? })
    }

    fn of(answer: &Value) -> Option<Self> {
        let header = answer.get("header")?;
        let cluster = header.get("cluster_id")?.text()?.to_owned();
        Some(Self { cluster, revision: header.get("revision")?.text()?.parse().ok()? })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.cluster, self.revision)
    }
}

/// The first key that does not begin with `prefix`.
fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    // "All keys from there on".
    vec![0]
}

pub fn range_request(prefix: &str) -> String {
    format!(r#"{{"key": "{}", "range_end": "{}"}}"#, encode(prefix.as_bytes()), encode(&range_end(prefix)))
}

pub fn watch_request(prefix: &str, start_revision: u64) -> String {
    let (key, end) = (encode(prefix.as_bytes()), encode(&range_end(prefix)));
    format!(r#"{{"create_request": {{"key": "{key}", "range_end": "{end}", "start_revision": "{start_revision}"}}}}"#)
}

/// All keys below the prefix at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    pub place: Place,
    /// Key and value.
    pub values: Vec<(Vec<u8>, Vec<u8>)>,
}

/// None where it is no answer to a range request.
pub fn range(body: &[u8]) -> Option<Range> {
    let answer = json::parse(std::str::from_utf8(body).ok()?)?;
    let place = Place::of(&answer)?;
    let kvs = answer.get("kvs").and_then(Value::list).unwrap_or_default();
    let bytes = |kv: &Value, name: &str| decode(kv.get(name).and_then(Value::text).unwrap_or_default());
    let values = kvs.iter().map(|kv| Some((bytes(kv, "key")?, bytes(kv, "value")?)));
    Some(Range { place, values: values.collect::<Option<_>>()? })
}

/// The endpoints, and what is wrong with the values that are none.
pub fn endpoints(values: &[(Vec<u8>, Vec<u8>)], prefix: &str) -> (Vec<Member>, Vec<String>) {
    let (mut members, mut wrong) = (Vec::with_capacity(values.len()), Vec::new());
    for (key, value) in values {
        let key = String::from_utf8_lossy(key);
        let id = key.strip_prefix(prefix).filter(|id| !id.is_empty()).unwrap_or(&key);
        match endpoint(id, value) {
            Ok(member) => members.push(member),
            Err(why) => wrong.push(format!("key {key:?} is left out: {why}")),
        }
    }
    (members, wrong)
}

fn endpoint(id: &str, value: &[u8]) -> Result<Member, String> {
    let text = std::str::from_utf8(value).map_err(|_| "its value is no UTF-8 text".to_owned())?.trim();
    if text.starts_with(['{', '"']) {
        return instance(&json::parse(text).ok_or("its value is no JSON")?, Some(id));
    }
    let port = text.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none_or(|port| port == 0) || text.contains(char::is_whitespace) {
        return Err("its value is neither host:port nor a JSON object".to_owned());
    }
    Ok(member(id, text))
}

/// What one message of a watch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Nothing,
    Changed,
    /// The history that was known is gone.
    Lost(String),
    Failed(String),
}

pub fn event(line: &str, known: &Place) -> Event {
    let Some(message) = json::parse(line) else { return Event::Failed("a message is no JSON".to_owned()) };
    if let Some(error) = message.get("error") {
        let said = error.get("message").and_then(Value::text).unwrap_or("an error without a message");
        return Event::Failed(said.to_owned());
    }
    let Some(result) = message.get("result") else { return Event::Nothing };
    let is = |name: &str| result.get(name) == Some(&Value::Boolean(true));
    if let Some(compacted) = result.get("compact_revision").and_then(Value::text) {
        return Event::Lost(format!("revision {} is compacted away: there is {compacted} and later", known.revision));
    }
    if let Some(place) = Place::of(result) {
        if place.cluster != known.cluster {
            return Event::Lost(format!("cluster {} is another than {}", place.cluster, known.cluster));
        }
        if place.revision < known.revision {
            return Event::Lost(format!("the revision went back from {} to {}", known.revision, place.revision));
        }
    }
    if is("canceled") {
        let why = result.get("cancel_reason").and_then(Value::text).unwrap_or("the watch was cancelled");
        return Event::Failed(why.to_owned());
    }
    match result.get("events").and_then(Value::list) {
        Some(events) if !events.is_empty() => Event::Changed,
        _ => Event::Nothing,
    }
}

/// A stream of messages, one a line, in pieces of any size.
#[derive(Debug, Default)]
pub struct Lines {
    waiting: Vec<u8>,
}

impl Lines {
    pub fn push(&mut self, piece: &[u8]) {
        self.waiting.extend_from_slice(piece);
    }

    /// The next line that is whole and not empty.
    pub fn next(&mut self) -> Option<String> {
        loop {
            let end = self.waiting.iter().position(|byte| *byte == b'\n')?;
            let line: Vec<u8> = self.waiting.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim().to_owned();
            if !line.is_empty() {
                return Some(line);
            }
        }
    }

    pub fn too_long(&self) -> bool {
        self.waiting.len() > LINE_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(revision: u64) -> Place {
        Place { cluster: "7".to_owned(), revision }
    }

    #[test]
    fn a_prefix_is_asked_for_as_a_range() {
        assert_eq!(range_end("/a/"), b"/a0");
        assert_eq!(range_end("a\u{7f}"), b"a\x80");
        assert_eq!(range_end(""), [0]);
        assert_eq!(range_request("/a/"), r#"{"key": "L2Ev", "range_end": "L2Ew"}"#);
    }

    #[test]
    fn a_range_becomes_endpoints_and_wrong_values_are_left_out() {
        let kv = |key: &str, value: &str| {
            format!(r#"{{"key": "{}", "value": "{}"}}"#, encode(key.as_bytes()), encode(value.as_bytes()))
        };
        let kvs = [
            kv("/s/a", "10.0.0.1:80"),
            kv("/s/b", r#"{"address": "b:81", "weight": 3}"#),
            kv("/s/c", "nonsense"),
            kv("/s/d", "{"),
            kv("/s/e", r#"{"Addr": "10.0.0.2:82", "Metadata": 1}"#),
        ];
        let body = format!(r#"{{"header": {{"cluster_id": "7", "revision": "42"}}, "kvs": [{}]}}"#, kvs.join(","));
        let Range { place: at, values } = range(body.as_bytes()).expect("an answer");
        assert_eq!(at, place(42));
        assert_eq!(Place::parse(&at.to_string()), Some(at));
        let (members, wrong) = endpoints(&values, "/s/");
        let shown: Vec<_> = members.iter().map(|m| (m.id.as_str(), m.address.as_str(), m.weight)).collect();
        assert_eq!(shown, [("a", "10.0.0.1:80", 1), ("b", "b:81", 3), ("e", "10.0.0.2:82", 1)]);
        assert!(wrong.len() == 2 && wrong[0].contains("/s/c"), "{wrong:?}");
        assert_eq!(range(br#"{"header": {"cluster_id": "7", "revision": "1"}}"#).expect("none").values, []);
        assert_eq!(range(b"{}"), None);
    }

    #[test]
    fn messages_of_a_watch_are_told_apart() {
        let header = |revision: u64| format!(r#""header": {{"cluster_id": "7", "revision": "{revision}"}}"#);
        let message = |rest: &str| format!(r#"{{"result": {{{}, {rest}}}}}"#, header(9));
        assert_eq!(event(&message(r#""created": true"#), &place(9)), Event::Nothing);
        assert_eq!(event(&message(r#""events": [{"kv": {}}]"#), &place(5)), Event::Changed);
        assert!(matches!(event(&message(r#""canceled": true, "compact_revision": "8""#), &place(5)), Event::Lost(_)));
        assert!(matches!(event(&message(r#""canceled": true"#), &place(5)), Event::Failed(_)));
        assert!(matches!(event(&message(r#""created": true"#), &place(10)), Event::Lost(_)), "it went backwards");
        let elsewhere = Place { cluster: "8".to_owned(), revision: 9 };
        assert!(matches!(event(&message(r#""created": true"#), &elsewhere), Event::Lost(_)));
        assert!(matches!(event(r#"{"error": {"message": "no leader"}}"#, &place(1)), Event::Failed(_)));
    }

    #[test]
    fn lines_come_whole_whatever_the_pieces() {
        let mut lines = Lines::default();
        lines.push(b"{\"a\"");
        assert_eq!(lines.next(), None);
        lines.push(b": 1}\n\n{\"b\": 2}\n{");
        assert_eq!(lines.next().as_deref(), Some("{\"a\": 1}"));
        assert_eq!(lines.next().as_deref(), Some("{\"b\": 2}"));
        assert_eq!(lines.next(), None);
    }
}
