//! A blocking HTTP/1.1 client: requests to the gateway's listeners and to its control listener.

use std::{fmt, net::SocketAddr, time::Duration};

use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;

use crate::wait::DEADLINE;

/// Bodies that a test looks at whole; larger ones are streamed by the test itself.
const BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Speaks to one address. Keeps connections alive; follows no redirect; a status is never an error.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    address: SocketAddr,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Client {
    pub fn to(address: SocketAddr) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .allow_non_standard_methods(true)
            .timeout_global(Some(Duration::max(DEADLINE, Duration::from_secs(60))))
            .build()
            .into();
        Self { agent, address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Vec::new())
    }

    pub fn post(&self, path: &str, json: &Value) -> Answer {
        self.send_json(Method::POST, path, json)
    }

    pub fn patch(&self, path: &str, json: &Value) -> Answer {
        self.send_json(Method::PATCH, path, json)
    }

    pub fn delete(&self, path: &str) -> Answer {
        // The control listener takes changes with a JSON content type only, so that no web page can make one.
        self.send(Method::DELETE, path, &[("content-type", "application/json")], Vec::new())
    }

    /// Pushes a component.
    pub fn put_component(&self, path: &str, component: &[u8]) -> Answer {
        self.send(Method::PUT, path, &[("content-type", "application/wasm")], component.to_vec())
    }

    /// Any request; panics only where no answer came.
    pub fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Answer {
        self.try_send(method.clone(), path, headers, body)
            .unwrap_or_else(|error| panic!("{method} http://{}{path}: {error}", self.address))
    }

    /// Any request; the error is that no whole answer came.
    pub fn try_send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, ureq::Error> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = if body.is_empty() {
            self.agent.run(request.body(()).expect("the test's request is well-formed"))?
        } else {
            self.agent.run(request.body(body).expect("the test's request is well-formed"))?
        };
        let (head, mut body) = response.into_parts();
        let body = body.with_config().limit(BODY_BYTES_MAX).read_to_vec()?;
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    fn send_json(&self, method: Method, path: &str, json: &Value) -> Answer {
        self.send(method, path, &[("content-type", "application/json")], json.to_string().into_bytes())
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Which origin answered.
    pub fn instance(&self) -> &str {
        self.header("x-instance").unwrap_or_else(|| panic!("no origin answered this: {self}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("no JSON ({error}): {self}"))
    }

    /// The problem document with which the gateway itself answered, where it has this status and stage.
    #[track_caller]
    pub fn expect_problem(&self, status: u16, stage: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{self}");
        assert_eq!(problem["stage"], stage, "{self}");
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"), "{self}");
        problem
    }

    /// Itself, where the status is this one.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self}");
        self
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.status, self.headers, self.text())
    }
}
