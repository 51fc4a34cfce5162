//! The line before a chunk's data: RFC 9112 §7.1.

use super::{
    Refusal,
    bytes::{self, HEX, TOKEN},
};

/// A size and its extensions in one line, with its end. Nobody is known to send more than a signature of some
/// hundred bytes there.
pub const CHUNK_LINE_LEN_MAX: usize = 1024;

/// Extensions of one body together. hyper's own limit is 16 KiB; ours is lower, so that ours is met first.
pub const CHUNK_EXTENSIONS_LEN_MAX: usize = 8 * 1024;

/// A chunk's size, leading zeros and all.
const SIZE_DIGITS_MAX: usize = 16;

/// The size, and how long the extensions are.
pub fn parse(line: &[u8]) -> Result<(u64, usize), Refusal> {
    let digits = bytes::span(line, HEX);
    let extensions = &line[digits..];
    if digits == 0 {
        return Err(Refusal::ChunkSize);
    }
    if digits > SIZE_DIGITS_MAX {
        return Err(Refusal::ChunkSizeTooLarge);
    }
    if !matches!(extensions.first(), None | Some(b';' | b' ' | b'\t')) {
        return Err(Refusal::ChunkSize);
    }
    let size = line[..digits].iter().fold(0, |size: u64, &digit| size << 4 | hex_value(digit));
    if size > i64::MAX as u64 {
        return Err(Refusal::ChunkSizeTooLarge);
    }
    check_extensions(extensions)?;
    Ok((size, extensions.len()))
}

fn hex_value(digit: u8) -> u64 {
    u64::from(match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    })
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`, §7.1.1.
fn check_extensions(mut rest: &[u8]) -> Result<(), Refusal> {
    while !rest.is_empty() {
        rest = after_token(after(rest, b';')?)?;
        if let Ok(value) = after(rest, b'=') {
            rest = match value.strip_prefix(b"\"") {
                Some(quoted) => after_quoted(quoted)?,
                None => after_token(value)?,
            };
        }
    }
    Ok(())
}

/// What follows this separator and the white space around it.
fn after(bytes: &[u8], separator: u8) -> Result<&[u8], Refusal> {
    let found = skip_space(bytes).strip_prefix(&[separator]).ok_or(Refusal::ChunkExtension)?;
    Ok(skip_space(found))
}

fn after_token(bytes: &[u8]) -> Result<&[u8], Refusal> {
    match bytes::span(bytes, TOKEN) {
        0 => Err(Refusal::ChunkExtension),
        len => Ok(&bytes[len..]),
    }
}

/// RFC 9110 §5.6.4; bytes beyond ASCII have no business here.
fn after_quoted(bytes: &[u8]) -> Result<&[u8], Refusal> {
    let mut escaped = false;
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            _ if !matches!(byte, b'\t' | b' '..=b'~') => break,
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Ok(&bytes[at + 1..]),
            _ => {}
        }
    }
    Err(Refusal::ChunkExtension)
}

fn skip_space(bytes: &[u8]) -> &[u8] {
    let len = bytes.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(bytes.len());
    &bytes[len..]
}
