//! Origins that speak HTTP properly: HTTP/1.1 and cleartext HTTP/2 on one port, each on a thread of its own.

mod answers;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use http::{HeaderMap, Method, Uri, Version};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use crate::wait::{DEADLINE, wait_for};

/// Heads that are remembered; later ones are only counted. More than any test looks at, however slow its machine is.
const SEEN_MAX: usize = 10_000;

/// A server that says who it is (`x-instance`) and does what the path says:
///
/// | path contains | answer |
/// | --- | --- |
/// | `/echo` | the request's body, piece by piece as it comes, trailers included |
/// | `/count` | how many bytes the request's body had |
/// | `/bytes/N` | N bytes, streamed |
/// | `/status/N` | this status |
/// | `/delay/MS` | after so many milliseconds |
/// | `/break/N` | N bytes of more that were promised, then the connection ends |
/// | `/trailers` | a body and the trailers `grpc-status: 0`, `x-checksum: 7` |
/// | `/headers` | the request's head as JSON |
/// | `/upgrade` | 101 to whatever `Upgrade` asks for, then every byte back |
/// | anything else | the instance's name |
pub struct Origin {
    address: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// The head of a request that arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    pub headers: HeaderMap,
}

struct State {
    name: String,
    requests: AtomicU64,
    in_flight: AtomicUsize,
    connections: AtomicUsize,
    delay_us: AtomicU64,
    /// Of a thousand requests, so many are answered with `failure_status`.
    failure_permille: AtomicU32,
    failure_status: AtomicU32,
    seen: Mutex<Vec<Seen>>,
}

impl Origin {
    pub fn start(name: &str) -> Self {
        Self::start_on(name, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    /// On an address that an origin which was killed has left.
    pub fn start_on(name: &str, address: SocketAddr) -> Self {
        // A connection of somebody else's may have taken the port for a moment.
        let listener = wait_for("the address to be free", DEADLINE, || std::net::TcpListener::bind(address).ok());
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        let address = listener.local_addr().expect("bound");
        let state = Arc::new(State::new(name));
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            // Dropping the runtime with the block drops every connection, as a killed process does.
            runtime.expect("a runtime can be built").block_on(async {
                let listener = TcpListener::from_std(listener).expect("made non-blocking above");
                tokio::select! {
                    () = accept(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, state, stop: Some(stop), thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Requests whose head has arrived.
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Acquire)
    }

    /// Requests whose head has arrived and whose answer's head has not been given.
    pub fn in_flight(&self) -> usize {
        self.state.in_flight.load(Ordering::Acquire)
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Acquire)
    }

    /// The first heads that arrived.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().expect("no holder panics").clone()
    }

    /// Each answer's head waits so long, from now on.
    pub fn set_delay(&self, delay: Duration) {
        let delay_us = u64::try_from(delay.as_micros()).expect("a test's delay is short");
        self.state.delay_us.store(delay_us, Ordering::Release);
    }

    /// So many of each thousand requests are answered with `status`, spread evenly, from now on.
    pub fn set_failures(&self, permille: u32, status: u16) {
        self.state.failure_status.store(status.into(), Ordering::Release);
        self.state.failure_permille.store(permille, Ordering::Release);
    }

    /// Ends every connection and lets the port go, as `kill -9` does.
    pub fn kill(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended by itself; then nobody listens.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the origin's thread does not panic");
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.kill();
    }
}

impl State {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            requests: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            delay_us: AtomicU64::new(0),
            failure_permille: AtomicU32::new(0),
            failure_status: AtomicU32::new(0),
            seen: Mutex::default(),
        }
    }

    /// Counts a request; the answer is its number.
    fn note<B>(&self, request: &http::Request<B>) -> u64 {
        let mut seen = self.seen.lock().expect("no holder panics");
        if seen.len() < SEEN_MAX {
            seen.push(Seen {
                method: request.method().clone(),
                uri: request.uri().clone(),
                version: request.version(),
                headers: request.headers().clone(),
            });
        }
        self.requests.fetch_add(1, Ordering::AcqRel)
    }

    /// The status that request `number` fails with, if it is one of those that shall.
    fn failure(&self, number: u64) -> Option<u16> {
        let permille = u64::from(self.failure_permille.load(Ordering::Acquire));
        // As Bresenham's line: the running total passes another thousand exactly `permille` times in 1000.
        let fails = (number * permille) % 1000 + permille >= 1000;
        fails.then(|| u16::try_from(self.failure_status.load(Ordering::Acquire)).expect("set from a u16"))
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        // Running out of descriptors is the only way to fail, and fails the test by time-out.
        let Ok((stream, _)) = listener.accept().await else { return };
        state.connections.fetch_add(1, Ordering::AcqRel);
        tokio::spawn(serve(stream, Arc::clone(&state)));
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    // On a socket that the peer has already closed; serving it will find that out.
    let _ = stream.set_nodelay(true);
    let h2 = is_h2(&stream).await;
    let io = TokioIo::new(stream);
    let service = service_fn(move |request| answers::answer(request, Arc::clone(&state)));
    // A connection that breaks is a thing that tests do on purpose.
    if h2 {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .serve_connection(io, service)
            .await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .serve_connection(io, service)
            .with_upgrades()
            .await;
    }
}

/// Whether the client begins with HTTP/2's preface (RFC 9113 §3.4); no HTTP/1 method begins with `PRI`.
async fn is_h2(stream: &TcpStream) -> bool {
    let mut begin = [0; 3];
    loop {
        match stream.peek(&mut begin).await {
            Ok(3) => return &begin == b"PRI",
            Ok(len) if len > 0 && begin[..len] == b"PRI"[..len] => tokio::task::yield_now().await,
            _ => return false,
        }
    }
}
