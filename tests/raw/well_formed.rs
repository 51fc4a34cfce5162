//! Requests that follow RFC 9112 to the letter, in all the variety it allows and the guard's limits for short inputs
//! permit.

use proptest::{collection::vec, prelude::*, string::string_regex};

/// One request's bytes.
pub fn request() -> impl Strategy<Value = Vec<u8>> {
    (head(), vec(field(), 0..6), body()).prop_map(|(mut bytes, fields, (framing, body))| {
        // The framing stands anywhere among the fields.
        let at = body.len() % (fields.len() + 1);
        for field in fields[..at].iter().chain(&framing).chain(&fields[at..]) {
            bytes.extend_from_slice(field);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&body);
        bytes
    })
}

/// An empty line at times, the request line, the Host.
fn head() -> impl Strategy<Value = Vec<u8>> {
    (any::<bool>(), text("[A-Z]{1,12}|[a-z!#$%&'*+.^_`|~-]{1,32}"), target(), host(), case("host")).prop_filter_map(
        "CONNECT has another target",
        |(empty_line, method, (is_absolute, path), host, name)| {
            let target = if is_absolute { format!("http://{host}{path}") } else { path };
            let empty_line = if empty_line { "\r\n" } else { "" };
            (method != "CONNECT")
                .then(|| format!("{empty_line}{method} {target} HTTP/1.1\r\n{name}: {host}\r\n").into_bytes())
        },
    )
}

fn target() -> impl Strategy<Value = (bool, String)> {
    let path = text(r#"/[!$-.0-;=@-\[\]-_a-z|~"{}/]{0,40}(\?[!$-;=?-~]{0,40})?"#);
    (any::<bool>(), path)
}

fn host() -> impl Strategy<Value = String> {
    text(r"([a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?\.){0,3}[a-zA-Z0-9_]{1,10}(:[1-9][0-9]{0,3})?|\[::[0-9a-f]{1,4}\]")
}

/// A field that frames nothing.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let value = string_regex_bytes("[!-~\u{80}-\u{ff}]([ \t!-~\u{80}-\u{ff}]{0,20}[!-~])?|");
    (text("x-[!#$%&'*+.^_`|~0-9a-zA-Z-]{0,20}"), text("[ \t]{0,3}"), value, text("[ \t]{0,3}")).prop_map(
        |(name, before, value, after)| [name.as_bytes(), b":", before.as_bytes(), &value, after.as_bytes()].concat(),
    )
}

/// The field that frames the body, and the body.
fn body() -> impl Strategy<Value = (Option<Vec<u8>>, Vec<u8>)> {
    prop_oneof![
        Just((None, Vec::new())),
        (case("content-length"), text("0{0,3}"), vec(any::<u8>(), 0..200))
            .prop_map(|(name, zeros, body)| { (Some(format!("{name}: {zeros}{}", body.len()).into_bytes()), body) }),
        (case("transfer-encoding"), case("chunked"), vec(chunk(), 0..5), extension(), vec(field(), 0..3)).prop_map(
            |(name, coding, chunks, extension, trailers)| {
                let last = format!("0{extension}\r\n").into_bytes();
                let trailers: Vec<_> = trailers.iter().flat_map(|field| [&field[..], b"\r\n"].concat()).collect();
                (
                    Some(format!("{name}: {coding}").into_bytes()),
                    [chunks.concat(), last, trailers, b"\r\n".to_vec()].concat(),
                )
            },
        ),
    ]
}

fn chunk() -> impl Strategy<Value = Vec<u8>> {
    (vec(any::<u8>(), 1..80), text("0{0,4}"), extension(), any::<bool>()).prop_map(
        |(data, zeros, extension, capitals)| {
            let size = if capitals { format!("{:X}", data.len()) } else { format!("{:x}", data.len()) };
            [format!("{zeros}{size}{extension}\r\n").as_bytes(), &data, b"\r\n"].concat()
        },
    )
}

fn extension() -> impl Strategy<Value = String> {
    text(r#"([ \t]?;[ \t]?[a-z-]{1,5}([ \t]?=[ \t]?([a-z0-9]{1,5}|"([ a-z;=]|\\["\\a]){0,8}"))?){0,3}"#)
}

/// The word in any mixture of small letters and capitals.
fn case(word: &'static str) -> impl Strategy<Value = String> {
    vec(any::<bool>(), word.len()).prop_map(|capitals| {
        let letters = word.chars().zip(capitals);
        letters.map(|(letter, capital)| if capital { letter.to_ascii_uppercase() } else { letter }).collect()
    })
}

fn text(regex: &str) -> impl Strategy<Value = String> + use<> {
    string_regex(regex).expect("the expression is right")
}

/// Characters up to U+00FF, a byte each.
fn string_regex_bytes(regex: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
    text(regex).prop_map(|text| text.chars().map(|letter| u8::try_from(letter).expect("up to U+00FF")).collect())
}
