//! HTTP/2 frames by hand (RFC 9113), for clients that break its rules.

use std::io::{self, Read};

use sluice_harness::RawConnection;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types, RFC 9113 §6.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flags; ACK and END_STREAM share their bit.
pub const END_STREAM: u8 = 0x1;
pub const ACK: u8 = 0x1;
pub const END_HEADERS: u8 = 0x4;
pub const PADDED: u8 = 0x8;

/// Error codes, RFC 9113 §7.
pub const PROTOCOL_ERROR: u32 = 0x1;
pub const FLOW_CONTROL_ERROR: u32 = 0x3;
pub const STREAM_CLOSED: u32 = 0x5;
pub const FRAME_SIZE_ERROR: u32 = 0x6;
pub const REFUSED_STREAM: u32 = 0x7;
pub const COMPRESSION_ERROR: u32 = 0x9;
pub const ENHANCE_YOUR_CALM: u32 = 0xb;

/// Settings, RFC 9113 §6.5.2.
pub const ENABLE_PUSH: u16 = 0x2;
pub const INITIAL_WINDOW_SIZE: u16 = 0x4;
pub const MAX_FRAME_SIZE: u16 = 0x5;

#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn is_end_of_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The code of RST_STREAM or GOAWAY.
    pub fn error_code(&self) -> Option<u32> {
        let at = match self.kind {
            RST_STREAM => 0,
            GOAWAY => 4,
            _ => return None,
        };
        Some(u32::from_be_bytes(self.payload.get(at..at + 4)?.try_into().ok()?))
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut bytes = u32::try_from(payload.len()).expect("short").to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

pub fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let each = |&(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, values.iter().flat_map(each).collect::<Vec<_>>())
}

/// A GET of `/` that ends its stream.
pub fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, request("GET", "/", &[]))
}

/// A header block: the four pseudo-fields, and more.
pub fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", "gateway.test")];
    block(&[&pseudo[..], more].concat())
}

/// A header block of literals that are not indexed and not compressed (RFC 7541 §6.2.2).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| [&[0][..], &string(name), &string(value)].concat()).collect()
}

/// A string literal (RFC 7541 §5.2), its length as an integer with a prefix of 7 bits (§5.1).
fn string(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.len();
    if rest < 127 {
        bytes.push(rest as u8);
    } else {
        bytes.push(127);
        rest -= 127;
        while rest >= 128 {
            bytes.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        bytes.push(rest as u8);
    }
    bytes.extend(text.as_bytes());
    bytes
}

/// A client that sends whatever it is told.
pub struct Http2 {
    pub raw: RawConnection,
}

impl Http2 {
    /// Has said hello, with these settings, and has read the server's.
    pub fn greet(mut raw: RawConnection, values: &[(u16, u32)]) -> Self {
        raw.send([PREFACE, &settings(values)].concat());
        let mut client = Self { raw };
        let hello = client.read().expect("the server's settings");
        assert_eq!((hello.kind, hello.flags), (SETTINGS, 0));
        client.send(frame(SETTINGS, ACK, 0, []));
        client
    }

    /// Whether it was taken; the server may have closed.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.raw.try_send(bytes).is_ok()
    }

    pub fn read(&mut self) -> io::Result<Frame> {
        let mut socket = self.raw.stream();
        let mut head = [0; 9];
        socket.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        socket.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The first frame for which `wanted` is so; settings and pings are answered on the way.
    pub fn read_until(&mut self, wanted: impl Fn(&Frame) -> bool) -> io::Result<Frame> {
        loop {
            let frame = self.read()?;
            if wanted(&frame) {
                return Ok(frame);
            }
            if frame.kind == PING && frame.flags & ACK == 0 {
                self.send(self::frame(PING, ACK, 0, &frame.payload));
            }
        }
    }

    /// How the server answered what it may not accept on this stream.
    pub fn read_end(&mut self, stream: u32) -> End {
        let ends = |frame: &Frame| {
            frame.kind == GOAWAY && frame.error_code() != Some(0)
                || frame.stream == stream && (frame.kind == RST_STREAM || frame.is_end_of_stream())
        };
        match self.read_until(ends) {
            Ok(frame) if frame.kind == GOAWAY => End::Connection(frame.error_code().expect("a GOAWAY has one")),
            Ok(frame) if frame.kind == RST_STREAM => End::Stream(frame.error_code().expect("a reset has one")),
            Ok(_) => End::Answered,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => End::Silence,
            Err(_) => End::Closed,
        }
    }

    /// Whether the connection still serves a request.
    pub fn is_served(&mut self, stream: u32) -> bool {
        self.send(get(stream)) && self.read_end(stream) == End::Answered
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// GOAWAY with this error.
    Connection(u32),
    /// RST_STREAM with this error.
    Stream(u32),
    /// A whole answer.
    Answered,
    /// The connection was closed without GOAWAY.
    Closed,
    /// Nothing came.
    Silence,
}
