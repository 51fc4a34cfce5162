//! A check over gRPC: `grpc.health.v1.Health/Check` answers SERVING.
//!
//! The two messages have a field each, so they are written and read here by hand:
//! <https://github.com/grpc/grpc-proto/blob/master/grpc/health/v1/health.proto>, in protobuf's encoding
//! (<https://protobuf.dev/programming-guides/encoding/>) and gRPC's framing
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{
    http::{AGENT, in_full, over_h2, unanswered},
    probe::Look,
};
use crate::model::HostPort;

const METHOD: &str = "/grpc.health.v1.Health/Check";

/// A right answer has 7 bytes; unknown fields of later versions may make it longer.
const ANSWER_BYTES_MAX: usize = 4096;

/// Whether the message that follows is compressed, and its length.
const PREFIX_LEN: usize = 5;

/// `ServingStatus`, in the order of its numbers.
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: u64 = 1;

pub async fn ask(io: TokioIo<TcpStream>, service: &str, label: &HostPort, timeout: Duration) -> Look {
    let request = Request::post(format!("http://{label}{METHOD}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header(header::TE, "trailers")
        .header(header::USER_AGENT, AGENT)
        .header("grpc-timeout", format!("{}m", timeout.as_millis()))
        .body(Full::new(question(service)));
    match request {
        Ok(request) => over_h2(io, request, judge).await.unwrap_or_else(|error| unanswered(&error)),
        Err(error) => Look::wrong(format_args!("cannot be asked: {error}")),
    }
}

/// `HealthCheckRequest { service }` in one frame; an empty text is left out, as protobuf has it.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        /// Number 1, length-delimited.
        const FIELD_SERVICE: u8 = 1 << 3 | 2;
        message.put_u8(FIELD_SERVICE);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(PREFIX_LEN + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("names are short"));
    frame.put(message);
    frame.freeze()
}

fn put_varint(buffer: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        buffer.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    buffer.put_u8(number as u8);
}

async fn judge(response: Response<Incoming>) -> Look {
    let (head, mut body) = response.into_parts();
    if head.status != StatusCode::OK {
        return Look::wrong(format_args!("answered {} where gRPC answers 200", head.status));
    }
    let (mut answer, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        let frame = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) if answer.len() + data.len() <= ANSWER_BYTES_MAX => {
                answer.extend_from_slice(&data);
                continue;
            }
            Ok(Ok(_)) => return Look::wrong(format_args!("answered with more than {ANSWER_BYTES_MAX} bytes")),
            Ok(Err(frame)) => frame,
            Err(error) => return Look::wrong(format_args!("broke off its answer: {}", in_full(&error))),
        };
        trailers = frame.into_trailers().unwrap_or_default();
    }
    // An answer without a message has its trailers in the head.
    let trailers = if head.headers.contains_key("grpc-status") { &head.headers } else { &trailers };
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        Some("0") => serving(&answer),
        Some(code) => {
            let message = text("grpc-message").unwrap_or("no message");
            let name = if code == "12" { " (UNIMPLEMENTED: it has no grpc.health.v1.Health)" } else { "" };
            Look::wrong(format_args!("answered with gRPC status {code}{name}: {message}"))
        }
        None => Look::wrong("answered without a grpc-status"),
    }
}

fn serving(answer: &[u8]) -> Look {
    match status_of(answer) {
        Some(SERVING) => Look::passes("answered SERVING"),
        Some(number) => {
            let name = usize::try_from(number).ok().and_then(|number| STATUSES.get(number).copied());
            Look::wrong(format_args!("answered {} where SERVING was expected", name.unwrap_or("an unknown status")))
        }
        None => Look::wrong("answered with something that is no HealthCheckResponse"),
    }
}

/// The status in a frame with a `HealthCheckResponse`; 0 where it says none, as protobuf has it.
fn status_of(answer: &[u8]) -> Option<u64> {
    let (prefix, mut message) = answer.split_at_checked(PREFIX_LEN)?;
    let (is_compressed, len) = (prefix[0], u32::from_be_bytes(prefix[1..].try_into().ok()?));
    if is_compressed != 0 || usize::try_from(len).ok()? != message.len() {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let skipped = match tag & 7 {
            0 => {
                let number = varint(&mut message)?;
                if tag >> 3 == 1 {
                    status = number;
                }
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(status)
}

/// The next number; at most ten bytes make one.
fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for index in 0..10 {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f).checked_shl(7 * index)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_as_protobuf_writes_it() {
        assert_eq!(&question("")[..], b"\0\0\0\0\0");
        assert_eq!(&question("a.B")[..], b"\0\0\0\0\x05\x0a\x03a.B");
        let long = question(&"x".repeat(200));
        assert_eq!(&long[..8], b"\0\0\0\0\xcb\x0a\xc8\x01");
        assert_eq!(long.len(), 208);
    }

    #[test]
    fn the_status_is_found_among_fields_of_later_versions_and_in_nothing_else() {
        assert_eq!(status_of(b"\0\0\0\0\x02\x08\x01"), Some(1));
        assert_eq!(status_of(b"\0\0\0\0\0"), Some(0));
        assert_eq!(status_of(b"\0\0\0\0\x07\x12\x03abc\x08\x02"), Some(2));
        assert_eq!(status_of(b"\0\0\0\0\x10\x08\x01\x19\0\0\0\0\0\0\0\0\x25\0\0\0\0"), Some(1));
        for wrong in [
            &b""[..],
            b"\0\0\0\0",
            b"\x01\0\0\0\x02\x08\x01",
            b"\0\0\0\0\x03\x08\x01",
            b"\0\0\0\0\x01\x08",
            b"\0\0\0\0\x02\x08\x81",
            b"\0\0\0\0\x02\x12\x05",
            b"\0\0\0\0\x02\x0b\x01",
            b"\0\0\0\0\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\0\0\0\0\x0b\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert_eq!(status_of(wrong), None, "{wrong:?}");
        }
    }
}
