//! A request is answered with 2xx.

use std::{net::SocketAddr, sync::OnceLock, time::Duration};

use reqwest::{
    Client, Method, Response, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect::{Attempt, Policy},
};

use super::{OUTPUT_BYTES_MAX, reach};
use crate::{
    model::reach::hands_out_credentials,
    registry::{instance::CheckStatus, registration::HttpCheck},
};

/// Redirections followed; a check that needs more goes in circles.
const REDIRECTS_MAX: usize = 5;
/// Connections are not kept: a check shall find out whether a new one is accepted.
const IDLE_CONNECTIONS: usize = 0;
/// Of connecting alone; the check's own timeout is for everything.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Made when first needed: most gateways have no HTTP checks.
#[derive(Debug, Default)]
pub struct HttpClients {
    clients: [OnceLock<Result<Client, String>>; 4],
}

impl HttpClients {
    pub fn of(&self, check: &HttpCheck) -> Result<&Client, String> {
        let (unverified, direct) = (check.tls_skip_verify, check.disable_redirects);
        let at = usize::from(unverified) * 2 + usize::from(direct);
        self.clients[at].get_or_init(|| client(unverified, direct)).as_ref().map_err(Clone::clone)
    }
}

fn client(unverified: bool, direct: bool) -> Result<Client, String> {
    // Another part of the process may have been first, with the same one.
    drop(rustls::crypto::ring::default_provider().install_default());
    let builder = || {
        Client::builder()
            .no_proxy()
            .dns_resolver(Reachable)
            .redirect(if direct { Policy::none() } else { Policy::custom(redirect) })
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .user_agent(concat!("sluice-check/", env!("CARGO_PKG_VERSION")))
    };
    if unverified {
        return builder().tls_danger_accept_invalid_certs(true).build().map_err(|error| error.to_string());
    }
    // A machine without certificates of authorities has checks over plain HTTP all the same.
    let without_authorities = || builder().tls_certs_only([]).build();
    builder().build().or_else(|_| without_authorities()).map_err(|error| error.to_string())
}

/// `client`: of this check, or why there is none.
pub async fn look(check: &HttpCheck, client: Result<&Client, String>) -> (CheckStatus, String) {
    let asked = match client {
        Ok(client) => ask(check, client).await,
        Err(why) => Err(why),
    };
    match asked {
        Ok((status, output)) => {
            let found = match status {
                status if status.is_success() => CheckStatus::Passing,
                StatusCode::TOO_MANY_REQUESTS => CheckStatus::Warning,
                _ => CheckStatus::Critical,
            };
            (found, format!("HTTP {} {}: {status} Output: {output}", check.method, check.url))
        }
        Err(why) => (CheckStatus::Critical, format!("HTTP {} {}: {why}", check.method, check.url)),
    }
}

async fn ask(check: &HttpCheck, client: &Client) -> Result<(StatusCode, String), String> {
    let url: Url = check.url.parse().map_err(|_| "is no URL".to_owned())?;
    if is_refused(&url) {
        return Err("a link-local address or a cloud's metadata service, to which checks do not go".to_owned());
    }
    let method: Method = check.method.parse().map_err(|_| "is no method".to_owned())?;
    let mut headers = HeaderMap::new();
    for (name, value) in &check.headers {
        // Both were checked when they were registered.
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    let request = client.request(method, url).headers(headers).body(check.body.clone());
    let answer = request.send().await.map_err(|error| in_full(&error))?;
    Ok((answer.status(), text_of(answer).await))
}

/// As much of the body as is kept; what comes after is not read.
async fn text_of(mut answer: Response) -> String {
    let mut body = Vec::new();
    while body.len() < OUTPUT_BYTES_MAX
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        body.extend_from_slice(&chunk[..chunk.len().min(OUTPUT_BYTES_MAX - body.len())]);
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// reqwest's own words only name the step that failed.
fn in_full(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    if is_refused(attempt.url()) {
        return attempt
            .error("redirected to a link-local address or a cloud's metadata service, to which checks do not go");
    }
    if attempt.previous().len() > REDIRECTS_MAX { attempt.error("too many redirections") } else { attempt.follow() }
}

/// Addresses written as such; names are looked at when they are resolved.
fn is_refused(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    host.trim_matches(['[', ']']).parse().is_ok_and(hands_out_credentials)
}

/// Resolves names to addresses to which checks may go.
struct Reachable;

impl Resolve for Reachable {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The port is put in by the client.
            let addresses: Vec<SocketAddr> = reach::resolve(&format!("{}:0", name.as_str())).await?;
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}
