//! What each byte may be part of, as one table.

use std::ops::Range;

/// RFC 9110 §5.6.2 `tchar`.
pub const TOKEN: u8 = 1;
/// The path of a target: what `http::Uri` takes, without the backslash, the fragment's `#` and bytes beyond ASCII.
pub const PATH: u8 = 2;
/// Its query, likewise.
pub const QUERY: u8 = 4;
/// A registered name or IPv4 address: RFC 3986 §3.2.2 without escapes and sub-delimiters, which no host name has.
pub const NAME: u8 = 8;
/// A hexadecimal digit.
pub const HEX: u8 = 16;

const CLASSES: [u8; 256] = classes();

/// Whether the byte is of the class.
pub fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// How many bytes at the start are of the class.
pub fn span(bytes: &[u8], class: u8) -> usize {
    bytes.iter().position(|&byte| !is(byte, class)).unwrap_or(bytes.len())
}

/// Whether a field value may have all these bytes: RFC 9110 §5.5 `field-content`, obs-text too.
///
/// Written without an early end, so that it becomes vector instructions.
pub fn is_value(bytes: &[u8]) -> bool {
    !bytes.iter().fold(false, |bad, &byte| bad | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f))
}

/// Without white space (space and tab, RFC 9110 §5.6.3) at both ends.
pub fn trim(bytes: &[u8]) -> &[u8] {
    &bytes[trimmed(bytes, 0)]
}

/// What is left of `bytes[from..]` without white space at both ends.
pub fn trimmed(bytes: &[u8], from: usize) -> Range<usize> {
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t');
    let (mut start, mut end) = (from, bytes.len());
    while start < end && is_space(bytes[start]) {
        start += 1;
    }
    while start < end && is_space(bytes[end - 1]) {
        end -= 1;
    }
    start..end
}

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let token = matches!(b, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
            || b.is_ascii_alphanumeric();
        let path = matches!(b, b'!'..=b'~') && !matches!(b, b'#' | b'<' | b'>' | b'?' | b'\\' | b'`');
        let query = matches!(b, b'!'..=b'~') && !matches!(b, b'"' | b'#' | b'<' | b'>');
        let name = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        table[byte] = if token { TOKEN } else { 0 }
            | if path { PATH } else { 0 }
            | if query { QUERY } else { 0 }
            | if name { NAME } else { 0 }
            | if b.is_ascii_hexdigit() { HEX } else { 0 };
        byte += 1;
    }
    table
}
