//! Endpoints: what the configuration or discovery says about them, and what the workers share of them.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
};

use super::{InstantUs, ServiceName, Weight};

/// The gateway's number for an endpoint of a service (WIT `types.slot`): dense, so it indexes arrays.
pub type Slot = u32;

/// `host:port`; an IPv6 address in brackets. The host may be a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    host: Box<str>,
    /// Of the host, where it is no name.
    ip: Option<IpAddr>,
    port: u16,
}

impl HostPort {
    /// Without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address, where the host is one and not a name.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.ip.map(|ip| SocketAddr::new(ip, self.port))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// What is wrong with a `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "address {given:?}: must be host:port, such as 127.0.0.1:9001, orders.internal:9001 or [::1]:9001, port 1 to 65535"
)]
pub struct AddressError {
    given: String,
}

/// Longest host name (RFC 1035 §2.3.4).
const HOST_NAME_LEN_MAX: usize = 253;

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(given: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError { given: given.to_owned() };
        let (host, port) = given.rsplit_once(':').ok_or_else(wrong)?;
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let port: u16 = port.parse().ok().filter(|&port| digits && port > 0).ok_or_else(wrong)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => {
                inner.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                inner
            }
            None if is_host(host) => host,
            None => return Err(wrong()),
        };
        Ok(Self { host: host.into(), ip: host.parse().ok(), port })
    }
}

fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    let all_numeric = name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    !name.is_empty()
        && name.len() <= HOST_NAME_LEN_MAX
        && name.split('.').all(label)
        && (!all_numeric || name.parse::<std::net::Ipv4Addr>().is_ok())
}

/// One address of a service, as the configuration or a source of membership gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSpec {
    /// What the source calls this registration; empty for the configuration's own endpoints.
    pub id: Box<str>,
    pub address: HostPort,
    pub weight: Weight,
    pub priority: u32,
    /// Empty where unknown.
    pub zone: String,
    pub metadata: Vec<(String, String)>,
    /// The source's own verdict: false keeps it out of traffic.
    pub healthy: bool,
}

/// One endpoint of a running gateway, shared by all workers and versions.
///
/// All fields but the counter are fixed: what can change (weight, availability) stands in
/// [`EndpointState`], which belongs to one snapshot. The slot is free for another endpoint only when
/// the last reference is gone; attempts hold one until their completion has been delivered.
#[derive(Debug)]
pub struct Endpoint {
    pub service: ServiceName,
    pub slot: Slot,
    /// Hash of service, registration and address: the same on every gateway and after a restart.
    pub key: u64,
    /// Where connections go: the name resolved.
    pub address: SocketAddr,
    /// As configured, for messages and labels.
    pub label: HostPort,
    /// Of what the gateway itself has found out about it. Ahead of the snapshots: the workers see it at once.
    pub fitness: Fitness,
    /// What it can take at once, where that is measured.
    adaptive_max: AtomicU32,
    /// Apart from the endpoint, so that a stream that outlives its report holds no slot.
    in_flight: Arc<AtomicU32>,
    connections: Arc<AtomicU32>,
}

impl Endpoint {
    pub fn new(service: ServiceName, slot: Slot, key: u64, address: SocketAddr, label: HostPort) -> Arc<Self> {
        Arc::new(Self {
            service,
            slot,
            key,
            address,
            label,
            fitness: Fitness::default(),
            adaptive_max: AtomicU32::new(u32::MAX),
            in_flight: Arc::default(),
            connections: Arc::default(),
        })
    }

    /// Requests to it that have not ended, the whole gateway over.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request until the guard is dropped, however it ends.
    pub fn begin(&self) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(&self.in_flight))
    }

    /// The same, unless there are `max` already.
    pub fn begin_within(&self, max: u32) -> Option<InFlight> {
        within(&self.in_flight, max).map(InFlight)
    }

    /// What it can take at once, as far as that was measured.
    pub fn adaptive_max(&self) -> Option<u32> {
        Some(self.adaptive_max.load(Ordering::Relaxed)).filter(|&max| max < u32::MAX)
    }

    pub fn set_adaptive_max(&self, max: Option<u32>) {
        self.adaptive_max.store(max.unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Open connections to it, the whole gateway over.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection until the guard is dropped, unless there are `max` already.
    pub fn connect_within(&self, max: u32) -> Option<Connected> {
        within(&self.connections, max).map(Connected)
    }
}

/// Whether an endpoint is fit for traffic, by its active checks and by the service's failover policy.
///
/// Written by whoever checks and judges, read by every worker for each attempt: one load while all is well. An order
/// between these and other memory is not needed, as nothing else hangs on them.
#[derive(Debug, Default)]
pub struct Fitness {
    flags: AtomicU8,
    ejections: AtomicU32,
}

impl Fitness {
    /// It failed its active checks.
    const FAILS_CHECKS: u8 = 1;
    const EJECTED: u8 = 1 << 1;
    /// One request at a time is let through.
    const PROBED: u8 = 1 << 2;
    /// That one is on its way, or what became of it has not been looked at.
    const PROBE_SENT: u8 = 1 << 3;

    /// Whether it takes part in ordinary traffic.
    #[inline]
    pub fn is_fit(&self) -> bool {
        self.flags.load(Ordering::Relaxed) == 0
    }

    pub fn fails_checks(&self) -> bool {
        self.has(Self::FAILS_CHECKS)
    }

    pub fn is_ejected(&self) -> bool {
        self.has(Self::EJECTED)
    }

    pub fn is_probed(&self) -> bool {
        self.has(Self::PROBED)
    }

    /// Answers whether that is news.
    pub fn set_passes_checks(&self, passes: bool) -> bool {
        if passes { self.clear(Self::FAILS_CHECKS) } else { !self.set(Self::FAILS_CHECKS) }
    }

    /// Times that it was ejected.
    pub fn ejections(&self) -> u32 {
        self.ejections.load(Ordering::Relaxed)
    }

    pub fn eject(&self) {
        self.ejections.fetch_add(1, Ordering::Relaxed);
        self.set(Self::EJECTED);
        self.clear(Self::PROBED | Self::PROBE_SENT);
    }

    /// From now on one request at a time.
    pub fn probe(&self) {
        self.clear(Self::EJECTED | Self::PROBE_SENT);
        self.set(Self::PROBED);
    }

    pub fn admit(&self) {
        self.clear(Self::EJECTED | Self::PROBED | Self::PROBE_SENT);
    }

    /// Whether the caller's request is the one that may go to an endpoint that is being probed.
    pub fn take_probe(&self) -> bool {
        let free = self.flags.load(Ordering::Relaxed) == Self::PROBED;
        let taken = Self::PROBED | Self::PROBE_SENT;
        free && self.flags.compare_exchange(Self::PROBED, taken, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    pub fn has_probe_sent(&self) -> bool {
        self.has(Self::PROBE_SENT)
    }

    /// What became of the last probe has been looked at: the next may be sent.
    pub fn end_probe(&self) {
        self.clear(Self::PROBE_SENT);
    }

    fn has(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Relaxed) & flag != 0
    }

    /// Whether any was set before.
    fn set(&self, flags: u8) -> bool {
        self.flags.fetch_or(flags, Ordering::Relaxed) & flags != 0
    }

    /// Whether any was set before.
    fn clear(&self, flags: u8) -> bool {
        self.flags.fetch_and(!flags, Ordering::Relaxed) & flags != 0
    }
}

/// One request in flight to an endpoint.
#[derive(Debug)]
pub struct InFlight(Arc<AtomicU32>);

/// One connection to an endpoint.
#[derive(Debug)]
pub struct Connected(Arc<AtomicU32>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn within(count: &Arc<AtomicU32>, max: u32) -> Option<Arc<AtomicU32>> {
    if count.fetch_add(1, Ordering::Relaxed) < max {
        return Some(Arc::clone(count));
    }
    count.fetch_sub(1, Ordering::Relaxed);
    None
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An endpoint as one snapshot sees it.
#[derive(Clone, Debug)]
pub struct EndpointState {
    pub endpoint: Arc<Endpoint>,
    pub weight: Weight,
    /// As its source gives it; twice that where a zone is preferred, and one more in another zone.
    pub priority: u32,
    pub zone: String,
    pub metadata: Vec<(String, String)>,
    /// What its source says of it.
    pub healthy: bool,
    /// Healthy and fit: false while it fails its checks, is ejected, or is being probed.
    pub available: bool,
    /// When it last became available.
    pub since_us: InstantUs,
}
