//! The access log: a line of JSON for each request, written by a thread of its own.
//!
//! A worker hands its record to a bounded queue and never waits: a full queue (a disk that stalls, a pipe that
//! nobody reads) drops the line and counts it. Encoding and writing happen on the writer's thread.

mod record;

pub use record::AccessRecord;

use std::{
    io::{self, Write},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use record::Line;

use super::counter::SharedCounter;
use crate::model::AccessLog;

/// Records waiting for the writer, about 300 bytes each: a burst of a tenth of a second at 80,000 requests/s.
const QUEUE_LEN_MAX: usize = 8_192;

/// Lines are written together once they are so many bytes, or when no more are waiting.
const BUFFER_BYTES: usize = 64 * 1024;

/// How long [`AccessLogWriter::finish`] waits for an output that does not take the last lines.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

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
        let writer = Writer::new(output, Arc::clone(cells));
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
    output: W,
    cells: Arc<AccessLogCells>,
    /// Lines not yet handed to `output`, and how many.
    buffer: Vec<u8>,
    buffered: u64,
    /// So that a broken output is reported once, not for each line.
    failing: bool,
}

impl<W: Write> Writer<W> {
    fn new(output: W, cells: Arc<AccessLogCells>) -> Self {
        Self { output, cells, buffer: Vec::new(), buffered: 0, failing: false }
    }

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
                Some(Message::Record(record)) => self.append(&record),
                Some(Message::Finish) | None => break,
            }
        }
        self.flush();
    }

    fn append(&mut self, record: &AccessRecord) {
        serde_json::to_writer(&mut self.buffer, &Line::of(record)).expect("text and numbers are JSON");
        self.buffer.push(b'\n');
        self.buffered += 1;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.buffered == 0 {
            return;
        }
        match self.output.write_all(&self.buffer).and_then(|()| self.output.flush()) {
            Ok(()) => {
                self.cells.written.add(self.buffered);
                self.failing = false;
            }
            Err(error) => {
                self.cells.dropped.add(self.buffered);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "the access log cannot be written");
                }
            }
        }
        self.buffer.clear();
        self.buffered = 0;
    }
}

/// From 0 up to, but not including, 1.
fn unit_interval(random: u64) -> f64 {
    // The 53 high bits, as many as an f64 holds exactly.
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::{
        net::IpAddr,
        sync::{Mutex, mpsc},
        time::SystemTime,
    };

    use http::{HeaderValue, Method, uri::PathAndQuery};

    use super::*;
    use crate::model::VersionId;

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

    /// Fails, and then works.
    struct Failing(u32, Output);

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.saturating_sub(1);
            if self.0 > 0 { Err(io::ErrorKind::StorageFull.into()) } else { self.1.write(bytes) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_output_that_fails_is_counted_and_tried_again() {
        let (output, cells) = (Output::default(), Arc::<AccessLogCells>::default());
        let mut writer = Writer::new(Failing(3, output.clone()), Arc::clone(&cells));
        for _ in 0..4 {
            writer.append(&record(200));
            writer.flush();
        }
        assert_eq!((cells.written.get(), cells.dropped.get()), (2, 2));
        assert_eq!(output.0.lock().expect("no test panics here").iter().filter(|b| **b == b'\n').count(), 2);
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
