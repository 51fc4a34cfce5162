//! Connections to endpoints: one worker's pools, and the sending of one request on one connection.
//!
//! An HTTP/1 connection is driven by whoever uses it, inside the client's own task: no task of its own, no
//! wake-up through a queue for each message. It stands in the pool between requests, undriven; whether it
//! is still alive is found out when it is taken. HTTP/2 connections are shared by many requests and have
//! a task each.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::{body::RequestBody, io::Gathering, worker::LocalExecutor};
use crate::{
    model::{Connected, Endpoint, Protocol, ServiceConfig},
    telemetry::EndpointCells,
};

/// Idle connections kept to one endpoint by one worker; more are closed. Above what 1,000 clients at once need
/// over two workers, below the descriptors that a process may have by default.
const IDLE_MAX: usize = 512;

/// An idle connection is closed after this long: less than the 60 to 75 s after which common servers close
/// theirs, so that few requests meet a closing connection.
const IDLE_TIMEOUT_US: u64 = 50_000_000;

/// HTTP/2 windows: large enough for 64 KiB bodies in one flight, bounded for 1,000 streams.
const H2_STREAM_WINDOW: u32 = 256 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Of a response's head. hyper's default, 16 KiB, is half of what a client may send.
const H2_HEADER_BYTES_MAX: u32 = 64 * 1024;

/// One worker's way to one endpoint.
pub struct EndpointLane {
    pub endpoint: Arc<Endpoint>,
    pub cells: Arc<EndpointCells>,
    protocol: Protocol,
    connect_timeout: Duration,
    /// Over all workers.
    connections_max: u32,
    /// Of this worker: it always may have one, as the others' idle ones are no use to it.
    open: Rc<Cell<u32>>,
    idle: RefCell<Vec<Idle>>,
    h2: H2Shared,
}

/// The one HTTP/2 connection to an endpoint.
#[derive(Default)]
struct H2Shared {
    sender: RefCell<Option<http2::SendRequest<RequestBody>>>,
    /// Held while connecting.
    dialing: tokio::sync::Mutex<()>,
    /// Times that connecting has ended, and how it failed the last time, if it did.
    dialed: Cell<u64>,
    failure: RefCell<Option<ConnectError>>,
}

struct Idle {
    connection: Box<H1Connection>,
    since_us: u64,
}

/// Why there is no connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no connection within {0:?}")]
    TimedOut(Duration),
    #[error("{0}")]
    Refused(Rc<io::Error>),
    #[error("it has {0} connections, which is as many as it may have")]
    TooMany(u32),
    #[error("handshake failed: {0}")]
    Handshake(Rc<hyper::Error>),
}

/// A connection on which one request may be sent.
pub enum Connection {
    H1(Box<H1Connection>),
    H2(http2::SendRequest<RequestBody>),
}

/// A request on its way to an endpoint. Boxed, because it passes through many hands.
pub type Outgoing = Box<Request<RequestBody>>;

/// Why no response head came.
pub struct SendError {
    pub error: hyper::Error,
    /// The request, where not a byte of it was sent.
    pub unsent: Option<Outgoing>,
}

impl EndpointLane {
    pub fn new(endpoint: Arc<Endpoint>, cells: Arc<EndpointCells>, config: &ServiceConfig) -> Rc<Self> {
        Rc::new(Self {
            endpoint,
            cells,
            protocol: config.protocol,
            connect_timeout: config.connect_timeout,
            connections_max: config.circuit.endpoint_connections_max.unwrap_or(u32::MAX),
            open: Rc::default(),
            idle: RefCell::default(),
            h2: H2Shared::default(),
        })
    }

    /// A connection that is there, if there is one. That it has died meanwhile is found out by sending on it.
    pub fn at_hand(&self) -> Option<Connection> {
        if self.protocol == Protocol::H2 {
            return self.h2.alive().map(Connection::H2);
        }
        // The most recently used first: the others grow old and are closed.
        self.idle.borrow_mut().pop().map(|idle| Connection::H1(idle.connection))
    }

    /// A new connection (or, for HTTP/2, a share of the new one).
    pub async fn connect(&self) -> Result<Connection, ConnectError> {
        match self.protocol {
            Protocol::Http1 => {
                let (stream, counted) = self.dial().await?;
                let io = TokioIo::new(Gathering::new(stream));
                let (sender, driver) = http1::Builder::new().handshake(io).await.map_err(handshake_failed)?;
                let driver = Some(driver);
                Ok(Connection::H1(Box::new(H1Connection { sender, driver, ended: false, _counted: counted })))
            }
            Protocol::H2 => self.share_h2().await.map(Connection::H2),
        }
    }

    async fn dial(&self) -> Result<(TcpStream, Counted), ConnectError> {
        let max = if self.open.get() == 0 { u32::MAX } else { self.connections_max };
        let counted = self.endpoint.connect_within(max).ok_or(ConnectError::TooMany(self.connections_max))?;
        let counted = Counted::new(counted, &self.open);
        let stream = tokio::time::timeout(self.connect_timeout, TcpStream::connect(self.endpoint.address))
            .await
            .map_err(|_| ConnectError::TimedOut(self.connect_timeout))?
            .map_err(refused)?;
        stream.set_nodelay(true).map_err(refused)?;
        self.cells.connects.add(1);
        Ok((stream, counted))
    }

    /// Requests that arrive while one is connecting wait for that connection, and share its failure too: an
    /// endpoint that lets connections time out would otherwise be tried by one after the other.
    async fn share_h2(&self) -> Result<http2::SendRequest<RequestBody>, ConnectError> {
        let dialed = self.h2.dialed.get();
        let _dialing = self.h2.dialing.lock().await;
        if self.h2.dialed.get() != dialed {
            let failure = self.h2.failure.borrow().clone();
            match (failure, self.h2.alive()) {
                (Some(failure), _) => return Err(failure),
                (None, Some(sender)) => return Ok(sender),
                (None, None) => {}
            }
        }
        let connected = self.dial_h2().await;
        self.h2.dialed.set(self.h2.dialed.get() + 1);
        self.h2.failure.replace(connected.as_ref().err().cloned());
        self.h2.sender.replace(connected.as_ref().ok().cloned());
        connected
    }

    async fn dial_h2(&self) -> Result<http2::SendRequest<RequestBody>, ConnectError> {
        let (stream, counted) = self.dial().await?;
        let io = TokioIo::new(stream);
        let (sender, driver) = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .max_header_list_size(H2_HEADER_BYTES_MAX)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .handshake(io)
            .await
            .map_err(handshake_failed)?;
        // Ends when the last sender is dropped or the connection breaks; its streams carry the error.
        tokio::task::spawn_local(async move {
            let _ = driver.await;
            drop(counted);
        });
        Ok(sender)
    }

    /// Keeps a connection for the next request, if it is fit for one.
    pub fn keep(&self, connection: Box<H1Connection>, now_us: u64) {
        let mut idle = self.idle.borrow_mut();
        if connection.is_ready() && idle.len() < IDLE_MAX {
            idle.push(Idle { connection, since_us: now_us });
        }
    }

    /// Closes connections that have stood idle for too long or were closed by the endpoint.
    pub fn sweep(&self, now_us: u64) {
        let mut cx = Context::from_waker(Waker::noop());
        self.idle.borrow_mut().retain_mut(|idle| {
            idle.connection.drive(&mut cx);
            now_us.saturating_sub(idle.since_us) < IDLE_TIMEOUT_US && idle.connection.is_ready()
        });
    }
}

impl H2Shared {
    fn alive(&self) -> Option<http2::SendRequest<RequestBody>> {
        self.sender.borrow().as_ref().filter(|sender| !sender.is_closed()).cloned()
    }
}

fn refused(error: io::Error) -> ConnectError {
    ConnectError::Refused(Rc::new(error))
}

fn handshake_failed(error: hyper::Error) -> ConnectError {
    ConnectError::Handshake(Rc::new(error))
}

/// An HTTP/1 connection, driven by its user.
pub struct H1Connection {
    sender: http1::SendRequest<RequestBody>,
    /// None once it has left a request unanswered.
    driver: Option<http1::Connection<TokioIo<Gathering>, RequestBody>>,
    ended: bool,
    _counted: Counted,
}

/// A connection's place among all workers' and this worker's.
struct Counted {
    _of_all: Connected,
    of_worker: Rc<Cell<u32>>,
}

impl Counted {
    fn new(of_all: Connected, of_worker: &Rc<Cell<u32>>) -> Self {
        of_worker.set(of_worker.get() + 1);
        Self { _of_all: of_all, of_worker: Rc::clone(of_worker) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.of_worker.set(self.of_worker.get() - 1);
    }
}

impl H1Connection {
    /// Reads and writes what can be. Without this nothing moves, the response's body neither.
    pub fn drive(&mut self, cx: &mut Context<'_>) {
        let Some(driver) = &mut self.driver else { return };
        if !self.ended && driver.poll_without_shutdown(cx).is_ready() {
            // Why it ended reaches the request or the body that was under way.
            self.ended = true;
        }
    }

    /// Whether the last exchange is over and another may begin.
    pub fn is_ready(&self) -> bool {
        !self.ended && self.sender.is_ready()
    }

    /// Sends a request and drives the connection until the response head is there.
    pub async fn send(&mut self, request: Outgoing) -> Result<Response<Incoming>, SendError> {
        let mut response = pin!(self.sender.try_send_request(*request));
        // The answer can only come of driving the connection, which has the task's own waker: waking the task
        // for the answer too would poll everything twice.
        let mut unwoken = Context::from_waker(Waker::noop());
        let (driver, ended) = (&mut self.driver, &mut self.ended);
        poll_fn(|cx| {
            if let Some(running) = driver.as_mut().filter(|_| !*ended) {
                *ended = running.poll_without_shutdown(cx).is_ready();
            }
            let answer = response.as_mut().poll(&mut unwoken);
            if answer.is_pending() && *ended {
                // The endpoint had closed the connection, so the driver ended well and never took the request.
                // Dropping it gives the request back.
                *driver = None;
                return response.as_mut().poll(&mut unwoken);
            }
            answer
        })
        .await
        .map_err(SendError::from)
    }

    /// The socket, and what was read from it beyond the head of a 101 response.
    pub fn into_tunnel(self) -> (TcpStream, bytes::Bytes) {
        let parts = self.driver.expect("it brought an answer").into_parts();
        (parts.io.into_inner().into_inner(), parts.read_buf)
    }
}

impl From<hyper::client::conn::TrySendError<Request<RequestBody>>> for SendError {
    fn from(mut error: hyper::client::conn::TrySendError<Request<RequestBody>>) -> Self {
        let unsent = error.take_message().map(Box::new);
        Self { error: error.into_error(), unsent }
    }
}

impl Connection {
    pub async fn send(&mut self, request: Outgoing) -> Result<Response<Incoming>, SendError> {
        match self {
            Self::H1(connection) => connection.send(request).await,
            Self::H2(sender) => sender.try_send_request(*request).await.map_err(SendError::from),
        }
    }
}
