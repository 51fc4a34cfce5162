//! Where everything of event handlers stands in [`Space::Handlers`]. Numbers are big endian, so that keys are in their
//! order; names have no control characters, so that a zero byte ends them.
//!
//! | key | value |
//! | --- | --- |
//! | `c` | who may write, and the epoch of that claim (JSON) |
//! | `h` handler | which generations it has ([`super::record::Registration`]) |
//! | `g` handler 0 generation (u64) | what the generation keeps to ([`super::record::Generation`]) |
//! | `k` handler 0 generation | how far it has come ([`super::record::Progress`]) |
//! | `s` handler 0 generation key | the state of that generation: the guest's own bytes |
//! | `p` handler 0 generation position (u64) | an event put aside ([`super::record::ParkedEvent`]) |
//! | `o` handler 0 position n (u32) stream | a call to be made ([`super::record::OutboxCall`]) |
//! | `q` handler 0 position n stream | a call put aside; the same |
//! | `d` handler 0 generation | nothing: what is left of the generation is to be removed |

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    model::{HandlerName, Position, StreamName},
    storage::{KeyRange, Space},
};

pub const SPACE: Space = Space::Handlers;
pub const CLAIM: &[u8] = b"c";

pub fn registration(name: &HandlerName) -> Bytes {
    [b"h", name.as_str().as_bytes()].concat().into()
}

pub fn generation(name: &HandlerName, generation: u64) -> Bytes {
    numbered(b'g', name, generation).freeze()
}

/// Of every handler, in use or not.
pub fn all_generations() -> KeyRange {
    KeyRange::prefix(&b"g"[..])
}

pub fn progress(name: &HandlerName, generation: u64) -> Bytes {
    numbered(b'k', name, generation).freeze()
}

/// In front of the guest's own keys.
pub fn state(name: &HandlerName, generation: u64) -> Bytes {
    numbered(b's', name, generation).freeze()
}

pub fn parked_event(name: &HandlerName, generation: u64, position: Position) -> Bytes {
    let mut key = numbered(b'p', name, generation);
    key.put_u64(position.0);
    key.freeze()
}

pub fn parked_events(name: &HandlerName, generation: u64) -> KeyRange {
    KeyRange::prefix(numbered(b'p', name, generation))
}

/// The position at the end of a key.
pub fn last_position(key: &[u8]) -> Option<Position> {
    Some(Position(u64::from_be_bytes(*key.last_chunk()?)))
}

pub fn dropped(name: &HandlerName, generation: u64) -> Bytes {
    numbered(b'd', name, generation).freeze()
}

pub fn all_dropped(name: &HandlerName) -> KeyRange {
    KeyRange::prefix(named(b'd', name))
}

/// The generation at the end of a key.
pub fn last_generation(key: &[u8]) -> Option<u64> {
    last_position(key).map(|position| position.0)
}

/// Which call of a handler: the n-th effect of the event that caused it. Calls of one stream are made in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId {
    pub cause: Position,
    pub nth: u32,
    /// Of the event that caused it.
    pub stream: StreamName,
}

impl CallId {
    /// Of one that waits.
    pub fn outbox(&self, name: &HandlerName) -> Bytes {
        self.key(b'o', name)
    }

    /// Of one that was put aside.
    pub fn parked(&self, name: &HandlerName) -> Bytes {
        self.key(b'q', name)
    }

    fn key(&self, kind: u8, name: &HandlerName) -> Bytes {
        let mut key = numbered(kind, name, self.cause.0);
        key.put_u32(self.nth);
        key.put_slice(self.stream.as_str().as_bytes());
        key.freeze()
    }

    /// From either key.
    pub fn of(key: &[u8]) -> Option<Self> {
        let behind_name = key.iter().position(|&byte| byte == 0)? + 1;
        let (cause, rest) = key[behind_name..].split_first_chunk()?;
        let (nth, stream) = rest.split_first_chunk()?;
        let stream = std::str::from_utf8(stream).ok()?.parse().ok()?;
        Some(Self { cause: Position(u64::from_be_bytes(*cause)), nth: u32::from_be_bytes(*nth), stream })
    }
}

pub fn outbox(name: &HandlerName) -> KeyRange {
    KeyRange::prefix(named(b'o', name))
}

/// Before every call that waits of events from there on, behind those of others.
pub fn calls_from(name: &HandlerName, position: Position) -> Bytes {
    numbered(b'o', name, position.0).freeze()
}

pub fn parked_calls(name: &HandlerName) -> KeyRange {
    KeyRange::prefix(named(b'q', name))
}

fn named(kind: u8, name: &HandlerName) -> BytesMut {
    let mut key = BytesMut::with_capacity(name.as_str().len() + 32);
    key.put_u8(kind);
    key.put_slice(name.as_str().as_bytes());
    key.put_u8(0);
    key
}

fn numbered(kind: u8, name: &HandlerName, number: u64) -> BytesMut {
    let mut key = named(kind, name);
    key.put_u64(number);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HandlerName {
        text.parse().expect("a name")
    }

    #[test]
    fn a_calls_key_says_which_call_it_is_and_sorts_by_its_cause() {
        let id = |cause, nth, stream: &str| CallId {
            cause: Position(cause),
            nth,
            stream: stream.parse().expect("a stream"),
        };
        let ids = [id(1, 0, "z"), id(1, 1, "a"), id(2, 0, "a"), id(300, 0, "b")];
        let keys: Vec<_> = ids.iter().map(|id| id.outbox(&name("h"))).collect();
        assert!(keys.is_sorted());
        for (id, key) in ids.iter().zip(&keys) {
            assert_eq!(CallId::of(key).as_ref(), Some(id));
            assert!(outbox(&name("h")).contains(key));
            assert!(!outbox(&name("h-2")).contains(key));
        }
    }

    #[test]
    fn the_state_of_a_generation_is_nobody_elses() {
        let range = KeyRange::prefix(state(&name("a"), 1));
        assert!(range.contains(&[&state(&name("a"), 1)[..], b"key"].concat()));
        for (other, generation) in [("a", 0), ("a", 2), ("a", 256), ("a-b", 1), ("b", 1)] {
            assert!(!range.contains(&[&state(&name(other), generation)[..], b"key"].concat()), "{other} {generation}");
        }
    }
}
