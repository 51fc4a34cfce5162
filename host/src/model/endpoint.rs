//! Endpoints: what the configuration or discovery says about them, and what the workers share of them.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
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
    /// Apart from the endpoint, so that a stream that outlives its report holds no slot.
    in_flight: Arc<AtomicU32>,
}

impl Endpoint {
    pub fn new(service: ServiceName, slot: Slot, key: u64, address: SocketAddr, label: HostPort) -> Arc<Self> {
        Arc::new(Self { service, slot, key, address, label, in_flight: Arc::default() })
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
}

/// One request in flight to an endpoint.
#[derive(Debug)]
pub struct InFlight(Arc<AtomicU32>);

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
    pub priority: u32,
    pub zone: String,
    pub metadata: Vec<(String, String)>,
    /// False while it fails its checks, is ejected, or drains.
    pub available: bool,
    /// When it last became available.
    pub since_us: InstantUs,
}
