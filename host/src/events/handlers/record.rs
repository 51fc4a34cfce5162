//! What is stored of event handlers beside their own state.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::error::HandlersError;
use crate::model::{PluginName, Position, VersionId};

/// What a generation of a handler keeps to: another one builds its state anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    pub plugin: PluginName,
    pub version: VersionId,
    pub settings: Map<String, Value>,
}

/// The generations of a handler. Stays where the configuration does not name the handler any more, so that it goes on
/// where it was, should it come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// What came at or before is none of its business, in a rebuild neither.
    pub begins: Position,
    /// Whose state is read, and whose effects go out.
    pub active: u64,
    /// Builds its state beside the active one.
    pub rebuilding: Option<u64>,
    /// Of the generation that comes next.
    pub next: u64,
    /// Why the last one that was to take over did not.
    pub refused: Option<Refused>,
}

/// A generation that failed while it built its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub pin: Pin,
    /// The event that it did not take.
    pub position: Position,
    pub reason: String,
    pub at_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    pub pin: Pin,
    pub begun_ms: u64,
}

/// How far a generation has come: written with all that follows from the events up to there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// All at or below was handled, put aside or did not fit.
    pub checkpoint: Position,
    /// Events handled.
    pub handled: u64,
    /// Events that stand aside now.
    pub parked: u64,
    /// Events appended.
    pub emitted: u64,
    /// Calls put into the outbox.
    pub called: u64,
    /// What it has stored, keys and values.
    pub state_bytes: u64,
}

/// An event that a handler did not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedEvent {
    pub reason: String,
    /// Calls of the handler that failed on it.
    pub attempts: u32,
    pub at_ms: u64,
}

/// A call that an event caused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxCall {
    pub target: String,
    pub method: String,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub at_ms: u64,
    /// That have failed.
    pub attempts: u32,
    pub last_error: Option<String>,
}

impl OutboxCall {
    /// Roughly what it takes on the disk; the same however often it has failed.
    pub fn weight_bytes(&self) -> u64 {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        (self.target.len() + self.method.len() + headers + self.body.len()) as u64
    }

    /// Where it goes, from the record, without the rest of it. None: the record is damaged.
    pub fn target_of(value: &[u8]) -> Option<&str> {
        postcard::take_from_bytes(value).ok().map(|(target, _)| target)
    }
}

/// In JSON, for what is written seldom and looked at by people.
pub fn json<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).expect("records are plain values").into()
}

pub fn from_json<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, HandlersError> {
    serde_json::from_slice(value).map_err(|error| HandlersError::damaged(key, &error))
}

/// In postcard, for what is written with every commit.
pub fn compact<T: Serialize>(value: &T) -> Bytes {
    postcard::to_allocvec(value).expect("records are plain values").into()
}

pub fn from_compact<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, HandlersError> {
    postcard::from_bytes(value).map_err(|error| HandlersError::damaged(key, &error))
}
