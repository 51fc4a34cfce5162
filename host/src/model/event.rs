//! An event, as it is given and as it is stored: the attributes of CloudEvents 1.0.2 and its place in the order.

use std::{borrow::Borrow, fmt, marker::PhantomData, str::FromStr, sync::Arc};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, Visitor},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::causation::Causation;

/// Of one event's data, in bytes (WIT `events.draft`).
pub const DATA_BYTES_MAX: usize = 1024 * 1024;

/// Extension attributes of one event.
pub const EXTENSIONS_MAX: usize = 32;

/// Of `subject`, `dataschema`, and of an extension's value, in bytes. Headers carry them: most servers take 8 KiB of all.
pub const ATTRIBUTE_BYTES_MAX: usize = 1024;

/// Place in the one order of all events. Grows; gaps mean nothing. 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl Position {
    /// Before every event.
    pub const START: Self = Self(0);

    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What is wrong with a part of an event, and with which attribute of CloudEvents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{attribute}: {rule}")]
pub struct EventProblem {
    /// As CloudEvents calls it: `id`, `source`, `type`; or `stream`.
    pub attribute: String,
    pub rule: String,
}

impl EventProblem {
    pub fn new(attribute: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { attribute: attribute.into(), rule: rule.into() }
    }
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $attribute:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = EventProblem;
            fn from_str(given: &str) -> Result<Self, EventProblem> {
                match $check(given) {
                    None => Ok(Self(given.into())),
                    Some(rule) => Err(EventProblem::new($attribute, rule)),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                parsed(deserializer)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// Without a copy in between where the format has the text as it is.
fn parsed<'de, T: FromStr<Err = EventProblem>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Text<T>(PhantomData<T>);

    impl<T: FromStr<Err = EventProblem>> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a text")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Text(PhantomData))
}

text_type!(
    /// Name of a stream: 1 to 255 bytes without blanks, control characters and `*`, neither `.` nor `..` (they would
    /// vanish from a URL), and not beginning with `$`, which is kept for the store itself.
    StreamName,
    "stream",
    stream_problem
);
text_type!(
    /// What happened, as in `com.example.order.placed`: 1 to 255 bytes without blanks, control characters and `*`.
    EventType,
    "type",
    type_problem
);
text_type!(
    /// Which event of its source: 1 to 255 bytes without control characters. One of a stream's events has it at most.
    EventId,
    "id",
    id_problem
);
text_type!(
    /// Who says that it happened: a URI reference of 1 to 1,024 bytes.
    EventSource,
    "source",
    source_problem
);

impl EventId {
    /// UUIDv7 (RFC 9562, 5.7): neighbours in time are neighbours in an index, which takes them half again as fast as random
    /// ones (reference measurement: 96,000 a second for 61,000).
    pub fn made_up(unix_ms: u64, random: u128) -> Self {
        let mut counter_random_bytes = [0; 10];
        counter_random_bytes.copy_from_slice(&random.to_le_bytes()[..10]);
        let id = uuid::Builder::from_unix_timestamp_millis(unix_ms, &counter_random_bytes).into_uuid();
        Self(id.to_string().into())
    }
}

/// Longest stream name, type and id, in bytes: what most stores and file systems take for a name.
const NAME_BYTES_MAX: usize = 255;

fn name_problem(given: &str) -> Option<&'static str> {
    if given.is_empty() || given.len() > NAME_BYTES_MAX {
        Some("must be 1 to 255 bytes")
    } else if given.chars().any(|c| c.is_control() || c.is_whitespace() || c == '*') {
        Some("must not have blanks, control characters or '*'")
    } else {
        None
    }
}

fn stream_problem(given: &str) -> Option<&'static str> {
    match given {
        "." | ".." => Some("must not be \".\" or \"..\""),
        _ if given.starts_with('$') => Some("must not begin with '$', which is kept for the store itself"),
        _ => name_problem(given),
    }
}

fn type_problem(given: &str) -> Option<&'static str> {
    name_problem(given)
}

fn id_problem(given: &str) -> Option<&'static str> {
    if given.is_empty() || given.len() > NAME_BYTES_MAX {
        Some("must be 1 to 255 bytes")
    } else if given.chars().any(char::is_control) {
        Some("must not have control characters")
    } else {
        None
    }
}

fn source_problem(given: &str) -> Option<&'static str> {
    if given.is_empty() || given.len() > ATTRIBUTE_BYTES_MAX {
        Some("must be a URI reference of 1 to 1024 bytes")
    } else if given.chars().any(|c| c.is_control() || c.is_whitespace()) {
        Some("must be a URI reference, without blanks and control characters")
    } else {
        None
    }
}

/// When it happened, as its author wrote it (RFC 3339).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventTime(Arc<str>);

impl<'de> Deserialize<'de> for EventTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(deserializer)
    }
}

impl EventTime {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Milliseconds since 1970; 0 for what was before.
    pub fn unix_ms(&self) -> u64 {
        let Ok(time) = OffsetDateTime::parse(&self.0, &Rfc3339) else { return 0 };
        u64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(0)
    }

    pub fn of_unix_ms(unix_ms: u64) -> Self {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000);
        let text = time.ok().and_then(|time| time.format(&Rfc3339).ok());
        Self(text.unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned()).into())
    }
}

impl FromStr for EventTime {
    type Err = EventProblem;
    fn from_str(given: &str) -> Result<Self, EventProblem> {
        match OffsetDateTime::parse(given, &Rfc3339) {
            Ok(_) => Ok(Self(given.into())),
            Err(_) => Err(EventProblem::new("time", "must be a time as in RFC 3339: 2026-01-31T12:00:00Z")),
        }
    }
}

/// The value of an extension attribute; text where the transport has nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extension {
    Boolean(bool),
    Integer(i32),
    Text(Arc<str>),
}

impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            Self::Text(value) => f.write_str(value),
        }
    }
}

/// What an author of an event gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    pub id: EventId,
    pub source: EventSource,
    pub event_type: EventType,
    pub subject: Option<Arc<str>>,
    /// None: the moment of the append.
    pub time: Option<EventTime>,
    /// `datacontenttype`; None where there is no data, or where its author did not say.
    pub content_type: Option<Arc<str>>,
    /// `dataschema`.
    pub schema: Option<Arc<str>>,
    /// By name: a-z and 0-9, at most [`EXTENSION_NAME_LEN_MAX`] characters.
    pub extensions: Vec<(Arc<str>, Extension)>,
    /// Empty where there is none.
    pub data: Bytes,
    /// No author gives it: the gateway knows what it made of which event.
    pub causation: Causation,
}

/// Names of extension attributes that the store gives itself, whatever an author gave.
pub const OWN_EXTENSIONS: [&str; 3] = ["stream", "revision", "position"];

/// Longest name of an extension attribute. "SHOULD NOT exceed 20 characters" (CloudEvents 1.0.2, "Naming Conventions") forbids
/// none that does; a header takes this much and more.
pub const EXTENSION_NAME_LEN_MAX: usize = 64;

/// Members that an event in JSON may have.
pub const MEMBERS_MAX: usize = CONTEXT_ATTRIBUTES.len() + OWN_EXTENSIONS.len() + EXTENSIONS_MAX;

const CONTEXT_ATTRIBUTES: [&str; 10] =
    ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "data", "data_base64"];

impl Draft {
    /// With the least that an event has.
    pub fn new(id: EventId, source: EventSource, event_type: EventType) -> Self {
        Self {
            id,
            source,
            event_type,
            subject: None,
            time: None,
            content_type: None,
            schema: None,
            extensions: Vec::new(),
            data: Bytes::new(),
            causation: Causation::default(),
        }
    }

    /// What of it goes beyond the bounds, if anything does; names and times are right by their types.
    pub fn check(&self) -> Result<(), EventProblem> {
        if self.data.len() > DATA_BYTES_MAX {
            let rule = format!("must be at most {DATA_BYTES_MAX} bytes, and is {}", self.data.len());
            return Err(EventProblem::new("data", rule));
        }
        let texts = [("subject", &self.subject), ("datacontenttype", &self.content_type), ("dataschema", &self.schema)];
        for (attribute, text) in texts {
            if let Some(text) = text {
                check_text(attribute, text)?;
            }
        }
        if self.content_type.as_ref().is_some_and(|text| !is_media_type(text)) {
            return Err(EventProblem::new("datacontenttype", "must be a media type, such as application/json"));
        }
        if self.extensions.len() > EXTENSIONS_MAX {
            let rule = format!("has more than {EXTENSIONS_MAX} extension attributes");
            return Err(EventProblem::new("event", rule));
        }
        for (nth, (name, value)) in self.extensions.iter().enumerate() {
            check_extension_name(name)?;
            if self.extensions[..nth].iter().any(|(other, _)| other == name) {
                return Err(EventProblem::new(name.as_ref(), "is there twice"));
            }
            if let Extension::Text(value) = value {
                check_extension_text(name, value)?;
            }
        }
        Ok(())
    }

    /// Roughly what it takes in memory and on disk.
    pub fn weight_bytes(&self) -> usize {
        let texts = [&self.subject, &self.content_type, &self.schema];
        let texts: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
        let names = self.id.as_str().len() + self.source.as_str().len() + self.event_type.as_str().len();
        let extensions: usize = self.extensions.iter().map(|(name, value)| name.len() + weight(value)).sum();
        128 + names + texts + extensions + self.data.len()
    }
}

fn weight(value: &Extension) -> usize {
    match value {
        Extension::Boolean(_) | Extension::Integer(_) => 5,
        Extension::Text(text) => text.len(),
    }
}

/// `type/subtype`, with parameters behind it (RFC 9110, 8.3.1), in characters that a header carries as they are.
pub fn is_media_type(text: &str) -> bool {
    let essence = text.split(';').next().unwrap_or_default().trim();
    let is_token = |part: &str| {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !part.is_empty() && part.bytes().all(fits)
    };
    let parts = essence.split_once('/');
    parts.is_some_and(|(kind, of)| is_token(kind) && is_token(of))
        && text.bytes().all(|byte| (b' '..0x7f).contains(&byte))
}

/// Not empty, and none that a header could not carry.
pub fn check_text(attribute: &str, text: &str) -> Result<(), EventProblem> {
    if text.is_empty() {
        return Err(EventProblem::new(attribute, "must not be empty where it is given"));
    }
    check_extension_text(attribute, text)
}

/// At most [`ATTRIBUTE_BYTES_MAX`] bytes, without control characters.
pub fn check_extension_text(attribute: &str, text: &str) -> Result<(), EventProblem> {
    if text.len() > ATTRIBUTE_BYTES_MAX {
        return Err(EventProblem::new(attribute, format!("must be at most {ATTRIBUTE_BYTES_MAX} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(EventProblem::new(attribute, "must not have control characters"));
    }
    Ok(())
}

/// CloudEvents 1.0.2, "Naming Conventions".
pub fn check_extension_name(name: &str) -> Result<(), EventProblem> {
    let fits = (1..=EXTENSION_NAME_LEN_MAX).contains(&name.len());
    let rule = if !fits || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        "names of attributes are 1 to 64 characters of a-z and 0-9"
    } else if CONTEXT_ATTRIBUTES.contains(&name) || OWN_EXTENSIONS.contains(&name) {
        "is no name for an extension attribute"
    } else {
        return Ok(());
    };
    Err(EventProblem::new(name, rule))
}

/// An event that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub position: Position,
    pub stream: StreamName,
    /// 0 for the first event of its stream.
    pub revision: u64,
    /// When it was appended, in milliseconds since 1970.
    pub recorded_ms: u64,
    pub draft: Draft,
}

impl Event {
    /// When it happened, as its author says; when it was appended otherwise.
    pub fn time_ms(&self) -> u64 {
        self.draft.time.as_ref().map_or(self.recorded_ms, EventTime::unix_ms)
    }

    /// Roughly what it takes in memory.
    pub fn weight_bytes(&self) -> usize {
        self.draft.weight_bytes() + self.stream.as_str().len()
    }
}

/// What must be true of a stream for an append to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expected {
    #[default]
    Any,
    /// It never had an event.
    NoStream,
    /// It has had one.
    Exists,
    /// Its last event has this revision.
    Revision(u64),
}

impl Expected {
    /// `last` is the revision of the stream's last event, if it ever had one.
    pub fn holds(self, last: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => last.is_none(),
            Self::Exists => last.is_some(),
            Self::Revision(revision) => last == Some(revision),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::NoStream => f.write_str("none"),
            Self::Exists => f.write_str("exists"),
            Self::Revision(revision) => revision.fmt(f),
        }
    }
}

/// `any`, `none`, `exists`, or a revision.
impl FromStr for Expected {
    type Err = EventProblem;
    fn from_str(given: &str) -> Result<Self, EventProblem> {
        match given {
            "any" => Ok(Self::Any),
            "none" => Ok(Self::NoStream),
            "exists" => Ok(Self::Exists),
            number => number.parse().map(Self::Revision).map_err(|_| {
                EventProblem::new("expected revision", "must be \"any\", \"none\", \"exists\" or a revision")
            }),
        }
    }
}

/// A text that is exact, or ends in `*` and stands for all that begin with what is before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pattern {
    Exact(Arc<str>),
    Prefix(Arc<str>),
}

impl Pattern {
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
        }
    }
}

impl FromStr for Pattern {
    type Err = EventProblem;
    fn from_str(given: &str) -> Result<Self, EventProblem> {
        let (text, is_prefix) = given.strip_suffix('*').map_or((given, false), |prefix| (prefix, true));
        if (text.is_empty() && !is_prefix) || text.contains('*') || text.len() > NAME_BYTES_MAX {
            let rule = "must be a name, or the beginning of one and a '*' behind it";
            return Err(EventProblem::new("pattern", rule));
        }
        Ok(if is_prefix { Self::Prefix(text.into()) } else { Self::Exact(text.into()) })
    }
}

impl TryFrom<String> for Pattern {
    type Error = EventProblem;
    fn try_from(given: String) -> Result<Self, EventProblem> {
        given.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.to_string()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// Patterns of each kind in one filter.
pub const PATTERNS_MAX: usize = 64;

/// Which events: those that fit one of `types` and one of `streams`. An empty list is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Filter {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<Pattern>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<Pattern>,
}

impl Filter {
    pub fn is_everything(&self) -> bool {
        self.types.is_empty() && self.streams.is_empty()
    }

    pub fn matches(&self, event: &Event) -> bool {
        self.admits(event.draft.event_type.as_str(), event.stream.as_str())
    }

    pub fn admits(&self, event_type: &str, stream: &str) -> bool {
        let one_of = |patterns: &[Pattern], text: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(text))
        };
        one_of(&self.types, event_type) && one_of(&self.streams, stream)
    }
}

/// What of a stream is kept; without a bound, all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retention {
    /// Only its last events, so many; at least 1.
    pub max_count: Option<u64>,
    /// Only what was appended within this time, in milliseconds; at least 1.
    pub max_age_ms: Option<u64>,
    /// Nothing before this revision.
    pub first_revision: u64,
}
