//! One call an event.

use sluice_sdk::{
    Settings,
    event_handler::{Answer, Call, Event, Failure, STRUCTURED, State},
};

/// What the gateway takes as a body, in bytes: the largest event, in base64.
const BODY_BYTES_MAX: usize = 2 << 20;

/// And as a target.
const TARGET_BYTES_MAX: usize = 8_000;

/// And as header fields of one call, with all their names and values.
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 8 << 10;

const FORWARDED: &str = "forwarded";
const POSITION: &str = "position";

/// Header fields that are the gateway's, or what the body is.
const TAKEN: [&str; 11] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub struct Webhook {
    target: String,
    headers: Vec<(String, String)>,
}

impl Webhook {
    pub fn configure(settings: &mut Settings) -> Self {
        let target = settings.required_text("target", "https://hooks.example.com/orders");
        // One that is missing is reported already.
        if let Some(why) = target_problem(&target).filter(|_| !target.is_empty()) {
            settings.problem("target", why);
        }
        let headers = settings.named_texts("headers");
        for (name, value) in &headers {
            if let Some(why) = header_problem(name, value) {
                settings.problem("headers", format!("{name}: {why}"));
            }
        }
        // The body's type is one of them.
        let own = ("content-type".len(), STRUCTURED.len());
        let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if headers.len() >= HEADERS_MAX || bytes + own.0 + own.1 > HEADER_BYTES_MAX {
            let most = HEADERS_MAX - 1;
            settings.problem("headers", format!("must be at most {most}, and 8 KiB with that of the body's type"));
        }
        Self { target, headers }
    }

    pub fn call(&self, event: &Event) -> Result<Call, Failure> {
        let body = event.structured();
        if body.len() > BODY_BYTES_MAX {
            let len = body.len();
            return Err(Failure::lasting(format!("as JSON it has {len} bytes, and {BODY_BYTES_MAX} are the most")));
        }
        let mut call = Call::post(&self.target, STRUCTURED, body);
        call.headers.extend(self.headers.iter().cloned());
        Ok(call)
    }
}

pub fn note(event: &Event, state: &mut State) {
    state.add(FORWARDED, 1);
    state.put_number(POSITION, event.position);
}

pub fn progress(state: &State) -> Answer {
    let (forwarded, position) = (state.number(FORWARDED), state.number(POSITION));
    Answer::json(format!("{{\"forwarded\":{forwarded},\"position\":{position}}}"))
}

/// What keeps it from being called.
fn target_problem(target: &str) -> Option<&'static str> {
    let scheme = ["service://", "http://", "https://"].into_iter().find(|scheme| target.starts_with(scheme));
    let Some(scheme) = scheme else { return Some("must begin with service://, http:// or https://") };
    let behind = &target[scheme.len()..];
    let host = behind.split(['/', '?', '#']).next().unwrap_or_default();
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if target.len() > TARGET_BYTES_MAX {
        Some("must be at most 8,000 bytes")
    } else if !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some("must be ASCII without blanks: everything else is percent-encoded")
    } else if scheme == "service://" && (host.is_empty() || !host.bytes().all(is_name)) {
        Some("must name a service, as in service://orders/path")
    } else if host.is_empty() || host.starts_with(':') {
        Some("must name a host, as in https://hooks.example.com/orders")
    } else {
        None
    }
}

/// What keeps it from being sent (RFC 9110 §5.1 and §5.5).
fn header_problem(name: &str, value: &str) -> Option<&'static str> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_name) {
        Some("is no name of a header field")
    } else if TAKEN.contains(&name.to_ascii_lowercase().as_str()) {
        Some("is set by the gateway")
    } else if value.chars().any(|c| c.is_control()) {
        Some("must not have control characters")
    } else if !value.is_ascii() {
        Some("must be ASCII")
    } else {
        None
    }
}
