//! How long a request's body is: RFC 9112 §6.

use super::{
    Refusal,
    bytes::{self, TOKEN},
};

/// What follows a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// 0 where there is no body.
    Length(u64),
    Chunked,
}

/// One Content-Length. RFC 9110 §8.6: digits only.
pub fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    if value.contains(&b',') {
        return Err(Refusal::LengthRepeated);
    }
    if value.is_empty() {
        return Err(Refusal::LengthInvalid);
    }
    let mut length: u64 = 0;
    for &byte in value {
        let digit = byte.wrapping_sub(b'0');
        let next = length.checked_mul(10).and_then(|length| length.checked_add(u64::from(digit)));
        length = next.filter(|&next| digit <= 9 && next <= i64::MAX as u64).ok_or(Refusal::LengthInvalid)?;
    }
    Ok(length)
}

/// One Transfer-Encoding: chunked, and nothing before or after it.
pub fn transfer_encoding(value: &[u8]) -> Result<(), Refusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut codings = value.rsplit(|&byte| byte == b',').map(bytes::trim);
    let ends_chunked = codings.next().is_some_and(|last| last.eq_ignore_ascii_case(b"chunked"));
    // `gzip, chunked` is framed clearly, by a coding that we do not know: 501. All else is not framed clearly: 400.
    let is_unknown = |coding: &[u8]| {
        let name = coding.split(|&byte| byte == b';').next().unwrap_or_default();
        let name = bytes::trim(name);
        !name.is_empty() && bytes::span(name, TOKEN) == name.len() && !name.eq_ignore_ascii_case(b"chunked")
    };
    if ends_chunked && codings.all(is_unknown) { Err(Refusal::CodingUnknown) } else { Err(Refusal::CodingInvalid) }
}
