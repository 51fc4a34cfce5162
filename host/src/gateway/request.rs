//! A request's whole life.

use std::{
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use http::{HeaderValue, Request, Response, StatusCode, Version, header, request};
use http_body::Body;
use hyper::body::Incoming;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    access::AccessEntry,
    attempt::{self, Attempt, Cause, Failed, Sent},
    body::{BodyError, BodyLimits, EndpointBody, RequestBody, RequestBodyLimits, RequestBodyState, ResponseBody, Tail},
    choice::NotPicked,
    client::{Client, Occupancy},
    deadline::Deadline,
    guard::{Refusal, check_http2},
    headers, hedge,
    outbound::Outbound,
    path::{self, PathError},
    pick::{self, Picked},
    respond::{self, Failure},
    retry::{self, Next},
    router::{self, NoRoute, RouteIndex},
    state::{ServiceState, WorkerState},
    target,
    tunnel::Tunnel,
    upstream::{EndpointLane, H1Connection},
    worker::Worker,
};
use crate::{
    model::{HashOn, Outcome, Protocol, RouteConfig, Slot},
    plugin::{Incoming as Asked, PickRequest},
    telemetry::{RouteCells, trace_context::X_REQUEST_ID},
};

/// One request, from its head to its answer's last byte: every stage of its way, in order.
pub async fn serve_request(client: Rc<Client>, request: Request<Incoming>) -> Response<ResponseBody> {
    let mut exchange = Exchange::begin(client, &request);
    let answer = match forward(&mut exchange, request).await {
        Ok(answer) => answer,
        Err(failure) => exchange.refuse(&failure),
    };
    exchange.answered(answer)
}

async fn forward(exchange: &mut Exchange, request: Request<Incoming>) -> Result<Response<ResponseBody>, Failure> {
    let (mut head, incoming) = request.into_parts();
    let state = exchange.worker().state();
    exchange.check_refused(&state, &head)?;
    let (route, service) = exchange.find_route(&state, &mut head)?;
    let (route, service) = (state.snapshot.router.route(route), &state.services[service]);

    let mut course = Course {
        service,
        pick: exchange.pick_request(&state, route, &head),
        asked: pick::incoming(&head, route),
        attempts: 0,
        fell_back: false,
        deadline: Deadline::new(exchange.started, &service.snapshot.config, &head.headers),
    };
    let upgrade = exchange.prepare(&state, route, service, &mut head)?;
    let mut outbound = exchange.outbound(&state, route, service, head, incoming)?;
    service.snapshot.shared.budget.request(exchange.worker().id);

    loop {
        let tried = match exchange.pick(&mut course, &outbound).await {
            Ok(picked) => exchange.attempt(&mut course, picked, &mut outbound).await,
            Err(failure) => Err(failure),
        };
        match tried {
            Ok(answered) if !answered.has_failed() => {
                return Ok(exchange.pass_on(route, course.service, upgrade, answered));
            }
            failed => match retry::next(exchange, &state, &mut course, &mut outbound, failed).await {
                Next::PassOn(failed) => return Ok(exchange.pass_on(route, course.service, upgrade, (*failed)?)),
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
    pub client: Rc<Client>,
    pub started: Instant,
    pub request_id: HeaderValue,
    tail: Tail,
    pub retries: u32,
    route: Option<(Rc<WorkerState>, RouteIndex)>,
    /// None where the request has none, or was refused before it was looked at.
    body: Option<Rc<RequestBodyState>>,
}

impl Exchange {
    fn begin(client: Rc<Client>, request: &Request<Incoming>) -> Self {
        let started = Instant::now();
        let request_id = client.worker.request_id(request.headers());
        let entry = AccessEntry::begin(&client, request, &request_id, started);
        let tail = Tail { occupancy: client.occupy(), entry };
        Self { client, started, request_id, tail, retries: 0, route: None, body: None }
    }

    pub fn worker(&self) -> &Rc<Worker> {
        &self.client.worker
    }

    /// Whether the guard has refused the head (in HTTP/1, what hyper shows only stands for it).
    fn check_refused(&self, state: &WorkerState, head: &request::Parts) -> Result<(), Failure> {
        let checked = match &self.tail.occupancy {
            Occupancy::Http1(turn) => turn.refusal().map_or(Ok(()), Err),
            Occupancy::Http2(..) => {
                check_http2(&head.method, &head.uri, &head.headers, state.snapshot.limits.header_count_max)
            }
        };
        checked.map_err(|refusal| self.refused(refusal))
    }

    fn refused(&self, refusal: Refusal) -> Failure {
        self.worker().cells.refused(refusal.index());
        Failure::Refused(refusal)
    }

    /// Normalises the path and finds the route and one of its services.
    fn find_route(
        &mut self,
        state: &Rc<WorkerState>,
        head: &mut request::Parts,
    ) -> Result<(RouteIndex, usize), Failure> {
        let router = &state.snapshot.router;
        // Only HTTP/1.0 may leave it out.
        let host = target::authority(head).unwrap_or_default();
        if !head.uri.path().starts_with('/') {
            // `OPTIONS *` is for the server as a whole, which has no route.
            return Err(Failure::NoRoute);
        }
        let normal = path::normalise(head.uri.path(), false)?;
        let index = router.find(host, &normal, &head.method).map_err(|no_route| match no_route {
            NoRoute::NotFound => Failure::NoRoute,
            NoRoute::MethodNotAllowed { allow } => Failure::MethodNotAllowed { allow },
        })?;
        self.route = Some((Rc::clone(state), index));
        let route = router.route(index);
        // A route may read `%2f` as a separator; then what it means must still be within the route.
        let normal = if route.decode_slash { path::normalise(head.uri.path(), true)? } else { normal };
        if route.decode_slash && router.find(host, &normal, &head.method) != Ok(index) {
            return Err(Failure::NoRoute);
        }
        let forwarded = if route.strip_prefix { router::strip_prefix(&route.path, &normal) } else { &normal };
        if forwarded != head.uri.path() {
            head.uri = target::with_path(&head.uri, forwarded)?;
        }
        let service = router.target(index, self.worker().random()).ok_or(Failure::NoRoute)?;
        if let Some(entry) = &mut self.tail.entry {
            entry.routed(&route.path, &state.services[service].snapshot.config.name);
        }
        Ok((index, service))
    }

    fn pick_request(&self, state: &WorkerState, route: &RouteConfig, head: &request::Parts) -> PickRequest {
        let random = self.worker().random();
        let hash = route.hash_on.as_ref().and_then(|on| self.hash(state, on, head)).unwrap_or(random);
        PickRequest { now_us: self.worker().clock.us_of(self.started), random, hash, attempt: 0 }
    }

    fn hash(&self, state: &WorkerState, on: &HashOn, head: &request::Parts) -> Option<u64> {
        match on {
            HashOn::Header(name) => head.headers.get(name).map(|value| xxh3_64(value.as_bytes())),
            HashOn::Cookie(name) => headers::cookie(&head.headers, name).map(|value| xxh3_64(value.as_bytes())),
            HashOn::Query(name) => target::query_value(head.uri.query()?, name).map(|value| xxh3_64(value.as_bytes())),
            HashOn::Path => Some(xxh3_64(head.uri.path().as_bytes())),
            HashOn::ClientAddress => {
                let trusted = &state.snapshot.trusted_proxies;
                let address = headers::believed_address(&head.headers, &self.client.address(trusted), trusted);
                Some(xxh3_64(address.to_string().as_bytes()))
            }
        }
    }

    /// Turns the client's head into the endpoint's. Answers with the protocol that the client asks to change
    /// to, if it does.
    fn prepare(
        &self,
        state: &WorkerState,
        route: &RouteConfig,
        service: &ServiceState,
        head: &mut request::Parts,
    ) -> Result<Option<HeaderValue>, Failure> {
        if headers::goes_in_circles(&head.headers) {
            return Err(Failure::Loop);
        }
        // HTTP/1.0 has none (RFC 9110 §7.8).
        let upgrade = if head.version == Version::HTTP_11 { headers::upgrade_of(&head.headers) } else { None };
        let name = &service.snapshot.config.name;
        let protocol = service.snapshot.config.protocol;
        if upgrade.is_some() && protocol == Protocol::H2 {
            return Err(Failure::Upgrade(name.clone()));
        }
        let host = target::authority(head).and_then(|host| HeaderValue::from_str(host).ok());
        headers::remove_hop_by_hop(&mut head.headers);
        head.headers.remove(header::EXPECT);
        let client = self.client.address(&state.snapshot.trusted_proxies);
        let scheme = self.client.scheme;
        self.worker().with_rng(|rng| {
            headers::add_forwarding(head, &client, host.as_ref(), scheme, &self.request_id, rng);
        });
        // HTTP/1.1 needs a host; where the client named none, the service is what is meant.
        let host = match host {
            Some(host) => host,
            None => HeaderValue::from_str(name.as_str()).map_err(|_| PathError::Unusable)?,
        };
        target::address_to(protocol, head, &host)?;
        headers::edit(&mut head.headers, &route.request_headers);
        if protocol == Protocol::Http1 {
            headers::add_hop_by_hop(&mut head.headers, upgrade.as_ref());
        }
        Ok(upgrade)
    }

    fn outbound(
        &mut self,
        state: &WorkerState,
        route: &RouteConfig,
        service: &ServiceState,
        head: request::Parts,
        incoming: Incoming,
    ) -> Result<Outbound, Failure> {
        let limits = &state.snapshot.limits;
        let is_http2 = matches!(self.tail.occupancy, Occupancy::Http2(..));
        let limits = RequestBodyLimits {
            bytes_max: limits.body_bytes_max,
            read_timeout: is_http2.then_some(limits.body_read_timeout),
        };
        let (body, body_state) = RequestBody::new(incoming, limits);
        if body.size_hint().lower() > limits.bytes_max {
            return Err(Failure::Body(BodyError::TooLarge { limit: limits.bytes_max }));
        }
        if let Some(entry) = &mut self.tail.entry {
            entry.receives(body_state.as_ref());
        }
        self.body.clone_from(&body_state);
        let repeatable = route.repeatable || attempt::is_idempotent(&head);
        let kept_max = service.snapshot.config.retry.body_bytes_max;
        Ok(Outbound::new(head, body, body_state, repeatable, kept_max))
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
            outbound.within(over_at, patience, &self.client.timer, sending).await
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
        &mut self,
        route: &RouteConfig,
        service: &ServiceState,
        upgrade: Option<HeaderValue>,
        Answered { attempt, response, connection }: Answered,
    ) -> Response<ResponseBody> {
        let (mut head, incoming) = response.into_parts();
        let config = &service.snapshot.config;
        if head.headers.contains_key(header::TRANSFER_ENCODING) {
            if headers::has_unknown_coding(&head.headers) {
                attempt.end(Some(Outcome::ServerError));
                return self.refuse(&Failure::Coding(config.name.clone()));
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
                return self.refuse(&Failure::UnaskedUpgrade(config.name.clone()));
            };
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            head.headers.insert(header::UPGRADE, accepted);
            if let Occupancy::Http1(turn) = &self.tail.occupancy {
                turn.grant_upgrade();
            }
            self.client.open_tunnel(Tunnel::new(*connection, attempt, config));
            return Response::from_parts(head, ResponseBody::own(None));
        }
        let limits = BodyLimits { idle_timeout: config.idle_timeout, max_duration: config.max_duration };
        Response::from_parts(head, EndpointBody::carrying(incoming, connection, attempt, limits))
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
            None => &self.client.worker.unrouted,
        }
    }

    fn answered(mut self, mut answer: Response<ResponseBody>) -> Response<ResponseBody> {
        if self.client.closes_after_answer() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let cells = self.route_cells();
        let class = usize::from(answer.status().as_u16() / 100).clamp(1, 5) - 1;
        cells.responses[class].add(1);
        cells.retries.add(u64::from(self.retries));
        cells.latency.record_us(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX));
        if let Some(entry) = &mut self.tail.entry {
            entry.answered(answer.status().as_u16());
        }
        answer.map(|body| body.with_tail(self.tail))
    }
}
