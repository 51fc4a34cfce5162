//! Origins that speak bytes: for upstreams that misbehave, and for seeing exactly what the gateway sends.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::raw::RawConnection;

/// What a healthy origin answers, with a body and keep-alive.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nx-instance: raw\r\ncontent-length: 2\r\n\r\nok";

/// Accepts connections and gives each, on a thread of its own, to the test's closure.
pub struct RawOrigin {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
    accepted: Arc<AtomicUsize>,
    closing: Arc<AtomicBool>,
}

/// One connection from the gateway. All that is read is recorded.
pub struct RawExchange {
    /// How many connections there were before.
    pub index: usize,
    stream: TcpStream,
    pending: Vec<u8>,
    received: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl RawOrigin {
    pub fn start(serve: impl Fn(RawExchange) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let received = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let accepted = Arc::<AtomicUsize>::default();
        let closing = Arc::<AtomicBool>::default();
        let origin = Self {
            address,
            received: Arc::clone(&received),
            accepted: Arc::clone(&accepted),
            closing: Arc::clone(&closing),
        };
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if closing.load(Ordering::Acquire) {
                    return;
                }
                // Out of descriptors: until some are free again.
                let Ok(stream) = stream else {
                    thread::sleep(Duration::from_millis(10));
                    continue;
                };
                let index = accepted.fetch_add(1, Ordering::AcqRel);
                let log = Arc::clone(&received);
                log.lock().expect("no holder panics").push(Vec::new());
                let exchange = RawExchange { index, stream, pending: Vec::new(), received: log };
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(exchange));
            }
        });
        origin
    }

    /// Answers every request well and records the bytes.
    pub fn recording() -> Self {
        Self::start(|mut exchange| while exchange.answer(OK).is_some() {})
    }

    /// Answers the first request of each connection and takes the second one only to close, as a server
    /// does whose keep-alive time ran out just then.
    pub fn dead_on_second_request() -> Self {
        Self::start(|mut exchange| {
            if exchange.answer(OK).is_some() {
                exchange.read_request();
                exchange.reset();
            }
        })
    }

    /// Promises `promised` bytes of body, sends `sent` and resets the connection.
    pub fn resets_mid_body(promised: usize, sent: usize) -> Self {
        Self::start(move |mut exchange| {
            if exchange.read_request().is_some() {
                exchange.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {promised}\r\n\r\n").as_bytes());
                exchange.write(&vec![b'x'; sent]);
                exchange.reset();
            }
        })
    }

    /// Reads the request's head and resets the connection without a byte of answer.
    pub fn resets_before_the_answer() -> Self {
        Self::start(|mut exchange| {
            exchange.read_request();
            exchange.reset();
        })
    }

    /// Accepts, reads, and never answers; the connection stays open until the peer ends it.
    pub fn silent() -> Self {
        Self::start(|mut exchange| while exchange.read_some() {})
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.accepted.load(Ordering::Acquire)
    }

    /// All bytes of every connection so far, in the order in which they were accepted.
    pub fn received(&self) -> Vec<Vec<u8>> {
        self.received.lock().expect("no holder panics").clone()
    }

    /// All bytes of all connections as text.
    pub fn received_text(&self) -> String {
        String::from_utf8_lossy(&self.received().concat()).into_owned()
    }
}

impl Drop for RawOrigin {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Release);
        // Wakes the accepting thread, which then lets the port go.
        let _ = TcpStream::connect(self.address);
    }
}

impl RawExchange {
    /// Reads until one request (head, and body by `content-length` or chunks) is whole; none at the end.
    pub fn read_request(&mut self) -> Option<Vec<u8>> {
        let head_len = loop {
            if let Some(at) = self.pending.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.read_some() {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.pending[..head_len]).to_ascii_lowercase();
        let field =
            |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
        let body_len = field("content-length:").and_then(|len| len.parse::<usize>().ok()).unwrap_or(0);
        let chunked = field("transfer-encoding:").is_some();
        let end = loop {
            let body = &self.pending[head_len..];
            let whole = match chunked {
                // Enough for the tests, which send no chunk that contains this.
                true => body.windows(5).position(|window| window == b"0\r\n\r\n").map(|at| at + 5),
                false => (body.len() >= body_len).then_some(body_len),
            };
            if let Some(len) = whole {
                break head_len + len;
            }
            if !self.read_some() {
                return None;
            }
        };
        Some(self.pending.drain(..end).collect())
    }

    /// Reads one request and answers it; none where the peer has ended the connection.
    pub fn answer(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let request = self.read_request()?;
        self.write(bytes);
        Some(request)
    }

    /// Reads what is there; false at the end.
    pub fn read_some(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        let len = self.stream.read(&mut piece).unwrap_or(0);
        self.pending.extend_from_slice(&piece[..len]);
        self.received.lock().expect("no holder panics")[self.index].extend_from_slice(&piece[..len]);
        len > 0
    }

    /// A peer that has gone is no error: that is often the point.
    pub fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Ends with RST.
    pub fn reset(self) {
        RawConnection::over(self.stream).reset();
    }

    /// The connection itself, with what was read and not yet taken.
    pub fn into_parts(self) -> (TcpStream, Vec<u8>) {
        (self.stream, self.pending)
    }
}
