//! What an event causes.

use super::{Call, Caused, Draft, Effect};

/// What the events of one batch have caused so far. The gateway carries it out once what was stored is durable, each
/// effect under an id of its own that it has for ever.
#[derive(Debug, Default)]
pub struct Effects {
    /// The event that is being handled.
    pub(super) by: u32,
    pub(super) caused: Vec<Caused>,
}

impl Effects {
    /// Appends an event, exactly once.
    pub fn emit(&mut self, draft: Draft) {
        self.push(Effect::Emit(draft));
    }

    /// Calls a service, at least once and with an `Idempotency-Key`.
    pub fn call(&mut self, call: Call) {
        self.push(Effect::Call(call));
    }

    fn push(&mut self, effect: Effect) {
        self.caused.push(Caused { by: self.by, effect });
    }
}

impl Draft {
    /// An event whose data is JSON.
    pub fn json(stream: impl Into<String>, event_type: impl Into<String>, data: impl Into<String>) -> Self {
        Self {
            stream_name: stream.into(),
            event_type: event_type.into(),
            subject: None,
            content_type: "application/json".to_owned(),
            data: data.into().into_bytes(),
            extensions: Vec::new(),
        }
    }

    pub fn with_subject(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }
}

impl Call {
    /// `target` is `service://NAME/path`, or a URL whose host is among the gateway's `allow_hosts`.
    pub fn post(target: impl Into<String>, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            target: target.into(),
            method: "POST".to_owned(),
            headers: vec![("content-type".to_owned(), content_type.to_owned())],
            body: body.into(),
        }
    }
}
