//! Paths are normalised before routing, so that no spelling of a path reaches another route than its meaning.

use std::borrow::Cow;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the path leaves the root with '..'")]
    AboveRoot,
    #[error("the path has an incomplete percent-encoding")]
    BadEscape,
    #[error("the path has an encoded NUL")]
    Nul,
    #[error("the target cannot be written for an endpoint")]
    Unusable,
}

/// The path with `.` and `..` segments resolved, `//` merged and unreserved characters decoded (RFC 3986
/// §6.2.2), so `%2e%2e` is `..` too. Borrowed where nothing changes, which is nearly always.
///
/// `%2f` stays as it is, in upper case, and is no separator, unless `decode_slash`. A backslash is an ordinary
/// character.
pub fn normalise(path: &str, decode_slash: bool) -> Result<Cow<'_, str>, PathError> {
    if is_normal(path) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode_unreserved(path, decode_slash)?;
    let mut segments: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop().ok_or(PathError::AboveRoot)?;
            }
            segment => segments.push(segment),
        }
    }
    let mut normal = String::with_capacity(decoded.len());
    for segment in &segments {
        normal.push('/');
        normal.push_str(segment);
    }
    // What names a folder goes on naming one.
    if normal.is_empty() || ["/", "/.", "/.."].iter().any(|end| decoded.ends_with(end)) {
        normal.push('/');
    }
    Ok(Cow::Owned(normal))
}

/// One pass: no escape, no empty segment, no segment that begins with a dot.
fn is_normal(path: &str) -> bool {
    let mut before = b'x';
    for byte in path.bytes() {
        if byte == b'%' || (before == b'/' && (byte == b'/' || byte == b'.')) {
            return false;
        }
        before = byte;
    }
    path.starts_with('/')
}

fn decode_unreserved(path: &str, decode_slash: bool) -> Result<String, PathError> {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 3).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let digits = digits.ok_or(PathError::BadEscape)?;
        let byte = u8::from_str_radix(digits, 16).map_err(|_| PathError::BadEscape)?;
        match byte {
            0 => return Err(PathError::Nul),
            b'-' | b'.' | b'_' | b'~' => decoded.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => decoded.push(char::from(byte)),
            b'/' if decode_slash => decoded.push('/'),
            _ => {
                decoded.push('%');
                decoded.push_str(&digits.to_ascii_uppercase());
            }
        }
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_path_has_one_normal_form() {
        for (given, normal) in [
            ("/", "/"),
            ("/orders/7", "/orders/7"),
            ("/orders//7", "/orders/7"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/%6frders/7", "/orders/7"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a%2fb", "/a%2Fb"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a/...", "/a/..."),
            ("//", "/"),
            ("/a%5c..%5cb", "/a%5C..%5Cb"),
        ] {
            assert_eq!(normalise(given, false).unwrap(), normal, "{given}");
            assert_eq!(normalise(normal, false).unwrap(), normal, "{normal} again");
        }
        assert_eq!(normalise("/a%2fb", true).unwrap(), "/a/b");
        assert_eq!(normalise("/a%2f..%2fb", true).unwrap(), "/b");
    }

    #[test]
    fn what_has_no_meaning_is_refused() {
        assert_eq!(normalise("/..", false), Err(PathError::AboveRoot));
        assert_eq!(normalise("/a/%2e%2e/%2e%2e/b", false), Err(PathError::AboveRoot));
        assert_eq!(normalise("/%", false), Err(PathError::BadEscape));
        assert_eq!(normalise("/%4", false), Err(PathError::BadEscape));
        assert_eq!(normalise("/%zz", false), Err(PathError::BadEscape));
        assert_eq!(normalise("/%00", false), Err(PathError::Nul));
    }
}
