//! A request's whole life.

use std::{
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header, request};
use http_body::Body;
use hyper::body::Incoming;

use super::{
    access::AccessEntry,
    asker::{Asker, Caller},
    attempt::{self, Attempt, Cause, Failed, Sent},
    body::{BodyError, BodyLimits, EndpointBody, GivenBody, RequestBodyState, ResponseBody, Tail},
    choice::NotPicked,
    client::{Client, Occupancy},
    deadline::Deadline,
    headers, hedge,
    outbound::Outbound,
    pick::{self, Picked},
    respond::{self, Failure},
    retry::{self, Next},
    router::RouteIndex,
    state::{ServiceState, WorkerState},
    tunnel::Tunnel,
    upstream::{EndpointLane, H1Connection},
    worker::Worker,
};
use crate::{
    model::{Outcome, RouteConfig, Slot},
    plugin::{Incoming as Asked, PickRequest},
    telemetry::{RouteCells, trace_context::X_REQUEST_ID},
};

/// One request, from its head to its answer's last byte: every stage of its way, in order.
pub async fn serve_request(client: Rc<Client>, request: Request<Incoming>) -> Response<ResponseBody> {
    let mut exchange = Exchange::begin(client, &request);
    let (head, body) = request.into_parts();
    let answer = match forward(&mut exchange, head, GivenBody::Client(body)).await {
        Ok(answer) => answer,
        Err(failure) => exchange.refuse(&failure),
    };
    exchange.answered(answer)
}

/// One call of the gateway's own, up to its answer's head: the same way, from the service on.
pub async fn serve_own(caller: Rc<Caller>, request: Request<Bytes>) -> Result<Response<ResponseBody>, Unanswered> {
    let mut exchange = Exchange::begin_own(caller, &request);
    let (head, body) = request.into_parts();
    let answer = forward(&mut exchange, head, GivenBody::Own(body)).await;
    exchange.answered_to_gateway(answer)
}

async fn forward(
    exchange: &mut Exchange,
    mut head: request::Parts,
    body: GivenBody,
) -> Result<Response<ResponseBody>, Failure> {
    let state = exchange.worker().state();
    exchange.check_refused(&state, &head)?;
    let (route, service) = exchange.find_service(&state, &mut head)?;

    let mut course = Course {
        service,
        pick: exchange.pick_request(&state, route, &head),
        asked: pick::incoming(&head, route),
        attempts: 0,
        fell_back: false,
        deadline: Deadline::new(exchange.started, &service.snapshot.config, &head.headers, exchange.asker.timeout()),
    };
    let upgrade = exchange.prepare(&state, route, service, &mut head)?;
    let mut outbound = exchange.outbound(&state, route, service, head, body)?;
    service.snapshot.shared.budget.request(exchange.worker().id);

    loop {
        let tried = match exchange.pick(&mut course, &outbound).await {
            Ok(picked) => exchange.attempt(&mut course, picked, &mut outbound).await,
            Err(failure) => Err(failure),
        };
        match tried {
            Ok(answered) if !answered.has_failed() => {
                return exchange.pass_on(route, course.service, upgrade, answered);
            }
            failed => match retry::next(exchange, &state, &mut course, &mut outbound, failed).await {
                Next::PassOn(failed) => return exchange.pass_on(route, course.service, upgrade, (*failed)?),
                Next::Again => {}
            },
        }
    }
}

/// Where a request is on its way: which service is to answer it, and what was tried.
pub struct Course<'s> {
    pub service: &'s Rc<ServiceState>,
    pub pick: PickRequest,
    pub asked: Asked,
    /// Made, at this service.
    pub attempts: u32,
    /// Whether this service answers for another.
    pub fell_back: bool,
    pub deadline: Deadline,
}

impl<'s> Course<'s> {
    pub fn last_tried(&self) -> Option<Slot> {
        self.asked.tried.last().copied()
    }

    /// The next attempt.
    pub fn again(&mut self, worker: &Worker) -> Next {
        self.pick.attempt = self.attempts;
        self.pick.random = worker.random();
        self.pick.now_us = worker.clock.now_us();
        Next::Again
    }

    /// The next attempt is at another service.
    pub fn fall_back(&mut self, service: &'s Rc<ServiceState>, worker: &Worker) -> Next {
        self.service = service;
        self.fell_back = true;
        self.attempts = 0;
        self.asked.tried.clear();
        self.again(worker)
    }

    /// There is no room for it.
    pub fn shed(&self) -> Failure {
        let config = &self.service.snapshot.config;
        self.service.snapshot.shared.counts.shed.add(1);
        Failure::Shed(config.name.clone(), config.circuit.retry_after)
    }

    /// When an attempt that begins now is over, and how long it may take after the last of the body.
    pub fn try_times(&self) -> (tokio::time::Instant, Duration) {
        match self.service.snapshot.config.retry.per_try_timeout {
            Some(limit) => (self.deadline.at().min(Instant::now() + limit).into(), limit),
            None => (self.deadline.at().into(), self.deadline.timeout),
        }
    }
}

/// A response head, and what brings the rest.
pub struct Answered {
    pub attempt: Attempt,
    pub response: Response<Incoming>,
    pub connection: Option<Box<H1Connection>>,
}

/// Frames of an answer that nobody wants that are read, so that its connection can be used again: those that have
/// come with the head.
const DISCARDED_FRAMES_MAX: usize = 4;

impl Answered {
    /// Whether it counts against the endpoint, so that another might do better.
    pub fn has_failed(&self) -> bool {
        self.attempt.outcome().is_some_and(Outcome::is_failure)
    }

    /// Another attempt answers. Where the rest of this answer is there already, its connection is kept.
    pub fn discard(self) {
        let Self { attempt, response, mut connection } = self;
        let mut body = response.into_body();
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..DISCARDED_FRAMES_MAX {
            if let Some(connection) = &mut connection {
                connection.drive(&mut cx);
            }
            let polled = if body.is_end_stream() { Poll::Ready(None) } else { Pin::new(&mut body).poll_frame(&mut cx) };
            match polled {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(None) => {
                    if let Some(mut connection) = connection.take() {
                        connection.drive(&mut cx);
                        attempt.keep(connection);
                    }
                    break;
                }
                Poll::Ready(Some(Err(_))) | Poll::Pending => break,
            }
        }
        attempt.end(None);
    }
}

/// What is known of a request while it is served.
pub struct Exchange {
    pub asker: Asker,
    pub started: Instant,
    pub request_id: HeaderValue,
    pub(super) tail: Tail,
    pub retries: u32,
    /// None of the gateway's own, and of what was refused before it was known.
    pub(super) route: Option<(Rc<WorkerState>, RouteIndex)>,
    /// None where the request has none, or was refused before it was looked at.
    pub(super) body: Option<Rc<RequestBodyState>>,
    /// Whether anything of it may have reached an endpoint, in any attempt.
    sent: bool,
}

/// Why a call of the gateway's own has no answer.
pub struct Unanswered {
    pub failure: Failure,
    /// Whether anything of it may have reached an endpoint, in any attempt.
    pub sent: bool,
}

impl Exchange {
    fn begin(client: Rc<Client>, request: &Request<Incoming>) -> Self {
        let started = Instant::now();
        let request_id = client.worker.request_id(request.headers());
        let entry = AccessEntry::begin(&client, request, &request_id, started);
        let tail = Tail { occupancy: client.occupy(), entry };
        Self {
            asker: Asker::Client(client),
            started,
            request_id,
            tail,
            retries: 0,
            route: None,
            body: None,
            sent: false,
        }
    }

    /// The access log is of clients' requests: this is not in it.
    fn begin_own(caller: Rc<Caller>, request: &Request<Bytes>) -> Self {
        let (started, request_id) = (caller.started, caller.worker.request_id(request.headers()));
        let tail = Tail { occupancy: Occupancy::Own, entry: None };
        let asker = Asker::Gateway(caller);
        Self { asker, started, request_id, tail, retries: 0, route: None, body: None, sent: false }
    }

    pub fn worker(&self) -> &Rc<Worker> {
        self.asker.worker()
    }

    /// The endpoint for the next attempt. Waits for one where the service lets requests wait.
    async fn pick(&self, course: &mut Course<'_>, outbound: &Outbound) -> Result<Picked, Failure> {
        match self.pick_now(course, outbound) {
            Err(NotPicked::Full) => Box::pin(self.wait_for_room(course, outbound)).await,
            picked => picked.map_err(|_| Failure::NoEndpoint(course.service.snapshot.config.name.clone())),
        }
    }

    pub fn pick_now(&self, course: &Course<'_>, outbound: &Outbound) -> Result<Picked, NotPicked> {
        let probes = outbound.may_be_repeated() || course.service.snapshot.shared.any_may_probe();
        pick::pick(self.worker(), course.service, course.pick, &course.asked, probes)
    }

    async fn wait_for_room(&self, course: &mut Course<'_>, outbound: &Outbound) -> Result<Picked, Failure> {
        let (config, shared) = (&course.service.snapshot.config, &course.service.snapshot.shared);
        let waiting = shared.wait(config.circuit.pending_max).ok_or_else(|| course.shed())?;
        let until = course.deadline.at().min(Instant::now() + config.circuit.pending_timeout);
        loop {
            // First without waiting: a place may have become free before anybody was told of this request.
            match self.pick_now(course, outbound) {
                Ok(picked) => {
                    // There may be room for more than one of those that wait.
                    shared.free();
                    return Ok(picked);
                }
                Err(NotPicked::Full) => {}
                Err(NotPicked::NoEndpoint) => return Err(Failure::NoEndpoint(config.name.clone())),
            }
            tokio::time::timeout_at(until.into(), waiting.freed()).await.map_err(|_| course.shed())?;
            course.again(self.worker());
        }
    }

    /// One attempt at one endpoint, up to the response head; two, where the policy has a second one sent.
    async fn attempt(
        &mut self,
        course: &mut Course<'_>,
        picked: Picked,
        outbound: &mut Outbound,
    ) -> Result<Answered, Failure> {
        if let Some(after) = hedge::due_after(course, outbound) {
            return Box::pin(hedge::attempt(self, course, picked, outbound, after)).await;
        }
        let lane = Rc::clone(&picked.lane);
        let attempt = self.begin_attempt(course, picked);
        let request = outbound.take(&course.deadline);
        let (over_at, patience) = course.try_times();
        let sent = {
            let sending = pin!(attempt.send(&lane, request, over_at));
            outbound.within(over_at, patience, self.asker.timer(), sending).await
        };
        self.conclude(course, &lane, attempt, sent, outbound)
    }

    pub fn begin_attempt(&mut self, course: &mut Course<'_>, picked: Picked) -> Attempt {
        course.asked.tried.push(picked.lane.endpoint.slot);
        course.attempts += 1;
        let bytes_out = self.tail.entry.as_ref().map(|entry| Rc::clone(entry.bytes_out()));
        if let Some(entry) = &mut self.tail.entry {
            entry.attempted(&picked.lane.endpoint.label.to_string(), picked.version());
        }
        Attempt::begin(self.worker(), &course.service.snapshot.config.name, picked, bytes_out)
    }

    /// What came of an attempt. None: it let its time pass.
    pub fn conclude(
        &mut self,
        course: &Course<'_>,
        lane: &EndpointLane,
        attempt: Attempt,
        sent: Option<Sent>,
        outbound: &mut Outbound,
    ) -> Result<Answered, Failure> {
        let config = &course.service.snapshot.config;
        self.sent |= !matches!(&sent, Some(Err(Failed { unsent: Some(_), .. })));
        let Failed { cause, unsent } = match sent {
            Some(Ok((response, connection))) => return Ok(Answered { attempt, response, connection }),
            Some(Err(failed)) => failed,
            None => match config.retry.per_try_timeout.filter(|_| !course.deadline.remaining().is_zero()) {
                Some(limit) => Failed { cause: Cause::TimedOut(limit), unsent: None },
                None => {
                    let blamed = course.deadline.blames_after(attempt.elapsed());
                    attempt.end(Some(if blamed { Outcome::TimedOut } else { Outcome::Cancelled }));
                    outbound.give_up();
                    return Err(Failure::TimedOut { service: config.name.clone(), after: course.deadline.timeout });
                }
            },
        };
        let sent = unsent.is_none();
        outbound.give_back(unsent);
        if let Some(error) = outbound.body_error() {
            attempt.end(Some(Outcome::Cancelled));
            outbound.give_up();
            return Err(match error {
                BodyError::Refused(refusal) => self.refused(refusal),
                error => Failure::Body(error),
            });
        }
        let had_no_time = cause.outcome() == Outcome::TimedOut
            && course.deadline.remaining() <= attempt::CONNECT_MARGIN
            && !course.deadline.blames_after(attempt.elapsed());
        attempt.end(Some(if had_no_time { Outcome::Cancelled } else { cause.outcome() }));
        let endpoint = lane.endpoint.label.to_string();
        Err(Failure::Attempt { service: config.name.clone(), endpoint, cause, sent })
    }

    /// The endpoint's answer, made fit for the client.
    fn pass_on(
        &self,
        route: &RouteConfig,
        service: &ServiceState,
        upgrade: Option<HeaderValue>,
        Answered { attempt, response, connection }: Answered,
    ) -> Result<Response<ResponseBody>, Failure> {
        let (mut head, incoming) = response.into_parts();
        let config = &service.snapshot.config;
        if head.headers.contains_key(header::TRANSFER_ENCODING) {
            if headers::has_unknown_coding(&head.headers) {
                attempt.end(Some(Outcome::ServerError));
                return Err(Failure::Coding(config.name.clone()));
            }
            // The body's length is not this, and whoever read it so would see two answers (RFC 9112 §6.3).
            head.headers.remove(header::CONTENT_LENGTH);
        }
        let accepted = headers::upgrade_of(&head.headers);
        headers::remove_hop_by_hop(&mut head.headers);
        headers::edit(&mut head.headers, &route.response_headers);
        head.headers.insert(X_REQUEST_ID, self.request_id.clone());
        head.version = Version::HTTP_11;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let (Some(_), Some(accepted), Some(connection)) = (upgrade, accepted, connection) else {
                // Nobody asked: the endpoint broke the protocol.
                attempt.end(Some(Outcome::Reset));
                return Err(Failure::UnaskedUpgrade(config.name.clone()));
            };
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(header::UPGRADE, accepted);
            if let Occupancy::Http1(turn) = &self.tail.occupancy {
                turn.grant_upgrade();
            }
            if let Asker::Client(client) = &self.asker {
                client.open_tunnel(Tunnel::new(*connection, attempt, config));
            }
            return Ok(Response::from_parts(head, ResponseBody::own(None)));
        }
        let limits = BodyLimits { idle_timeout: config.idle_timeout, max_duration: config.max_duration };
        Ok(Response::from_parts(head, EndpointBody::carrying(incoming, connection, attempt, limits)))
    }

    fn refuse(&mut self, failure: &Failure) -> Response<ResponseBody> {
        if let Some(entry) = &mut self.tail.entry {
            entry.failed(failure);
        }
        tracing::debug!(%failure, stage = failure.stage(), "answered by the gateway");
        self.route_cells().gateway_errors.add(1);
        let mut answer = respond::problem(failure, &self.request_id);
        let is_unfinished = self.body.as_ref().is_some_and(|body| body.is_unfinished());
        if is_unfinished && matches!(self.tail.occupancy, Occupancy::Http1(_)) {
            // hyper closes behind it, as what is left of the body stands before the next request: a client that is
            // not told would lose that.
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    fn route_cells(&self) -> &RouteCells {
        match &self.route {
            Some((state, route)) => &state.routes[*route],
            None => &self.worker().unrouted,
        }
    }

    fn count(&self, status: StatusCode) {
        let cells = self.route_cells();
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        cells.responses[class].add(1);
        cells.retries.add(u64::from(self.retries));
        cells.latency.record_us(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX));
    }

    fn answered(mut self, mut answer: Response<ResponseBody>) -> Response<ResponseBody> {
        if self.asker.closes_after_answer() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        self.count(answer.status());
        if let Some(entry) = &mut self.tail.entry {
            entry.answered(answer.status().as_u16());
        }
        answer.map(|body| body.with_tail(self.tail))
    }

    fn answered_to_gateway(
        self,
        answer: Result<Response<ResponseBody>, Failure>,
    ) -> Result<Response<ResponseBody>, Unanswered> {
        match answer {
            Ok(answer) => {
                self.count(answer.status());
                Ok(answer)
            }
            Err(failure) => {
                self.route_cells().gateway_errors.add(1);
                self.count(failure.status());
                Err(Unanswered { failure, sent: self.sent })
            }
        }
    }
}
