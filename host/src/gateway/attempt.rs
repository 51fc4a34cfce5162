//! One attempt at one endpoint, and the account that is given of it: exactly one completion, whatever happens.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Response};
use hyper::body::Incoming;

use super::{
    body::grpc_status,
    pick::{Picked, Place},
    state::{CompletionQueue, Policy},
    upstream::{ConnectError, Connection, EndpointLane, H1Connection, Outgoing},
    worker::Worker,
};
use crate::{
    model::{Completion, InFlight, Outcome, ServiceName},
    plugin::BalancerInstance,
};

/// Dead connections taken from the pool for one attempt before a new one is made: bounds the walk through a
/// pool that an endpoint's restart has killed whole.
const STALE_MAX: usize = 3;

/// So long before an attempt is over, connecting is given up: then the request is still at hand, and nothing of it was
/// sent.
pub const CONNECT_MARGIN: Duration = Duration::from_millis(2);

/// Counts for the endpoint until it is dropped, and reports itself as cancelled where nobody ended it.
pub struct Attempt {
    worker: Rc<Worker>,
    service: ServiceName,
    /// Given up with the report, so that a stream that goes on for days holds no slot and no instance.
    picked: RefCell<Option<Chosen>>,
    _in_flight: InFlight,
    /// Given up after the request has left the count of those in flight: who waits finds room.
    _place: Option<Place>,
    started: Instant,
    first_byte_us: Cell<u32>,
    outcome: Cell<Option<Outcome>>,
    /// Body bytes that came, where somebody wants to know.
    bytes: Option<Rc<Cell<u64>>>,
}

/// What the report of an attempt needs.
struct Chosen {
    lane: Rc<EndpointLane>,
    balancer: Rc<Policy<BalancerInstance>>,
    completions: Rc<CompletionQueue>,
    by_candidate: bool,
}

/// What came of sending: a response head, or why there is none.
pub type Sent = Result<(Response<Incoming>, Option<Box<H1Connection>>), Failed>;

/// An attempt that brought no response head.
pub struct Failed {
    pub cause: Cause,
    /// The request, where not a byte of it was sent.
    pub unsent: Option<Outgoing>,
}

#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error("cannot connect: {0}")]
    Connect(ConnectError),
    #[error("the connection broke before the answer: {0}")]
    Broke(hyper::Error),
    #[error("no answer within {0:?}, and another endpoint may be tried")]
    TimedOut(Duration),
}

impl Cause {
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::TimedOut(_) | Self::Connect(ConnectError::TimedOut(_)) => Outcome::TimedOut,
            // It says nothing against the endpoint.
            Self::Connect(ConnectError::TooMany(_)) => Outcome::Cancelled,
            Self::Connect(_) => Outcome::ConnectFailed,
            Self::Broke(_) => Outcome::Reset,
        }
    }
}

impl Attempt {
    pub fn begin(worker: &Rc<Worker>, service: &ServiceName, picked: Picked, bytes: Option<Rc<Cell<u64>>>) -> Self {
        picked.arm().cells.attempts.add(1);
        let Picked { lane, balancer, completions, in_flight, place, by_candidate, .. } = picked;
        Self {
            worker: Rc::clone(worker),
            service: service.clone(),
            picked: RefCell::new(Some(Chosen { lane, balancer, completions, by_candidate })),
            _in_flight: in_flight,
            _place: place,
            started: Instant::now(),
            first_byte_us: Cell::new(0),
            outcome: Cell::new(None),
            bytes,
        }
    }

    /// Sends the request and waits for the response head.
    pub async fn send(&self, lane: &EndpointLane, mut request: Outgoing, over_at: tokio::time::Instant) -> Sent {
        for _ in 0..STALE_MAX {
            let Some(connection) = lane.at_hand() else { break };
            match self.send_on(lane, connection, request).await {
                // It came back whole: the connection had died unused, which says nothing of the endpoint.
                Err(Failed { unsent: Some(unsent), .. }) => request = unsent,
                done => return done,
            }
        }
        // Rare, and large: within this future it would be moved about with every request.
        let connecting = Box::pin(tokio::time::timeout_at(over_at - CONNECT_MARGIN, lane.connect()));
        let connected = connecting.await.unwrap_or_else(|_| Err(ConnectError::TimedOut(self.started.elapsed())));
        match connected {
            Ok(connection) => self.send_on(lane, connection, request).await,
            Err(error) => Err(Failed { cause: Cause::Connect(error), unsent: Some(request) }),
        }
    }

    async fn send_on(&self, lane: &EndpointLane, mut connection: Connection, request: Outgoing) -> Sent {
        match connection.send(request).await {
            Ok(response) => {
                self.first_byte_us.set(self.elapsed_us().max(1));
                lane.cells.first_byte.record_us(u64::from(self.first_byte_us.get()));
                let outcome = match grpc_status(response.headers()) {
                    Some(code) => Outcome::of_grpc_status(code),
                    None => Outcome::of_status(response.status().as_u16()),
                };
                self.outcome.set(Some(outcome));
                let connection = match connection {
                    Connection::H1(connection) => Some(connection),
                    Connection::H2(_) => None,
                };
                Ok((response, connection))
            }
            Err(failed) => Err(Failed { cause: Cause::Broke(failed.error), unsent: failed.unsent }),
        }
    }

    /// Gives the connection back to the pool that it came from.
    pub fn keep(&self, connection: Box<H1Connection>) {
        if let Some(picked) = &*self.picked.borrow() {
            picked.lane.keep(connection, self.worker.coarse_now_us());
        }
    }

    /// As the response head said, if one came.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome.get()
    }

    /// When the response head came.
    pub fn head_at(&self) -> tokio::time::Instant {
        (self.started + Duration::from_micros(u64::from(self.first_byte_us.get()))).into()
    }

    /// To within a tick of the worker.
    pub fn coarse_now_us(&self) -> u64 {
        self.worker.coarse_now_us()
    }

    pub fn count(&self, bytes: usize) {
        if let Some(sum) = &self.bytes {
            sum.set(sum.get() + bytes as u64);
        }
    }

    pub fn see_trailers(&self, trailers: &HeaderMap) {
        if let Some(code) = grpc_status(trailers) {
            self.outcome.set(Some(Outcome::of_grpc_status(code)));
        }
    }

    /// Ended: as the response head (or trailers) said, or as `outcome` says.
    pub fn end(self, outcome: Option<Outcome>) {
        self.report(outcome.or(self.outcome.get()));
    }

    /// Still going on after a long time: reported now, and never again.
    pub fn report_ongoing(&self) {
        self.report(self.outcome.get());
    }

    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn elapsed_us(&self) -> u32 {
        u32::try_from(self.started.elapsed().as_micros()).unwrap_or(u32::MAX)
    }

    fn report(&self, outcome: Option<Outcome>) {
        let Some(picked) = self.picked.take() else { return };
        let outcome = outcome.unwrap_or(Outcome::Cancelled);
        let total_us = self.elapsed_us();
        picked.lane.cells.outcomes[outcome as usize].add(1);
        let cells = &picked.balancer.arm(picked.by_candidate).cells;
        if outcome.is_failure() {
            cells.failures.add(1);
        }
        if self.first_byte_us.get() > 0 {
            cells.latency.record_us(u64::from(self.first_byte_us.get()));
        }
        let completion = Completion {
            slot: picked.lane.endpoint.slot,
            outcome,
            at_us: self.worker.clock.us_of(self.started) + u64::from(total_us),
            first_byte_us: self.first_byte_us.get(),
            total_us,
            load_permille: None,
        };
        self.worker.complete(&self.service, &picked.completions, completion, &picked.lane.endpoint);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // Nobody ended it: the client went away.
        self.report(Some(Outcome::Cancelled));
    }
}
