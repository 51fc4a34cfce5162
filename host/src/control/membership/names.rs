//! Host names of endpoints, resolved again whenever their TTL has passed.
//!
//! A refresh that fails is not an empty answer: the last addresses stay, and the next try comes soon.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::RecordType,
};
use tokio::{
    sync::{Notify, Semaphore},
    task::JoinSet,
};

/// Records of TTL 0 are common (Kubernetes' headless services have 5 s); a name server is not asked more often.
const TTL_MIN: Duration = Duration::from_secs(1);
/// A wrong long TTL must not hold for a day.
const TTL_MAX: Duration = Duration::from_secs(300);
/// After a refresh that failed.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// Queries at once.
const LOOKUPS_MAX: usize = 16;
/// Of one query, tried twice.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a change waits for names that have never been resolved. Two tries of one query.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(4);
/// Addresses of one name that become endpoints.
const ADDRESSES_MAX: usize = 256;

#[derive(Debug, thiserror::Error)]
#[error("the resolver of host names does not start: {0}")]
pub struct NamesError(#[from] NetError);

/// All names that the configuration uses, with the addresses last heard.
pub struct Names {
    resolver: TokioResolver,
    table: Mutex<BTreeMap<Box<str>, Entry>>,
    /// The table has an entry that is due earlier than before.
    earlier: Notify,
    /// An address came or went.
    changed: Notify,
}

#[derive(Clone, Debug)]
struct Entry {
    /// One a family: A, AAAA. None where that family never answered.
    families: [Option<Vec<IpAddr>>; 2],
    due: Instant,
    /// Why the last try failed, where it did.
    problem: Option<String>,
}

impl Names {
    /// Asks `nameservers`, or where there are none those of the system, and the system's hosts file.
    pub fn new(nameservers: &[SocketAddr]) -> Result<Arc<Self>, NamesError> {
        let mut builder = if nameservers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = nameservers.iter().map(name_server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        let options = builder.options_mut();
        // The table here is the cache: what it asks for has run out.
        options.cache_size = 0;
        options.timeout = QUERY_TIMEOUT;
        options.attempts = 2;
        let resolver = builder.build()?;
        Ok(Arc::new(Self { resolver, table: Mutex::default(), earlier: Notify::new(), changed: Notify::new() }))
    }

    /// What asks the name servers.
    pub fn resolver(&self) -> TokioResolver {
        self.resolver.clone()
    }

    /// In order; none where the name has never been resolved.
    pub fn addresses(&self, host: &str) -> Option<Vec<IpAddr>> {
        self.table().get(host).and_then(Entry::addresses)
    }

    /// Why the last refresh of a name failed, where it did.
    pub fn problem(&self, host: &str) -> Option<String> {
        self.table().get(host).and_then(|entry| entry.problem.clone())
    }

    /// Resolves those of `hosts` that are new, and returns when each has had its chance.
    pub async fn learn(self: &Arc<Self>, hosts: BTreeSet<String>) {
        let new: Vec<_> = {
            let table = self.table();
            hosts.into_iter().filter(|host| !table.contains_key(host.as_str())).collect()
        };
        if new.is_empty() {
            return;
        }
        // What comes later than this is a change of the membership like any other.
        let _ = tokio::time::timeout(FIRST_ANSWER_MAX, self.refresh(new)).await;
    }

    /// Forgets every name but `hosts`.
    pub fn retain(&self, hosts: &BTreeSet<String>) {
        self.table().retain(|host, _| hosts.contains(host.as_ref()));
        for host in hosts {
            self.table().entry(host.as_str().into()).or_insert_with(Entry::never_asked);
        }
        self.earlier.notify_one();
    }

    /// Returns when an address came or went since the last time.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Refreshes what is due, for ever.
    pub async fn keep_fresh(self: Arc<Self>) {
        loop {
            let now = Instant::now();
            let due: Vec<String> = {
                let table = self.table();
                table.iter().filter(|(_, entry)| entry.due <= now).map(|(host, _)| host.to_string()).collect()
            };
            if due.is_empty() {
                let next = self.table().values().map(|entry| entry.due).min();
                let next = tokio::time::Instant::from_std(next.unwrap_or(now + TTL_MAX));
                tokio::select! {
                    () = tokio::time::sleep_until(next) => {}
                    () = self.earlier.notified() => {}
                }
            } else if self.refresh(due).await {
                self.changed.notify_one();
            }
        }
    }

    /// Whether an address came or went.
    async fn refresh(self: &Arc<Self>, hosts: Vec<String>) -> bool {
        let permits = Arc::new(Semaphore::new(LOOKUPS_MAX));
        let mut lookups = JoinSet::new();
        for host in hosts {
            let (names, permits) = (Arc::clone(self), Arc::clone(&permits));
            lookups.spawn(async move {
                let _permit = permits.acquire_owned().await.expect("the semaphore is never closed");
                let answers = names.ask(&host).await;
                names.note(&host, answers)
            });
        }
        let mut changed = false;
        while let Some(lookup) = lookups.join_next().await {
            changed |= lookup.unwrap_or(false);
        }
        changed
    }

    async fn ask(&self, host: &str) -> [Result<Answer, NetError>; 2] {
        let (v4, v6) =
            tokio::join!(self.resolver.lookup(host, RecordType::A), self.resolver.lookup(host, RecordType::AAAA));
        [v4, v6].map(|lookup| match lookup {
            Ok(lookup) => Ok(Answer {
                addresses: lookup.answers().iter().filter_map(|record| record.data.ip_addr()).collect(),
                valid_until: lookup.valid_until(),
            }),
            // The name has no records of this family, or is not there: an answer for this family, but see `note`.
            Err(error) if error.is_no_records_found() => {
                Ok(Answer { addresses: Vec::new(), valid_until: Instant::now() })
            }
            Err(error) => Err(error),
        })
    }

    /// Whether an address came or went.
    fn note(&self, host: &str, answers: [Result<Answer, NetError>; 2]) -> bool {
        let now = Instant::now();
        let mut table = self.table();
        let entry = table.entry(host.into()).or_insert_with(Entry::never_asked);
        let before = entry.addresses();
        let empty = answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.addresses.is_empty()));
        if empty {
            entry.failed(host, "it has no addresses".to_owned(), now);
            return false;
        }
        entry.problem = None;
        entry.due = now + TTL_MAX;
        for (family, answer) in entry.families.iter_mut().zip(answers) {
            match answer {
                Ok(mut answer) => {
                    if !answer.addresses.is_empty() {
                        let ttl = answer.valid_until.saturating_duration_since(now).clamp(TTL_MIN, TTL_MAX);
                        entry.due = entry.due.min(now + ttl);
                    }
                    answer.addresses.retain(|&address| has_route(address));
                    answer.addresses.sort_unstable();
                    answer.addresses.dedup();
                    answer.addresses.truncate(ADDRESSES_MAX);
                    *family = Some(answer.addresses);
                }
                Err(error) => entry.problem = Some(error.to_string()),
            }
        }
        if let Some(problem) = entry.problem.take() {
            entry.failed(host, problem, now);
        }
        entry.addresses() != before
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Entry>> {
        self.table.lock().expect("no holder of the lock panics")
    }
}

struct Answer {
    addresses: Vec<IpAddr>,
    valid_until: Instant,
}

impl Entry {
    fn never_asked() -> Self {
        Self { families: [None, None], due: Instant::now(), problem: None }
    }

    fn addresses(&self) -> Option<Vec<IpAddr>> {
        let known = self.families.iter().any(Option::is_some);
        known.then(|| self.families.iter().flatten().flatten().copied().collect())
    }

    fn failed(&mut self, host: &str, problem: String, now: Instant) {
        tracing::warn!(host, problem, "a host name was not resolved; its last addresses stay in use");
        self.problem = Some(problem);
        self.due = now + RETRY_AFTER;
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// Whether this machine can send to the address at all. Without it every name with an AAAA record
/// would bring an endpoint that can never be reached on a machine without IPv6. Nothing is sent.
fn has_route(address: IpAddr) -> bool {
    if address.is_ipv4() {
        return true;
    }
    UdpSocket::bind("[::]:0").and_then(|socket| socket.connect((address, 9))).is_ok()
}

#[cfg(test)]
pub(crate) mod tests;
