//! A route's path prefix, which is compared with paths after normalisation and so must be normal itself.

/// The prefix in normal form (escapes with upper-case digits), or what is wrong with it.
pub(super) fn normal_prefix(path: &str, decode_slash: bool) -> Result<String, String> {
    if !path.starts_with('/') {
        return Err(format!("must begin with '/': did you mean {:?}?", format!("/{path}")));
    }
    if path.contains(['?', '#']) {
        return Err("must be a path alone, without '?' or '#'".to_owned());
    }
    let segments: Vec<&str> = path[1..].split('/').collect();
    let (_, inner) = segments.split_last().expect("a split has at least one part");
    if inner.iter().any(|segment| segment.is_empty()) {
        return Err("has an empty segment (\"//\"), which is taken out of a path before it is routed".to_owned());
    }
    if segments.iter().any(|segment| matches!(*segment, "." | "..")) {
        return Err("has a segment \".\" or \"..\", which is resolved before a path is routed".to_owned());
    }
    normal_escapes(path, decode_slash)
}

fn normal_escapes(path: &str, decode_slash: bool) -> Result<String, String> {
    let mut normal = String::with_capacity(path.len());
    let mut rest = path.chars();
    while let Some(character) = rest.next() {
        if character != '%' {
            if !is_path_character(character) {
                return Err(format!("has {character:?}, which must be written as an escape (RFC 3986 §3.3)"));
            }
            normal.push(character);
            continue;
        }
        let digits = rest.as_str().get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            return Err("has a '%' without two hex digits; a '%' itself is written \"%25\"".to_owned());
        };
        if is_unreserved(char::from(byte)) {
            let plain = char::from(byte);
            return Err(format!("has \"%{byte:02x}\", which is decoded before a path is routed: write {plain:?}"));
        }
        if byte == b'/' && decode_slash {
            return Err("has \"%2f\", which decode_slash turns into '/' before a path is routed".to_owned());
        }
        normal.push_str(&format!("%{byte:02X}"));
        rest = rest.as_str()[2..].chars();
    }
    Ok(normal)
}

/// RFC 3986 §2.3.
fn is_unreserved(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-._~".contains(character)
}

/// RFC 3986 §3.3: `pchar` and the separator.
fn is_path_character(character: char) -> bool {
    is_unreserved(character) || "!$&'()*+,;=:@/".contains(character)
}
