//! What an HTTP/2 client may not send, and how RFC 9113 has it answered.

use super::http2::*;

/// What is sent after the greeting, on which stream an answer is due, and which answers are right: beside those
/// that the RFC names, [`GENERAL`].
pub struct Case(pub &'static str, pub Vec<u8>, pub u32, pub &'static [End]);

/// h2 says PROTOCOL_ERROR for most errors, and takes some of a stream for the connection's (§5.4.1 allows it).
pub const GENERAL: End = End::Connection(PROTOCOL_ERROR);

/// Errors of the connection: RFC 9113 §5.4.1, GOAWAY and close. Most are named in the section of their frame.
pub fn connection_errors() -> Vec<Case> {
    const PROTOCOL: &[End] = &[GENERAL];
    const SIZE: &[End] = &[End::Connection(FRAME_SIZE_ERROR)];
    const FLOW: &[End] = &[End::Connection(FLOW_CONTROL_ERROR)];
    let open = frame(HEADERS, END_HEADERS, 1, request("POST", "/count", &[]));
    let after = |bytes: Vec<u8>| [&open[..], &bytes].concat();
    vec![
        Case("DATA on stream 0 (§6.1)", frame(DATA, 0, 0, b"x"), 1, PROTOCOL),
        Case(
            "HEADERS on stream 0 (§6.2)",
            frame(HEADERS, END_HEADERS | END_STREAM, 0, request("GET", "/", &[])),
            1,
            PROTOCOL,
        ),
        Case("RST_STREAM on stream 0 (§6.4)", frame(RST_STREAM, 0, 0, 0u32.to_be_bytes()), 1, PROTOCOL),
        Case("RST_STREAM of an idle stream (§6.4)", frame(RST_STREAM, 0, 7, 0u32.to_be_bytes()), 1, PROTOCOL),
        Case("RST_STREAM of 3 bytes (§6.4)", after(frame(RST_STREAM, 0, 1, [0; 3])), 1, SIZE),
        Case("SETTINGS on stream 1 (§6.5)", frame(SETTINGS, 0, 1, []), 1, PROTOCOL),
        Case("SETTINGS of 5 bytes (§6.5)", frame(SETTINGS, 0, 0, [0; 5]), 1, SIZE),
        Case("an acknowledgement with values (§6.5)", frame(SETTINGS, ACK, 0, [0; 6]), 1, SIZE),
        Case("a window beyond 2^31-1 (§6.5.2)", settings(&[(INITIAL_WINDOW_SIZE, 1 << 31)]), 1, FLOW),
        Case("frames of at most 100 bytes (§6.5.2)", settings(&[(MAX_FRAME_SIZE, 100)]), 1, PROTOCOL),
        Case("push neither on nor off (§6.5.2)", settings(&[(ENABLE_PUSH, 2)]), 1, PROTOCOL),
        Case(
            "PUSH_PROMISE from a client (§8.4)",
            after(frame(PUSH_PROMISE, END_HEADERS, 1, [0, 0, 0, 2])),
            1,
            PROTOCOL,
        ),
        Case("PING on stream 1 (§6.7)", frame(PING, 0, 1, [0; 8]), 1, PROTOCOL),
        Case("PING of 7 bytes (§6.7)", frame(PING, 0, 0, [0; 7]), 1, SIZE),
        Case("GOAWAY on stream 1 (§6.8)", frame(GOAWAY, 0, 1, [0; 8]), 1, PROTOCOL),
        Case("WINDOW_UPDATE of 3 bytes (§6.9)", frame(WINDOW_UPDATE, 0, 0, [0; 3]), 1, SIZE),
        Case("WINDOW_UPDATE by 0 (§6.9)", frame(WINDOW_UPDATE, 0, 0, [0; 4]), 1, PROTOCOL),
        Case("WINDOW_UPDATE of an idle stream (§5.1)", frame(WINDOW_UPDATE, 0, 9, [0, 0, 0, 1]), 1, PROTOCOL),
        Case(
            "a connection's window beyond 2^31-1 (§6.9.1)",
            frame(WINDOW_UPDATE, 0, 0, 0x7fff_ffffu32.to_be_bytes()),
            1,
            FLOW,
        ),
        Case("CONTINUATION of nothing (§6.10)", frame(CONTINUATION, END_HEADERS, 1, []), 1, PROTOCOL),
        Case(
            "another frame within a header block (§6.10)",
            [frame(HEADERS, 0, 1, request("GET", "/", &[])), frame(PING, 0, 0, [0; 8])].concat(),
            1,
            PROTOCOL,
        ),
        Case(
            "CONTINUATION of another stream (§6.10)",
            [frame(HEADERS, 0, 1, request("GET", "/", &[])), frame(CONTINUATION, END_HEADERS, 3, [])].concat(),
            1,
            PROTOCOL,
        ),
        Case("a stream of the server's (§5.1.1)", get(2), 2, PROTOCOL),
        Case("DATA on an idle stream (§5.1)", frame(DATA, 0, 5, b"x"), 5, PROTOCOL),
        Case(
            "a stream number that goes back (§5.1.1)",
            [get(5), get(3)].concat(),
            3,
            &[End::Connection(PROTOCOL_ERROR), End::Connection(STREAM_CLOSED), End::Stream(STREAM_CLOSED)],
        ),
        Case("a frame of 16385 bytes (§4.2)", after(frame(DATA, 0, 1, vec![0; 16385])), 1, SIZE),
        Case("more padding than payload (§6.1)", after(frame(DATA, PADDED, 1, [200, 0, 0])), 1, PROTOCOL),
        Case(
            "more padding than header block (§6.2)",
            frame(HEADERS, PADDED | END_HEADERS | END_STREAM, 1, [200, 0]),
            1,
            PROTOCOL,
        ),
        Case(
            "a header block that is noise (§4.3)",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, [0xff; 40]),
            1,
            &[End::Connection(COMPRESSION_ERROR)],
        ),
        Case(
            "an index beyond the table (RFC 7541 §2.3.3)",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, [0xfe]),
            1,
            &[End::Connection(COMPRESSION_ERROR)],
        ),
    ]
}

/// Errors of a stream (RFC 9113 §5.4.2, §8.1.1): the request is reset or answered, but by the gateway.
pub fn malformed_requests() -> Vec<Case> {
    const MALFORMED: &[End] = &[End::Stream(PROTOCOL_ERROR), End::Answered];
    let whole = |block: Vec<u8>| frame(HEADERS, END_HEADERS | END_STREAM, 1, block);
    let with = |name, value| whole(request("GET", "/smuggled", &[(name, value)]));
    let fields = |fields: &[(&str, &str)]| whole(block(fields));
    let short = [
        frame(HEADERS, END_HEADERS, 1, request("POST", "/smuggled", &[("content-length", "10")])),
        frame(DATA, END_STREAM, 1, b"hello"),
    ];
    let long = [
        frame(HEADERS, END_HEADERS, 1, request("POST", "/smuggled", &[("content-length", "2")])),
        frame(DATA, END_STREAM, 1, b"hello"),
    ];
    vec![
        Case("a name in capitals (§8.2.1)", with("X-A", "b"), 1, MALFORMED),
        Case("a name with a space (§8.2.1)", with("x a", "b"), 1, MALFORMED),
        Case("a name with a colon (§8.2.1)", with("x:a", "b"), 1, MALFORMED),
        Case("a name with a line end (§8.2.1)", with("x\r\na", "b"), 1, MALFORMED),
        Case("an empty name (§8.2.1)", with("", "b"), 1, MALFORMED),
        Case("a value with a line end (§8.2.1)", with("x-a", "b\r\ntransfer-encoding: chunked"), 1, MALFORMED),
        Case("a value with LF (§8.2.1)", with("x-a", "b\nc"), 1, MALFORMED),
        Case("a value with NUL (§8.2.1)", with("x-a", "b\0c"), 1, MALFORMED),
        Case("Connection (§8.2.2)", with("connection", "close"), 1, MALFORMED),
        Case("Transfer-Encoding (§8.2.2)", with("transfer-encoding", "chunked"), 1, MALFORMED),
        Case("Upgrade (§8.2.2)", with("upgrade", "websocket"), 1, MALFORMED),
        Case("Keep-Alive (§8.2.2)", with("keep-alive", "timeout=5"), 1, MALFORMED),
        Case("TE but for trailers (§8.2.2)", with("te", "gzip"), 1, MALFORMED),
        Case("an unknown pseudo-field (§8.3)", with(":other", "x"), 1, MALFORMED),
        Case("a pseudo-field of answers (§8.3)", with(":status", "200"), 1, MALFORMED),
        Case("a pseudo-field twice (§8.3.1)", with(":path", "/"), 1, MALFORMED),
        Case(
            "no :method (§8.3.1)",
            fields(&[(":scheme", "http"), (":path", "/smuggled"), (":authority", "gateway.test")]),
            1,
            MALFORMED,
        ),
        Case(
            "no :scheme (§8.3.1)",
            fields(&[(":method", "GET"), (":path", "/smuggled"), (":authority", "gateway.test")]),
            1,
            MALFORMED,
        ),
        Case(
            "no :path (§8.3.1)",
            fields(&[(":method", "GET"), (":scheme", "http"), (":authority", "gateway.test")]),
            1,
            MALFORMED,
        ),
        Case("an empty :path (§8.3.1)", whole(request("GET", "", &[])), 1, MALFORMED),
        Case(
            "a pseudo-field after others (§8.3)",
            fields(&[
                (":method", "GET"),
                (":scheme", "http"),
                ("x-a", "b"),
                (":path", "/smuggled"),
                (":authority", "gateway.test"),
            ]),
            1,
            MALFORMED,
        ),
        Case("a path with a space", whole(request("GET", "/smuggled HTTP/1.1\r\nx: y", &[])), 1, MALFORMED),
        Case("a method with a line end", whole(request("GET /smuggled HTTP/1.1\r\n\r\n", "/", &[])), 1, MALFORMED),
        Case(
            "an authority with a user",
            fields(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/smuggled"),
                (":authority", "user@gateway.test"),
            ]),
            1,
            MALFORMED,
        ),
        Case("less body than its length (§8.1.1)", short.concat(), 1, MALFORMED),
        Case("more body than its length (§8.1.1)", long.concat(), 1, MALFORMED),
        Case(
            "two lengths (§8.1.1)",
            whole(request("POST", "/smuggled", &[("content-length", "0"), ("content-length", "5")])),
            1,
            MALFORMED,
        ),
        Case(
            "a length that is no number (§8.1.1)",
            whole(request("POST", "/smuggled", &[("content-length", "+0")])),
            1,
            MALFORMED,
        ),
        Case(
            "a stream that depends on itself (RFC 7540 §5.3.1)",
            frame(PRIORITY, 0, 1, [0, 0, 0, 1, 0]),
            1,
            &[End::Stream(PROTOCOL_ERROR), End::Connection(PROTOCOL_ERROR)],
        ),
        Case(
            "WINDOW_UPDATE of a stream by 0 (§6.9)",
            [frame(HEADERS, END_HEADERS, 1, request("POST", "/count", &[])), frame(WINDOW_UPDATE, 0, 1, [0; 4])]
                .concat(),
            1,
            &[End::Stream(PROTOCOL_ERROR)],
        ),
        Case(
            "a stream's window beyond 2^31-1 (§6.9.1)",
            [
                frame(HEADERS, END_HEADERS, 1, request("POST", "/count", &[])),
                frame(WINDOW_UPDATE, 0, 1, 0x7fff_ffffu32.to_be_bytes()),
            ]
            .concat(),
            1,
            &[End::Stream(FLOW_CONTROL_ERROR)],
        ),
        Case(
            "more than the window allows (§6.9.1)",
            over_the_window(),
            1,
            &[End::Stream(FLOW_CONTROL_ERROR), End::Connection(FLOW_CONTROL_ERROR)],
        ),
    ]
}

/// A body that does not wait for the window, which is 64 KiB.
fn over_the_window() -> Vec<u8> {
    let mut bytes = frame(HEADERS, END_HEADERS, 1, request("POST", "/delay/60000", &[]));
    for _ in 0..20 {
        bytes.extend(frame(DATA, 0, 1, vec![0; 16 * 1024]));
    }
    bytes
}
