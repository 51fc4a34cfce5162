//! What is stored of a group.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{error::GroupsError, settings::Settings};
use crate::model::Position;

/// Of why an event was parked, as much as is kept.
const REASON_BYTES_MAX: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    pub settings: Settings,
    pub created_ms: u64,
    /// Of a webhook: it is pushed to no more until somebody sets it again.
    pub stopped: Option<Stopped>,
    /// What is left of it is to be removed.
    pub deleted: bool,
}

impl Definition {
    /// Whether it is pushed there.
    pub fn is_pushed_to(&self, url: &str) -> bool {
        self.settings.webhook.as_ref().is_some_and(|webhook| webhook.url == url)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    pub reason: String,
    pub at_ms: u64,
}

/// How far a group has come. All that fits at or below `read` is settled, but for `pending`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub read: Position,
    /// Not settled, in order, and how often each was delivered.
    pub pending: Vec<(Position, u32)>,
    /// Events that stand aside.
    pub parked: u64,
    /// Events acknowledged, over all its time.
    pub acknowledged: u64,
    /// What stands aside behind the first and up to the second is to be delivered again.
    pub replay: Option<(Position, Position)>,
}

impl Progress {
    pub fn at(read: Position) -> Self {
        Self { read, ..Self::default() }
    }
}

/// An event that nobody could take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedEvent {
    pub reason: String,
    /// How often it was delivered.
    pub attempts: u32,
    pub at_ms: u64,
}

/// As much of it as is kept.
pub fn reason(given: &str) -> String {
    given[..given.floor_char_boundary(REASON_BYTES_MAX)].to_owned()
}

/// In JSON, for what is written seldom and looked at by people.
pub fn json<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).expect("records are plain values").into()
}

pub fn from_json<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, GroupsError> {
    serde_json::from_slice(value).map_err(|error| GroupsError::damaged(key, &error))
}

/// In postcard, for what is written with every commit.
pub fn compact<T: Serialize>(value: &T) -> Bytes {
    postcard::to_allocvec(value).expect("records are plain values").into()
}

pub fn from_compact<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, GroupsError> {
    postcard::from_bytes(value).map_err(|error| GroupsError::damaged(key, &error))
}
