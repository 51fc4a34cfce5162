//! What stands in the store. Values are JSON, so that a later version can add fields with defaults.
//!
//! | key | holds |
//! | --- | --- |
//! | `c` | the claim: who coordinates, since when |
//! | `r/<gid>/<n>` | request `n` (0: the submission, then enlistments), its branches; never changes |
//! | `o/<gid>` | how a transaction stands that has not ended |
//! | `d/<gid>` | how one has ended |
//! | `i/<time><gid>` | the order of the list: the later begun, the smaller the key |
//! | `e/<time><gid>` | when an ended one is removed |

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    Gid,
    error::TransactionError,
    machine::{Ending, Facts, Machine},
    protocol::Pin,
    submission::{self, CallOptions},
};
use crate::{
    model::{
        PluginName, VersionId,
        transaction::{Branch, Decision, Reference},
    },
    storage::{KeyRange, Space},
};

pub const SPACE: Space = Space::Transactions;

pub const CLAIM_KEY: &[u8] = b"c";

/// Things that happened to one transaction that are kept; the first ones and the last ones say most, and there are few
/// others.
pub const EVENTS_MAX: usize = 200;

/// Calls that have had trouble whose last words are kept.
const TROUBLES_MAX: usize = 64;

/// One request, and what its protocol made of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RequestRecord {
    pub request: Map<String, Value>,
    pub branches: Vec<Branch>,
}

/// What never changes of a transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Submitted {
    #[serde(flatten)]
    pub first: RequestRecord,
    pub pin: Pin,
    pub options: CallOptions,
}

/// How a transaction stands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// DTM's `trans_type`.
    pub protocol: String,
    pub plugin: PluginName,
    pub version: VersionId,
    pub created_ms: u64,
    pub updated_ms: u64,
    /// When it expires; None: it does not.
    pub expires_ms: Option<u64>,
    /// Whether a client that has asked for an end makes that void.
    pub expiry_ends_with_asking: bool,
    /// Requests that stand in the store.
    pub requests: u32,
    pub facts: Facts,
    /// Whether the events of its decision are in the store of events.
    #[serde(default)]
    pub outcome_told: bool,
    pub events: Vec<Event>,
    pub events_left_out: u64,
    /// Of operations without a clear answer so far, keyed by branch and operation.
    pub troubles: BTreeMap<String, Trouble>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub at_ms: u64,
    #[serde(flatten)]
    pub what: EventKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum EventKind {
    Begun,
    Enlisted {
        branch: String,
    },
    /// The client asked for an end.
    Asked {
        decision: Decision,
        reason: Option<String>,
    },
    Expired,
    Called {
        branch: String,
        operation: String,
    },
    Succeeded {
        branch: String,
        operation: String,
    },
    Refused {
        branch: String,
        operation: String,
        why: String,
    },
    Decided {
        decision: Decision,
    },
    Hazard {
        reason: String,
    },
    /// An operator said to try again.
    Retried,
    Ended {
        ending: Ending,
    },
}

/// Why an operation has no clear answer yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    pub attempts: u32,
    pub last_error: String,
    /// Of the next attempt, as far as it is known.
    pub next_ms: Option<u64>,
}

/// The protocol's own answer is kept in events and hazards as far as this, in bytes.
pub const TEXT_LEN_MAX: usize = 1_000;

impl Standing {
    pub fn note(&mut self, at_ms: u64, what: EventKind) {
        self.updated_ms = at_ms;
        if self.events.len() < EVENTS_MAX {
            self.events.push(Event { at_ms, what });
        } else {
            self.events_left_out += 1;
        }
    }

    pub fn trouble(&mut self, at: Reference, trouble: Trouble) {
        if self.troubles.len() < TROUBLES_MAX || self.troubles.contains_key(&trouble_key(at)) {
            self.troubles.insert(trouble_key(at), trouble);
        }
    }

    pub fn no_trouble(&mut self, at: Reference) {
        self.troubles.remove(&trouble_key(at));
    }
}

pub fn trouble_key(at: Reference) -> String {
    format!("{}/{}", at.branch, at.operation)
}

/// Everything of one transaction, as read from the store.
pub struct Restored {
    pub gid: Gid,
    pub submitted: Submitted,
    pub payloads: Vec<Bytes>,
    pub machine: Machine,
    pub standing: Standing,
}

impl Restored {
    /// `requests` in order, the submission first.
    pub fn put_together(gid: Gid, standing: Standing, requests: &[(Bytes, Bytes)]) -> Result<Self, TransactionError> {
        let damaged = |key: &[u8], reason: &str| TransactionError::Damaged {
            key: String::from_utf8_lossy(key).into_owned(),
            reason: reason.to_owned(),
        };
        let Some(((key, first), later)) = requests.split_first() else {
            return Err(damaged(&request_key(&gid, 0), "it is not there"));
        };
        let submitted: Submitted = parse(key, first)?;
        let mut branches = submitted.first.branches.clone();
        let mut payloads = submission::payloads(&submitted.first.request);
        for (key, enlisted) in later {
            let enlisted: RequestRecord = parse(key, enlisted)?;
            payloads.extend(submission::payloads(&enlisted.request));
            branches.extend(enlisted.branches);
        }
        let machine = Machine::restore(branches, standing.facts.clone())
            .ok_or_else(|| damaged(key, "its branches are not those of its state"))?;
        Ok(Self { gid, submitted, payloads, machine, standing })
    }
}

pub fn json<T: Serialize>(value: &T) -> Bytes {
    serde_json::to_vec(value).expect("records are plain data with text keys").into()
}

pub fn parse<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, TransactionError> {
    serde_json::from_slice(value).map_err(|error| TransactionError::Damaged {
        key: String::from_utf8_lossy(key).into_owned(),
        reason: error.to_string(),
    })
}

pub fn request_key(gid: &Gid, number: u32) -> Bytes {
    format!("r/{gid}/{number:08x}").into()
}

pub fn requests_range(gid: &Gid) -> KeyRange {
    KeyRange::prefix(format!("r/{gid}/"))
}

pub fn open_key(gid: &Gid) -> Bytes {
    format!("o/{gid}").into()
}

pub fn open_range() -> KeyRange {
    KeyRange::prefix("o/")
}

pub fn done_key(gid: &Gid) -> Bytes {
    format!("d/{gid}").into()
}

/// The later begun, the smaller.
pub fn order_key(created_ms: u64, gid: &Gid) -> Bytes {
    timed(b"i/", u64::MAX - created_ms, gid)
}

pub fn order_range() -> KeyRange {
    KeyRange::prefix("i/")
}

pub fn expiry_key(at_ms: u64, gid: &Gid) -> Bytes {
    timed(b"e/", at_ms, gid)
}

/// Those due at that time.
pub fn expired_range(now_ms: u64) -> KeyRange {
    let end = [b"e/", &now_ms.to_be_bytes()[..]].concat();
    KeyRange::between("e/", end)
}

/// The gid of a key of `i/` or `e/`.
pub fn timed_gid(key: &[u8]) -> Option<Gid> {
    std::str::from_utf8(key.get(2 + 8..)?).ok()?.parse().ok()
}

/// The gid of a key of `o/`.
pub fn open_gid(key: &[u8]) -> Option<Gid> {
    std::str::from_utf8(key.get(2..)?).ok()?.parse().ok()
}

fn timed(prefix: &[u8], at: u64, gid: &Gid) -> Bytes {
    [prefix, &at.to_be_bytes(), gid.as_str().as_bytes()].concat().into()
}
