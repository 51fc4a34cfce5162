//! Active checks: the gateway itself looks whether an instance is there, over HTTP or TCP.

mod http;
mod reach;
mod tcp;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use self::http::HttpClients;
use super::{
    instance::{CheckStatus, RegisteredCheck},
    registration::{CheckDefinition, CheckKind},
};

/// Checks that are on their way at once: each takes a socket. Others are late by what they wait.
pub const PROBES_MAX: usize = 256;
/// Results that wait for the keeper; further checks wait with theirs.
const FOUND_MAX: usize = 256;
/// A check is early or late by up to this share of its interval, so that those begun together drift apart.
const JITTER_SHARE: f64 = 0.1;
/// However short its interval, a check has this long to answer if its timeout allows it.
const LIMIT_MIN: Duration = Duration::from_secs(1);
/// A new check looks for the first time within this, so that a new instance is soon known to be there.
const FIRST_LOOK: Duration = Duration::from_millis(100);
/// Longest text that a check may say, in bytes; more is cut off. As Consul's `check_output_max_size`.
pub const OUTPUT_BYTES_MAX: usize = 4096;

/// What a check found.
pub struct Found {
    pub definition: Arc<CheckDefinition>,
    pub status: CheckStatus,
    pub output: String,
}

/// When a check looks for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    Soon,
    /// Somewhere in its interval: after a restart all begin together.
    Spread,
}

/// The checks of one owner, an instance or the node.
#[derive(Default)]
pub struct Changed {
    pub old: Vec<RegisteredCheck>,
    pub new: Vec<RegisteredCheck>,
}

/// A task for each active check.
pub struct Probes {
    tasks: JoinSet<()>,
    handles: HashMap<String, AbortHandle>,
    shared: Shared,
    random: fastrand::Rng,
}

#[derive(Clone)]
struct Shared {
    permits: Arc<Semaphore>,
    clients: Arc<HttpClients>,
    found: mpsc::Sender<Found>,
}

impl Probes {
    pub fn new(seed: u64) -> (Self, mpsc::Receiver<Found>) {
        let (found, receiver) = mpsc::channel(FOUND_MAX);
        let permits = Arc::new(Semaphore::new(PROBES_MAX));
        let shared = Shared { permits, clients: Arc::default(), found };
        let random = fastrand::Rng::with_seed(seed);
        (Self { tasks: JoinSet::new(), handles: HashMap::new(), shared, random }, receiver)
    }

    /// Ends what is not among the new ones of its owner any more and starts what is new; others go on. A check may have
    /// moved from one owner to another under its id, so all that goes ends before anything starts.
    pub fn follow(&mut self, changed: &[Changed], first: First) {
        // Those that ended, so that the set does not grow.
        while self.tasks.try_join_next().is_some() {}
        let is_in = |check: &RegisteredCheck, checks: &[RegisteredCheck]| {
            checks.iter().any(|other| Arc::ptr_eq(&other.definition, &check.definition))
        };
        let gone = changed.iter().flat_map(|Changed { old, new }| old.iter().filter(|check| !is_in(check, new)));
        for check in gone {
            if let Some(handle) = self.handles.remove(check.id()) {
                handle.abort();
            }
        }
        let begun = changed.iter().flat_map(|Changed { old, new }| new.iter().filter(|check| !is_in(check, old)));
        for check in begun {
            let Some(interval) = check.definition.kind.interval() else { continue };
            let within = match first {
                First::Soon => interval.min(FIRST_LOOK),
                First::Spread => interval,
            };
            let (definition, shared) = (Arc::clone(&check.definition), self.shared.clone());
            let random = fastrand::Rng::with_seed(self.random.u64(..));
            let delay = within.mul_f64(self.random.f64());
            let handle = self.tasks.spawn(probe(definition, interval, delay, shared, random));
            if let Some(before) = self.handles.insert(check.id().to_owned(), handle) {
                before.abort();
            }
        }
    }

    pub async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}

/// Until aborted, or nobody wants to know any more.
async fn probe(
    definition: Arc<CheckDefinition>,
    interval: Duration,
    delay: Duration,
    shared: Shared,
    mut random: fastrand::Rng,
) {
    sleep(delay).await;
    loop {
        let (status, output) = {
            let _permit = shared.permits.acquire().await.expect("the semaphore is never closed");
            look(&definition.kind, &shared.clients).await
        };
        let found = Found { definition: Arc::clone(&definition), status, output };
        if shared.found.send(found).await.is_err() {
            return;
        }
        sleep(interval.mul_f64(1.0 - JITTER_SHARE + 2.0 * JITTER_SHARE * random.f64())).await;
    }
}

/// A check that answers later than the next one is due is late, and those that hang shall not take all the places of
/// others for long.
fn limit(timeout: Duration, interval: Duration) -> Duration {
    timeout.min(interval.max(LIMIT_MIN))
}

async fn look(kind: &CheckKind, clients: &HttpClients) -> (CheckStatus, String) {
    let (limit, looked) = match kind {
        CheckKind::Http(check) => {
            // Before the time runs: the first of its kind reads the certificates of all authorities.
            let client = clients.of(check);
            let limit = limit(check.timeout, check.interval);
            (limit, timeout(limit, http::look(check, client)).await)
        }
        CheckKind::Tcp { target, timeout: given, interval } => {
            let limit = limit(*given, *interval);
            (limit, timeout(limit, tcp::look(target)).await)
        }
        CheckKind::Ttl { .. } => return (CheckStatus::Critical, "reports by itself".to_owned()),
    };
    looked.unwrap_or_else(|_| {
        let text = format!("no answer within {}", humantime::format_duration(limit));
        (CheckStatus::Critical, text)
    })
}
