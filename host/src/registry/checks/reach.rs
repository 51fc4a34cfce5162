//! Where checks may go: anywhere but to link-local addresses, at which clouds hand out credentials.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::net::lookup_host;

pub fn is_refused(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// The addresses behind `host:port` to which a check may go; at least one.
pub async fn resolve(target: &str) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = lookup_host(target).await?.filter(|address| !is_refused(address.ip())).collect();
    if addresses.is_empty() {
        return Err(io::Error::other("it has no address, or a link-local one, to which checks do not go"));
    }
    Ok(addresses)
}
