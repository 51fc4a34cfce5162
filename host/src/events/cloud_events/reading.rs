//! One event, attribute by attribute, wherever they came from.

use std::sync::Arc;

use bytes::Bytes;

use super::{Placed, SPEC_VERSION, problem::Problems};
use crate::model::{
    DATA_BYTES_MAX, Draft, EventId, EventProblem, EventSource, EventTime, EventType, Extension, OWN_EXTENSIONS,
    StreamName, check_extension_name, check_extension_text, check_text, is_media_type,
};

/// What has been read of an event.
pub struct Reading<'p> {
    problems: &'p mut Problems,
    /// How many there were before this event.
    problems_before: usize,
    /// Of the event in what came: `/0` in a list. None where attributes are headers.
    pointer: Option<&'p str>,
    is_versioned: bool,
    id: Option<EventId>,
    source: Option<EventSource>,
    event_type: Option<EventType>,
    stream: Option<StreamName>,
    subject: Option<Arc<str>>,
    time: Option<EventTime>,
    pub content_type: Option<Arc<str>>,
    schema: Option<Arc<str>>,
    extensions: Vec<(Arc<str>, Extension)>,
    data: Bytes,
    /// Attributes that were there, right or wrong.
    seen: Vec<Arc<str>>,
}

/// The value of an attribute, as far as the transport knows.
pub enum Given {
    Boolean(bool),
    Integer(i32),
    Text(String),
}

impl<'p> Reading<'p> {
    pub fn new(problems: &'p mut Problems, pointer: Option<&'p str>) -> Self {
        Self {
            problems_before: problems.count(),
            problems,
            pointer,
            is_versioned: false,
            id: None,
            source: None,
            event_type: None,
            stream: None,
            subject: None,
            time: None,
            content_type: None,
            schema: None,
            extensions: Vec::new(),
            data: Bytes::new(),
            seen: Vec::new(),
        }
    }

    /// Any attribute but data. `one_stream`: where it belongs is known, whatever it says itself.
    pub fn attribute(&mut self, name: &str, value: Given, one_stream: bool) {
        if !self.is_first(name) {
            return;
        }
        if OWN_EXTENSIONS.contains(&name) && (name != "stream" || one_stream) {
            return;
        }
        let text = match (value, is_text(name)) {
            (Given::Text(text), _) => text,
            (Given::Boolean(_) | Given::Integer(_), true) => return self.refuse(name, "must be a string"),
            (Given::Boolean(value), false) => return self.extension(name, Extension::Boolean(value)),
            (Given::Integer(value), false) => return self.extension(name, Extension::Integer(value)),
        };
        match name {
            "specversion" if text == SPEC_VERSION => self.is_versioned = true,
            "specversion" => self.refuse(name, format!("must be {SPEC_VERSION:?}, and is {text:?}")),
            "id" => self.id = self.parsed(name, &text),
            "source" => self.source = self.parsed(name, &text),
            "type" => self.event_type = self.parsed(name, &text),
            "time" => self.time = self.parsed(name, &text),
            "stream" => self.stream = self.parsed(name, &text),
            "subject" => self.subject = self.checked(name, text, None),
            "datacontenttype" => {
                let rule = (!is_media_type(&text)).then_some("must be a media type, such as application/json");
                self.content_type = self.checked(name, text, rule);
            }
            "dataschema" => {
                let rule = (!is_absolute_uri(&text)).then_some("must be a URI with its scheme, such as https://…");
                self.schema = self.checked(name, text, rule);
            }
            _ => self.extension(name, Extension::Text(text.into())),
        }
    }

    pub fn data(&mut self, name: &str, data: Bytes) {
        if data.len() > DATA_BYTES_MAX {
            let rule = format!("must be at most {DATA_BYTES_MAX} bytes, and is {}", data.len());
            // A body has no other name than this.
            let attribute = if self.pointer.is_some() { name } else { "data" };
            self.problems.add_size(self.place(name), EventProblem::new(attribute, rule));
        } else {
            self.data = data;
        }
    }

    pub fn refuse(&mut self, name: &str, rule: impl Into<String>) {
        let problem = self.named(name, rule.into());
        self.problems.add(self.place(name), problem);
    }

    /// Whether the attribute has not been there before; told where it has.
    pub fn is_first(&mut self, name: &str) -> bool {
        let is_first = !self.has(name);
        if is_first {
            self.seen.push(name.into());
        } else {
            self.refuse(name, "is there twice");
        }
        is_first
    }

    /// None where anything is wrong with it. It goes to `one_stream`, or where it says, or to the stream of its type.
    pub fn finish(mut self, one_stream: Option<&StreamName>) -> Option<Placed> {
        for required in ["specversion", "id", "source", "type"] {
            if !self.has(required) {
                self.refuse(required, "is missing");
            }
        }
        let event_type = self.event_type.take()?;
        let stream = match one_stream {
            Some(stream) => Some(stream.clone()),
            None => self.own_stream(&event_type),
        };
        if !self.is_versioned || self.problems.count() > self.problems_before {
            return None;
        }
        let mut draft = Draft::new(self.id.take()?, self.source.take()?, event_type);
        draft.subject = self.subject.take();
        draft.time = self.time.take();
        draft.content_type = self.content_type.take();
        draft.schema = self.schema.take();
        draft.extensions = std::mem::take(&mut self.extensions);
        draft.data = std::mem::take(&mut self.data);
        if let Err(problem) = draft.check() {
            self.problems.add(self.pointer.unwrap_or_default().to_owned(), problem);
            return None;
        }
        Some(Placed { stream: stream?, draft })
    }

    /// Where it says that it belongs, or else the stream of its type.
    fn own_stream(&mut self, event_type: &EventType) -> Option<StreamName> {
        let given = self.stream.take();
        if given.is_some() || self.has("stream") {
            return given;
        }
        let named: Result<StreamName, EventProblem> = event_type.as_str().parse();
        let refused = |problem: EventProblem| {
            self.refuse("stream", format!("is missing, and the type is no stream's name: it {}", problem.rule));
        };
        named.map_err(refused).ok()
    }

    fn has(&self, name: &str) -> bool {
        self.seen.iter().any(|seen| **seen == *name)
    }

    fn parsed<T: std::str::FromStr<Err = EventProblem>>(&mut self, name: &str, text: &str) -> Option<T> {
        text.parse().map_err(|problem: EventProblem| self.refuse(name, problem.rule)).ok()
    }

    fn checked(&mut self, name: &str, text: String, rule: Option<&'static str>) -> Option<Arc<str>> {
        let checked = match rule {
            Some(rule) => Err(EventProblem::new(name, rule)),
            None => check_text(name, &text),
        };
        checked.map(|()| text.into()).map_err(|problem| self.refuse(name, problem.rule)).ok()
    }

    fn extension(&mut self, name: &str, value: Extension) {
        let checked = check_extension_name(name).and_then(|()| match &value {
            Extension::Text(text) => check_extension_text(name, text),
            Extension::Boolean(_) | Extension::Integer(_) => Ok(()),
        });
        match checked {
            Ok(()) => self.extensions.push((name.into(), value)),
            Err(problem) => self.refuse(name, problem.rule),
        }
    }

    /// Of an attribute in what came.
    fn place(&self, name: &str) -> String {
        match self.pointer {
            Some(pointer) => format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")),
            None => String::new(),
        }
    }

    /// By the name under which it came.
    fn named(&self, name: &str, rule: String) -> EventProblem {
        match (self.pointer, name) {
            (None, "datacontenttype") => EventProblem::new("content-type", rule),
            (None, name) => EventProblem::new(format!("{}{name}", super::BINARY_PREFIX), rule),
            (Some(_), name) => EventProblem::new(name, rule),
        }
    }
}

/// Attributes that are text by the specification, or by ours.
fn is_text(name: &str) -> bool {
    let texts = ["specversion", "id", "source", "type", "time", "subject", "datacontenttype", "dataschema", "stream"];
    texts.contains(&name)
}

/// RFC 3986, 4.3, as far as the scheme.
fn is_absolute_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let begins = scheme.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    begins && is_scheme && !rest.is_empty() && !text.chars().any(char::is_whitespace)
}
