//! Endpoints from a Consul catalogue, by blocking queries. Settings: `address` (`host:port` or a URL, one of the
//! plugin's `allow_hosts`), `service` (the gateway's name of the service), `tag`, `datacenter`, `token`, and `passing`
//! (only instances that pass; otherwise all, those in critical state out of traffic).

mod catalogue;

use catalogue::{Query, escaped};
use sluice_sdk::{
    Context, Settings,
    discovery::{Discovery, Membership, WatchError, Watched},
    http::{self, Request},
};

/// How long an answer may take beyond what it was asked to wait. Consul itself waits up to a sixteenth longer.
const PATIENCE_MS: u32 = 5_000;
/// Between two pieces of an answer.
const PIECE_TIMEOUT_MS: u32 = 5_000;

struct Consul {
    base: String,
    query: Query,
    token: String,
}

impl Discovery for Consul {
    fn configure(context: &Context, settings: &mut Settings) -> Self {
        let address = settings.text("address", "127.0.0.1:8500");
        let has_scheme = address.starts_with("http://") || address.starts_with("https://");
        if address.is_empty() || (!has_scheme && address.contains('/')) {
            settings.problem("address", "must be host:port or a URL, such as \"http://consul.internal:8500\"");
        }
        let base = if has_scheme { address } else { format!("http://{address}") };
        let query = Query {
            service: settings.text("service", &context.name),
            tag: settings.text("tag", ""),
            datacenter: settings.text("datacenter", ""),
            passing: settings.boolean("passing", false),
        };
        Self { base: base.trim_end_matches('/').to_owned(), query, token: settings.text("token", "") }
    }

    /// The cursor is Consul's index.
    fn watch(&mut self, cursor: Option<&str>, wait_ms: u32) -> Watched {
        let lost = || WatchError::Lost("the cursor is no index of Consul".to_owned());
        let known = cursor.map(|cursor| cursor.parse::<u64>().map_err(|_| lost())).transpose()?;
        let mut headers = vec![("accept".to_owned(), "application/json".to_owned())];
        if !self.token.is_empty() {
            headers.push(("x-consul-token".to_owned(), self.token.clone()));
        }
        let waited_ms = if known.is_some() { wait_ms } else { 0 };
        let request = Request {
            method: "GET".to_owned(),
            url: format!("{}/v1/health/service/{}", self.base, self.query.in_url(known, waited_ms)),
            headers,
            body: Vec::new(),
            timeout_ms: waited_ms.saturating_add(waited_ms / 16).saturating_add(PATIENCE_MS),
        };
        let response = http::send(&request).map_err(|error| self.failed(&error))?;
        let status = response.status();
        let index = response.header("x-consul-index").and_then(|index| index.parse::<u64>().ok());
        let body = http::body(&response, PIECE_TIMEOUT_MS).map_err(|error| self.failed(&error))?;
        match status {
            200 => {}
            401 | 403 => return Err(WatchError::Refused(self.said(status, &body))),
            _ => return Err(WatchError::Unavailable(self.said(status, &body))),
        }
        let index = index.ok_or_else(|| WatchError::Unavailable(format!("{}: no X-Consul-Index", self.base)))?;
        if known == Some(index) {
            return Ok(None);
        }
        let instances =
            catalogue::instances(&body).map_err(|why| WatchError::Unavailable(format!("{}: {why}", self.base)))?;
        // An index that went backwards, or 0, is asked for as if nothing were known; this answer is whole all the same.
        Ok(Some(Membership { instances, cursor: index.max(1).to_string() }))
    }
}

impl Consul {
    fn failed(&self, error: &http::Error) -> WatchError {
        let sentence = format!("{}: {}", self.base, http::in_words(error));
        match error {
            http::Error::NotAllowed(_) => WatchError::Refused(sentence),
            _ => WatchError::Unavailable(sentence),
        }
    }

    fn said(&self, status: u16, body: &[u8]) -> String {
        let said = String::from_utf8_lossy(body.get(..200).unwrap_or(body)).trim().to_owned();
        format!("{} answers {status} for {}: {said}", self.base, escaped(&self.query.service))
    }
}

sluice_sdk::discovery!(Consul);
