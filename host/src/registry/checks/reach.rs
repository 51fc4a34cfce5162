//! Where checks may go: anywhere but to addresses at which clouds hand out credentials.

use std::{io, net::SocketAddr};

use tokio::net::lookup_host;

use crate::model::reach::hands_out_credentials;

/// The addresses behind `host:port` to which a check may go; at least one.
pub async fn resolve(target: &str) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = lookup_host(target).await?.filter(|address| !hands_out_credentials(address.ip())).collect();
    if addresses.is_empty() {
        return Err(io::Error::other(
            "it has no address, or one that is link-local or a cloud's metadata service, to which checks do not go",
        ));
    }
    Ok(addresses)
}
