//! One call an event.

use sluice_sdk::{
    Settings,
    event_handler::{Answer, Call, Event, Failure, STRUCTURED, State},
};

/// What the gateway takes as a body, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

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
        let has_scheme = ["service://", "http://", "https://"].iter().any(|scheme| target.starts_with(scheme));
        if !target.is_empty() && !has_scheme {
            settings.problem("target", "must begin with service://, http:// or https://");
        }
        let headers = settings.named_texts("headers");
        for (name, value) in &headers {
            if let Some(why) = header_problem(name, value) {
                settings.problem("headers", format!("{name}: {why}"));
            }
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

/// What keeps it from being sent (RFC 9110 §5.1 and §5.5).
fn header_problem(name: &str, value: &str) -> Option<&'static str> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_name) {
        Some("is no name of a header field")
    } else if TAKEN.contains(&name.to_ascii_lowercase().as_str()) {
        Some("is set by the gateway")
    } else if value.chars().any(|c| c.is_control()) {
        Some("must not have control characters")
    } else {
        None
    }
}
