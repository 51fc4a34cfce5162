//! The checked configuration: what is left of `sluice.toml` once it has been found right.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    Grants, HandlerName, HostGrant, Percent, PluginName, PolicyConfig, RouteConfig, ServiceConfig, ServiceName,
};

#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub gateway: GatewayOptions,
    /// At least one.
    pub listeners: Vec<ListenerOptions>,
    pub control: ControlOptions,
    /// None: the registry does not speak DNS.
    pub dns: Option<DnsOptions>,
    pub registry: RegistryConfig,
    pub transactions: TransactionsConfig,
    pub events: EventsConfig,
    pub plugins: BTreeMap<PluginName, PluginOptions>,
    pub services: BTreeMap<ServiceName, ServiceConfig>,
    pub routes: Vec<RouteConfig>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct GatewayOptions {
    pub workers: NonZeroUsize,
    pub data_dir: PathBuf,
    pub trusted_proxies: Vec<ipnet::IpNet>,
    /// Where the gateway stands: what services prefer that say nothing else.
    pub zone: Option<String>,
    /// Where host names are resolved; empty: the system's.
    pub nameservers: Vec<SocketAddr>,
    /// How long requests may go on after SIGTERM. Default 30 s.
    pub grace_period: Duration,
    pub access_log: AccessLog,
    pub limits: Limits,
}

impl GatewayOptions {
    /// Where the code that plugins were compiled to is kept.
    pub fn code_cache_dir(&self) -> PathBuf {
        self.data_dir.join("cache")
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum AccessLog {
    Off,
    /// Every request.
    On,
    /// This share of requests, above 0 and up to 1; those that the gateway itself answers with an error always.
    Sampled(f64),
}

/// What a client may take. Each is refused with the status that its name calls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of a message head, in bytes: 431 above. Default 32 KiB.
    pub header_bytes_max: usize,
    /// Fields in a head or trailer: 431 above. Default 100.
    pub header_count_max: usize,
    /// From a head's first byte to its last; the connection is closed (408). Default 10 s.
    pub header_read_timeout: Duration,
    /// Of a client's connection without a request. Default 75 s.
    pub keep_alive_timeout: Duration,
    /// Without a byte while a request body is awaited. Default 30 s.
    pub body_read_timeout: Duration,
    /// Of a client that takes nothing of its answer. Default 60 s.
    pub write_timeout: Duration,
    /// Of a request body, in bytes: 413 above. Default 4 GiB.
    pub body_bytes_max: u64,
    /// Client connections over all workers; above, a new one waits in the listen queue. Default 10 000.
    pub connections_max: usize,
    /// HTTP/2 streams at once on one connection. Default 128.
    pub h2_streams_max: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerOptions {
    /// Port 0 takes a free one.
    pub address: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlOptions {
    pub address: SocketAddr,
    /// A bearer token for everything; needed for an address that is not loopback.
    pub operator_token_file: Option<PathBuf>,
    /// A bearer token for services: they may register, send heartbeats and look up, and change nothing else.
    pub service_token_file: Option<PathBuf>,
}

/// `[registry]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryConfig {
    pub mass_expiry: MassExpiry,
}

/// When leases that run out are not believed to be the end of their instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MassExpiry {
    /// More than this share of a service's leases, or of all, at once. 100: never. Default 50.
    pub percent: Percent,
    /// How long such leases are held beyond their end. Default 10 min.
    pub hold: Duration,
}

/// The registry's DNS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsOptions {
    /// Of UDP and TCP. Port 0 takes one that is free for both.
    pub address: SocketAddr,
    /// The zone, in lower case and without a dot at the end. Default "consul".
    pub domain: String,
    /// How long resolvers may keep an answer, and that there is none; whole seconds. Default 0: not at all.
    pub ttl: Duration,
}

/// A plugin of the user's own. The stock ones need no entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginOptions {
    pub name: PluginName,
    /// None: only limits, for a stock plugin or one that was uploaded.
    pub path: Option<PathBuf>,
    /// All 64 hex digits; a file that differs is refused.
    pub sha256: Option<[u8; 32]>,
    /// Linear memory of one instance. Default 16 MiB.
    pub memory_bytes_max: usize,
    /// What it may reach outside of the gateway.
    pub grants: std::sync::Arc<Grants>,
}

/// Distributed transactions.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionsConfig {
    /// Where branches' calls may go beside the gateway's own services.
    pub allow_hosts: Vec<HostGrant>,
    /// How long ended transactions are kept. Default 7 days, as DTM's.
    pub retention: Duration,
    /// After which a transaction expires that names no timeout and whose client asks for nothing. Default 35 s, as DTM's.
    pub timeout: Duration,
    /// By DTM's `trans_type`.
    pub protocols: BTreeMap<String, ProtocolConfig>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ProtocolConfig {
    pub policy: PolicyConfig,
}

impl Default for TransactionsConfig {
    fn default() -> Self {
        Self {
            allow_hosts: Vec::new(),
            retention: Duration::from_secs(7 * 24 * 60 * 60),
            timeout: Duration::from_secs(35),
            protocols: BTreeMap::new(),
        }
    }
}

/// `[events]`
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventsConfig {
    /// Where calls of event handlers may go beside the gateway's own services.
    pub allow_hosts: Vec<HostGrant>,
    pub handlers: BTreeMap<HandlerName, HandlerConfig>,
}

/// What follows the events.
#[derive(Clone, Debug, PartialEq)]
pub struct HandlerConfig {
    pub policy: PolicyConfig,
    pub on_failure: OnFailure,
    pub from: HandlerStart,
}

/// What becomes of an event that a handler cannot take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is put aside, and those after it go on.
    #[default]
    Park,
    /// Nothing goes on until somebody says so.
    Halt,
}

/// Where a handler begins that was never there before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HandlerStart {
    /// With the first event there is.
    #[default]
    Start,
    /// With the first event that is appended from then on.
    Now,
}
