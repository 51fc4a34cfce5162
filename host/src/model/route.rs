//! What the configuration says of a route.

use http::{HeaderName, HeaderValue, Method};

use super::{ServiceName, Weight};

#[derive(Clone, Debug, PartialEq)]
pub struct RouteConfig {
    /// Lower case, without port; `*.example.com` matches one or more labels; none matches every host.
    pub host: Option<String>,
    /// A prefix of the normalised path; begins with `/`. `/orders/` matches `/orders` too; `/orders`
    /// matches `/orders` and `/orders/…`, not `/ordersx`.
    pub path: String,
    /// Empty: every method.
    pub methods: Vec<Method>,
    /// At least one.
    pub targets: Vec<RouteTarget>,
    /// Whether `path` is taken off before forwarding.
    pub strip_prefix: bool,
    pub request_headers: HeaderEdits,
    pub response_headers: HeaderEdits,
    pub hash_on: Option<HashOn>,
    /// Headers that a balancer may ask for.
    pub expose: Vec<HeaderName>,
    /// Whether `%2f` in a path is decoded to a separator before routing. Off: it stays as it is.
    pub decode_slash: bool,
    /// Whether its requests may be sent a second time whatever their method. Off: idempotent ones (RFC 9110 §9.2.2), and
    /// those of which nothing was sent.
    pub repeatable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTarget {
    pub service: ServiceName,
    pub weight: Weight,
}

/// Removed first, then set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderEdits {
    pub set: Vec<(HeaderName, HeaderValue)>,
    pub remove: Vec<HeaderName>,
}

/// What of a request is hashed for `request.hash`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    Header(HeaderName),
    Cookie(String),
    Query(String),
    /// The client's address after `trusted_proxies`, without port.
    ClientAddress,
    /// The normalised path.
    Path,
}
