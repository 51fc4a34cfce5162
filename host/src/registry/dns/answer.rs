//! Which records answer a question.

use std::{collections::HashSet, net::IpAddr};

use fastrand::Rng;
use hickory_proto::{
    op::{Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
};

use super::{Host, Lookup, Target, Zone, zone::Place};

#[derive(Debug)]
pub(super) struct Answer {
    pub code: ResponseCode,
    pub answers: Vec<Record>,
    pub additionals: Vec<Record>,
    /// More records than fit were left out.
    pub cut: bool,
}

impl Answer {
    /// NOERROR, with the SOA record where there are none: the name has no data of this type.
    fn records(answers: Vec<Record>) -> Self {
        Self { code: ResponseCode::NoError, answers, additionals: Vec::new(), cut: false }
    }

    pub fn code(code: ResponseCode) -> Self {
        Self { code, ..Self::records(Vec::new()) }
    }
}

/// With at most `records_max` records, shuffled so that all instances get their share of clients.
pub(super) fn answer(query: &Query, zone: &Zone, lookup: &impl Lookup, records_max: usize, rng: &mut Rng) -> Answer {
    let (name, kind) = (query.name(), query.query_type());
    match zone.place(name) {
        // Nobody's secondary, and not a resolver for others.
        None => Answer::code(ResponseCode::Refused),
        Some(_) if matches!(kind, RecordType::AXFR | RecordType::IXFR) => Answer::code(ResponseCode::Refused),
        Some(Place::Nothing) => Answer::code(ResponseCode::NXDomain),
        Some(Place::Above) => Answer::records(Vec::new()),
        Some(Place::Apex) => apex(name, kind, zone, lookup.index()),
        Some(Place::NameServer) => Answer::records(addresses(name, kind, zone, zone.own_address())),
        Some(Place::Address(address)) => Answer::records(addresses(name, kind, zone, Some(address))),
        Some(Place::Services(wanted)) => {
            let mut found = wanted.iter().map(|wanted| lookup.instances(&wanted.service, wanted.tag.as_deref()));
            let Some(mut targets) = found.find(|targets| !targets.is_empty()) else {
                return Answer::code(ResponseCode::NXDomain);
            };
            rng.shuffle(&mut targets);
            match kind {
                RecordType::SRV => srv(name, &targets, zone, records_max),
                _ => hosts(name, kind, &targets, zone, records_max),
            }
        }
    }
}

fn apex(name: &Name, kind: RecordType, zone: &Zone, index: u64) -> Answer {
    match kind {
        RecordType::SOA => Answer::records(vec![zone.soa(index)]),
        RecordType::NS => {
            let server = zone.name_server().clone();
            let record = zone.record(name.clone(), RData::NS(rdata::NS(server.clone())));
            let glue = addresses(&server, RecordType::ANY, zone, zone.own_address());
            Answer { additionals: glue, ..Answer::records(vec![record]) }
        }
        _ => Answer::records(Vec::new()),
    }
}

/// A and AAAA records, each address once.
fn addresses(name: &Name, kind: RecordType, zone: &Zone, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<Record> {
    let wanted = |address: &IpAddr| match kind {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        other => other == RecordType::ANY,
    };
    let mut seen = HashSet::new();
    let distinct = addresses.into_iter().filter(|address| wanted(address) && seen.insert(*address));
    distinct.map(|address| zone.address(name.clone(), address)).collect()
}

fn hosts(name: &Name, kind: RecordType, targets: &[Target], zone: &Zone, records_max: usize) -> Answer {
    let ips = targets.iter().filter_map(|target| match target.host {
        Host::Address(address) => Some(address),
        Host::Name(_) => None,
    });
    let mut answers = addresses(name, kind, zone, ips.clone());
    let cut = answers.len() > records_max;
    answers.truncate(records_max);
    // An alias stands alone at its name (RFC 1034 §3.6.2): only where no instance has an address, and then one of them.
    let asks_for_alias = matches!(kind, RecordType::A | RecordType::AAAA | RecordType::CNAME | RecordType::ANY);
    if asks_for_alias && ips.clone().next().is_none() {
        let alias = targets.iter().find_map(|target| match &target.host {
            Host::Name(host) => Some(zone.record(name.clone(), RData::CNAME(rdata::CNAME(host.clone())))),
            Host::Address(_) => None,
        });
        answers.extend(alias);
    }
    Answer { cut, ..Answer::records(answers) }
}

fn srv(name: &Name, targets: &[Target], zone: &Zone, records_max: usize) -> Answer {
    let records = targets.iter().take(records_max).filter_map(|target| zone.srv(name.clone(), target));
    let (answers, found): (Vec<_>, Vec<_>) = records.unzip();
    // One for each answer, as in Consul, also where two have one target: HAProxy takes each for one server only.
    let additionals = found.into_iter().flatten().collect();
    Answer { additionals, cut: targets.len() > records_max, ..Answer::records(answers) }
}
