//! The access log: a line of JSON for each request, written by a thread of its own.
//!
//! A worker hands its record to a bounded queue and never waits: a full queue (a disk that stalls, a pipe that
//! nobody reads) drops the line and counts it. Encoding and writing happen on the writer's thread.

use std::{
    borrow::Cow,
    io::{self, BufWriter, Write},
    net::IpAddr,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use http::{HeaderValue, Method, uri::PathAndQuery};
use serde::Serialize;

use super::counter::SharedCounter;
use crate::model::{AccessLog, ServiceName, VersionId};

/// Records waiting for the writer, about 300 bytes each: a burst of a tenth of a second at 80,000 requests/s.
const QUEUE_LEN_MAX: usize = 8_192;

/// How long [`AccessLogWriter::finish`] waits for an output that does not take the last lines.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// One request, as it ended.
#[derive(Clone, Debug)]
pub struct AccessRecord {
    /// When the request's head had arrived.
    pub at: SystemTime,
    pub request_id: HeaderValue,
    /// After `trusted_proxies`.
    pub client: IpAddr,
    pub method: Method,
    pub host: String,
    /// Logged without its query, in which secrets may stand.
    pub path: PathAndQuery,
    pub protocol: http::Version,
    /// None where no route matched.
    pub route: Option<Arc<str>>,
    pub service: Option<ServiceName>,
    /// Of the last attempt.
    pub endpoint: Option<Arc<str>>,
    /// The plugin version that picked it; none where the native fallback did.
    pub picked_by: Option<VersionId>,
    pub attempts: u32,
    pub status: u16,
    /// Of the bodies.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// From the request's head to the end of the exchange.
    pub duration_us: u64,
    /// From the request's head to the response's; none where the client went away before.
    pub first_byte_us: Option<u64>,
    /// The stage that failed, where one did.
    pub error: Option<&'static str>,
    pub user_agent: Option<HeaderValue>,
}

/// Where access-log lines go. A worker has its own clone.
#[derive(Clone, Debug)]
pub struct AccessLogSink {
    queue: Option<SyncSender<Message>>,
    cells: Arc<AccessLogCells>,
}

/// What became of the lines.
#[derive(Debug, Default)]
pub struct AccessLogCells {
    pub written: SharedCounter,
    /// The queue was full, or the output failed.
    pub dropped: SharedCounter,
}

impl AccessLogSink {
    /// Takes nothing and costs nothing.
    pub fn off() -> Self {
        Self { queue: None, cells: Arc::default() }
    }

    /// Starts the thread that writes lines to `output` (standard output, or a file opened for appending).
    pub fn start(
        output: impl Write + Send + 'static,
        cells: &Arc<AccessLogCells>,
    ) -> io::Result<(Self, AccessLogWriter)> {
        let (queue, records) = sync_channel(QUEUE_LEN_MAX);
        let (report, done) = sync_channel(1);
        let writer = Writer { output: BufWriter::new(output), cells: Arc::clone(cells), failing: false };
        let thread = thread::Builder::new().name("access-log".to_owned()).spawn(move || {
            writer.run(&records);
            // Nobody waits for it if `finish` has given up.
            let _ = report.send(());
        })?;
        let sink = Self { queue: Some(queue.clone()), cells: Arc::clone(cells) };
        Ok((sink, AccessLogWriter { queue, done, thread }))
    }

    /// Whether this request's line is wanted. `random` is uniform; a request that the gateway itself answers with
    /// an error is always in the sample.
    pub fn wants(&self, mode: &AccessLog, random: u64, gateway_error: bool) -> bool {
        self.queue.is_some()
            && match mode {
                AccessLog::Off => false,
                AccessLog::On => true,
                AccessLog::Sampled(share) => gateway_error || unit_interval(random) < *share,
            }
    }

    /// Never waits.
    pub fn log(&self, record: AccessRecord) {
        let Some(queue) = &self.queue else { return };
        if queue.try_send(Message::Record(Box::new(record))).is_err() {
            self.cells.dropped.add(1);
        }
    }
}

/// The writing thread's owner.
#[derive(Debug)]
pub struct AccessLogWriter {
    queue: SyncSender<Message>,
    done: Receiver<()>,
    thread: JoinHandle<()>,
}

impl AccessLogWriter {
    /// Writes what has been queued and ends the thread. Returns false if the output did not take it in time; the
    /// thread is then left behind.
    pub fn finish(self) -> bool {
        let Self { queue, done, thread } = self;
        // A full queue of an output that stalls would block here: the message is best effort, because the
        // thread ends as well when all sinks are gone.
        let _ = queue.try_send(Message::Finish);
        drop(queue);
        match done.recv_timeout(FINISH_TIMEOUT) {
            Err(RecvTimeoutError::Timeout) => false,
            Ok(()) | Err(RecvTimeoutError::Disconnected) => thread.join().is_ok(),
        }
    }
}

#[derive(Debug)]
enum Message {
    /// Boxed, so that the queue's slots stay small while the log is off.
    Record(Box<AccessRecord>),
    Finish,
}

struct Writer<W: Write> {
    output: BufWriter<W>,
    cells: Arc<AccessLogCells>,
    /// So that a broken output is reported once, not for each line.
    failing: bool,
}

impl<W: Write> Writer<W> {
    /// Until it is told to finish, or no sink is left.
    fn run(mut self, records: &Receiver<Message>) {
        loop {
            let next = match records.try_recv() {
                Ok(message) => Some(message),
                Err(TryRecvError::Disconnected) => None,
                Err(TryRecvError::Empty) => {
                    self.flush();
                    records.recv().ok()
                }
            };
            match next {
                Some(Message::Record(record)) => self.write(&record),
                Some(Message::Finish) | None => break,
            }
        }
        self.flush();
    }

    fn write(&mut self, record: &AccessRecord) {
        let written = serde_json::to_writer(&mut self.output, &Line::of(record))
            .map_err(io::Error::from)
            .and_then(|()| self.output.write_all(b"\n"));
        match written {
            Ok(()) => self.cells.written.add(1),
            Err(error) => {
                self.cells.dropped.add(1);
                self.report(&error);
            }
        }
    }

    fn flush(&mut self) {
        match self.output.flush() {
            Ok(()) => self.failing = false,
            Err(error) => self.report(&error),
        }
    }

    fn report(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(%error, "the access log cannot be written");
        }
    }
}

/// A record as it is written. Absent values are left out.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    request_id: Cow<'a, str>,
    client: IpAddr,
    method: &'a str,
    host: &'a str,
    path: &'a str,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    picked_by: Option<VersionId>,
    attempts: u32,
    status: u16,
    bytes_in: u64,
    bytes_out: u64,
    duration_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_byte_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<Cow<'a, str>>,
}

impl<'a> Line<'a> {
    fn of(record: &'a AccessRecord) -> Self {
        Self {
            time: humantime::format_rfc3339_micros(record.at).to_string(),
            request_id: String::from_utf8_lossy(record.request_id.as_bytes()),
            client: record.client,
            method: record.method.as_str(),
            host: &record.host,
            path: record.path.path(),
            protocol: protocol_name(record.protocol),
            route: record.route.as_deref(),
            service: record.service.as_ref().map(ServiceName::as_str),
            endpoint: record.endpoint.as_deref(),
            picked_by: record.picked_by,
            attempts: record.attempts,
            status: record.status,
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            duration_us: record.duration_us,
            first_byte_us: record.first_byte_us,
            error: record.error,
            user_agent: record.user_agent.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes())),
        }
    }
}

fn protocol_name(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

/// From 0 up to, but not including, 1.
fn unit_interval(random: u64) -> f64 {
    // The 53 high bits, as many as an f64 holds exactly.
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no test panics here").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn record(status: u16) -> AccessRecord {
        AccessRecord {
            at: SystemTime::UNIX_EPOCH + Duration::from_micros(1_500_000),
            request_id: HeaderValue::from_static("r-1"),
            client: IpAddr::from([127, 0, 0, 1]),
            method: Method::GET,
            host: "shop.example".to_owned(),
            path: PathAndQuery::from_static("/orders/7?token=secret"),
            protocol: http::Version::HTTP_11,
            route: Some("/orders/".into()),
            service: None,
            endpoint: None,
            picked_by: Some(VersionId::of(b"")),
            attempts: 1,
            status,
            bytes_in: 0,
            bytes_out: 12,
            duration_us: 830,
            first_byte_us: Some(800),
            error: None,
            user_agent: Some(HeaderValue::from_bytes(b"curl \"\xff").expect("a value may hold any high byte")),
        }
    }

    #[test]
    fn every_queued_line_is_written_before_the_end() {
        let (output, cells) = (Output::default(), Arc::<AccessLogCells>::default());
        let (sink, writer) = AccessLogSink::start(output.clone(), &cells).expect("a thread can be started");
        (0..1_000).for_each(|i| sink.log(record(200 + i % 2)));
        assert!(writer.finish());

        let text = String::from_utf8(output.0.lock().expect("no test panics here").clone()).expect("JSON is UTF-8");
        assert_eq!(text.lines().count(), 1_000);
        assert_eq!((cells.written.get(), cells.dropped.get()), (1_000, 0));
        let expected = serde_json::json!({
            "time": "1970-01-01T00:00:01.500000Z", "request_id": "r-1", "client": "127.0.0.1", "method": "GET",
            "host": "shop.example", "path": "/orders/7", "protocol": "HTTP/1.1", "route": "/orders/",
            "picked_by": "e3b0c44298fc", "attempts": 1, "status": 200, "bytes_in": 0, "bytes_out": 12,
            "duration_us": 830, "first_byte_us": 800, "user_agent": "curl \"\u{fffd}",
        });
        let first: serde_json::Value = serde_json::from_str(text.lines().next().expect("1,000 lines")).expect("JSON");
        assert_eq!(first, expected);

        sink.log(record(200));
        assert_eq!(cells.dropped.get(), 1, "after the end, lines are counted as dropped");
    }

    /// An output that takes nothing until it is let go.
    struct Stalled(mpsc::Receiver<()>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stalled_output_costs_lines_and_never_time() {
        let (let_go, gate) = mpsc::channel();
        let cells = Arc::<AccessLogCells>::default();
        let (sink, writer) = AccessLogSink::start(Stalled(gate), &cells).expect("a thread can be started");
        let sent = 2 * QUEUE_LEN_MAX as u64;
        (0..sent).for_each(|_| sink.log(record(200)));
        assert!(cells.dropped.get() >= QUEUE_LEN_MAX as u64 / 2, "dropped {}", cells.dropped.get());
        drop(let_go);
        drop(sink);
        assert!(writer.finish());
        assert_eq!(cells.written.get() + cells.dropped.get(), sent);
    }

    #[test]
    fn a_sample_has_its_share_and_all_gateway_errors() {
        let (sink, _writer) = AccessLogSink::start(io::sink(), &Arc::default()).expect("a thread can be started");
        let seed = fastrand::u64(..);
        eprintln!("seed {seed}");
        let mut rng = fastrand::Rng::with_seed(seed);
        let taken = (0..100_000).filter(|_| sink.wants(&AccessLog::Sampled(0.1), rng.u64(..), false)).count();
        assert!((9_400..10_600).contains(&taken), "{taken} of 100,000 is six standard deviations off");
        assert!(sink.wants(&AccessLog::Sampled(0.1), u64::MAX, true));
        assert!(sink.wants(&AccessLog::Sampled(1.0), u64::MAX, false));
        assert!(!sink.wants(&AccessLog::Off, 0, true));
        assert!(!AccessLogSink::off().wants(&AccessLog::On, 0, true));
    }
}
