//! What a client asks for, in the words of DTM's HTTP API, read and checked.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    error::{FieldProblem, TransactionError},
    outcome,
};

/// Of one request, as JSON (WIT `transaction.plan`).
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// DTM's column takes as many characters.
pub const GID_LEN_MAX: usize = 128;

/// Longest time that a client may name, in seconds: a week, after which nobody waits any more.
const SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

/// Headers that a client may add to its branches' calls.
const HEADERS_MAX: usize = 16;
const HEADER_LEN_MAX: usize = 1024;

/// A transaction's global id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Gid(Box<str>);

impl Gid {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Gid {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        let is_right = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:~@+=".contains(&byte);
        if (1..=GID_LEN_MAX).contains(&given.len()) && given.bytes().all(is_right) {
            Ok(Self(given.into()))
        } else {
            Err(format!("must be 1 to {GID_LEN_MAX} characters of a-z, A-Z, 0-9 and -_.:~@+="))
        }
    }
}

impl TryFrom<String> for Gid {
    type Error = String;
    fn try_from(given: String) -> Result<Self, String> {
        given.parse()
    }
}

impl From<Gid> for String {
    fn from(gid: Gid) -> String {
        gid.0.into()
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A transaction that a client wants.
#[derive(Clone, Debug)]
pub struct Submission {
    pub gid: Gid,
    /// DTM's `trans_type`.
    pub protocol: String,
    /// As received, without nulls.
    pub request: Map<String, Value>,
    pub options: CallOptions,
}

/// A branch that a client adds to its transaction.
#[derive(Clone, Debug)]
pub struct Enlistment {
    pub gid: Gid,
    pub request: Map<String, Value>,
}

/// How a transaction's calls are made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallOptions {
    /// After which it expires, whatever it stands at; None: the protocol's default, until the client has asked for an end.
    pub timeout_ms: Option<u64>,
    /// Of one call; None: [`super::REQUEST_TIMEOUT`].
    pub request_timeout_ms: Option<u64>,
    /// Before the first repetition of a call, on average; None: [`crate::model::backoff::BASE`].
    pub retry_interval_ms: Option<u64>,
    /// Attempts of an operation before the decision; None: as many as the protocol waits for.
    pub attempts_max: Option<u32>,
    pub headers: BTreeMap<String, String>,
}

impl CallOptions {
    pub fn request_timeout(&self) -> Duration {
        self.request_timeout_ms.map_or(super::REQUEST_TIMEOUT, Duration::from_millis)
    }
}

/// What tells a transaction from another one of the same id: a client that repeats itself repeats these.
const CONTENT: [&str; 8] =
    ["trans_type", "steps", "branches", "payloads", "custom_data", "query_prepared", "concurrent", "events"];

impl Submission {
    /// Everything that is wrong with it at once.
    pub fn parse(request: Value) -> Result<Self, TransactionError> {
        let request = object(request)?;
        let mut fields = Fields::of(&request);
        let gid = fields.gid();
        let protocol = fields.string("trans_type");
        if protocol.is_none() {
            fields.missing("trans_type", "must name the protocol, such as \"saga\"");
        }
        let options = CallOptions {
            timeout_ms: fields.seconds("timeout_to_fail"),
            request_timeout_ms: fields.seconds("request_timeout"),
            retry_interval_ms: fields.seconds("retry_interval"),
            attempts_max: fields.count("retry_limit"),
            headers: fields.headers("branch_headers"),
        };
        let mut problems = fields.problems;
        if let Some(gid) = &gid {
            problems.extend(outcome::problems(gid, &request));
        }
        match (gid, protocol) {
            (Some(gid), Some(protocol)) if problems.is_empty() => Ok(Self { gid, protocol, request, options }),
            _ => Err(TransactionError::Invalid(problems)),
        }
    }

    /// The first field in which a later request for the same id differs from this one, if it says anything else.
    pub fn differs_from(&self, first: &Map<String, Value>) -> Option<&'static str> {
        CONTENT.into_iter().find(|field| {
            let said = self.request.get(*field).filter(|value| !is_empty(value));
            said.is_some_and(|said| first.get(*field) != Some(said))
        })
    }
}

impl Enlistment {
    pub fn parse(request: Value) -> Result<Self, TransactionError> {
        let request = object(request)?;
        let mut fields = Fields::of(&request);
        let gid = fields.gid();
        let problems = fields.problems;
        match gid {
            Some(gid) if problems.is_empty() => Ok(Self { gid, request }),
            _ => Err(TransactionError::Invalid(problems)),
        }
    }
}

/// The bodies that a request brings: `payloads`, or the one `data` of a branch. Text stands for itself, as DTM's clients
/// send it; anything else is JSON.
pub fn payloads(request: &Map<String, Value>) -> Vec<Bytes> {
    let one = |value: &Value| match value {
        Value::String(text) => Bytes::copy_from_slice(text.as_bytes()),
        other => other.to_string().into(),
    };
    match (request.get("payloads"), request.get("data")) {
        (Some(Value::Array(payloads)), _) => payloads.iter().map(one).collect(),
        (_, Some(data)) => vec![one(data)],
        _ => Vec::new(),
    }
}

/// As protocols are given it.
pub fn text(request: &Map<String, Value>) -> String {
    serde_json::to_string(request).expect("what was JSON is JSON")
}

/// DTM's clients send every field, and null or nothing where they have none.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Number(_) => false,
    }
}

fn object(request: Value) -> Result<Map<String, Value>, TransactionError> {
    match request {
        Value::Object(mut request) => {
            request.retain(|_, value| !value.is_null());
            Ok(request)
        }
        _ => Err(TransactionError::field("", "must be a JSON object")),
    }
}

struct Fields<'r> {
    request: &'r Map<String, Value>,
    problems: Vec<FieldProblem>,
}

impl<'r> Fields<'r> {
    fn of(request: &'r Map<String, Value>) -> Self {
        Self { request, problems: Vec::new() }
    }

    fn missing(&mut self, field: &str, message: &str) {
        if !self.problems.iter().any(|problem| problem.pointer == format!("/{field}")) {
            self.problems.push(FieldProblem::new(format!("/{field}"), message));
        }
    }

    fn wrong(&mut self, field: &str, message: impl Into<String>) {
        self.problems.push(FieldProblem::new(format!("/{field}"), message));
    }

    fn gid(&mut self) -> Option<Gid> {
        let given = self.string("gid");
        match given.as_deref().unwrap_or_default().parse() {
            Ok(gid) => Some(gid),
            Err(rule) => {
                self.missing("gid", &rule);
                None
            }
        }
    }

    fn string(&mut self, field: &str) -> Option<String> {
        match self.request.get(field)? {
            Value::String(text) if text.is_empty() => None,
            Value::String(text) => Some(text.clone()),
            _ => {
                self.wrong(field, "must be a string");
                None
            }
        }
    }

    /// In milliseconds. DTM's clients send 0 where nothing is meant.
    fn seconds(&mut self, field: &str) -> Option<u64> {
        match self.request.get(field)?.as_u64() {
            Some(0) => None,
            Some(seconds) if seconds <= SECONDS_MAX => Some(seconds * 1_000),
            _ => {
                self.wrong(field, format!("must be a whole number of seconds, at most {SECONDS_MAX}"));
                None
            }
        }
    }

    fn count(&mut self, field: &str) -> Option<u32> {
        match self.request.get(field)?.as_u64().map(u32::try_from) {
            Some(Ok(0)) => None,
            Some(Ok(count)) => Some(count),
            _ => {
                self.wrong(field, "must be a whole number, at least 0");
                None
            }
        }
    }

    fn headers(&mut self, field: &str) -> BTreeMap<String, String> {
        let mut headers = BTreeMap::new();
        let Some(given) = self.request.get(field).filter(|given| !is_empty(given)) else { return headers };
        let Value::Object(given) = given else {
            self.wrong(field, "must be an object of strings");
            return headers;
        };
        if given.len() > HEADERS_MAX {
            self.wrong(field, format!("has {} headers, and {HEADERS_MAX} are the most", given.len()));
            return headers;
        }
        for (name, value) in given {
            let fits = HeaderName::from_str(name).is_ok_and(|name| !is_ours(&name));
            match value.as_str().filter(|value| fits && value.len() <= HEADER_LEN_MAX) {
                Some(text) if HeaderValue::from_str(text).is_ok() => {
                    headers.insert(name.to_ascii_lowercase(), text.to_owned());
                }
                _ => self.wrong(
                    &format!("{field}/{name}"),
                    format!("must be a header that is not the connection's own, with a text of at most {HEADER_LEN_MAX} characters"),
                ),
            }
        }
        headers
    }
}

/// Headers that say how a message is carried.
fn is_ours(name: &HeaderName) -> bool {
    use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
    [CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE].contains(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_dtms_clients_send_is_read() {
        let given = json!({
            "gid": "g-1", "trans_type": "saga", "wait_result": false, "timeout_to_fail": 0, "retry_interval": 2,
            "request_timeout": 5, "retry_limit": null, "branch_headers": {"X-Tenant": "a"}, "rollback_reason": null,
            "steps": [{"action": "http://a/x", "compensate": ""}], "payloads": ["{\"amount\":30}", {"b": 1}],
        });
        let submission = Submission::parse(given).expect("it is right");
        assert_eq!((submission.gid.as_str(), submission.protocol.as_str()), ("g-1", "saga"));
        let options = &submission.options;
        assert_eq!(
            (options.timeout_ms, options.request_timeout_ms, options.retry_interval_ms),
            (None, Some(5000), Some(2000))
        );
        assert_eq!(options.headers["x-tenant"], "a");
        assert!(!submission.request.contains_key("retry_limit"), "nulls are dropped");
        assert_eq!(payloads(&submission.request), [Bytes::from("{\"amount\":30}"), Bytes::from("{\"b\":1}")]);
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once_with_its_field() {
        let given = json!({
            "gid": "a/b", "timeout_to_fail": -1, "request_timeout": 1.5, "retry_limit": "many",
            "branch_headers": {"host": "a", "x": 1},
        });
        let TransactionError::Invalid(problems) = Submission::parse(given).expect_err("it is wrong") else { panic!() };
        let mut pointers: Vec<_> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
        pointers.sort_unstable();
        let wrong = [
            "/branch_headers/host",
            "/branch_headers/x",
            "/gid",
            "/request_timeout",
            "/retry_limit",
            "/timeout_to_fail",
            "/trans_type",
        ];
        assert_eq!(pointers, wrong);
        for whole in [json!([]), json!("saga"), json!(null)] {
            assert!(Submission::parse(whole).expect_err("no object").to_string().contains("must be a JSON object"));
        }
    }

    #[test]
    fn a_later_request_is_the_same_if_it_says_nothing_else() {
        let first = json!({"gid": "g", "trans_type": "msg", "payloads": ["1"], "query_prepared": "http://q"});
        let Value::Object(first) = first else { unreachable!() };
        let again = |value: Value| {
            let submission = Submission::parse(value).expect("it is right");
            submission.differs_from(&first)
        };
        assert_eq!(again(json!({"gid": "g", "trans_type": "msg"})), None);
        assert_eq!(
            again(json!({"gid": "g", "trans_type": "msg", "payloads": ["1"], "steps": null, "concurrent": false})),
            None
        );
        assert_eq!(again(json!({"gid": "g", "trans_type": "msg", "payloads": ["2"]})), Some("payloads"));
        assert_eq!(again(json!({"gid": "g", "trans_type": "saga"})), Some("trans_type"));
    }
}
