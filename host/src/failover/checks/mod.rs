//! Active health checks: the gateway itself asks each endpoint, whatever its traffic, once for all workers.
//!
//! One task owns all checks. What is to be checked when stands in a [`book::Book`], which is pure and knows no sockets;
//! the task takes from it what is due, asks ([`probe`]), and brings back what was found. A first check comes soon, but
//! those of many endpoints that join together are spread; later ones follow at the interval, early or late by the jitter.

mod book;
mod grpc;
mod http;
mod probe;
mod tally;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    task::{self, JoinHandle, JoinSet},
    time::sleep,
};

use self::{
    book::{Book, Due},
    probe::Look,
};
use super::monitor::CheckResult;
use crate::model::{Clock, Completion, Endpoint, HealthCheck, InstantUs, Outcome, Protocol, ServiceName, Slot};

/// Checks that are under way at once; each takes a socket, and others are late by what they wait.
///
/// A check of an endpoint that is well takes milliseconds, so 10,000 endpoints every 2 s (5,000 checks a second) have a
/// dozen under way, and one in ten of them may hang for its second without holding up the others. If all hang, each
/// endpoint is checked every 20 s instead.
pub const CHECKS_MAX: usize = 512;

/// Longest text of a result, in bytes.
pub const DETAIL_LEN_MAX: usize = 200;

/// A service whose endpoints are checked.
#[derive(Clone, Debug)]
pub struct CheckedService {
    pub service: ServiceName,
    pub check: HealthCheck,
    /// What a check over HTTP speaks; one over gRPC speaks HTTP/2 in any case.
    pub protocol: Protocol,
    pub endpoints: Vec<Arc<Endpoint>>,
}

/// What one check found.
#[derive(Clone, Debug)]
pub struct Checked {
    pub endpoint: Arc<Endpoint>,
    /// `Success`; `ConnectFailed`; `TimedOut`; `ServerError` where it was answered otherwise than expected, or not at all.
    pub outcome: Outcome,
    /// When it ended.
    pub at_us: InstantUs,
    /// From before connecting.
    pub total_us: u32,
    /// Whether this decided that the endpoint is fit, or is not any more; none where all stays as it was.
    pub became: Option<bool>,
    /// One sentence in printable characters, at most [`DETAIL_LEN_MAX`] bytes.
    pub detail: String,
}

impl From<Checked> for CheckResult {
    /// As health policies are told of it; when the response head came is not known.
    fn from(checked: Checked) -> Self {
        let Checked { endpoint, outcome, at_us, total_us, became, detail } = checked;
        let slot = endpoint.slot;
        let completion = Completion { slot, outcome, at_us, first_byte_us: 0, total_us, load_permille: None };
        Self { endpoint, completion, became, detail }
    }
}

/// What is known of one endpoint by its checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    pub passing: bool,
    /// When that began: with the first check, or with the last change.
    pub since_us: InstantUs,
    /// Checks in a row that ended like the last one, well or not.
    pub consecutive: u32,
    /// Of the last check, as in [`Checked`].
    pub outcome: Outcome,
    pub at_us: InstantUs,
    pub total_us: u32,
    pub detail: String,
}

/// Whoever is told of each result, one after the other, on the runtime of the checks; must not block.
pub type Results = Arc<dyn Fn(Checked) + Send + Sync>;

/// The checks of all services. Ended by [`ActiveChecks::end`]; dropped, they are aborted.
pub struct ActiveChecks {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    book: Mutex<Book>,
    clock: Clock,
    results: Results,
    /// The book has changed.
    changed: Notify,
    ended: Notify,
}

impl ActiveChecks {
    /// Starts without any service, on the runtime that this is called on.
    pub fn new(clock: Clock, seed: u64, results: Results) -> Self {
        let book = Mutex::new(Book::new(seed));
        let shared = Arc::new(Shared { book, clock, results, changed: Notify::new(), ended: Notify::new() });
        let task = tokio::spawn(run(Arc::clone(&shared)));
        Self { shared, task: Mutex::new(Some(task)) }
    }

    /// From now on exactly these are checked; to be called whenever the configuration or a membership changes. What is
    /// the same as before goes on undisturbed. What is checked no longer counts as passing when this returns.
    pub fn set(&self, services: Vec<CheckedService>) {
        let now_us = self.shared.clock.now_us();
        if self.shared.book().set(services, now_us) {
            self.shared.changed.notify_one();
        }
    }

    /// None where the endpoint is not checked, or has not been yet: it counts as passing then.
    pub fn report(&self, service: &ServiceName, slot: Slot) -> Option<CheckReport> {
        self.shared.book().report(service, slot)
    }

    /// Ends all checks and waits until they have ended. Which endpoints pass stays as it is.
    pub async fn end(&self) {
        let task = lock(&self.task).take();
        if let Some(task) = task {
            self.shared.ended.notify_one();
            if let Err(error) = task.await {
                resume_unwind(error.into_panic());
            }
        }
    }
}

impl Drop for ActiveChecks {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

impl Shared {
    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }
}

/// What a panic left behind is whole: nothing is changed in two steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Until told to end.
async fn run(shared: Arc<Shared>) {
    let mut checks: JoinSet<(Look, u32)> = JoinSet::new();
    let mut under_way: HashMap<task::Id, u64> = HashMap::new();
    loop {
        let now_us = shared.clock.now_us();
        let (due, next_us) = {
            let mut book = shared.book();
            (book.take_due(now_us, CHECKS_MAX - checks.len()), book.next_us())
        };
        for due in due {
            let serial = due.serial;
            let started = checks.spawn(one(due, shared.clock));
            under_way.insert(started.id(), serial);
        }
        // While all places are taken, what is due next begins when a check ends.
        let next = next_us.filter(|_| checks.len() < CHECKS_MAX);
        let wait = next.map(|next_us| Duration::from_micros(next_us.saturating_sub(now_us)));
        let ended = tokio::select! {
            () = shared.ended.notified() => break,
            () = shared.changed.notified() => continue,
            () = sleep(wait.unwrap_or_default()), if wait.is_some() => continue,
            Some(ended) = checks.join_next_with_id() => ended,
        };
        let (id, look, total_us) = match ended {
            Ok((id, (look, total_us))) => (id, look, total_us),
            Err(error) => (error.id(), Look::broke(&error), 0),
        };
        let serial = under_way.remove(&id).expect("each check is noted when it begins");
        let checked = shared.book().finish(serial, look, total_us, shared.clock.now_us());
        if let Some(checked) = checked {
            (shared.results)(checked);
        }
    }
    checks.shutdown().await;
}

/// One check, and how many microseconds it took.
async fn one(due: Due, clock: Clock) -> (Look, u32) {
    let began_us = clock.now_us();
    let look = probe::look(&due.check, due.protocol, &due.endpoint).await;
    (look, u32::try_from(clock.now_us() - began_us).unwrap_or(u32::MAX))
}
