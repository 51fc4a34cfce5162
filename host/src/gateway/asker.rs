//! Who asks: a client, on a connection of its own, or the gateway itself.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use http::Method;

use super::{client::Client, headers::ClientAddress, timer::KeptTimer, worker::Worker};
use crate::model::{RouteConfig, ServiceName, is_idempotent};

#[derive(Clone)]
pub enum Asker {
    Client(Rc<Client>),
    Gateway(Rc<Caller>),
}

/// What a call of the gateway's own has instead of a client.
pub struct Caller {
    pub worker: Rc<Worker>,
    pub service: ServiceName,
    /// When it was made: it may have waited for its turn.
    pub started: Instant,
    pub timeout: Duration,
    pub repeatable: bool,
    pub timer: KeptTimer,
}

impl Asker {
    pub fn worker(&self) -> &Rc<Worker> {
        match self {
            Self::Client(client) => &client.worker,
            Self::Gateway(caller) => &caller.worker,
        }
    }

    /// Of the time limits.
    pub fn timer(&self) -> &KeptTimer {
        match self {
            Self::Client(client) => &client.timer,
            Self::Gateway(caller) => &caller.timer,
        }
    }

    /// How long the gateway itself waits. Of a client that stands in its request, if anywhere.
    pub fn timeout(&self) -> Option<Duration> {
        match self {
            Self::Client(_) => None,
            Self::Gateway(caller) => Some(caller.timeout),
        }
    }

    pub fn client_address(&self, trusted: &[ipnet::IpNet]) -> Option<ClientAddress> {
        match self {
            Self::Client(client) => Some(client.address(trusted)),
            Self::Gateway(_) => None,
        }
    }

    /// Whether the request may be sent a second time although the first may have arrived.
    pub fn may_repeat(&self, route: &RouteConfig, method: &Method) -> bool {
        match self {
            Self::Client(_) => route.repeatable || is_idempotent(method),
            Self::Gateway(caller) => caller.repeatable,
        }
    }

    /// Whether an HTTP/1 client has to be told that its request was the last on this connection.
    pub fn closes_after_answer(&self) -> bool {
        match self {
            Self::Client(client) => client.closes_after_answer(),
            Self::Gateway(_) => false,
        }
    }
}
