//! Checks from beginning to end, over real sockets.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};

use super::{check, endpoint_at};
use crate::{
    failover::{
        CheckResult,
        checks::{ActiveChecks, CHECKS_MAX, Checked, CheckedService},
    },
    model::{Clock, Endpoint, HealthCheck, Outcome, Probe, Protocol},
};

/// Longer than anything here takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async { timeout(DEADLINE, test).await.expect("in time") })
}

/// A server whose health can be changed, and which counts what it is asked.
struct Server {
    address: SocketAddr,
    well: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (well, asked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
        let (is_well, count) = (Arc::clone(&well), Arc::clone(&asked));
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut head = [0; 1024];
                if stream.read(&mut head).await.is_ok_and(|read| read > 0) {
                    count.fetch_add(1, Ordering::Relaxed);
                    let status = if is_well.load(Ordering::Relaxed) { "200 OK" } else { "503 Busy" };
                    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        });
        Self { address, well, asked, task }
    }

    /// How often it has been asked, this time included. It serves one after the other: what was asked before is counted.
    async fn asked_by_now(&self) -> usize {
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        stream.write_all(b"?").await.expect("it is taken");
        stream.read_to_end(&mut Vec::new()).await.expect("it is answered");
        self.asked.load(Ordering::Relaxed)
    }
}

fn checks() -> (ActiveChecks, mpsc::UnboundedReceiver<Checked>) {
    let (sender, results) = mpsc::unbounded_channel();
    let results_to = move |checked| drop(sender.send(checked));
    (ActiveChecks::new(Clock::start(), 1, Arc::new(results_to)), results)
}

fn http_each_100_ms() -> HealthCheck {
    let probe = Probe::Http { path: "/".to_owned(), headers: vec![], statuses: vec![], body: String::new() };
    HealthCheck { interval: Duration::from_millis(100), ..check(probe) }
}

fn orders(check: &HealthCheck, endpoints: &[Arc<Endpoint>]) -> Vec<CheckedService> {
    let service = "orders".parse().expect("a name");
    vec![CheckedService { service, check: check.clone(), protocol: Protocol::Http1, endpoints: endpoints.to_vec() }]
}

/// The next result that decided something, and how many there were up to it.
async fn decision(results: &mut mpsc::UnboundedReceiver<Checked>) -> (Checked, usize) {
    for count in 1.. {
        let checked = results.recv().await.expect("checks go on");
        if checked.became.is_some() {
            return (checked, count);
        }
    }
    unreachable!("it counts for ever")
}

#[test]
fn an_endpoint_that_falls_ill_is_taken_out_and_one_that_is_well_again_comes_back() {
    block_on(async {
        let server = Server::start().await;
        let endpoint = endpoint_at(0, server.address);
        let (checks, mut results) = checks();
        checks.set(orders(&http_each_100_ms(), &[Arc::clone(&endpoint)]));
        let first = results.recv().await.expect("it is checked");
        assert_eq!((first.outcome, first.became), (Outcome::Success, None));
        assert!(Arc::ptr_eq(&first.endpoint, &endpoint) && first.at_us > 0 && first.total_us > 0);
        server.well.store(false, Ordering::Relaxed);
        let (fallen, count) = decision(&mut results).await;
        assert_eq!((fallen.outcome, fallen.became), (Outcome::ServerError, Some(false)));
        assert!(count >= 3 && endpoint.fitness.fails_checks());
        let told = CheckResult::from(fallen.clone());
        assert_eq!((told.completion.slot, told.completion.outcome), (endpoint.slot, Outcome::ServerError));
        assert_eq!((told.completion.at_us, told.completion.total_us), (fallen.at_us, fallen.total_us));
        assert_eq!((told.became, &told.detail), (Some(false), &fallen.detail));
        let report = checks.report(&"orders".parse().unwrap(), 0).expect("it is checked");
        assert!(!report.passing && report.detail.contains("503"), "{report:?}");
        server.well.store(true, Ordering::Relaxed);
        let (risen, _) = decision(&mut results).await;
        assert_eq!((risen.outcome, risen.became), (Outcome::Success, Some(true)));
        assert!(endpoint.fitness.is_fit());
        checks.end().await;
        server.task.abort();
    });
}

#[test]
fn an_endpoint_that_leaves_or_whose_check_is_taken_away_passes_again() {
    block_on(async {
        let ill = Server::start().await;
        ill.well.store(false, Ordering::Relaxed);
        let endpoints = [0, 1].map(|slot| endpoint_at(slot, ill.address));
        let (checks, mut results) = checks();
        checks.set(orders(&http_each_100_ms(), &endpoints));
        for _ in &endpoints {
            assert_eq!(decision(&mut results).await.0.became, Some(false));
        }
        checks.set(orders(&http_each_100_ms(), &endpoints[..1]));
        assert!(endpoints[1].fitness.is_fit() && endpoints[0].fitness.fails_checks());
        checks.set(Vec::new());
        assert!(endpoints[0].fitness.is_fit());
        assert_eq!(checks.report(&"orders".parse().unwrap(), 0), None);
        checks.end().await;
        ill.task.abort();
    });
}

#[test]
fn after_the_end_nothing_is_asked_any_more_even_what_hung() {
    block_on(async {
        let server = Server::start().await;
        // Takes connections and is silent.
        let hole = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let hung = endpoint_at(1, hole.local_addr().expect("it is bound"));
        let (checks, mut results) = checks();
        // It would not end by itself while this test lasts.
        let check = HealthCheck { timeout: 2 * DEADLINE, ..http_each_100_ms() };
        checks.set(orders(&check, &[endpoint_at(0, server.address), hung]));
        let (mut connection, _) = hole.accept().await.expect("it is asked");
        results.recv().await.expect("the other is checked");
        checks.end().await;
        let asked = server.asked_by_now().await;
        let mut rest = Vec::new();
        connection.read_to_end(&mut rest).await.expect("it is closed");
        while results.try_recv().is_ok() {}
        drop(checks);
        assert!(results.recv().await.is_none(), "nobody is left who could tell");
        assert_eq!(server.asked_by_now().await, asked + 1);
        server.task.abort();
    });
}

#[test]
fn those_that_hang_take_no_more_than_their_places_and_the_others_are_checked_all_the_same() {
    block_on(async {
        let server = Server::start().await;
        let hole = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = hole.local_addr().expect("it is bound");
        // As many as there are places but one, which the queue of a listener takes.
        let hanging = u32::try_from(CHECKS_MAX).expect("few") - 1;
        let mut endpoints: Vec<_> = (0..hanging).map(|slot| endpoint_at(slot, address)).collect();
        endpoints.push(endpoint_at(hanging, server.address));
        let (checks, mut results) = checks();
        let check = HealthCheck { interval: Duration::from_millis(200), timeout: DEADLINE, ..http_each_100_ms() };
        checks.set(orders(&check, &endpoints));
        for _ in 0..3 {
            let checked = results.recv().await.expect("one is well");
            assert_eq!((checked.endpoint.slot, checked.outcome), (hanging, Outcome::Success));
        }
        checks.end().await;
        server.task.abort();
    });
}
