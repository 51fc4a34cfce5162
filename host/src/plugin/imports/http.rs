//! The `http` import: hosts of `allow_hosts`, responses read piece by piece.
//!
//! A grant is for a name, and a name means whatever its owner says: so the address is checked too, by the resolver
//! that the connection itself uses. Never reached are link-local addresses and clouds' metadata
//! services, and the gateway's own control port.

use std::{
    fmt,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::{Arc, OnceLock},
    time::Duration,
};

use ::http::{HeaderName, HeaderValue, Method};
use bytes::Bytes;
use hickory_resolver::TokioResolver;
use reqwest::{
    Client, ClientBuilder, Response, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use wasmtime::component::Resource;

use super::State;
use crate::{
    model::reach::hands_out_credentials,
    plugin::bindings::discovery::sluice::plugin::http::{self, Error, Request},
};

/// Responses that one instance may have open: a watch, and what it asks beside it.
const RESPONSES_MAX: usize = 8;

/// Of one piece of a body, whatever the guest asks for.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// To an established connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Of a connection that nobody uses.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

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
    fn for_url(&self, host: &str, port: u16) -> Result<&Client, Error> {
        let local_refused = port == self.control.port();
        let rule = AddressRule { local_refused };
        if let Ok(address) = host.parse::<IpAddr>() {
            rule.check(address).map_err(|refused| Error::NotAllowed(refused.to_string()))?;
        }
        let client = if local_refused { &self.not_local } else { &self.any };
        let made = client.get_or_init(|| self.client(rule).map_err(|error| error.to_string()));
        made.as_ref().map_err(|error| Error::Unreachable(format!("there is no HTTP client: {error}")))
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
                .pool_max_idle_per_host(RESPONSES_MAX)
                .dns_resolver(Arc::new(Checked { resolver: self.resolver.clone(), rule }))
        };
        // A machine without root certificates can still be asked over plain HTTP.
        builder().build().or_else(|_| builder().tls_certs_only([]).build())
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
            let why = "is link-local or a cloud's metadata service, which no plugin may reach";
            return Err(AddressRefused { address, why });
        }
        if self.local_refused && is_local(address) {
            let why = "has the gateway's own control listener on this port, which no plugin may reach";
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

impl std::error::Error for AddressRefused {}

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

/// A response whose body is read as the guest asks for it.
pub struct OpenResponse {
    response: Response,
    /// What came and was not asked for yet.
    rest: Bytes,
}

impl http::Host for State {
    async fn send(&mut self, request: Request) -> Result<Resource<OpenResponse>, Error> {
        let Some(outside) = self.imports.outside.clone() else {
            return Err(Error::NotAllowed("nothing is reached while a plugin is tried".to_owned()));
        };
        let url = self.granted_url(&request.url)?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default().unwrap_or_default();
        if self.imports.open_responses >= RESPONSES_MAX {
            let sentence = format!("more than {RESPONSES_MAX} responses would be open; drop one first");
            return Err(Error::NotAllowed(sentence));
        }
        let sent = async {
            let client = outside.http.for_url(&host, port)?;
            send(client, url.clone(), request).await
        };
        match sent.await {
            Ok(response) => {
                let open = self.imports.table.push(OpenResponse { response, rest: Bytes::new() });
                let open = open.map_err(|error| Error::Unreachable(error.to_string()))?;
                self.imports.open_responses += 1;
                Ok(open)
            }
            Err(Error::NotAllowed(why)) => Err(Error::NotAllowed(self.imports.refuse(format_args!("{url}: {why}")))),
            Err(other) => Err(other),
        }
    }
}

impl State {
    fn granted_url(&mut self, given: &str) -> Result<Url, Error> {
        let url = match Url::parse(given) {
            Ok(url) => url,
            Err(error) => return Err(Error::NotAllowed(format!("{given:?} is no URL: {error}"))),
        };
        let why = match url.scheme() {
            "http" | "https" => {
                let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
                let port = url.port_or_known_default().unwrap_or_default();
                if self.imports.grants.allows_host(host, port) {
                    return Ok(url);
                }
                format!("{host}:{port} is not among allow_hosts")
            }
            "service" => "calls through the gateway itself are not available to this kind of plugin".to_owned(),
            other => format!("the scheme {other:?} is none of http and https"),
        };
        Err(Error::NotAllowed(self.imports.refuse(format_args!("{given}: {why}"))))
    }
}

async fn send(client: &Client, url: Url, given: Request) -> Result<Response, Error> {
    let Request { method, headers, body, timeout_ms, url: _ } = given;
    let unfit = |what: &dyn fmt::Display| Error::Unreachable(format!("{what} cannot be sent"));
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| unfit(&format_args!("method {method:?}")))?;
    let mut request = client.request(method, url);
    for (name, value) in headers {
        let field = HeaderName::from_bytes(name.as_bytes()).ok().zip(HeaderValue::from_str(&value).ok());
        let (name, value) = field.ok_or_else(|| unfit(&format_args!("header {name:?}")))?;
        request = request.header(name, value);
    }
    let head = request.body(body).send();
    let head = match timeout_ms {
        0 => head.await,
        ms => tokio::time::timeout(Duration::from_millis(ms.into()), head).await.map_err(|_| Error::TimedOut)?,
    };
    head.map_err(|error| explained(&error))
}

fn explained(error: &reqwest::Error) -> Error {
    if error.is_timeout() {
        return Error::TimedOut;
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        if let Some(refused) = source.downcast_ref::<AddressRefused>() {
            return Error::NotAllowed(refused.to_string());
        }
        if source.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse) {
            return Error::Malformed(source.to_string());
        }
        cause = source;
    }
    Error::Unreachable(if std::ptr::addr_eq(cause, error) { error.to_string() } else { cause.to_string() })
}

impl http::HostResponse for State {
    fn status(&mut self, open: Resource<OpenResponse>) -> wasmtime::Result<u16> {
        Ok(self.imports.table.get(&open)?.response.status().as_u16())
    }

    fn header(&mut self, open: Resource<OpenResponse>, name: String) -> wasmtime::Result<Option<String>> {
        let headers = self.imports.table.get(&open)?.response.headers();
        Ok(headers.get(&name).and_then(|value| value.to_str().ok()).map(str::to_owned))
    }

    async fn read(
        &mut self,
        open: Resource<OpenResponse>,
        max_bytes: u32,
        timeout_ms: u32,
    ) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        let OpenResponse { response, rest } = self.imports.table.get_mut(&open)?;
        while rest.is_empty() {
            let next = tokio::time::timeout(Duration::from_millis(timeout_ms.into()), response.chunk()).await;
            *rest = match next {
                Err(_) => return Ok(Err(Error::TimedOut)),
                Ok(Err(error)) => return Ok(Err(explained(&error))),
                Ok(Ok(None)) => return Ok(Ok(None)),
                Ok(Ok(Some(bytes))) => bytes,
            };
        }
        let wanted = usize::try_from(max_bytes).unwrap_or(PIECE_BYTES_MAX).clamp(1, PIECE_BYTES_MAX);
        let piece = rest.split_to(wanted.min(rest.len()));
        Ok(Ok(Some(piece.to_vec())))
    }

    fn drop(&mut self, open: Resource<OpenResponse>) -> wasmtime::Result<()> {
        self.imports.table.delete(open)?;
        self.imports.open_responses -= 1;
        Ok(())
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
