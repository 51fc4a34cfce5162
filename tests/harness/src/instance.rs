//! Instances of a service that are processes of their own, so that they can be killed and stopped as such.
//!
//! The process is the test's own executable, asked to run the one test [`instance_process!`](crate::instance_process)
//! makes: nothing else has to be built or found. It notes each request in a file before it answers; a test that wants its
//! instances to do something else says what: `instance_process!(serve)`.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::wait::wait_for;

/// The name of the test that is an instance.
pub const TEST: &str = "an_instance_of_the_service";
const NAME: &str = "SLUICE_TEST_INSTANCE_NAME";
const ADDRESS: &str = "SLUICE_TEST_INSTANCE_ADDRESS";
const LOG: &str = "SLUICE_TEST_INSTANCE_LOG";
/// How long an instance works on a request where the test does not say: so that some are under way whenever it is killed.
const SERVICE_TIME_US: f64 = 3_000.0;
const READY: &str = "an instance listens on ";

/// One instance: its process, and the address and the log that outlive it.
pub struct InstanceProcess {
    name: String,
    address: SocketAddr,
    log: PathBuf,
    child: Option<Child>,
}

/// Makes the test that a child process is asked to be. Once in a test file that uses [`InstanceProcess`].
#[macro_export]
macro_rules! instance_process {
    () => {
        $crate::instance_process!($crate::instance::serve);
    };
    ($serve:path) => {
        #[test]
        #[ignore = "what a child process of the other tests is; alone it does nothing"]
        fn an_instance_of_the_service() {
            $crate::instance::serve_if_asked($serve);
        }
    };
}

impl InstanceProcess {
    pub fn start(name: &str, folder: &Path) -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let log = folder.join(format!("{name}.log"));
        let mut instance = Self { name: name.to_owned(), address: free, log, child: None };
        instance.restart();
        instance
    }

    /// Another process on the same address.
    pub fn restart(&mut self) {
        // Another socket may have taken the port for a moment.
        wait_for("the instance to listen again", Duration::from_secs(30), || self.try_start());
    }

    fn try_start(&mut self) -> Option<()> {
        let executable = std::env::current_exe().expect("a test has an executable");
        let mut child = Command::new(executable)
            .args([TEST, "--exact", "--ignored", "--nocapture"])
            .env(NAME, &self.name)
            .env(ADDRESS, self.address.to_string())
            .env(LOG, &self.log)
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .expect("the test's own executable starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut lines = output.lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.split_once(READY)?.1.to_owned()));
        let Some(address) = address else {
            child.wait().expect("it has ended");
            return None;
        };
        self.address = address.parse().expect("the instance prints an address");
        // Read on, so that it never waits for a reader; ends with the process.
        std::thread::spawn(move || lines.for_each(drop));
        self.child = Some(child);
        Some(())
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it works on a request for a time that is normally distributed.
    pub fn set_service_time(&self, mean: Duration, deviation: Duration) {
        let text = format!("{} {}", mean.as_micros(), deviation.as_micros());
        // Renamed into its place, so that nobody reads half of it.
        let next = self.log.with_extension("next");
        fs::write(&next, text).expect("the test's folder can be written to");
        fs::rename(next, self.log.with_extension("time")).expect("the test's folder can be written to");
    }

    /// `kill -9`, and waits until the process is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child can be killed");
            child.wait().expect("it has ended");
        }
    }

    /// SIGSTOP: it takes connections and bytes, and answers nothing.
    pub fn stop(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let child = self.child.as_ref().expect("it runs");
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, signal).expect("a child can be signalled");
    }

    /// What it has noted, over all its processes: the ids of the requests that have arrived, where the test does not say.
    pub fn request_ids(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for InstanceProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("instance {} had {} requests", self.name, self.request_ids().len());
        }
        self.kill();
    }
}

/// What a child process knows of itself.
pub struct Asked {
    pub name: String,
    /// Where it notes what the test shall know, a line at a time: what is written once stays, however the process ends.
    pub log: File,
    pub log_path: PathBuf,
}

/// In the child: serves until it is killed. Elsewhere: nothing.
pub fn serve_if_asked(serve: impl AsyncFnOnce(TcpListener, Asked)) {
    let (Ok(name), Ok(address), Ok(log)) = (std::env::var(NAME), std::env::var(ADDRESS), std::env::var(LOG)) else {
        return;
    };
    // However the test's process ends, and be it by a panic within a panic: an instance that lived on would hold the
    // output which whoever started the tests reads to its end. The parent is the thread of the test that started it.
    let end_with_parent = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    end_with_parent.expect("prctl(2) takes any signal");
    let log_path = PathBuf::from(log);
    let log =
        OpenOptions::new().create(true).append(true).open(&log_path).expect("the test's folder can be written to");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        // A port that is taken ends the process, and the parent tries again.
        let Ok(listener) = TcpListener::bind(&address).await else { return };
        println!("{READY}{}", listener.local_addr().expect("bound"));
        serve(listener, Asked { name, log, log_path }).await;
    });
}

/// What the child knows.
struct Served {
    name: String,
    log: File,
    /// The file that says how long it works on a request, in microseconds: the mean and the deviation.
    time: PathBuf,
}

/// Who it is, after its service time.
pub async fn serve(listener: TcpListener, Asked { name, log, log_path }: Asked) {
    let served = Arc::new(Served { name, log, time: log_path.with_extension("time") });
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        // On a socket that the peer has already closed; serving it will find that out.
        let _ = stream.set_nodelay(true);
        let served = Arc::clone(&served);
        let service = service_fn(move |request| answer(request, Arc::clone(&served)));
        tokio::task::spawn_local(async move {
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(
    request: http::Request<Incoming>,
    served: Arc<Served>,
) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    let id = request.headers().get("x-request-id").and_then(|id| id.to_str().ok()).unwrap_or("-");
    // One write, so that it is there whole however the process ends.
    (&served.log).write_all(format!("{id}\n").as_bytes()).expect("the test's folder can be written to");
    tokio::time::sleep(served.service_time()).await;
    let response = Response::builder().header("x-instance", &served.name).body(Full::from(served.name.clone()));
    Ok(response.expect("the test's answer is well-formed"))
}

impl Served {
    fn service_time(&self) -> Duration {
        let text = fs::read_to_string(&self.time).unwrap_or_default();
        let mut numbers = text.split(' ').filter_map(|number| number.parse::<f64>().ok());
        let (mean_us, deviation_us) = (numbers.next().unwrap_or(SERVICE_TIME_US), numbers.next().unwrap_or(0.0));
        // Box and Muller (1958).
        let (one, other) = (1.0 - fastrand::f64(), fastrand::f64());
        let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos();
        Duration::from_secs_f64((mean_us + deviation_us * normal).max(0.0) / 1e6)
    }
}
