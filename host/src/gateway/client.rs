//! One client's connection: which protocol it speaks, its time limits, its end.

use std::{
    cell::{Cell, OnceCell, RefCell},
    convert::Infallible,
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::HeaderValue;
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;

use super::{
    guard::{ConnState, GuardedIo, Overdue, Phase, Turn, overdue, raise_hyper_limits},
    headers::ClientAddress,
    io::{Gathering, Replayed},
    listener::Place,
    request::serve_request,
    timer::KeptTimer,
    tunnel::Tunnel,
    worker::{LocalExecutor, Worker},
};
use crate::model::Limits;

/// What an HTTP/2 client with prior knowledge begins with (RFC 9113 §3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// First read of a connection: a typical head whole.
const FIRST_READ_BYTES: usize = 4096;

/// While draining, a connection that lies idle for so long is closed. Before, a request may be on its way on it, which
/// would be lost: one that comes is answered, and told that it was the last.
const DRAIN_IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// A dead HTTP/2 client is noticed within this and [`H2_PING_TIMEOUT`].
const H2_PING_INTERVAL: Duration = Duration::from_secs(30);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What one HTTP/2 stream, and one connection, may have under way to us: bounds memory at
/// `h2_streams_max` × 64 KiB, and lets a body fill a link of 1 Gbit/s at 0.5 ms.
const H2_STREAM_WINDOW: u32 = 64 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Streams that a client may reset before they are accepted, and that may be in error on our side: above, the
/// connection is ended with ENHANCE_YOUR_CALM (CVE-2023-44487).
const H2_RESETS_MAX: usize = 20;

/// One client's connection, seen by its requests and by the worker's tick.
pub struct Client {
    pub worker: Rc<Worker>,
    pub peer: SocketAddr,
    pub scheme: &'static str,
    /// The peer's address, ready to be sent.
    text: HeaderValue,
    speaks: OnceCell<Speaks>,
    opened_us: u64,
    /// Of the requests' time limits.
    pub timer: KeptTimer,
    tunnel: RefCell<Option<Tunnel>>,
    order: Cell<Order>,
    /// When draining began.
    drained_us: Cell<u64>,
    waker: RefCell<Option<Waker>>,
}

enum Speaks {
    Http1(Rc<ConnState>),
    Http2(Rc<H2State>),
}

/// What is known of an HTTP/2 connection beside what hyper keeps.
pub struct H2State {
    streams: Cell<u32>,
    /// When the last stream ended.
    idle_since_us: Cell<u64>,
    /// Streams of which bytes are at hand that the client does not take, and when it last took some. What is
    /// written says less: PINGs are written to a client that takes nothing.
    owing: Cell<u32>,
    taken_us: Cell<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    None,
    /// Take no further requests and end; in HTTP/1, the next one may still come.
    Drain,
    /// Nothing came.
    DrainIdle,
    Draining,
    /// End now.
    Kill,
}

/// One request's place on its connection: its end starts the idle time.
pub enum Occupancy {
    Http1(Turn),
    Http2(StreamPlace),
    /// Of the gateway's own call, which comes on none.
    Own,
}

/// A stream of an HTTP/2 connection.
pub struct StreamPlace {
    connection: Rc<H2State>,
    worker: Rc<Worker>,
    owing: Cell<bool>,
}

impl Occupancy {
    /// Whether bytes of the answer are at hand that the client has not taken. (HTTP/1 has its socket to tell.)
    pub fn note_owed(&self, is_owed: bool) {
        if let Self::Http2(stream) = self {
            stream.note_owed(is_owed);
        }
    }
}

impl StreamPlace {
    fn take(connection: &Rc<H2State>, worker: &Rc<Worker>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        Self { connection: Rc::clone(connection), worker: Rc::clone(worker), owing: Cell::new(false) }
    }

    fn note_owed(&self, is_owed: bool) {
        let owing = &self.connection.owing;
        match (self.owing.replace(is_owed), is_owed) {
            (false, true) => owing.set(owing.get() + 1),
            (true, false) => owing.set(owing.get() - 1),
            _ => {}
        }
        // Being asked for more means that what was handed over before is taken.
        self.connection.taken_us.set(self.worker.coarse_now_us());
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.note_owed(false);
        self.connection.streams.set(self.connection.streams.get() - 1);
        self.connection.idle_since_us.set(self.worker.coarse_now_us());
    }
}

/// Serves a connection on this worker until it ends.
pub fn serve(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, place: Place) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %peer, "the connection is gone already");
        return;
    }
    let ip = peer.ip().to_canonical();
    let client = Rc::new(Client {
        worker: Rc::clone(worker),
        peer: SocketAddr::new(ip, peer.port()),
        scheme: "http",
        text: HeaderValue::try_from(ip.to_string()).expect("an address is visible ASCII"),
        speaks: OnceCell::new(),
        opened_us: worker.coarse_now_us(),
        timer: KeptTimer::default(),
        tunnel: RefCell::new(None),
        order: Cell::new(Order::None),
        drained_us: Cell::new(0),
        waker: RefCell::new(None),
    });
    worker.cells.accepted.add(1);
    let id = worker.next_client_id();
    worker.clients.borrow_mut().insert(id, Rc::clone(&client));
    if worker.draining.get() {
        client.begin_drain();
    }
    tokio::task::spawn_local(async move {
        client.converse(stream).await;
        client.worker.clients.borrow_mut().remove(&id);
        drop(place);
        client.worker.one_gone.notify_one();
    });
}

impl Client {
    /// Takes a place for one request. None for a request of HTTP/1 whose refusal stands in [`Occupancy`].
    pub fn occupy(&self) -> Occupancy {
        match self.speaks.get() {
            Some(Speaks::Http1(conn)) => Occupancy::Http1(conn.next_request()),
            Some(Speaks::Http2(state)) => Occupancy::Http2(StreamPlace::take(state, &self.worker)),
            None => unreachable!("requests come after the protocol is known"),
        }
    }

    pub fn address(&self, trusted: &[ipnet::IpNet]) -> ClientAddress {
        let ip = self.peer.ip();
        let trusted = !trusted.is_empty() && trusted.iter().any(|net| net.contains(&ip));
        ClientAddress { ip, text: self.text.clone(), trusted }
    }

    /// After the 101 that is being answered the connection belongs to this tunnel.
    pub fn open_tunnel(&self, tunnel: Tunnel) {
        self.tunnel.replace(Some(tunnel));
    }

    /// Lets the requests there are end, and takes no more.
    pub fn begin_drain(&self) {
        if self.order.get() == Order::None {
            self.drained_us.set(self.worker.coarse_now_us());
            self.give(Order::Drain);
        }
    }

    /// Whether an HTTP/1 client has to be told that its request was the last on this connection.
    pub fn closes_after_answer(&self) -> bool {
        self.order.get() != Order::None && matches!(self.speaks.get(), Some(Speaks::Http1(_)))
    }

    fn give(&self, order: Order) {
        self.order.set(order);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Ends what has used up its time.
    pub fn check_time(&self, now_us: u64, limits: &Limits) {
        let over = |since_us: u64, limit: Duration| Duration::from_micros(now_us.saturating_sub(since_us)) > limit;
        match self.speaks.get() {
            None => {
                let drains = self.order.get() != Order::None;
                let limit = if drains { DRAIN_IDLE_TIMEOUT } else { limits.header_read_timeout };
                if over(self.opened_us, limit) {
                    self.give(Order::Kill);
                }
            }
            Some(Speaks::Http1(conn)) => {
                match overdue(conn, now_us, limits) {
                    Some(Overdue::HeaderRead | Overdue::BodyRead) => conn.expire(),
                    Some(Overdue::Idle | Overdue::Closing) => self.give(Order::Kill),
                    None => {}
                }
                let drains_idly = self.order.get() == Order::Drain && conn.phase() == Phase::Idle;
                if drains_idly && over(self.drained_us.get(), DRAIN_IDLE_TIMEOUT) {
                    self.give(Order::DrainIdle);
                }
                if conn.write_stalled_since().is_some_and(|since_us| over(since_us, limits.write_timeout)) {
                    self.give(Order::Kill);
                }
            }
            Some(Speaks::Http2(state)) => {
                if state.streams.get() == 0 && over(state.idle_since_us.get(), limits.keep_alive_timeout) {
                    // The second time round it has not gone by itself.
                    self.give(if self.order.get() == Order::Draining { Order::Kill } else { Order::Drain });
                    state.idle_since_us.set(now_us);
                }
                if state.owing.get() > 0 && over(state.taken_us.get(), limits.write_timeout) {
                    self.give(Order::Kill);
                }
            }
        }
    }

    async fn converse(self: &Rc<Self>, stream: TcpStream) {
        let limits = self.worker.state().snapshot.limits.clone();
        let mut first = Vec::with_capacity(FIRST_READ_BYTES);
        let Some(is_h2) = self.until_killed(sniff(&stream, &mut first)).await.flatten() else { return };
        if is_h2 {
            self.converse_http2(stream, first, &limits).await;
        } else {
            self.converse_http1(stream, first, &limits).await;
        }
    }

    async fn converse_http1(self: &Rc<Self>, stream: TcpStream, first: Vec<u8>, limits: &Limits) {
        let conn = ConnState::new(self.worker.coarse.clone());
        let io = GuardedIo::new(Gathering::new(stream), Rc::clone(&conn), limits, first);
        let _ = self.speaks.set(Speaks::Http1(Rc::clone(&conn)));
        let client = Rc::clone(self);
        let service = service_fn(move |request| {
            let client = Rc::clone(&client);
            async move { Ok::<_, Infallible>(serve_request(client, request).await) }
        });
        // The guard keeps the limits; hyper's own would be a second opinion.
        let mut http = http1::Builder::new();
        http.header_read_timeout(None);
        raise_hyper_limits(&mut http, limits);
        let mut connection = http.serve_connection(io, service);
        let ended = poll_fn(|cx| {
            if self.order.get() == Order::Kill {
                return Poll::Ready(None);
            }
            self.remember(cx);
            let polled = Pin::new(&mut connection).poll(cx);
            let is_due = match self.order.get() {
                // Told between requests, hyper would close the connection, and with it what is queued or on its way.
                Order::Drain => conn.is_serving(),
                Order::DrainIdle => true,
                Order::None | Order::Draining | Order::Kill => false,
            };
            if polled.is_ready() || !is_due {
                return polled.map(Some);
            }
            self.order.set(Order::Draining);
            Pin::new(&mut connection).graceful_shutdown();
            Pin::new(&mut connection).poll(cx).map(Some)
        })
        .await;
        let Some(Ok(())) = ended else { return };
        let Some(tunnel) = self.tunnel.take() else { return };
        let parts = connection.into_parts();
        let (socket, held) = parts.io.into_parts();
        let unread = [&parts.read_buf[..], &held].concat();
        self.until_killed(tunnel.run(socket.into_inner(), unread)).await;
    }

    async fn converse_http2(self: &Rc<Self>, stream: TcpStream, first: Vec<u8>, limits: &Limits) {
        let now_us = self.worker.coarse_now_us();
        let state = Rc::new(H2State {
            streams: Cell::new(0),
            idle_since_us: Cell::new(now_us),
            owing: Cell::new(0),
            taken_us: Cell::new(now_us),
        });
        let _ = self.speaks.set(Speaks::Http2(state));
        let client = Rc::clone(self);
        let service = service_fn(move |request| {
            let client = Rc::clone(&client);
            async move { Ok::<_, Infallible>(serve_request(client, request).await) }
        });
        let connection = http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .keep_alive_interval(H2_PING_INTERVAL)
            .keep_alive_timeout(H2_PING_TIMEOUT)
            .initial_stream_window_size(H2_STREAM_WINDOW)
            .initial_connection_window_size(H2_CONNECTION_WINDOW)
            .max_concurrent_streams(limits.h2_streams_max)
            .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(H2_RESETS_MAX)
            .max_local_error_reset_streams(H2_RESETS_MAX)
            .serve_connection(Replayed::new(stream, first), service);
        let mut connection = pin!(connection);
        let ended = poll_fn(|cx| {
            match self.order.get() {
                Order::Kill => return Poll::Ready(None),
                Order::Drain | Order::DrainIdle => {
                    self.order.set(Order::Draining);
                    connection.as_mut().graceful_shutdown();
                }
                Order::None | Order::Draining => {}
            }
            self.remember(cx);
            connection.as_mut().poll(cx).map(Some)
        })
        .await;
        if let Some(Err(error)) = ended {
            tracing::debug!(%error, peer = %self.peer, "an HTTP/2 connection ended");
        }
    }

    /// Keeps the task's waker for the orders of the worker's tick.
    fn remember(&self, cx: &Context<'_>) {
        let mut kept = self.waker.borrow_mut();
        match &mut *kept {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *kept = Some(cx.waker().clone()),
        }
    }

    /// None if the connection was ended first.
    async fn until_killed<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            if self.order.get() == Order::Kill {
                return Poll::Ready(None);
            }
            self.remember(cx);
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }
}

/// Reads until it is clear whether this is HTTP/2. None: the client went away.
async fn sniff(stream: &TcpStream, first: &mut Vec<u8>) -> Option<bool> {
    loop {
        stream.readable().await.ok()?;
        match stream.try_read_buf(first) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return None,
        }
        let shared = first.len().min(H2_PREFACE.len());
        if first[..shared] != H2_PREFACE[..shared] {
            return Some(false);
        }
        if shared == H2_PREFACE.len() {
            return Some(true);
        }
    }
}
