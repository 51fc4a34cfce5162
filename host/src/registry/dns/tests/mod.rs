mod hostile;
mod names;
mod records;
mod server;
mod sizes;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use fastrand::Rng;
use hickory_proto::{
    op::{Edns, Message, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};

use super::*;
use crate::model::DnsOptions;

/// A registry of a test's own: instances with their tags, by the names of their services.
#[derive(Default)]
struct Services {
    by_name: BTreeMap<&'static str, Vec<(Target, Vec<&'static str>)>>,
}

impl Services {
    fn with(mut self, service: &'static str, host: &str, port: u16, tags: &[&'static str]) -> Self {
        let target = Target { host: Host::parse(host).expect("a host"), port, weight: 1 };
        self.by_name.entry(service).or_default().push((target, tags.to_vec()));
        self
    }
}

impl Lookup for Services {
    fn instances(&self, service: &str, tag: Option<&str>) -> Vec<Target> {
        let all = self.by_name.get(service).into_iter().flatten();
        let wanted = all.filter(|(_, tags)| tag.is_none_or(|tag| tags.contains(&tag)));
        wanted.map(|(target, _)| target.clone()).collect()
    }

    fn index(&self) -> u64 {
        42
    }
}

/// Two web servers with addresses of both kinds, a database with a host name.
fn shop() -> Services {
    Services::default()
        .with("web", "10.0.0.1", 8001, &["blue", "v1.2"])
        .with("web", "10.0.0.2", 8002, &["green"])
        .with("web", "2001:db8::1", 8003, &["green"])
        .with("db", "db.example.org", 5432, &[])
}

fn zone_with(domain: &str, ttl: Duration) -> Zone {
    let address = (Ipv4Addr::LOCALHOST, 8600).into();
    Zone::new(&DnsOptions { address, domain: domain.to_owned(), ttl }, address.ip()).expect("a domain")
}

fn zone() -> Zone {
    zone_with("consul", Duration::ZERO)
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message
}

fn ask_of(services: &Services, query: &Message, transport: Transport) -> Message {
    let bytes = query.to_vec().expect("it can be written");
    let answer = respond(&bytes, transport, &zone(), services, &mut Rng::with_seed(7)).expect("it is answered");
    let answer = Message::from_vec(&answer).expect("it can be read");
    assert_eq!(answer.metadata.id, query.metadata.id);
    assert!(answer.metadata.recursion_desired && !answer.metadata.recursion_available);
    answer
}

fn ask(name: &str, kind: RecordType) -> Message {
    ask_of(&shop(), &query(name, kind), Transport::Tcp)
}

/// Of the answers, in order.
fn addresses(message: &Message) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::from(address.0)),
        RData::AAAA(address) => Some(IpAddr::from(address.0)),
        _ => None,
    };
    let mut all: Vec<_> = message.answers.iter().filter_map(|record| address(&record.data)).collect();
    all.sort_unstable();
    all
}

fn ips(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().expect("an address")).collect()
}

/// The name is there and has nothing of this type, or (NXDOMAIN) is not there: both with what a resolver needs to
/// remember that (RFC 2308 §3).
fn assert_nothing(message: &Message, code: ResponseCode) {
    assert_eq!(message.metadata.response_code, code, "{message}");
    assert!(message.answers.is_empty(), "{message}");
    assert!(message.metadata.authoritative, "{message}");
    assert_eq!(message.authorities.len(), 1, "{message}");
    assert_eq!(message.authorities[0].record_type(), RecordType::SOA, "{message}");
}
