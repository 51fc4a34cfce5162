//! Load on a schedule.
//!
//! An open loop: request `i` is due at `start + i / rate`, whatever became of the ones before, so a gateway
//! that stalls for a second is asked as often as one that does not, and the delay counts. Where all
//! connections are busy, what is due waits, and its waiting is part of its latency.

mod report;

use std::{
    cell::Cell,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, header::HOST};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::LocalSet};

pub use report::{Failure, Report, Sample};

/// Connections where the test does not say.
const CONNECTIONS: usize = 32;

/// A request without a whole answer after this long has failed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is asked, and how often.
#[derive(Clone, Debug)]
pub struct Load {
    address: SocketAddr,
    path: String,
    headers: Vec<(String, String)>,
    /// None: each connection asks again as soon as it has its answer (a closed loop).
    rate_rps: Option<f64>,
    connections: usize,
    h2: bool,
}

/// Load that goes on until it is stopped.
pub struct RunningLoad {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: JoinHandle<Report>,
}

impl Load {
    pub fn to(address: SocketAddr) -> Self {
        let path = "/".to_owned();
        Self { address, path, headers: Vec::new(), rate_rps: None, connections: CONNECTIONS, h2: false }
    }

    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Requests a second.
    pub fn rate(mut self, rate_rps: f64) -> Self {
        assert!(rate_rps > 0.0, "a rate is above 0");
        self.rate_rps = Some(rate_rps);
        self
    }

    /// Connections for HTTP/1.1, of which each has one request at a time; streams at once for HTTP/2.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Cleartext HTTP/2 with prior knowledge, each "connection" a stream at a time on a connection of its own.
    pub fn h2(mut self) -> Self {
        self.h2 = true;
        self
    }

    pub fn start(self) -> RunningLoad {
        let stop = Arc::<AtomicBool>::default();
        let done = Arc::<AtomicU64>::default();
        let (stopping, counting) = (Arc::clone(&stop), Arc::clone(&done));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime can be built");
            LocalSet::new().block_on(&runtime, run(self, stopping, counting))
        });
        RunningLoad { stop, done, thread }
    }

    /// For a while, then stop.
    pub fn run_for(self, time: Duration) -> Report {
        let running = self.start();
        let end = Instant::now() + time;
        crate::wait::wait_for("the end of the load's time", time * 2, || (Instant::now() >= end).then_some(()));
        running.stop()
    }

    /// Until so many requests have been answered or failed.
    pub fn run_count(self, requests: u64) -> Report {
        let running = self.start();
        running.await_done(requests);
        running.stop()
    }
}

impl RunningLoad {
    /// Requests that have been answered or failed.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }

    /// Waits until `more` further requests are done, so that a test sees traffic before and after an act.
    pub fn await_more(&self, more: u64) {
        self.await_done(self.done() + more);
    }

    /// As long as it goes on at all: what a busy machine does is late, and must not be taken for what hangs.
    fn await_done(&self, target: u64) {
        while self.done() < target {
            let now = self.done();
            crate::wait::wait_until("the load to go on", || self.done() > now);
        }
    }

    /// Lets what has been sent end, and reports.
    pub fn stop(self) -> Report {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("the generator does not panic")
    }
}

/// Requests a second that the other side can take over so many connections, measured for `time`.
pub fn capacity_rps(load: Load, time: Duration) -> f64 {
    let begun = Instant::now();
    let report = Load { rate_rps: None, ..load }.run_for(time);
    report.expect_no_failures();
    report.total() as f64 / begun.elapsed().as_secs_f64()
}

async fn run(load: Load, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Report {
    let load = Rc::new(load);
    let next = Rc::new(Cell::new(0));
    let start = Instant::now();
    let connections: Vec<_> = (0..load.connections)
        .map(|_| {
            let connection = Connection { load: Rc::clone(&load), sender: None, report: Report::default() };
            let ends = Ends { stop: Arc::clone(&stop), done: Arc::clone(&done) };
            tokio::task::spawn_local(connection.run(start, Rc::clone(&next), ends))
        })
        .collect();
    let mut whole = Report::default();
    for connection in connections {
        let report = connection.await.expect("a connection's task does not panic");
        whole.samples.extend(report.samples);
        whole.reconnects += report.reconnects;
    }
    whole.samples.sort_by_key(|sample| sample.sent);
    whole
}

struct Ends {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
}

struct Connection {
    load: Rc<Load>,
    sender: Option<Sender>,
    report: Report,
}

enum Sender {
    H1(conn::http1::SendRequest<Empty<Bytes>>),
    H2(conn::http2::SendRequest<Empty<Bytes>>),
}

impl Connection {
    async fn run(mut self, start: Instant, next: Rc<Cell<u64>>, ends: Ends) -> Report {
        while !ends.stop.load(Ordering::Acquire) {
            let index = next.replace(next.get() + 1);
            let due = match self.load.rate_rps {
                Some(rate_rps) => start + Duration::from_secs_f64(index as f64 / rate_rps),
                None => Instant::now(),
            };
            tokio::time::sleep_until(due.into()).await;
            if ends.stop.load(Ordering::Acquire) {
                break;
            }
            let sent = Instant::now();
            let result = tokio::time::timeout(TIMEOUT, self.exchange()).await.unwrap_or(Err(Failure::TimedOut));
            if result.is_err() {
                self.sender = None;
            }
            let ended = Instant::now();
            self.report.samples.push(Sample { sent, ended, latency: ended - due, result });
            ends.done.fetch_add(1, Ordering::AcqRel);
        }
        self.report
    }

    async fn exchange(&mut self) -> Result<(u16, String), Failure> {
        let response = loop {
            let fresh = self.connect().await?;
            match self.send().await {
                Ok(response) => break response,
                // The other side closed an idle connection and nothing was sent on it: any client would open
                // another. On a fresh connection it is a failure.
                Err(error) if error.is_canceled() && !fresh => {
                    self.report.reconnects += 1;
                    self.sender = None;
                }
                Err(error) => return Err(Failure::Broken(error.to_string())),
            }
        };
        let status = response.status().as_u16();
        let instance = response.headers().get("x-instance").and_then(|name| name.to_str().ok());
        let instance = instance.unwrap_or_default().to_owned();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|error| Failure::Broken(error.to_string()))?;
        }
        if status >= 500 { Err(Failure::Status(status)) } else { Ok((status, instance)) }
    }

    async fn send(&mut self) -> hyper::Result<Response<Incoming>> {
        let request = self.load.request();
        match self.sender.as_mut().expect("connected by the caller") {
            Sender::H1(sender) => sender.send_request(request).await,
            Sender::H2(sender) => sender.send_request(request).await,
        }
    }

    /// Whether the connection is a new one.
    async fn connect(&mut self) -> Result<bool, Failure> {
        let usable = match &mut self.sender {
            Some(Sender::H1(sender)) => sender.ready().await.is_ok(),
            Some(Sender::H2(sender)) => sender.ready().await.is_ok(),
            None => false,
        };
        if usable {
            return Ok(false);
        }
        self.report.reconnects += u64::from(self.sender.is_some());
        let failed = |error: &dyn std::error::Error| Failure::Connect(error.to_string());
        let stream = TcpStream::connect(self.load.address).await.map_err(|error| failed(&error))?;
        stream.set_nodelay(true).map_err(|error| failed(&error))?;
        let io = TokioIo::new(stream);
        // A connection's own error comes back through its requests.
        self.sender = Some(if self.load.h2 {
            let (sender, connection) =
                conn::http2::handshake(TokioExecutor::new(), io).await.map_err(|error| failed(&error))?;
            tokio::task::spawn_local(connection);
            Sender::H2(sender)
        } else {
            let (sender, connection) = conn::http1::handshake(io).await.map_err(|error| failed(&error))?;
            tokio::task::spawn_local(connection);
            Sender::H1(sender)
        });
        Ok(true)
    }
}

impl Load {
    fn request(&self) -> Request<Empty<Bytes>> {
        let mut request = Request::builder();
        request = if self.h2 {
            request.uri(format!("http://{}{}", self.address, self.path))
        } else {
            request.uri(&self.path).header(HOST, self.address.to_string())
        };
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Empty::new()).expect("the test's request is well-formed")
    }
}
