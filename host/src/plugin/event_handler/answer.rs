//! What event handlers answer, checked: a guest may say anything, and what is wrong is told in one sentence.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};

use super::shown::SCHEMA;
use crate::{
    model::{
        SERVICE_SCHEME, ServiceUrl,
        event::{
            ATTRIBUTE_BYTES_MAX, Draft, EventId, EventProblem, EventSource, EventType, Extension, Filter, PATTERNS_MAX,
            Pattern, StreamName,
        },
    },
    plugin::{
        StateWrites, TARGET_BYTES_MAX,
        bindings::event_handler::{
            exports::sluice::plugin::{
                event_handler::{
                    Call as GuestCall, Caused as GuestCaused, Effect as GuestEffect, Failure as GuestFailure,
                    Subscription as GuestSubscription,
                },
                read_model::Answer as GuestAnswer,
            },
            sluice::plugin::events::DraftResult,
        },
        instance::TEXT_BYTES_MAX,
        log::printable,
    },
};

/// Effects of one batch: several for each event that a batch has.
pub const HANDLE_EFFECTS_MAX: usize = 1_000;

/// All effects of one batch together, in bytes: they are one commit with what was written.
pub const HANDLE_ANSWER_BYTES_MAX: usize = 8 << 20;

/// Body of what a read model answers, in bytes: a client pages through what is larger.
pub const READ_BODY_BYTES_MAX: usize = 4 << 20;

/// Header fields of one call, and bytes of all their names and values: what most servers take.
const CALL_HEADERS_MAX: usize = 64;
const CALL_HEADER_BYTES_MAX: usize = 8 << 10;

/// Body of one call, in bytes: an event whose data is as large as may be, in base64 and with its attributes.
const CALL_BODY_BYTES_MAX: usize = 2 << 20;

/// Header fields that are the gateway's own: they belong to the connection, or say which effect a call is.
const OWN_HEADERS: [HeaderName; 10] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::HOST,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What came of a batch: all of it is one commit with the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handled {
    /// In the guest's order.
    pub caused: Vec<Caused>,
    /// What `state-write` left.
    pub writes: StateWrites,
    /// What is stored in all after these writes, keys and values, if the quota said rightly what was before them.
    pub state_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caused {
    /// Index into the events given.
    pub by: usize,
    pub effect: Effect,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Emit(GuestDraft),
    Call(HandlerCall),
}

/// An event that a guest wants to be appended; within all bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestDraft {
    pub stream: StreamName,
    pub event_type: EventType,
    pub subject: Option<Arc<str>>,
    pub content_type: Option<Arc<str>>,
    pub schema: Option<Arc<str>>,
    pub extensions: Vec<(Arc<str>, Extension)>,
    pub data: Bytes,
}

impl GuestDraft {
    /// The whole of it but its stream.
    pub fn into_draft(self, id: EventId, source: EventSource) -> Draft {
        let Self { stream: _, event_type, subject, content_type, schema, extensions, data } = self;
        Draft { subject, content_type, schema, extensions, data, ..Draft::new(id, source, event_type) }
    }
}

/// A call that a guest wants to be made. Whether its target is granted is for whoever makes it to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerCall {
    /// `service://…`, `http://…` or `https://…`.
    pub target: String,
    pub method: Method,
    /// None of what is the gateway's own.
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A batch that a guest could not handle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HandleFailure {
    /// Index of the event that it is about.
    pub at: usize,
    /// Whether trying again may help.
    pub transient: bool,
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadAnswer {
    /// 200 to 599.
    pub status: StatusCode,
    pub content_type: HeaderValue,
    pub body: Bytes,
}

pub(super) fn filter(given: GuestSubscription) -> Result<Filter, String> {
    let patterns = |what: &str, given: Vec<String>| {
        if given.len() > PATTERNS_MAX {
            return Err(format!("wants {} patterns of {what}, and {PATTERNS_MAX} are the most", given.len()));
        }
        let parsed = given.iter().map(|text| {
            let pattern = text.parse::<Pattern>();
            pattern.map_err(|problem| format!("wants {what} {:?}: {problem}", shown(text)))
        });
        parsed.collect()
    };
    Ok(Filter { types: patterns("types", given.types)?, streams: patterns("streams", given.streams)? })
}

pub(super) fn caused(given: Vec<GuestCaused>, events: usize) -> Result<Vec<Caused>, String> {
    if given.len() > HANDLE_EFFECTS_MAX {
        return Err(format!("caused {} effects at once, and {HANDLE_EFFECTS_MAX} are the most", given.len()));
    }
    let mut bytes = 0;
    let lifted = given.into_iter().enumerate().map(|(nth, caused)| {
        let by = index(caused.by, events)
            .ok_or_else(|| format!("effect {nth} is caused by event {}, and there are {events} events", caused.by))?;
        let (effect, effect_bytes) = effect(caused.effect).map_err(|why| format!("effect {nth}: {why}"))?;
        bytes += effect_bytes;
        if bytes > HANDLE_ANSWER_BYTES_MAX {
            return Err(format!("caused effects of more than {} MiB at once", HANDLE_ANSWER_BYTES_MAX >> 20));
        }
        Ok(Caused { by, effect })
    });
    lifted.collect()
}

pub(super) fn failure(given: GuestFailure, events: usize) -> Result<HandleFailure, String> {
    let at = index(given.at, events)
        .ok_or_else(|| format!("failed at event {}, and there are {events} events", given.at))?;
    Ok(HandleFailure { at, transient: given.transient, message: shown(&given.message) })
}

pub(super) fn read(given: GuestAnswer) -> Result<ReadAnswer, String> {
    let status = StatusCode::from_u16(given.status).ok().filter(|status| (200..=599).contains(&status.as_u16()));
    let status = status.ok_or_else(|| format!("answered with status {}, which is not 200 to 599", given.status))?;
    let content_type = HeaderValue::from_str(&given.content_type).ok().filter(|_| is_media_type(&given.content_type));
    let content_type = content_type.ok_or_else(|| {
        format!("answered with content type {:?}, which is none such as application/json", shown(&given.content_type))
    })?;
    if given.body.len() > READ_BODY_BYTES_MAX {
        let len = given.body.len();
        return Err(format!("answered with {len} bytes, and {READ_BODY_BYTES_MAX} are the most"));
    }
    Ok(ReadAnswer { status, content_type, body: given.body.into() })
}

fn index(given: u32, len: usize) -> Option<usize> {
    usize::try_from(given).ok().filter(|index| *index < len)
}

/// With its weight in bytes.
fn effect(given: GuestEffect) -> Result<(Effect, usize), String> {
    match given {
        GuestEffect::Emit(draft) => {
            let draft = emitted(draft).map_err(|problem| format!("an event that cannot be: {problem}"))?;
            let bytes = weighed(&draft).weight_bytes() + draft.stream.as_str().len();
            Ok((Effect::Emit(draft), bytes))
        }
        GuestEffect::Call(call) => {
            let header_bytes: usize = call.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
            let bytes = call.target.len() + header_bytes + call.body.len();
            Ok((Effect::Call(asked(call, header_bytes)?), bytes))
        }
    }
}

fn emitted(given: DraftResult) -> Result<GuestDraft, EventProblem> {
    let mut schema = None;
    let mut extensions = Vec::with_capacity(given.extensions.len());
    for (name, value) in given.extensions {
        if name == SCHEMA && schema.is_none() {
            schema = Some(value.into());
        } else {
            // The name goes into a message if it is wrong, and is a guest's.
            let name = if name.len() > ATTRIBUTE_BYTES_MAX { shown(&name) } else { name };
            extensions.push((name.into(), Extension::Text(value.into())));
        }
    }
    let draft = GuestDraft {
        stream: given.stream_name.parse()?,
        event_type: given.event_type.parse()?,
        subject: given.subject.map(Arc::from),
        content_type: Some(given.content_type).filter(|given| !given.is_empty()).map(Arc::from),
        schema,
        extensions,
        data: given.data.into(),
    };
    weighed(&draft).check().map(|()| draft)
}

/// With a name of the usual length, to be checked and weighed.
fn weighed(draft: &GuestDraft) -> Draft {
    let id = "a-handler:1:0".parse().expect("an id");
    draft.clone().into_draft(id, "/projections/a-handler".parse().expect("a source"))
}

fn asked(given: GuestCall, header_bytes: usize) -> Result<HandlerCall, String> {
    check_target(&given.target)?;
    let method = Method::from_bytes(given.method.as_bytes())
        .ok()
        .filter(|method| *method != Method::CONNECT)
        .ok_or_else(|| format!("a call with the method {:?}, which is none that can be sent", shown(&given.method)))?;
    if given.headers.len() > CALL_HEADERS_MAX || header_bytes > CALL_HEADER_BYTES_MAX {
        return Err(format!(
            "a call with {} header fields of {header_bytes} bytes, and {CALL_HEADERS_MAX} of {CALL_HEADER_BYTES_MAX} bytes \
             are the most",
            given.headers.len()
        ));
    }
    if given.body.len() > CALL_BODY_BYTES_MAX {
        return Err(format!(
            "a call with a body of {} bytes, and {CALL_BODY_BYTES_MAX} are the most",
            given.body.len()
        ));
    }
    let mut headers = HeaderMap::with_capacity(given.headers.len());
    for (name, value) in &given.headers {
        let field = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(value).ok());
        let Some((parsed, value)) = field else {
            return Err(format!("a call with the header field {:?}, which cannot be sent", shown(name)));
        };
        if OWN_HEADERS.contains(&parsed) {
            return Err(format!("a call with the header field {parsed:?}, which is the gateway's to set"));
        }
        headers.append(parsed, value);
    }
    Ok(HandlerCall { target: given.target, method, headers, body: given.body.into() })
}

fn check_target(target: &str) -> Result<(), String> {
    let is_right = if target.len() > TARGET_BYTES_MAX {
        false
    } else if target.starts_with(SERVICE_SCHEME) {
        target.parse::<ServiceUrl>().is_ok()
    } else {
        target.parse::<Uri>().is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")))
    };
    if is_right {
        return Ok(());
    }
    let target = shown(target);
    Err(format!(
        "a call to {target:?}, which is no URL of at most {TARGET_BYTES_MAX} bytes with http, https or service"
    ))
}

/// `type/subtype` of RFC 9110 §8.3.1, and whatever parameters there are.
fn is_media_type(text: &str) -> bool {
    let is_token = |text: &str| {
        let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !text.is_empty() && text.bytes().all(is_char)
    };
    let essence = text.split(';').next().unwrap_or_default().trim_end();
    text.len() <= ATTRIBUTE_BYTES_MAX
        && essence.split_once('/').is_some_and(|(top, sub)| is_token(top) && is_token(sub))
}

fn shown(text: &str) -> String {
    printable(text, TEXT_BYTES_MAX)
}
