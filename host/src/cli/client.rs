//! A client of the control API.

use std::{io::Read, path::Path, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::{
    Agent, Body, BodyReader, RequestBuilder,
    http::{
        Response, StatusCode,
        header::{ACCEPT, AUTHORIZATION},
    },
    typestate::WithBody,
};

use super::{
    failure::{Exit, Failure},
    flags::ControlFlags,
    problem_document,
};

const CONTROL_VARIABLE: &str = "SLUICE_CONTROL";
const CONTROL_DEFAULT: &str = "http://127.0.0.1:9180";

/// The gateway is on this machine or near.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A push compiles and tries the plugin for every bound service before it is answered.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// A connection that has died unnoticed is made again after so long at most.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// A list of ten thousand services with their endpoints.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A token is a line.
const TOKEN_BYTES_MAX: u64 = 4096;

pub(super) struct Client {
    agent: Agent,
    /// Without a slash at its end.
    base: String,
    /// The `Authorization` header's value.
    authorization: Option<String>,
}

impl Client {
    pub fn new(flags: &ControlFlags) -> Result<Self, Failure> {
        let given = flags.control.clone().or_else(|| std::env::var(CONTROL_VARIABLE).ok());
        let base = base_url(given.as_deref().unwrap_or(CONTROL_DEFAULT))?;
        let authorization = flags.token_file.as_deref().map(bearer).transpose()?;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // What is asked of a gateway must reach this gateway: neither a proxy of the environment nor another host.
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(CALL_TIMEOUT))
            .build()
            .new_agent();
        Ok(Self { agent, base, authorization })
    }

    /// Where it talks to.
    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        let request = self.agent.get(self.url(path));
        let request = self.authorization.iter().fold(request, |request, value| request.header(AUTHORIZATION, value));
        self.answer(request.call())
    }

    /// The same as it came: a [`Value`] has no number of more digits than a `f64`.
    pub fn get_text(&self, path: &str) -> Result<String, Failure> {
        let request = self.agent.get(self.url(path));
        let request = self.authorization.iter().fold(request, |request, value| request.header(AUTHORIZATION, value));
        self.text(request.call()).map(|(_, text)| text)
    }

    /// Server-sent events, as they come, behind `last_event_id`.
    pub fn follow(&self, path: &str, last_event_id: Option<&str>) -> Result<BodyReader<'static>, Failure> {
        let request = self.agent.get(self.url(path)).header(ACCEPT, "text/event-stream");
        let request = self.authorization.iter().fold(request, |request, value| request.header(AUTHORIZATION, value));
        let request = last_event_id.iter().fold(request, |request, id| request.header("Last-Event-ID", *id));
        let answer = request.config().timeout_global(Some(FOLLOW_TIMEOUT)).build().call();
        match answer {
            Ok(answer) if answer.status().is_success() => Ok(answer.into_body().into_reader()),
            other => match self.text(other) {
                Ok((status, _)) => {
                    let message = format!("{} answered {status} instead of events", self.base);
                    Err(Failure::new(Exit::Failed, message))
                }
                Err(failure) => Err(failure),
            },
        }
    }

    pub fn delete(&self, path: &str) -> Result<Value, Failure> {
        let request = self.agent.delete(self.url(path));
        let request = self.authorization.iter().fold(request, |request, value| request.header(AUTHORIZATION, value));
        self.answer(request.call())
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(self.agent.post(self.url(path)), "application/json", body.to_string().as_bytes())
    }

    /// The answer as it came.
    pub fn post_text(&self, path: &str, body: &Value) -> Result<String, Failure> {
        let request = self.agent.post(self.url(path)).content_type("application/json");
        let request = self.authorization.iter().fold(request, |request, value| request.header(AUTHORIZATION, value));
        self.text(request.send(body.to_string().as_bytes())).map(|(_, text)| text)
    }

    /// A body of another type than JSON's own, with headers.
    pub fn post_as(
        &self,
        path: &str,
        content_type: &str,
        headers: &[(&str, String)],
        body: &[u8],
    ) -> Result<Value, Failure> {
        let request = self.agent.post(self.url(path));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        self.send(request, content_type, body)
    }

    pub fn patch(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(self.agent.patch(self.url(path)), "application/json", body.to_string().as_bytes())
    }

    pub fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.send(self.agent.put(self.url(path)), "application/json", body.to_string().as_bytes())
    }

    pub fn put_component(&self, path: &str, component: &[u8]) -> Result<Value, Failure> {
        self.send(self.agent.put(self.url(path)), "application/wasm", component)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn send(&self, request: RequestBuilder<WithBody>, content_type: &str, body: &[u8]) -> Result<Value, Failure> {
        let request = self.authorization.iter().fold(request, |request, value| request.header(AUTHORIZATION, value));
        self.answer(request.content_type(content_type).send(body))
    }

    fn answer(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Value, Failure> {
        let (status, text) = self.text(answer)?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|error| {
            let message = format!("{} answered {status} with something that is no JSON: {error}", self.base);
            Failure::new(Exit::Unreachable, message)
        })
    }

    /// The body of an answer that is a success.
    fn text(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<(StatusCode, String), Failure> {
        let mut answer = answer.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let text = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_string()
            .map_err(|error| self.unreachable(&error))?;
        if !status.is_success() {
            return Err(problem_document::failure(status.as_u16(), &text));
        }
        Ok((status, text))
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        // "Connection refused" says more than that it was an I/O error.
        let error: &dyn std::fmt::Display = match error {
            ureq::Error::Io(error) => error,
            other => other,
        };
        let hint = "is it running, and is this its control address (--control, SLUICE_CONTROL)?";
        Failure::new(Exit::Unreachable, format_args!("no gateway answers at {}: {error}; {hint}", self.base))
    }
}

/// An answer in the shape that this version of the command knows.
pub(super) fn understood<T: DeserializeOwned>(answer: &Value) -> Result<T, Failure> {
    T::deserialize(answer).map_err(|error| {
        let message = format!("the gateway's answer is not understood ({error}); is it of another version?");
        Failure::new(Exit::Failed, message)
    })
}

/// `http://host:port`, also where only `host:port` is given.
fn base_url(given: &str) -> Result<String, Failure> {
    let wrong = |why: &str| {
        Err(Failure::new(Exit::WrongInput, format_args!("control address {given:?}: {why}, such as {CONTROL_DEFAULT}")))
    };
    let with_scheme = if given.contains("://") { given.to_owned() } else { format!("http://{given}") };
    let Ok(uri) = with_scheme.parse::<http::Uri>() else { return wrong("must be an http address") };
    if uri.scheme_str() != Some("http") {
        return wrong("must begin with http://, as the control listener speaks no TLS");
    }
    if uri.query().is_some() || uri.host().is_none_or(str::is_empty) {
        return wrong("must be an http address");
    }
    Ok(with_scheme.trim_end_matches('/').to_owned())
}

fn bearer(path: &Path) -> Result<String, Failure> {
    let wrong = |why: &str| Failure::new(Exit::WrongInput, format_args!("the token file {}: {why}", path.display()));
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(TOKEN_BYTES_MAX).read_to_string(&mut text))
        .map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong("must hold one token of visible ASCII characters"));
    }
    Ok(format!("Bearer {token}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_address_is_an_http_address() {
        for (given, base) in [
            ("http://127.0.0.1:9180/", "http://127.0.0.1:9180"),
            ("127.0.0.1:9180", "http://127.0.0.1:9180"),
            ("http://gw/sluice/", "http://gw/sluice"),
        ] {
            assert_eq!(base_url(given).expect("right"), base);
        }
        for wrong in ["https://gw:1", "http://", "", "ftp://x", "http://gw?x=1", "a b"] {
            let failure = base_url(wrong).expect_err(wrong);
            assert_eq!(failure.exit, Exit::WrongInput, "{wrong}");
        }
    }

    #[test]
    fn a_token_is_one_word() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "secret-1\n").expect("writable");
        assert_eq!(bearer(file.path()).expect("right"), "Bearer secret-1");
        for wrong in ["", "a b", "a\r\nx: y"] {
            std::fs::write(file.path(), wrong).expect("writable");
            assert_eq!(bearer(file.path()).expect_err(wrong).exit, Exit::WrongInput);
        }
    }
}
