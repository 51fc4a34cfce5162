//! One field line: RFC 9112 §5, RFC 9110 §5.

use std::ops::Range;

use super::{
    Refusal,
    bytes::{self, TOKEN},
};

const NAME_LEN_MAX: usize = 256;

/// Those fields that decide how a message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Host,
    ContentLength,
    TransferEncoding,
    Expect,
    Upgrade,
    Other,
}

/// A whole field line without its end: which field, and where its value stands, without the white space around it.
pub fn parse(line: &[u8]) -> Result<(Field, Range<usize>), Refusal> {
    let name_len = bytes::span(line, TOKEN);
    match line.get(name_len) {
        Some(b':') if name_len > 0 => {}
        at => return Err(without_colon(at.copied(), name_len, &line[name_len..])),
    }
    if name_len > NAME_LEN_MAX {
        return Err(Refusal::FieldNameTooLong);
    }
    let value = bytes::trimmed(line, name_len + 1);
    if !bytes::is_value(&line[value.clone()]) {
        return Err(Refusal::FieldValue);
    }
    Ok((field(&line[..name_len])?, value))
}

fn without_colon(at: Option<u8>, name_len: usize, rest: &[u8]) -> Refusal {
    match at {
        Some(b' ' | b'\t') if name_len == 0 => Refusal::ObsFold,
        Some(b' ' | b'\t') if bytes::trim(rest).first() == Some(&b':') => Refusal::SpaceBeforeColon,
        Some(b':') => Refusal::FieldNameEmpty,
        None => Refusal::NoColon,
        Some(_) => Refusal::FieldName,
    }
}

fn field(name: &[u8]) -> Result<Field, Refusal> {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    Ok(match name.len() {
        4 if is(b"host") => Field::Host,
        6 if is(b"expect") => Field::Expect,
        7 if is(b"upgrade") => Field::Upgrade,
        14 if is(b"content-length") => Field::ContentLength,
        17 if is(b"transfer-encoding") => Field::TransferEncoding,
        14 | 17 if is_lookalike(name) => return Err(Refusal::FramingLookalike),
        _ => Field::Other,
    })
}

/// Whether some servers would take this field for one that frames the message.
pub fn is_lookalike(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"content_length") || name.eq_ignore_ascii_case(b"transfer_encoding")
}
