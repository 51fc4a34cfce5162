//! The registry over DNS, with the names that Consul gives (<https://developer.hashicorp.com/consul/docs/services/discovery/dns-static-lookups>),
//! so that whatever resolves names finds instances.
//!
//! | name, within the domain (`consul`) | A, AAAA | SRV |
//! | --- | --- | --- |
//! | `<service>.service` | addresses of its instances | ports too, the addresses in the additional section |
//! | `<tag>.<service>.service` | of those with this tag | |
//! | `_<service>._tcp[.service]`, `_<service>._<tag>[.service]` | the same (RFC 2782) | |
//! | `<hex address>.addr` | the address that its name says: what SRV records point to | |
//!
//! Each may end in the data centre: `.service.dc1.consul`. Instances in a critical state or in maintenance are left
//! out, those with a warning are not, as in Consul. A name with no instance left does not exist (NXDOMAIN); one that
//! has none of the type asked for, or that only stands above others, has no data (NOERROR with the SOA record, RFC 2308).
//!
//! ```text
//!  datagram or framed message ──▶ respond: checks, name, look up, records, fit ──▶ the same way back
//! ```
//!
//! [`respond`] is a function of bytes; [`DnsServer`] moves them. hickory reads and writes messages; the sockets are ours,
//! because every connection and wait has a bound here.

mod answer;
mod fit;
mod lookup;
mod respond;
mod server;
mod zone;

use std::net::IpAddr;

use hickory_proto::rr::Name;

pub use respond::{Transport, respond};
pub use server::{CONNECTIONS_MAX, DnsServer};
pub use zone::Zone;

/// What DNS must know of the registry.
pub trait Lookup: Send + Sync + 'static {
    /// The instances of a service that may get traffic, with this tag if one is given; none where there is no such
    /// service. Both come in lower case and mean names in any case, as names in DNS have none.
    fn instances(&self, service: &str, tag: Option<&str>) -> Vec<Target>;

    /// Grows with every change.
    fn index(&self) -> u64;
}

/// Where an instance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub host: Host,
    pub port: u16,
    /// Among the instances of its service, as in SRV records.
    pub weight: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    Address(IpAddr),
    Name(Name),
}

impl Host {
    /// None: neither an address nor a name that DNS could carry.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse() {
            return Some(Self::Address(address));
        }
        let mut name = Name::from_ascii(text).ok().filter(|name| !name.is_root())?;
        name.set_fqdn(true);
        Some(Self::Name(name))
    }
}

#[cfg(test)]
mod tests;
