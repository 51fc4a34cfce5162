//! Whatever comes to the DNS server, it answers with nothing or with a message that can be read, belongs to the query
//! and fits the way back.

use std::{net::Ipv4Addr, time::Duration};

use fastrand::Rng;
use hickory_proto::op::{Message, MessageType};
use sluice::{
    model::DnsOptions,
    registry::dns::{Host, Lookup, Target, Transport, Zone, respond},
};

/// Every service that is asked for, `many` with more instances than a datagram holds.
struct Everything;

impl Lookup for Everything {
    fn instances(&self, service: &str, tag: Option<&str>) -> Vec<Target> {
        assert_eq!(service, service.to_ascii_lowercase());
        let hosts: Vec<_> = match (service, tag) {
            (_, Some("none")) => Vec::new(),
            ("many", _) => (0..600).map(|n: u32| Host::Address(Ipv4Addr::from(n).into())).collect(),
            ("named", _) => vec![Host::parse("db.example.org").expect("a name")],
            _ => ["10.0.0.1", "2001:db8::1"].into_iter().filter_map(Host::parse).collect(),
        };
        hosts.into_iter().map(|host| Target { host, port: 80, weight: 1 }).collect()
    }

    fn index(&self) -> u64 {
        u64::MAX
    }
}

pub fn check(query: &[u8]) {
    let address = (Ipv4Addr::LOCALHOST, 8600).into();
    let options = DnsOptions { address, domain: "consul".to_owned(), ttl: Duration::ZERO };
    let zone = Zone::new(&options, address.ip()).expect("a domain");
    for (transport, bytes_max) in [(Transport::Udp, 8192), (Transport::Tcp, 65_535)] {
        let respond = |bytes: &[u8]| respond(bytes, transport, &zone, &Everything, &mut Rng::with_seed(1));
        let Some(answer) = respond(query) else { continue };
        assert!(answer.len() <= bytes_max, "{} bytes over {transport:?}", answer.len());
        assert_eq!(answer[..2], query[..2], "the answer has another id");
        let message = Message::from_vec(&answer).expect("an answer can be read");
        assert_eq!(message.metadata.message_type, MessageType::Response);
        let asked = Message::from_vec(query).map(|query| (query.queries, query.edns.is_some()));
        if let Ok((queries, has_edns)) = asked
            && !message.queries.is_empty()
        {
            assert_eq!(message.queries, queries);
            assert_eq!(message.edns.is_some(), has_edns);
            assert!(has_edns || transport == Transport::Tcp || answer.len() <= 512, "{} bytes", answer.len());
        }
        assert_eq!(respond(&answer), None, "an answer was answered");
    }
}
