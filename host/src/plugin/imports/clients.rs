//! The ways out: connections to hosts that are granted, at addresses that are right.
//!
//! A grant is for a name, and a name means whatever its owner says: so the address is checked too, by the resolver
//! that the connection itself uses. Never reached are link-local addresses and clouds' metadata
//! services, and the gateway's own control port.

use std::{
    error::Error,
    fmt,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, OnceLock},
    time::Duration,
};

use hickory_resolver::TokioResolver;
use reqwest::{
    Client, ClientBuilder, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};

use super::OutsideError;
use crate::model::reach::hands_out_credentials;

/// To an established connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Of a connection that nobody uses.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Idle connections kept to one host: as many as a coordinator with hundreds of transactions under way uses at once, so
/// that no call has to connect anew.
const IDLE_PER_HOST_MAX: usize = 512;

/// The two ways out: for the control listener's port, and for all others.
pub struct Clients {
    resolver: TokioResolver,
    control: SocketAddr,
    /// Made when the first plugin needs them; an error is what to say to it.
    any: OnceLock<Result<Client, String>>,
    not_local: OnceLock<Result<Client, String>>,
}

impl Clients {
    pub fn new(resolver: TokioResolver, control: SocketAddr) -> Self {
        Self { resolver, control, any: OnceLock::new(), not_local: OnceLock::new() }
    }

    /// The client for `url`, if its address is not one that is never reached.
    pub fn for_url(&self, url: &Url) -> Result<&Client, OutsideError> {
        let (host, port) = host_and_port(url);
        let local_refused = port == self.control.port();
        let rule = AddressRule { local_refused };
        if let Ok(address) = host.parse::<IpAddr>() {
            rule.check(address).map_err(|refused| OutsideError::NotAllowed(refused.to_string()))?;
        }
        let client = if local_refused { &self.not_local } else { &self.any };
        let made = client.get_or_init(|| self.client(rule).map_err(|error| error.to_string()));
        made.as_ref().map_err(|error| OutsideError::NotConnected(format!("there is no HTTP client: {error}")))
    }

    fn client(&self, rule: AddressRule) -> reqwest::Result<Client> {
        // Whoever installed one before has the same right; the second call changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            ClientBuilder::new()
                .redirect(redirect::Policy::none())
                .no_proxy()
                .referer(false)
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(IDLE_PER_HOST_MAX)
                .dns_resolver(Arc::new(Checked { resolver: self.resolver.clone(), rule }))
        };
        // A machine without root certificates can still be asked over plain HTTP.
        builder().build().or_else(|_| builder().tls_certs_only([]).build())
    }
}

/// As grants have them: an IPv6 address without brackets.
pub fn host_and_port(url: &Url) -> (&str, u16) {
    (url.host_str().unwrap_or_default().trim_matches(['[', ']']), url.port_or_known_default().unwrap_or_default())
}

/// What lies behind an error.
pub enum Behind {
    /// The address is never reached.
    Refused(String),
    /// The answer is not HTTP.
    NoHttp(String),
    Other(String),
}

impl Behind {
    pub fn of(error: &reqwest::Error) -> Self {
        let mut cause: &dyn Error = error;
        while let Some(source) = cause.source() {
            if let Some(refused) = source.downcast_ref::<AddressRefused>() {
                return Self::Refused(refused.to_string());
            }
            if source.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
                return Self::NoHttp(source.to_string());
            }
            cause = source;
        }
        Self::Other(if std::ptr::addr_eq(cause, error) { error.to_string() } else { cause.to_string() })
    }
}

/// Which addresses are never reached.
#[derive(Clone, Copy)]
struct AddressRule {
    /// Whether this machine's own addresses are refused too.
    local_refused: bool,
}

impl AddressRule {
    fn check(self, address: IpAddr) -> Result<(), AddressRefused> {
        let address = address.to_canonical();
        if hands_out_credentials(address) {
            let why = "is link-local or a cloud's metadata service, which is never reached";
            return Err(AddressRefused { address, why });
        }
        if self.local_refused && is_local(address) {
            let why = "has the gateway's own control listener on this port, which is never reached";
            return Err(AddressRefused { address, why });
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
struct AddressRefused {
    address: IpAddr,
    why: &'static str,
}

impl fmt::Display for AddressRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.address, self.why)
    }
}

impl Error for AddressRefused {}

/// Whether a connection to it ends on this machine: only such an address can be bound.
fn is_local(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified() || UdpSocket::bind((address, 0)).is_ok()
}

/// Resolves names for connections, and leaves out what the rule refuses.
struct Checked {
    resolver: TokioResolver,
    rule: AddressRule,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (resolver, rule) = (self.resolver.clone(), self.rule);
        Box::pin(async move {
            let found = resolver.lookup_ip(name.as_str()).await?;
            let mut refused = None;
            let mut right = Vec::new();
            for address in found.iter() {
                match rule.check(address) {
                    Ok(()) => right.push(SocketAddr::new(address, 0)),
                    Err(error) => refused = Some(error),
                }
            }
            match refused {
                Some(error) if right.is_empty() => Err(error.into()),
                _ => Ok(Box::new(right.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_is_never_reached_and_the_control_port_not_by_any_local_address() {
        let check = |local_refused, address: &str| {
            AddressRule { local_refused }.check(address.parse().expect("an address")).is_ok()
        };
        for address in ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "fd00:ec2::254", "64:ff9b::a9fe:a9fe"] {
            assert!(!check(false, address), "{address}");
        }
        for address in ["127.0.0.1", "127.0.0.2", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1"] {
            assert!(check(false, address), "{address}");
            assert!(!check(true, address), "{address}");
        }
        assert!(check(true, "192.0.2.1"), "another machine's port of the same number");
    }
}
