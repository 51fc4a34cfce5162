//! Where everything of groups stands in [`Space::Groups`]. Numbers are big endian, so that keys are in their order; names
//! have no control characters, so that a zero byte ends them.
//!
//! | key | value |
//! | --- | --- |
//! | `c` | who may write, and the epoch of that claim (JSON) |
//! | `g` group | what is set for it ([`super::record::Definition`], JSON) |
//! | `k` group | how far it has come ([`super::record::Progress`]) |
//! | `p` group 0 position (u64) | an event put aside ([`super::record::ParkedEvent`]) |

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    model::{GroupName, Position},
    storage::{KeyRange, Space},
};

pub const SPACE: Space = Space::Groups;
pub const CLAIM: &[u8] = b"c";

pub fn definition(name: &GroupName) -> Bytes {
    [b"g", name.as_str().as_bytes()].concat().into()
}

pub fn all_definitions() -> KeyRange {
    KeyRange::prefix(&b"g"[..])
}

/// The group that a key of a definition is of.
pub fn defined(key: &[u8]) -> Option<GroupName> {
    std::str::from_utf8(key.strip_prefix(b"g")?).ok()?.parse().ok()
}

pub fn progress(name: &GroupName) -> Bytes {
    [b"k", name.as_str().as_bytes()].concat().into()
}

pub fn parked(name: &GroupName, position: Position) -> Bytes {
    let mut key = before_parked(name);
    key.put_u64(position.0);
    key.freeze()
}

pub fn all_parked(name: &GroupName) -> KeyRange {
    KeyRange::prefix(before_parked(name))
}

/// Those behind a position.
pub fn parked_after(name: &GroupName, after: Position) -> KeyRange {
    all_parked(name).after(&parked(name, after))
}

/// The position at the end of a key.
pub fn parked_position(key: &[u8]) -> Option<Position> {
    Some(Position(u64::from_be_bytes(*key.last_chunk()?)))
}

fn before_parked(name: &GroupName) -> BytesMut {
    let mut key = BytesMut::with_capacity(name.as_str().len() + 10);
    key.put_u8(b'p');
    key.put_slice(name.as_str().as_bytes());
    key.put_u8(0);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> GroupName {
        text.parse().expect("a name")
    }

    #[test]
    fn what_one_group_parked_is_no_other_ones() {
        let of_a = all_parked(&name("a"));
        let keys = [1, 2, 300].map(|position| parked(&name("a"), Position(position)));
        assert!(keys.is_sorted() && keys.iter().all(|key| of_a.contains(key)));
        assert_eq!(parked_position(&keys[2]), Some(Position(300)));
        assert!(!of_a.contains(&parked(&name("a-b"), Position(1))));
        let behind = parked_after(&name("a"), Position(2));
        assert_eq!(keys.map(|key| behind.contains(&key)), [false, false, true]);
        assert_eq!(defined(&definition(&name("a-b"))), Some(name("a-b")));
    }
}
