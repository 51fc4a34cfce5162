//! Where everything stands in the store. Numbers are big endian, so that keys are in their order; names and ids have no
//! control characters, so that a zero byte ends them.
//!
//! | space | key | value |
//! | --- | --- | --- |
//! | events | position (u64) | the event ([`super::record`]) |
//! | event-index | `c` | who may write, and the epoch of that claim (JSON) |
//! | event-index | `l` | the last position given (u64) |
//! | event-index | `r` stream 0 revision (u64) | its position (u64) |
//! | event-index | `i` stream 0 id | position (u64), revision (u64), digest (u64) |
//! | event-index | `s` stream | what is set for the stream ([`super::record::StreamRecord`]) |

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    model::{Position, StreamName},
    storage::KeyRange,
};

pub const CLAIM: &[u8] = b"c";
pub const LAST: &[u8] = b"l";

pub fn event(position: Position) -> Bytes {
    Bytes::copy_from_slice(&position.0.to_be_bytes())
}

/// From one position on, and up to another, both of them in it.
pub fn events(from: Position, to: Position) -> KeyRange {
    match to.0.checked_add(1) {
        Some(end) => KeyRange::between(event(from), event(Position(end))),
        None => KeyRange::all().after(&event(Position(from.0.saturating_sub(1)))),
    }
}

pub fn position(key: &[u8]) -> Option<Position> {
    Some(Position(u64::from_be_bytes(key.try_into().ok()?)))
}

pub fn revision(stream: &str, revision: u64) -> Bytes {
    let mut key = named(b'r', stream);
    key.put_u64(revision);
    key.freeze()
}

/// Revisions of a stream, both ends in it.
pub fn revisions(stream: &str, from: u64, to: u64) -> KeyRange {
    match to.checked_add(1) {
        Some(end) => KeyRange::between(revision(stream, from), revision(stream, end)),
        None => KeyRange::between(revision(stream, from), behind(stream)),
    }
}

/// The first key that could belong to a stream whose name comes after this one.
pub fn behind(stream: &str) -> Bytes {
    let mut key = BytesMut::with_capacity(stream.len() + 2);
    key.put_u8(b'r');
    key.put_slice(stream.as_bytes());
    key.put_u8(1);
    key.freeze()
}

/// All streams whose names begin so.
pub fn streams(prefix: &str) -> KeyRange {
    KeyRange::prefix([b"r", prefix.as_bytes()].concat())
}

/// The revision that a key of the index of revisions ends with, and the stream before it.
pub fn stream_and_revision(key: &[u8]) -> Option<(StreamName, u64)> {
    let (name, revision) = key.strip_prefix(b"r")?.split_last_chunk::<8>()?;
    let name = std::str::from_utf8(name.strip_suffix(&[0])?).ok()?;
    Some((name.parse().ok()?, u64::from_be_bytes(*revision)))
}

pub fn id(stream: &str, id: &str) -> Bytes {
    let mut key = named(b'i', stream);
    key.put_slice(id.as_bytes());
    key.freeze()
}

pub fn settings(stream: &str) -> Bytes {
    Bytes::from([b"s", stream.as_bytes()].concat())
}

pub fn all_settings(prefix: &str) -> KeyRange {
    KeyRange::prefix([b"s", prefix.as_bytes()].concat())
}

/// The stream that a key of settings is of.
pub fn settings_stream(key: &[u8]) -> Option<StreamName> {
    std::str::from_utf8(key.strip_prefix(b"s")?).ok()?.parse().ok()
}

fn named(kind: u8, stream: &str) -> BytesMut {
    // With room for a revision, or for an id as long as a UUID.
    let mut key = BytesMut::with_capacity(stream.len() + 2 + 36);
    key.put_u8(kind);
    key.put_slice(stream.as_bytes());
    key.put_u8(0);
    key
}
