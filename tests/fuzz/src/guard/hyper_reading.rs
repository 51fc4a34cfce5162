//! What hyper reads from bytes that simply stop.

use std::{
    cell::RefCell,
    convert::Infallible,
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, Version,
    body::Incoming,
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1,
    service::service_fn,
};
use sluice::gateway::guard::raise_hyper_limits;

use super::limits;

/// A request as somebody read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub method: String,
    pub target: String,
    /// Names in small letters.
    pub fields: Vec<(String, Vec<u8>)>,
    /// None: it has not ended.
    pub body: Option<Vec<u8>>,
    /// hyper may read no message after it.
    pub closes: bool,
}

/// The requests in these bytes, after which nothing comes.
pub fn read(bytes: &[u8]) -> Vec<Message> {
    let messages = Rc::<RefCell<Vec<Message>>>::default();
    let log = Rc::clone(&messages);
    let service = service_fn(move |request| take(Rc::clone(&log), request));
    let source = Source { bytes: bytes.to_vec(), position: 0 };
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None);
    raise_hyper_limits(&mut builder, &limits());
    let mut connection = pin!(builder.serve_connection(source, service));
    // hyper yields now and then with bytes still to be read, and wakes itself for them: once nobody does, that is all.
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    while connection.as_mut().poll(&mut cx).is_pending() && woken.0.swap(false, Ordering::Relaxed) {}
    messages.borrow().clone()
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn take(
    log: Rc<RefCell<Vec<Message>>>,
    request: Request<Incoming>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let fields: Vec<_> =
        head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    let closes = closes(head.version == Version::HTTP_11, &fields);
    let index = log.borrow().len();
    log.borrow_mut().push(Message {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        fields: grouped(fields),
        body: None,
        closes,
    });
    if let Ok(body) = body.collect().await {
        log.borrow_mut()[index].body = Some(body.to_bytes().to_vec());
        Ok(Response::new(Empty::new()))
    } else {
        std::future::pending().await
    }
}

/// A header map keeps the order of fields only within one name.
fn grouped(mut fields: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    fields.sort_by(|one, other| one.0.cmp(&other.0));
    fields
}

fn closes(is_http_11: bool, fields: &[(String, Vec<u8>)]) -> bool {
    let says_close = |value: &[u8]| value.to_ascii_lowercase().windows(5).any(|window| window == b"close");
    !is_http_11 || fields.iter().any(|(name, value)| name == "connection" && says_close(value))
}

/// The same requests read in the plainest way from bytes in which nothing is left to doubt.
pub fn expected(bytes: &[u8], ends: &[usize]) -> Vec<Message> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends).map(|(start, &end)| plain(&bytes[start..end])).collect()
}

fn plain(message: &[u8]) -> Message {
    let message = message.strip_prefix(b"\r\n").unwrap_or(message);
    let head_len = find(message, b"\r\n\r\n").expect("a message that passed has a head") + 4;
    let text = String::from_utf8_lossy(&message[..head_len]).into_owned();
    let mut line = text.split("\r\n").next().expect("a first line").split(' ');
    let mut word = || line.next().expect("three words").to_owned();
    let (method, target, version) = (word(), word(), word());
    let lines = message[..head_len - 4].split(|&byte| byte == b'\n').skip(1);
    let fields: Vec<_> = lines.map(|line| field(line.strip_suffix(b"\r").unwrap_or(line))).collect();
    let is_chunked = fields.iter().any(|(name, _)| name == "transfer-encoding");
    let rest = &message[head_len..];
    let body = if is_chunked { unchunked(rest) } else { rest.to_vec() };
    let closes = closes(version == "HTTP/1.1", &fields);
    let target = hyper::Uri::try_from(target).expect("a target that passed").to_string();
    Message { method, target, fields: grouped(fields), body: Some(body), closes }
}

fn field(line: &[u8]) -> (String, Vec<u8>) {
    let colon = find(line, b":").expect("a field line has a colon");
    let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
    (name, line[colon + 1..].trim_ascii().to_vec())
}

fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line_len = find(rest, b"\r\n").expect("a chunk has a line");
        let line = String::from_utf8_lossy(&rest[..line_len]).into_owned();
        let digits = line.split([';', ' ', '\t']).next().expect("a first part");
        let size = usize::from_str_radix(digits, 16).expect("a size in hexadecimal");
        rest = &rest[line_len + 2..];
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Gives its bytes in pieces of changing size, then nothing for ever; takes whatever is written.
struct Source {
    bytes: Vec<u8>,
    position: usize,
}

impl Read for Source {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = &this.bytes[this.position..];
        if rest.is_empty() {
            return Poll::Pending;
        }
        let len = rest.len().min(buf.remaining()).min(1 + this.position % 97);
        buf.put_slice(&rest[..len]);
        this.position += len;
        Poll::Ready(Ok(()))
    }
}

impl Write for Source {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
