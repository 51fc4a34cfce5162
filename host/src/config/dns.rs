//! `[dns]`: the registry for whatever resolves names.

use std::{net::SocketAddr, time::Duration};

use super::{
    defaults,
    listener::free_address,
    reader::{Table, Value},
    root::same_port,
};
use crate::model::{DnsOptions, ListenerOptions};

/// An answer that is older says nothing about a service any more.
const TTL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// RFC 1035 §2.3.4.
const LABEL_BYTES_MAX: usize = 63;
/// So that the longest service name and tag still fit before it (255 bytes in all, RFC 1035 §2.3.4).
const DOMAIN_BYTES_MAX: usize = 100;

pub(super) fn read(root: &mut Table<'_>, control: SocketAddr, listeners: &[ListenerOptions]) -> Option<DnsOptions> {
    let mut table = root.read("dns", |value| value.table("a table: [dns]"))?;
    let taken = |address| {
        let by_listener = listeners.iter().any(|listener| same_port(listener.address, address));
        by_listener.then_some("a listener").or(same_port(control, address).then_some("the control listener"))
    };
    let address = table.require("address", "\"127.0.0.1:8600\"", |value| free_address(value, taken));
    let (mut domain, mut ttl) = (defaults::DNS_DOMAIN.to_owned(), defaults::DNS_TTL);
    table.set(&mut domain, "domain", domain_name);
    table.set(&mut ttl, "ttl", whole_seconds);
    table.finish();
    Some(DnsOptions { address: address?, domain, ttl })
}

fn domain_name(value: &Value<'_>) -> Option<String> {
    let wanted = "a domain, such as \"consul\" or \"services.example\"";
    let text = value.text(wanted)?;
    let domain = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_label = |label: &str| {
        let right = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(right)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if domain.len() > DOMAIN_BYTES_MAX || !domain.split('.').all(is_label) {
        value.refuse(format_args!(
            "must be {wanted}: letters, digits and '-' between dots, at most {DOMAIN_BYTES_MAX} in all, not {text:?}"
        ));
        return None;
    }
    Some(domain)
}

fn whole_seconds(value: &Value<'_>) -> Option<Duration> {
    let ttl = value.duration(Duration::ZERO..=TTL_MAX)?;
    if ttl.subsec_nanos() > 0 {
        value.refuse("must be whole seconds, as DNS knows no others, such as \"5 s\"");
        return None;
    }
    Some(ttl)
}
