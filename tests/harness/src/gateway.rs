//! A gateway process of a test's own.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    client::{Answer, Client},
    config, process,
    wait::{DEADLINE, wait_for, wait_until},
};

/// What a gateway is started with; made by `sluice!()`.
#[derive(Debug)]
pub struct SluiceBuilder {
    binary: PathBuf,
    text: String,
    verbatim: bool,
    directory: Option<PathBuf>,
    environment: Vec<(String, String)>,
    /// What runs it: a program and its arguments.
    under: Vec<String>,
}

/// A running gateway: ready when the test gets it, dead when the test lets it go. Where the test fails, its
/// log is shown.
#[derive(Debug)]
pub struct Sluice {
    child: Child,
    log: Log,
    stdout: Log,
    readers: Vec<JoinHandle<()>>,
    listeners: Vec<SocketAddr>,
    control: SocketAddr,
    config_path: PathBuf,
    exited: Option<ExitStatus>,
    _temporary: Option<TempDir>,
}

/// How a gateway that was not meant to run came to its end.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

type Log = Arc<Mutex<Vec<String>>>;

impl SluiceBuilder {
    pub fn new(binary: &str) -> Self {
        let (text, environment, under) = (String::new(), Vec::new(), Vec::new());
        Self { binary: binary.into(), text, verbatim: false, directory: None, environment, under }
    }

    /// The configuration; what it leaves out (workers, data folder, listeners on port 0) is filled in.
    pub fn config(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    /// The configuration exactly as it is, so that line numbers in errors are the test's own.
    pub fn config_verbatim(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self.verbatim = true;
        self
    }

    /// Where the configuration and the data folder stand; without it, a temporary folder of its own. With
    /// it, a second gateway takes up what the first one kept.
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Run by another program, which must become the gateway itself: what is started is what is killed.
    pub fn under(mut self, program: &[&str]) -> Self {
        self.under = program.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Its system calls go into a file, each call with the paths of its descriptors.
    pub fn traced(self, calls: &str, into: &Path) -> Self {
        let into = into.to_str().expect("a temporary folder's path is text");
        let calls = format!("trace={calls}");
        // -D: the gateway is the child itself, and strace a process beside it that ends with it. No -p, as many systems
        // let only a parent, or whom it names, look on.
        self.under(&["strace", "-D", "-f", "-y", "-tt", "-e", &calls, "-s", "400", "-o", into])
    }

    /// Starts it and waits until `/readyz` says that every listener serves.
    pub fn start(self) -> Sluice {
        let (mut command, config_path, temporary) = self.prepare("run");
        let text = std::fs::read_to_string(&config_path).expect("just written");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary is built");
        let (log, stdout) = (Log::default(), Log::default());
        let readers = vec![
            collect(child.stderr.take().expect("piped above"), Arc::clone(&log)),
            collect(child.stdout.take().expect("piped above"), Arc::clone(&stdout)),
        ];
        let mut gateway = Sluice {
            child,
            log,
            stdout,
            readers,
            listeners: Vec::new(),
            control: SocketAddr::from(([127, 0, 0, 1], 0)),
            config_path,
            exited: None,
            _temporary: temporary,
        };
        gateway.await_ready(config::listener_count(&text));
        gateway
    }

    /// Runs `sluice COMMAND --config …` to its end, which it must find by itself: for configurations that
    /// are refused, and for commands that only look.
    pub fn run_to_end(self, command: &str) -> Ended {
        let (mut command, _, _temporary) = self.prepare(command);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary is built");
        let mut guard = KillOnDrop(child);
        let child = &mut guard.0;
        let (out, err) = (Log::default(), Log::default());
        let readers = [
            collect(child.stdout.take().expect("piped above"), Arc::clone(&out)),
            collect(child.stderr.take().expect("piped above"), Arc::clone(&err)),
        ];
        let status = wait_for("the end of a process that should not run on", DEADLINE, || {
            child.try_wait().expect("a child can be waited for")
        });
        readers.into_iter().for_each(|reader| reader.join().expect("reading lines does not panic"));
        Ended { status, stdout: lines(&out).join("\n"), stderr: lines(&err).join("\n") }
    }

    fn prepare(self, subcommand: &str) -> (Command, PathBuf, Option<TempDir>) {
        let temporary = self.directory.is_none().then(|| TempDir::new().expect("a temporary folder can be made"));
        let directory = self
            .directory
            .as_deref()
            .unwrap_or_else(|| temporary.as_ref().expect("made where none was given").path())
            .to_owned();
        let text = if self.verbatim { self.text } else { config::complete(&self.text, &directory.join("data")) };
        let config_path = directory.join("sluice.toml");
        std::fs::write(&config_path, text).expect("a temporary folder can be written");
        let mut command = match self.under.split_first() {
            None => Command::new(&self.binary),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&self.binary);
                command
            }
        };
        command.arg(subcommand).arg("--config").arg(&config_path).current_dir(&directory).stdin(Stdio::null());
        command.env("NO_COLOR", "1").envs(self.environment);
        (command, config_path, temporary)
    }
}

impl Sluice {
    /// The first listener's address.
    pub fn address(&self) -> SocketAddr {
        self.listeners[0]
    }

    /// Every listener's address, in the configuration's order.
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.listeners
    }

    pub fn control_address(&self) -> SocketAddr {
        self.control
    }

    /// Where the registry answers DNS queries, over UDP and TCP.
    pub fn dns_address(&self) -> SocketAddr {
        let line = self.await_log(&["dns listening address="]);
        address_of(Bound::Dns, &line).expect("the line says so")
    }

    /// A client of the first listener.
    pub fn client(&self) -> Client {
        Client::to(self.address())
    }

    /// A client of the control listener.
    pub fn control(&self) -> Client {
        Client::to(self.control)
    }

    /// The control API's view of a service.
    pub fn service(&self, name: &str) -> serde_json::Value {
        self.control().get(&format!("/services/{name}")).expect(200).json()
    }

    /// Requests to a service that have not ended, as `GET /services/{name}` counts them.
    pub fn in_flight(&self, service: &str) -> u64 {
        let report = self.service(service);
        report["in_flight"].as_u64().unwrap_or_else(|| panic!("no in_flight in {report}"))
    }

    /// The sum of all samples of a metric whose labels contain each of `labels` (`name="value"`).
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum_samples(&self.control().get("/metrics").expect(200).text(), name, labels)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn rss_bytes(&self) -> u64 {
        process::rss_bytes(self.pid())
    }

    pub fn peak_rss_bytes(&self) -> u64 {
        process::peak_rss_bytes(self.pid())
    }

    /// Makes [`Sluice::peak_rss_bytes`] begin from now.
    pub fn reset_peak_rss(&self) {
        process::reset_peak_rss(self.pid());
    }

    pub fn config_path(&self) -> &Path {
        &self.config_path
    }

    /// Replaces the configuration file in one step, as an editor does. Whether it is reloaded is another
    /// matter.
    pub fn rewrite_config(&self, text: &str) {
        let before: toml::Table = std::fs::read_to_string(&self.config_path)
            .expect("the gateway's configuration is readable")
            .parse()
            .expect("the harness wrote it");
        let data_dir = before["gateway"]["data_dir"].as_str().expect("filled in at the start").to_owned();
        let next = self.config_path.with_extension("next");
        std::fs::write(&next, config::complete(text, Path::new(&data_dir))).expect("a temporary folder");
        std::fs::rename(&next, &self.config_path).expect("a temporary folder");
    }

    pub fn log(&self) -> Vec<String> {
        lines(&self.log)
    }

    /// The access log so far: standard output, a JSON object a line.
    pub fn access_log(&self) -> Vec<serde_json::Value> {
        let parsed = lines(&self.stdout).into_iter().map(|line| {
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in the access log's line {line:?}"))
        });
        parsed.collect()
    }

    /// Waits for a line of the log that contains each of `parts`.
    pub fn await_log(&self, parts: &[&str]) -> String {
        wait_for(&format!("a line of the log with {parts:?}"), DEADLINE, || {
            self.log().into_iter().find(|line| parts.iter().all(|part| line.contains(part)))
        })
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("one's own child can be signalled");
    }

    /// Tells it to stop, without waiting for it.
    pub fn begin_termination(&self) {
        self.signal(Signal::TERM);
    }

    /// Tells it to stop and waits until it has; the grace period is the configuration's.
    pub fn terminate(&mut self) -> ExitStatus {
        self.begin_termination();
        self.await_exit()
    }

    /// Waits until it has ended by itself, and until all that it has said is there.
    pub fn await_exit(&mut self) -> ExitStatus {
        let status = wait_for("the gateway's end", DEADLINE, || self.child.try_wait().expect("a child"));
        self.exited = Some(status);
        self.read_to_end();
        status
    }

    /// What it said last may still be on its way when it has ended.
    fn read_to_end(&mut self) {
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("one's own child can be killed");
        self.await_exit();
    }

    fn await_ready(&mut self, listener_count: usize) {
        let deadline = DEADLINE * 2;
        let found = wait_for("the gateway's addresses in its log", deadline, || {
            let log = self.log();
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                panic!("the gateway ended with {status} instead of starting");
            }
            let addresses = |of| log.iter().filter_map(|line| address_of(of, line)).collect::<Vec<_>>();
            let (listeners, control) = (addresses(Bound::Traffic), addresses(Bound::Control));
            Some((listeners, *control.first()?)).filter(|(listeners, _)| listeners.len() >= listener_count)
        });
        (self.listeners, self.control) = found;
        let control = self.control();
        wait_until("/readyz to answer 200", || {
            control
                .try_send(http::Method::GET, "/readyz", &[], Vec::new())
                .is_ok_and(|Answer { status, .. }| status == 200)
        });
    }
}

impl Drop for Sluice {
    fn drop(&mut self) {
        if self.exited.is_none() {
            // It may have ended meanwhile; then there is nothing to kill.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        self.read_to_end();
        if thread::panicking() {
            eprintln!("--- the gateway's log\n{}\n---", self.log().join("\n"));
        }
    }
}

impl Ended {
    /// The exit code; a signal has none.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn collect(stream: impl std::io::Read + Send + 'static, log: Log) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            log.lock().expect("no holder panics").push(line);
        }
    })
}

fn lines(log: &Log) -> Vec<String> {
    log.lock().expect("no holder panics").clone()
}

/// What a line of the log says was bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    /// `listening address=…`
    Traffic,
    /// `control listening address=…`
    Control,
    /// `dns listening address=…`
    Dns,
}

fn address_of(bound: Bound, line: &str) -> Option<SocketAddr> {
    let (before, after) = line.split_once("listening address=")?;
    let said = match before {
        control if control.ends_with(" control ") => Bound::Control,
        dns if dns.ends_with(" dns ") => Bound::Dns,
        _ => Bound::Traffic,
    };
    let address = after.split_ascii_whitespace().next()?.parse().ok()?;
    (said == bound).then_some(address)
}

fn sum_samples(exposition: &str, name: &str, labels: &[&str]) -> f64 {
    let samples = exposition.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (set, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        let value: f64 = value.split_ascii_whitespace().next()?.parse().ok()?;
        labels.iter().all(|label| set.contains(label)).then_some(value)
    });
    samples.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_log_lines() {
        let line = "2026-01-01T00:00:00Z  INFO sluice::gateway: listening address=127.0.0.1:4711 workers=2";
        let address = Some("127.0.0.1:4711".parse().unwrap());
        assert_eq!(address_of(Bound::Traffic, line), address);
        assert_eq!(address_of(Bound::Control, line), None);
        let line = "2026-01-01T00:00:00Z  INFO sluice::control::run: control listening address=127.0.0.1:4711";
        assert_eq!(address_of(Bound::Traffic, line), None);
        assert_eq!(address_of(Bound::Control, line), address);
        let line = "2026-01-01T00:00:00Z  INFO sluice::control::dns: dns listening address=127.0.0.1:4711";
        assert_eq!(address_of(Bound::Traffic, line), None);
        assert_eq!(address_of(Bound::Dns, line), address);
    }

    #[test]
    fn samples_are_summed_over_the_labels_not_named() {
        let text =
            "# TYPE a counter\na_total{x=\"1\",y=\"2\"} 3\na_total{x=\"1\",y=\"3\"} 4\na_total{x=\"2\"} 5\nb 6\n";
        assert_eq!(sum_samples(text, "a_total", &["x=\"1\""]), 7.0);
        assert_eq!(sum_samples(text, "a_total", &[]), 12.0);
        assert_eq!(sum_samples(text, "b", &[]), 6.0);
    }
}
