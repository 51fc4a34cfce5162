//! One check of one endpoint: connects, asks, and says what was found.

use std::{fmt::Display, net::SocketAddr, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::{DETAIL_LEN_MAX, grpc, http};
use crate::model::{Endpoint, HealthCheck, Outcome, Probe, Protocol};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    pub outcome: Outcome,
    /// One sentence in printable characters, at most [`DETAIL_LEN_MAX`] bytes.
    pub detail: String,
}

impl Look {
    pub fn passes(detail: impl Display) -> Self {
        Self::new(Outcome::Success, detail)
    }

    /// Answered otherwise than expected, or not at all.
    pub fn wrong(detail: impl Display) -> Self {
        Self::new(Outcome::ServerError, detail)
    }

    /// The check itself did not come to its end.
    pub fn broke(error: &impl Display) -> Self {
        tracing::error!(%error, "a health check broke");
        Self::wrong("the check itself broke, which is the gateway's own fault")
    }

    fn new(outcome: Outcome, detail: impl Display) -> Self {
        let printable = |character: char| if character.is_control() { ' ' } else { character };
        let mut detail: String = detail.to_string().chars().map(printable).collect();
        detail.truncate(detail.floor_char_boundary(DETAIL_LEN_MAX));
        Self { outcome, detail }
    }
}

/// Within the check's timeout. Nothing of it goes on afterwards, the connection neither.
pub async fn look(check: &HealthCheck, protocol: Protocol, endpoint: &Endpoint) -> Look {
    let deadline = Instant::now() + check.timeout;
    let address = SocketAddr::new(endpoint.address.ip(), check.port.unwrap_or(endpoint.address.port()));
    let stream = match timeout_at(deadline, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return Look::new(Outcome::ConnectFailed, format_args!("no connection to {address}: {error}"));
        }
        Err(_) => return late("connection", address, check.timeout),
    };
    let exchange = async {
        // Best effort: without it the question is only later.
        drop(stream.set_nodelay(true));
        let io = TokioIo::new(stream);
        match &check.probe {
            Probe::Tcp => Look::passes("a connection was accepted"),
            Probe::Http { path, headers, statuses, body } => {
                let asked = http::Question { path, headers, statuses, body };
                match protocol {
                    Protocol::Http1 => http::ask_http1(io, &asked, &endpoint.label).await,
                    Protocol::H2 => http::ask_h2(io, &asked, &endpoint.label).await,
                }
            }
            Probe::Grpc { service } => grpc::ask(io, service, &endpoint.label, check.timeout).await,
        }
    };
    timeout_at(deadline, exchange).await.unwrap_or_else(|_| late("answer", address, check.timeout))
}

fn late(what: &str, address: SocketAddr, timeout: Duration) -> Look {
    let timeout = humantime::format_duration(timeout);
    Look::new(Outcome::TimedOut, format_args!("no {what} from {address} within {timeout}"))
}
