//! What a plugin may reach outside of the gateway.

use std::{path::PathBuf, str::FromStr};

use super::ServiceName;

/// `allow_hosts`, `allow_services`, `allow_names` and `allow_files` of `[plugins.NAME]`. Nothing is granted where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    pub hosts: Vec<HostGrant>,
    /// Of the gateway's own.
    pub services: Vec<ServiceName>,
    pub names: Vec<NameGrant>,
    pub files: Vec<FileGrant>,
}

impl Grants {
    /// `host` without the brackets of an IPv6 address.
    pub fn allows_host(&self, host: &str, port: u16) -> bool {
        self.hosts.iter().any(|grant| grant.allows(host, port))
    }

    pub fn allows_name(&self, name: &str) -> bool {
        let name = plain(name);
        self.names.iter().any(|grant| match grant {
            NameGrant::Exact(granted) => **granted == name,
            NameGrant::Below(granted) => name.strip_suffix(&**granted).is_some_and(|rest| rest.ends_with('.')),
        })
    }

    /// The file that a guest means by `path`: as the configuration wrote it, or in full.
    pub fn file(&self, path: &str) -> Option<&PathBuf> {
        let grant = self.files.iter().find(|grant| *grant.written == *path || grant.path.to_str() == Some(path))?;
        Some(&grant.path)
    }
}

/// A host, and a port if only that one is granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostGrant {
    /// In lower case; an IPv6 address without brackets.
    host: Box<str>,
    port: Option<u16>,
}

impl HostGrant {
    /// `host` without the brackets of an IPv6 address.
    pub fn allows(&self, host: &str, port: u16) -> bool {
        *self.host == plain(host) && self.port.is_none_or(|granted| granted == port)
    }
}

/// A name, or all names below one: `*.internal`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NameGrant {
    Exact(Box<str>),
    Below(Box<str>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileGrant {
    pub written: Box<str>,
    pub path: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?}: must be {1}")]
pub struct GrantError(String, &'static str);

impl FromStr for HostGrant {
    type Err = GrantError;

    fn from_str(given: &str) -> Result<Self, GrantError> {
        let wrong =
            || GrantError(given.to_owned(), "host:port or a host, such as \"10.0.0.5:8500\" or \"consul.internal\"");
        if let Ok(address) = given.parse::<super::HostPort>() {
            return Ok(Self { host: plain(address.host()).into(), port: Some(address.port()) });
        }
        let inner = given.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = inner.unwrap_or(given);
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        // With any port it is an address.
        format!("{bracketed}:1").parse::<super::HostPort>().map_err(|_| wrong())?;
        Ok(Self { host: plain(host).into(), port: None })
    }
}

impl FromStr for NameGrant {
    type Err = GrantError;

    fn from_str(given: &str) -> Result<Self, GrantError> {
        let wrong = || GrantError(given.to_owned(), "a name, such as \"orders.internal\" or \"*.internal\"");
        let (below, name) = given.strip_prefix("*.").map_or((false, given), |name| (true, name));
        format!("{name}:1").parse::<super::HostPort>().map_err(|_| wrong())?;
        let name: Box<str> = plain(name).into();
        Ok(if below { Self::Below(name) } else { Self::Exact(name) })
    }
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_granted_with_its_port_or_with_every_port() {
        let hosts = ["10.0.0.5:8500", "Consul.Internal", "[::1]:2379"].map(|host| host.parse().expect("a grant"));
        let grants = Grants { hosts: hosts.into(), ..Grants::default() };
        assert!(grants.allows_host("10.0.0.5", 8500) && !grants.allows_host("10.0.0.5", 8501));
        assert!(grants.allows_host("consul.internal.", 1) && !grants.allows_host("internal", 1));
        assert!(grants.allows_host("::1", 2379) && !grants.allows_host("::1", 80));
        for wrong in ["", "a b", "host:0", "host:99999", "http://host", "host/path", "[::1"] {
            assert!(wrong.parse::<HostGrant>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_star_grants_what_stands_below_and_not_the_name_itself() {
        let names = ["orders.internal", "*.svc.local"].map(|name| name.parse().expect("a grant"));
        let grants = Grants { names: names.into(), ..Grants::default() };
        assert!(grants.allows_name("ORDERS.internal.") && grants.allows_name("_http._tcp.svc.local"));
        assert!(
            !grants.allows_name("svc.local") && !grants.allows_name("xsvc.local") && !grants.allows_name("a.internal")
        );
    }
}
