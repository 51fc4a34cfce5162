//! Raw HTTP/1 requests and what a client must read for each.
//!
//! Used twice: by the guard's unit tests on the bytes alone, and by `ambiguous_requests.rs` through the running
//! gateway. A request that must never be read as one has the path `/smuggled`.

/// One connection's worth of bytes.
pub struct Case {
    pub name: &'static str,
    pub raw: Vec<u8>,
    /// The answers, in order. 200 is an endpoint's; any other is the gateway's own, and the connection's last.
    pub statuses: &'static [u16],
}

/// The longest a line or a head may be in these cases: the defaults.
pub const REQUEST_LINE_LEN_MAX: usize = 16 * 1024;
pub const HEADER_BYTES_MAX: usize = 32 * 1024;
pub const HEADER_COUNT_MAX: usize = 100;

pub fn cases() -> Vec<Case> {
    let mut cases = well_formed();
    for more in [line_ends(), request_lines(), targets(), fields(), hosts(), framing(), chunks(), limits(), rest()] {
        cases.extend(more);
    }
    cases
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: gateway.test\r\n\r\n";

fn case(name: &'static str, raw: impl AsRef<[u8]>, statuses: &'static [u16]) -> Case {
    Case { name, raw: raw.as_ref().to_vec(), statuses }
}

/// A GET with these field lines, each ended with CR LF.
fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: gateway.test\r\n{fields}\r\n")
}

/// A POST with these field lines and this body, and a request behind it.
fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: gateway.test\r\n{fields}\r\n{body}{SMUGGLED}")
}

/// A GET of this target.
fn target(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: gateway.test\r\n\r\n")
}

/// A GET with this Host line.
fn host(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// A chunked POST with this body.
fn chunked(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: gateway.test\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

fn well_formed() -> Vec<Case> {
    vec![
        case("a plain request", get(""), &[200]),
        case("two in one segment", get("") + &get(""), &[200, 200]),
        case("an empty line before it", format!("\r\n{}", get("")), &[200]),
        case("an empty line between two", format!("{}\r\n{}", get(""), get("")), &[200, 200]),
        case("a length of zero", get("Content-Length: 0\r\n"), &[200]),
        case("a length with leading zeros", chunkless("Content-Length: 0005\r\n", "hello"), &[200]),
        case("a body and a request behind it", chunkless("Content-Length: 5\r\n", "hello") + &get(""), &[200, 200]),
        case("a body that looks like a request", chunkless("Content-Length: 46\r\n", SMUGGLED), &[200]),
        case("chunks", chunked("5\r\nhello\r\n0\r\n\r\n"), &[200]),
        case("chunks in capitals", chunked("A\r\n0123456789\r\n00\r\n\r\n") + &get(""), &[200, 200]),
        case("chunked in capitals", chunkless("Transfer-Encoding: CHUNKED\r\n", "0\r\n\r\n"), &[200]),
        case("white space around chunked", chunkless("Transfer-Encoding: \t chunked \r\n", "0\r\n\r\n"), &[200]),
        case("chunk extensions", chunked("5;a=b;c=\"d;\\\"e\" ; f\r\nhello\r\n0;last\r\n\r\n"), &[200]),
        case("trailers", chunked("5\r\nhello\r\n0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n") + &get(""), &[200, 200]),
        case("no space after the colon", get("X-A:b\r\n"), &[200]),
        case("an empty value", get("X-A:\r\n"), &[200]),
        case(
            "bytes beyond ASCII in a value",
            [b"GET / HTTP/1.1\r\nHost: gateway.test\r\nX-A: \xe9\xff\r\n\r\n".as_slice()].concat(),
            &[200],
        ),
        case("a method of one's own", "PURGE / HTTP/1.1\r\nHost: gateway.test\r\n\r\n", &[200]),
        case("a method in small letters", "get / HTTP/1.1\r\nHost: gateway.test\r\n\r\n", &[200]),
        case("HTTP/1.0", "GET / HTTP/1.0\r\nHost: gateway.test\r\n\r\n", &[200]),
        case("an absolute target", "GET http://gateway.test/a?b HTTP/1.1\r\nHost: GATEWAY.test\r\n\r\n", &[200]),
        case(
            "an absolute target without a path",
            "GET HTTP://gateway.test HTTP/1.1\r\nHost: gateway.test\r\n\r\n",
            &[200],
        ),
        case("a host with a port", host("gateway.test:8080"), &[200]),
        case("an IPv4 host", host("127.0.0.1:80"), &[200]),
        case("an IPv6 host", host("[::1]:80"), &[200]),
        case("a query with everything that is usual", target("/a%20b;c/{d}|e?f[]=g&h=`i?/:@"), &[200]),
    ]
}

/// A POST with these field lines and this body, and nothing behind it.
fn chunkless(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: gateway.test\r\n{fields}\r\n{body}")
}

fn line_ends() -> Vec<Case> {
    vec![
        case("LF after the request line", "GET / HTTP/1.1\nHost: gateway.test\r\n\r\n", &[400]),
        case("LF after a field", "GET / HTTP/1.1\r\nHost: gateway.test\nX-A: b\r\n\r\n", &[400]),
        case("LF at the end of the head", "GET / HTTP/1.1\r\nHost: gateway.test\r\n\n", &[400]),
        case("LF everywhere", "GET / HTTP/1.1\nHost: gateway.test\n\n", &[400]),
        case("CR within the request line", "GET /\r HTTP/1.1\r\nHost: gateway.test\r\n\r\n", &[400]),
        case("CR within a value", get("X-A: b\rc\r\n"), &[400]),
        case("CR within a name", get("X\r-A: b\r\n"), &[400]),
        case("CR CR LF", get("X-A: b\r\r\n"), &[400]),
        case("CR everywhere", "GET / HTTP/1.1\rHost: gateway.test\r\rX", &[400]),
        case("a field hidden behind a CR", get("X-A: b\rContent-Length: 46\r\n") + SMUGGLED, &[400]),
        case("two empty lines first", format!("\r\n\r\n{}", get("")), &[400]),
        case("LF first", format!("\n{}", get("")), &[400]),
        case("CR first", format!("\r{}", get("")), &[400]),
        case("LF between two", format!("{}\n{SMUGGLED}", get("")), &[200, 400]),
    ]
}

fn request_lines() -> Vec<Case> {
    let line = |line: &str| format!("{line}\r\nHost: gateway.test\r\n\r\n");
    vec![
        case("a space first", line(" GET / HTTP/1.1"), &[400]),
        case("two spaces before the target", line("GET  / HTTP/1.1"), &[400]),
        case("two spaces after the target", line("GET /  HTTP/1.1"), &[400]),
        case("a space after the version", line("GET / HTTP/1.1 "), &[400]),
        case("a tab before the target", line("GET\t/ HTTP/1.1"), &[400]),
        case("a tab after the target", line("GET /\tHTTP/1.1"), &[400]),
        case("a vertical tab for a space", line("GET\x0b/ HTTP/1.1"), &[400]),
        case("no target", line("GET HTTP/1.1"), &[400]),
        case("only a method", line("GET"), &[400]),
        case("no version (HTTP/0.9)", "GET /\r\n", &[400]),
        case("a method that is no token", line("G(T / HTTP/1.1"), &[400]),
        case("a method with a colon", line("GET: / HTTP/1.1"), &[400]),
        case("a NUL in the method", line("G\0T / HTTP/1.1"), &[400]),
        case("a method of 40 letters", line(&format!("{} / HTTP/1.1", "M".repeat(40))), &[501]),
        case("CONNECT", "CONNECT gateway.test:80 HTTP/1.1\r\nHost: gateway.test:80\r\n\r\n", &[501]),
        case("HTTP/1.2", line("GET / HTTP/1.2"), &[505]),
        case("HTTP/2.0", line("GET / HTTP/2.0"), &[505]),
        case("HTTP/0.9 by name", line("GET / HTTP/0.9"), &[505]),
        case("http in small letters", line("GET / http/1.1"), &[400]),
        case("HTTP/1", line("GET / HTTP/1"), &[400]),
        case("HTTP/01.1", line("GET / HTTP/01.1"), &[400]),
        case("HTTP/1.10", line("GET / HTTP/1.10"), &[400]),
        case("HTTPS/1.1", line("GET / HTTPS/1.1"), &[400]),
        case("an HTTP/2 preface behind a request", get("") + "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[200, 400]),
        case("a TLS greeting", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &[400]),
        case("a request as the line's end", line("GET / HTTP/1.1 GET /smuggled HTTP/1.1"), &[400]),
    ]
}

fn targets() -> Vec<Case> {
    vec![
        case("no slash first", target("smuggled"), &[400]),
        case("a query alone", target("?a=b"), &[400]),
        case("* with GET", target("*"), &[400]),
        case("* and more", "OPTIONS */a HTTP/1.1\r\nHost: gateway.test\r\n\r\n", &[400]),
        case("a fragment", target("/a#b"), &[400]),
        case("a fragment after a query", target("/a?b#c"), &[400]),
        case("a backslash", target("/a\\..\\b"), &[400]),
        case("a NUL in the path", target("/a\0b"), &[400]),
        case("a DEL in the path", target("/a\x7fb"), &[400]),
        case("a bracket that no URI has", target("/<script>"), &[400]),
        case("bytes beyond ASCII in the path", target("/é"), &[400]),
        case("bytes beyond ASCII in the query", target("/?é"), &[400]),
        case("another scheme", target("ftp://gateway.test/"), &[400]),
        case("a scheme without an authority", target("http:/smuggled"), &[400]),
        case("an empty authority", target("http:///smuggled"), &[400]),
        case("a user in the authority", target("http://user@gateway.test/"), &[400]),
        case("an authority unlike Host", target("http://other.test/smuggled"), &[400]),
        case("an authority with a port unlike Host", target("http://gateway.test:81/"), &[400]),
        case("a fragment as authority", target("http://gateway.test#/"), &[400]),
    ]
}

fn fields() -> Vec<Case> {
    vec![
        case("a space before the colon", get("Content-Length : 49\r\n") + SMUGGLED, &[400]),
        case("a tab before the colon", get("Transfer-Encoding\t: chunked\r\n"), &[400]),
        case("a space within a name", get("X A: b\r\n"), &[400]),
        case("no name", get(": b\r\n"), &[400]),
        case("no colon", get("X-A\r\n"), &[400]),
        case("a NUL in a name", get("X\0A: b\r\n"), &[400]),
        case("a parenthesis in a name", get("X(A): b\r\n"), &[400]),
        case("bytes beyond ASCII in a name", get("Xé: b\r\n"), &[400]),
        case("a NUL in a value", get("X-A: b\0c\r\n"), &[400]),
        case("a BEL in a value", get("X-A: b\x07c\r\n"), &[400]),
        case("a DEL in a value", get("X-A: b\x7f\r\n"), &[400]),
        case("a vertical tab in a value", get("X-A: b\x0bc\r\n"), &[400]),
        case("a folded line", get("X-A: b\r\n c\r\n"), &[400]),
        case("a folded line with a tab", get("X-A: b\r\n\tContent-Length: 46\r\n") + SMUGGLED, &[400]),
        case("white space before the first field", "GET / HTTP/1.1\r\n Host: gateway.test\r\n\r\n", &[400]),
        case("a line of white space", get("X-A: b\r\n \r\n"), &[400]),
        case("an underscore in Content_Length", get("Content_Length: 49\r\n") + SMUGGLED, &[400]),
        case("an underscore in Transfer_Encoding", get("Transfer_Encoding: chunked\r\n"), &[400]),
    ]
}

fn hosts() -> Vec<Case> {
    vec![
        case("no Host", "GET / HTTP/1.1\r\nX-A: b\r\n\r\n", &[400]),
        case("two Hosts", get("Host: other.test\r\n"), &[400]),
        case("the same Host twice", get("Host: gateway.test\r\n"), &[400]),
        case("two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a.test\r\nhost: b.test\r\n\r\n", &[400]),
        case("an empty Host", host(""), &[400]),
        case("a list of hosts", host("gateway.test, other.test"), &[400]),
        case("a user in Host", host("user@gateway.test"), &[400]),
        case("a path in Host", host("gateway.test/smuggled"), &[400]),
        case("a space in Host", host("gateway.test other.test"), &[400]),
        case("a scheme in Host", host("http://gateway.test"), &[400]),
        case("an escape in Host", host("gateway%2etest"), &[400]),
        case("a port that is no number", host("gateway.test:http"), &[400]),
        case("a port beyond 65535", host("gateway.test:65536"), &[400]),
        case("a colon without a port", host("gateway.test:"), &[400]),
        case("two ports", host("gateway.test:80:81"), &[400]),
        case("a port without a host", host(":80"), &[400]),
        case("an IPv6 address that is none", host("[::1::]"), &[400]),
        case("an IPv6 address without its end", host("[::1"), &[400]),
        case("something behind an IPv6 address", host("[::1]a"), &[400]),
    ]
}

fn framing() -> Vec<Case> {
    vec![
        case("length and chunked", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), &[400]),
        case("chunked and length", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"), &[400]),
        case("chunked and a length of zero", post("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", ""), &[400]),
        case("two lengths", post("Content-Length: 0\r\nContent-Length: 46\r\n", ""), &[400]),
        case("the same length twice", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), &[400]),
        case("a list of lengths", post("Content-Length: 5, 5\r\n", "hello"), &[400]),
        case("a list of different lengths", post("Content-Length: 5,0\r\n", "hello"), &[400]),
        case("a length with a plus", post("Content-Length: +5\r\n", "hello"), &[400]),
        case("a negative length", post("Content-Length: -1\r\n", "hello"), &[400]),
        case("a length in hexadecimal", post("Content-Length: 0x5\r\n", "hello"), &[400]),
        case("a length with a fraction", post("Content-Length: 5.0\r\n", "hello"), &[400]),
        case("a length with a space", post("Content-Length: 4 6\r\n", ""), &[400]),
        case("a length with an underscore", post("Content-Length: 4_6\r\n", ""), &[400]),
        case("an empty length", post("Content-Length:\r\n", ""), &[400]),
        case("a length of 2^63", post("Content-Length: 9223372036854775808\r\n", ""), &[400]),
        case("a length of 2^64 and 5", post("Content-Length: 18446744073709551621\r\n", "hello"), &[400]),
        case("chunked twice", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n"), &[400]),
        case(
            "chunked in two fields",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            &[400],
        ),
        case(
            "chunked and identity in two fields",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
            &[400],
        ),
        case("xchunked", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), &[400]),
        case("chunked with a parameter", post("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n"), &[400]),
        case("chunked in quotes", post("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"), &[400]),
        case("chunked behind a comma", post("Transfer-Encoding: ,chunked\r\n", "0\r\n\r\n"), &[400]),
        case("chunked before a comma", post("Transfer-Encoding: chunked,\r\n", "0\r\n\r\n"), &[400]),
        case("chunked not last", post("Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n"), &[400]),
        case("identity", post("Transfer-Encoding: identity\r\n", ""), &[400]),
        case("an empty coding", post("Transfer-Encoding:\r\n", ""), &[400]),
        case("a vertical tab before chunked", post("Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"), &[400]),
        case("gzip then chunked", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), &[501]),
        case(
            "chunked in HTTP/1.0",
            format!("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
            &[400],
        ),
    ]
}

fn chunks() -> Vec<Case> {
    let then = |body: &str| chunked(body) + SMUGGLED;
    vec![
        case("a size that is no number", then("x\r\nhello\r\n0\r\n\r\n"), &[400]),
        case("an empty size", then("\r\nhello\r\n0\r\n\r\n"), &[400]),
        case("a size with 0x", then("0x5\r\nhello\r\n0\r\n\r\n"), &[400]),
        case("a size with a plus", then("+5\r\nhello\r\n0\r\n\r\n"), &[400]),
        case("a negative size", then("-1\r\nhello\r\n0\r\n\r\n"), &[400]),
        case("a space before the size", then(" 5\r\nhello\r\n0\r\n\r\n"), &[400]),
        case("a space after the size", then("5 \r\nhello\r\n0\r\n\r\n"), &[400]),
        case("a size of 2^64 and 5", then("10000000000000005\r\nhello\r\n0\r\n\r\n"), &[400]),
        case("a size of 2^63", then("8000000000000000\r\nhello\r\n0\r\n\r\n"), &[400]),
        case("LF after a size", then("5\nhello\r\n0\r\n\r\n"), &[400]),
        case("CR after a size", then("5\rhello\r\n0\r\n\r\n"), &[400]),
        case("LF after data", then("5\r\nhello\n0\r\n\r\n"), &[400]),
        case("nothing after data", then("5\r\nhello0\r\n\r\n"), &[400]),
        case("more data than said", then("4\r\nhello\r\n0\r\n\r\n"), &[400]),
        case("LF after the last chunk", then("0\n\r\n"), &[400]),
        case("LF for the last line", then("0\r\n\n"), &[400]),
        case("LF in an extension", then("5;a\nb\r\nhello\r\n0\r\n\r\n"), &[400]),
        case("CR in an extension", then("5;a\rb\r\nhello\r\n0\r\n\r\n"), &[400]),
        case("an extension without a name", then("5;\r\nhello\r\n0\r\n\r\n"), &[400]),
        case("an extension with an open quote", then("5;a=\"b\r\nhello\r\n0\r\n\r\n"), &[400]),
        case("an extension with a line end in quotes", then("5;a=\"\r\nhello\"\r\n0\r\n\r\n"), &[400]),
        case("an extension without end", then(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(2000))), &[400]),
        case("extensions together too long", then(&format!("1;{}\r\nx\r\n", "a".repeat(900)).repeat(10)), &[400]),
        case("a folded trailer", then("0\r\nX-A: b\r\n c\r\n\r\n"), &[400]),
        case("a space before a trailer's colon", then("0\r\nX-A : b\r\n\r\n"), &[400]),
        case("a length as trailer", then("0\r\nContent-Length: 46\r\n\r\n"), &[400]),
        case("a coding as trailer", then("0\r\nTransfer-Encoding: chunked\r\n\r\n"), &[400]),
        case("a host as trailer", then("0\r\nHost: other.test\r\n\r\n"), &[400]),
        case("too many trailers", then(&format!("0\r\n{}\r\n", "X-A: b\r\n".repeat(HEADER_COUNT_MAX + 1))), &[431]),
        case("trailers too large", then(&format!("0\r\nX-A: {}\r\n\r\n", "b".repeat(HEADER_BYTES_MAX))), &[431]),
    ]
}

fn limits() -> Vec<Case> {
    let long = |len: usize| "a".repeat(len);
    let spare = "GET / HTTP/1.1\r\n".len();
    vec![
        case("the longest request line", target(&format!("/{}", long(REQUEST_LINE_LEN_MAX - spare - 2))), &[200]),
        case("a request line too long", target(&format!("/{}", long(REQUEST_LINE_LEN_MAX - spare + 1))), &[414]),
        case("a request line without end", format!("GET /{}", long(REQUEST_LINE_LEN_MAX)), &[414]),
        case("a method without end", long(REQUEST_LINE_LEN_MAX), &[501]),
        case("a head too large", get(&format!("X-A: {}\r\n", long(HEADER_BYTES_MAX))), &[431]),
        case(
            "a field without end",
            format!("{}X-A: {}", &get("")[..get("").len() - 2], long(HEADER_BYTES_MAX)),
            &[431],
        ),
        case("a name too long", get(&format!("{}: b\r\n", long(300))), &[431]),
        case("as many fields as may be", get(&"X-A: b\r\n".repeat(HEADER_COUNT_MAX - 1)), &[200]),
        case("too many fields", get(&"X-A: b\r\n".repeat(HEADER_COUNT_MAX)), &[431]),
    ]
}

fn rest() -> Vec<Case> {
    vec![
        case("another expectation", get("Expect: 200-ok\r\n"), &[417]),
        case("an expectation beside 100-continue", get("Expect: 100-continue, x\r\n"), &[417]),
        case("a good one, then a bad one", get("") + &get("X-A : b\r\n") + SMUGGLED, &[200, 400]),
        case(
            "a body, then a bad one",
            chunkless("Content-Length: 2\r\n", "hi") + "GET / HTTP/9.9\r\n\r\n",
            &[200, 505],
        ),
        case("chunks, then a bad one", chunked("1\r\na\r\n0\r\n\r\n") + "GET\r\n\r\n", &[200, 400]),
        case("a body longer than its length", chunkless("Content-Length: 1\r\n", "h ") + SMUGGLED, &[200, 400]),
        case("nothing but noise", b"\xff\xfe\xfd\xfc", &[400]),
        case("a status line", "HTTP/1.1 200 OK\r\n\r\n", &[400]),
    ]
}
