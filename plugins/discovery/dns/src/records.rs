//! From records to endpoints.

use sluice_sdk::{
    discovery::{Member, address, member},
    random::mix,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Any,
    V4,
    V6,
}

/// One SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    pub name: String,
    pub port: u16,
    pub priority: u16,
    pub weight: u16,
}

/// In order of their addresses: name servers turn theirs with each answer.
pub fn from_addresses(addresses: &[String], port: u16, family: Family) -> Vec<Member> {
    let wanted = addresses.iter().filter(|address| match family {
        Family::Any => true,
        Family::V4 => !address.contains(':'),
        Family::V6 => address.contains(':'),
    });
    let members = wanted.map(|host| address(host, port)).map(|address| member(address.clone(), address));
    in_order(members.collect())
}

/// RFC 2782: a lower priority is preferred, as here; a weight of 0 is a very small one; the target `.` says that the
/// service is not to be had.
pub fn from_srv(records: impl Iterator<Item = Srv>) -> Vec<Member> {
    let real = records.filter(|record| !record.name.is_empty() && record.name != "." && record.port > 0);
    let members = real.map(|record| {
        let address = address(&record.name, record.port);
        let (weight, priority) = (u32::from(record.weight.max(1)), u32::from(record.priority));
        Member { weight, priority, ..member(address.clone(), address) }
    });
    in_order(members.collect())
}

fn in_order(mut members: Vec<Member>) -> Vec<Member> {
    members.sort_by(|a, b| a.id.cmp(&b.id));
    members.dedup_by(|a, b| a.id == b.id);
    members
}

/// Another for other endpoints.
pub fn digest(members: &[Member]) -> String {
    let mut digest = members.len() as u64;
    for member in members {
        for byte in member.id.bytes() {
            digest = mix(digest, u64::from(byte));
        }
        digest = mix(digest, u64::from(member.weight) << 32 | u64::from(member.priority));
    }
    format!("{digest:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_records_changes_nothing() {
        let one = from_addresses(&["10.0.0.2".into(), "10.0.0.1".into(), "::1".into()], 80, Family::Any);
        let other = from_addresses(&["::1".into(), "10.0.0.1".into(), "10.0.0.2".into()], 80, Family::Any);
        assert_eq!(digest(&one), digest(&other));
        assert_ne!(digest(&one), digest(&one[1..]));
        assert_eq!(
            one.iter().map(|m| m.address.as_str()).collect::<Vec<_>>(),
            ["10.0.0.1:80", "10.0.0.2:80", "[::1]:80"]
        );
        assert_eq!(from_addresses(&["10.0.0.2".into(), "::1".into()], 80, Family::V6).len(), 1);
    }

    #[test]
    fn srv_records_keep_priority_and_weight() {
        let srv = |name: &str, weight, priority| Srv { name: name.to_owned(), port: 9, priority, weight };
        let members = from_srv([srv("b", 0, 1), srv("a", 5, 0), srv("", 1, 1)].into_iter());
        let shown: Vec<_> = members.iter().map(|m| (m.address.as_str(), m.weight, m.priority)).collect();
        assert_eq!(shown, [("a:9", 5, 0), ("b:9", 1, 1)]);
        let heavier = from_srv([srv("b", 7, 1), srv("a", 5, 0)].into_iter());
        assert_ne!(digest(&members), digest(&heavier));
    }
}
