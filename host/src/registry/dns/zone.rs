//! The names of our zone, and what stands at each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::{
    ProtoError,
    rr::{
        Name, RData, Record,
        rdata::{SOA, SRV},
    },
};

use super::{Host, Target};
use crate::model::DnsOptions;

/// The one data centre there is, by Consul's name for the first.
pub const DATACENTER: &str = "dc1";

/// Of the SOA record: as Consul's. They are for secondary servers, of which there are none.
const REFRESH_S: i32 = 3600;
const RETRY_S: i32 = 600;
const EXPIRE_S: i32 = 86_400;

/// Of every SRV record: all are equal, and their weights say the rest.
const PRIORITY: u16 = 1;

/// Of a tag and a service's name together, as each of them is looked up.
const LABELS_MAX: usize = 10;

/// What the server answers for.
#[derive(Clone, Debug)]
pub struct Zone {
    domain: Name,
    name_server: Name,
    host_master: Name,
    /// Ends the names of addresses.
    addresses: Name,
    /// Where the server itself is reached; None where it listens on all addresses.
    own_address: Option<IpAddr>,
    ttl_s: u32,
}

/// What a name of the zone stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Apex,
    NameServer,
    /// There are names below it.
    Above,
    /// The instances of the first of these that has any.
    Services(Vec<Wanted>),
    Address(IpAddr),
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub service: String,
    pub tag: Option<String>,
}

impl Zone {
    /// `own_address` is the one that the server listens on.
    pub fn new(options: &DnsOptions, own_address: IpAddr) -> Result<Self, ProtoError> {
        let mut domain = Name::from_ascii(&options.domain)?;
        domain.set_fqdn(true);
        Ok(Self {
            name_server: domain.prepend_label("ns")?,
            host_master: domain.prepend_label("hostmaster")?,
            addresses: domain.prepend_label(DATACENTER)?.prepend_label("addr")?,
            domain,
            own_address: (!own_address.is_unspecified()).then_some(own_address),
            ttl_s: u32::try_from(options.ttl.as_secs()).unwrap_or(u32::MAX),
        })
    }

    /// None: the name is not of this zone.
    pub(super) fn place(&self, name: &Name) -> Option<Place> {
        if !self.domain.zone_of(name) {
            return None;
        }
        let labels = name.iter().take(name.iter().count() - self.domain.iter().count());
        let labels: Option<Vec<String>> =
            labels.map(|label| Some(std::str::from_utf8(label).ok()?.to_ascii_lowercase())).collect();
        Some(labels.map_or(Place::Nothing, |labels| place(&labels.iter().map(String::as_str).collect::<Vec<_>>())))
    }

    pub(super) fn own_address(&self) -> Option<IpAddr> {
        self.own_address
    }

    /// `serial`: any number that grows with the zone's changes.
    pub(super) fn soa(&self, serial: u64) -> Record {
        let serial = u32::try_from(serial & u64::from(u32::MAX)).expect("it is masked");
        let (server, master) = (self.name_server.clone(), self.host_master.clone());
        let soa = SOA::new(server, master, serial, REFRESH_S, RETRY_S, EXPIRE_S, self.ttl_s);
        self.record(self.domain.clone(), RData::SOA(soa))
    }

    pub(super) fn name_server(&self) -> &Name {
        &self.name_server
    }

    pub(super) fn address(&self, name: Name, address: IpAddr) -> Record {
        let data = match address {
            IpAddr::V4(address) => RData::A(address.into()),
            IpAddr::V6(address) => RData::AAAA(address.into()),
        };
        self.record(name, data)
    }

    /// With the address of its target, where that is a name of ours.
    pub(super) fn srv(&self, name: Name, target: &Target) -> Option<(Record, Option<Record>)> {
        let (host, address) = match &target.host {
            Host::Name(host) => (host.clone(), None),
            Host::Address(address) => {
                let host = self.addresses.prepend_label(hex_of(*address)).ok()?;
                (host.clone(), Some(self.address(host, *address)))
            }
        };
        let srv = SRV::new(PRIORITY, target.weight, target.port, host);
        Some((self.record(name, RData::SRV(srv)), address))
    }

    pub(super) fn record(&self, name: Name, data: RData) -> Record {
        Record::from_rdata(name, self.ttl_s, data)
    }
}

/// Of the labels before the domain.
fn place(labels: &[&str]) -> Place {
    let kind = match labels {
        [before @ .., last] if *last == DATACENTER => before,
        all => all,
    };
    match kind {
        [] if labels.is_empty() => Place::Apex,
        ["ns"] if labels.len() == 1 => Place::NameServer,
        [] | ["service" | "addr"] => Place::Above,
        [names @ .., "service"] => service(names),
        [hex, "addr"] => address_of(hex).map_or(Place::Nothing, Place::Address),
        names if names.iter().all(|name| name.starts_with('_')) => service(names),
        _ => Place::Nothing,
    }
}

fn service(labels: &[&str]) -> Place {
    match labels {
        [] => Place::Above,
        [under] if under.starts_with('_') => Place::Above,
        [service, tag] if service.starts_with('_') && tag.starts_with('_') => {
            // Every protocol is spoken by whatever was registered; `_tcp` is what asks for that.
            let tag = (*tag != "_tcp").then(|| tag[1..].to_owned());
            Place::Services(vec![Wanted { service: service[1..].to_owned(), tag }])
        }
        // Tags and names of services may both have dots. The shortest name of a service comes first.
        labels if labels.len() <= LABELS_MAX => {
            let split =
                |at: usize| Wanted { service: labels[at..].join("."), tag: (at > 0).then(|| labels[..at].join(".")) };
            Place::Services((0..labels.len()).rev().map(split).collect())
        }
        _ => Place::Nothing,
    }
}

fn hex_of(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => hex::encode(address.octets()),
        IpAddr::V6(address) => hex::encode(address.octets()),
    }
}

fn address_of(hex: &str) -> Option<IpAddr> {
    let octets = hex::decode(hex).ok()?;
    if let Ok(octets) = <[u8; 4]>::try_from(octets.as_slice()) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(octets).ok().map(|octets| Ipv6Addr::from(octets).into())
}
