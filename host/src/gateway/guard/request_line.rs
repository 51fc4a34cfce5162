//! The request line: RFC 9112 §3.

use std::ops::Range;

use super::{
    Refusal,
    bytes::{self, PATH, QUERY, TOKEN},
    host::is_authority,
};

/// The longest registered method is UPDATEREDIRECTREF with 17.
const METHOD_LEN_MAX: usize = 32;

/// RFC 9112 §3 asks for at least 8000; nginx and HAProxy read 8 to 16 KiB.
pub const REQUEST_LINE_LEN_MAX: usize = 16 * 1024;

#[derive(Clone, Debug, Default)]
pub struct RequestLine {
    pub is_http_11: bool,
    /// Of the host and port in an absolute-form target.
    pub authority: Option<Range<usize>>,
}

/// Checks a whole request line, without its end.
pub fn parse(line: &[u8]) -> Result<RequestLine, Refusal> {
    let method_end = bytes::span(line, TOKEN);
    match line.get(method_end) {
        _ if method_end > METHOD_LEN_MAX => return Err(Refusal::MethodTooLong),
        None => return Err(Refusal::RequestLine),
        Some(b' ') if method_end > 0 => {}
        Some(_) => return Err(Refusal::Method),
    }
    let method = &line[..method_end];
    let target = method_end + 1;
    let mut authority = None;
    let path = match line.get(target) {
        None | Some(b' ') => return Err(Refusal::RequestLine),
        _ if method == b"CONNECT" => return Err(Refusal::Connect),
        Some(b'/') => target,
        Some(b'*') if method == b"PRI" => return Err(Refusal::Preface),
        Some(b'*') if method == b"OPTIONS" && line.get(target + 1) == Some(&b' ') => target + 1,
        Some(b'*') => return Err(Refusal::TargetForm),
        Some(_) => {
            let found = authority_of(line, target)?;
            let end = found.end;
            authority = Some(found);
            end
        }
    };
    let target_end = path_and_query_end(line, path)?;
    Ok(RequestLine { is_http_11: is_http_11(&line[target_end + 1..])?, authority })
}

/// What is wrong with the start of a request line that goes on beyond [`REQUEST_LINE_LEN_MAX`].
pub fn too_long(start: &[u8]) -> Refusal {
    if bytes::span(start, TOKEN) > METHOD_LEN_MAX { Refusal::MethodTooLong } else { Refusal::TargetTooLong }
}

/// Whether a request line may begin so; said before its end has come, so that what is no HTTP at all (a TLS
/// greeting, say) is answered at once.
pub fn may_begin_with(byte: u8) -> bool {
    bytes::is(byte, TOKEN) || matches!(byte, b'\r' | b'\n')
}

/// Where the authority of an absolute-form target stands (§3.2.2).
fn authority_of(line: &[u8], target: usize) -> Result<Range<usize>, Refusal> {
    let has_scheme =
        |scheme: &[u8]| line[target..].get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    let scheme_len = match () {
        () if has_scheme(b"http://") => 7,
        () if has_scheme(b"https://") => 8,
        () => return Err(Refusal::TargetForm),
    };
    let start = target + scheme_len;
    let ends = |byte: &u8| matches!(byte, b'/' | b'?' | b'#' | b' ');
    let end = line[start..].iter().position(ends).map_or(line.len(), |len| start + len);
    if is_authority(&line[start..end]) { Ok(start..end) } else { Err(Refusal::HostInvalid) }
}

/// Where the space after the target stands.
fn path_and_query_end(line: &[u8], path: usize) -> Result<usize, Refusal> {
    let mut end = path + bytes::span(&line[path..], PATH);
    if line.get(end) == Some(&b'?') {
        end += bytes::span(&line[end..], QUERY);
    }
    match line.get(end) {
        Some(b' ') => Ok(end),
        Some(b'#') => Err(Refusal::Fragment),
        Some(_) => Err(Refusal::TargetByte),
        // Without a version: HTTP/0.9.
        None => Err(Refusal::RequestLine),
    }
}

fn is_http_11(version: &[u8]) -> Result<bool, Refusal> {
    match version {
        b"HTTP/1.1" => Ok(true),
        b"HTTP/1.0" => Ok(false),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(Refusal::Version)
        }
        _ if version.contains(&b' ') => Err(Refusal::RequestLine),
        _ => Err(Refusal::VersionSyntax),
    }
}
