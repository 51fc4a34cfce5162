//! A request's whole life.

use std::{pin::pin, rc::Rc, time::Instant};

use http::{HeaderValue, Request, Response, StatusCode, Version, header, request};
use hyper::body::Incoming;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    access::AccessEntry,
    attempt::{Attempt, Failed},
    body::{BodyError, BodyLimits, EndpointBody, RequestBody, RequestBodyLimits, ResponseBody, Tail},
    client::{Client, Occupancy},
    guard::{Refusal, check_http2},
    headers,
    outbound::Outbound,
    path::{self, PathError},
    pick::{self, Picked},
    respond::{self, Failure},
    router::{self, NoRoute, RouteIndex},
    state::{ServiceState, WorkerState},
    target,
    tunnel::Tunnel,
    upstream::H1Connection,
    worker::Worker,
};
use crate::{
    model::{HashOn, Outcome, Protocol, RouteConfig},
    plugin::PickRequest,
    telemetry::{RouteCells, trace_context::X_REQUEST_ID},
};

/// Attempts for one request, the first included: two endpoints may be lost before a client sees it (nginx's
/// and Envoy's usual `num_retries` is 1 to 2).
const ATTEMPTS_MAX: u32 = 3;

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

    let mut pick_request = exchange.pick_request(&state, route, &head);
    let mut asked = pick::incoming(&head, route);
    let upgrade = exchange.prepare(&state, route, service, &mut head)?;
    let mut outbound = exchange.outbound(&state, head, incoming)?;

    let deadline = exchange.started + service.snapshot.config.timeout;
    loop {
        let picked = pick::pick(exchange.worker(), service, pick_request, &asked)
            .ok_or_else(|| Failure::NoEndpoint(service.snapshot.config.name.clone()))?;
        let slot = picked.lane.endpoint.slot;
        match exchange.attempt(service, picked, &mut outbound, deadline).await {
            Ok((attempt, response, connection)) => {
                return Ok(exchange.pass_on(route, service, upgrade, attempt, response, connection));
            }
            Err(failure) if outbound.is_at_hand() && pick_request.attempt + 1 < ATTEMPTS_MAX => {
                tracing::debug!(%failure, "trying another endpoint");
                exchange.retries += 1;
            }
            Err(failure) => return Err(failure),
        }
        asked.tried.push(slot);
        pick_request.attempt += 1;
        pick_request.random = exchange.worker().random();
        pick_request.now_us = exchange.worker().clock.now_us();
    }
}

/// What is known of a request while it is served.
pub struct Exchange {
    pub client: Rc<Client>,
    pub started: Instant,
    pub request_id: HeaderValue,
    tail: Tail,
    retries: u32,
    route: Option<(Rc<WorkerState>, RouteIndex)>,
}

type Answered = (Attempt, Response<Incoming>, Option<Box<H1Connection>>);

impl Exchange {
    fn begin(client: Rc<Client>, request: &Request<Incoming>) -> Self {
        let started = Instant::now();
        let request_id = client.worker.request_id(request.headers());
        let entry = AccessEntry::begin(&client, request, &request_id, started);
        let tail = Tail { occupancy: client.occupy(), entry };
        Self { client, started, request_id, tail, retries: 0, route: None }
    }

    fn worker(&self) -> &Rc<Worker> {
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

    fn outbound(&mut self, state: &WorkerState, head: request::Parts, incoming: Incoming) -> Result<Outbound, Failure> {
        let limits = &state.snapshot.limits;
        let is_http2 = matches!(self.tail.occupancy, Occupancy::Http2(..));
        let limits = RequestBodyLimits {
            bytes_max: limits.body_bytes_max,
            read_timeout: is_http2.then_some(limits.body_read_timeout),
        };
        let (body, body_state) = RequestBody::new(incoming, limits);
        if http_body::Body::size_hint(&body).lower() > limits.bytes_max {
            return Err(Failure::Body(BodyError::TooLarge { limit: limits.bytes_max }));
        }
        if let Some(entry) = &mut self.tail.entry {
            entry.receives(body_state.as_ref());
        }
        Ok(Outbound::new(head, body, body_state))
    }

    /// One attempt at one endpoint, up to the response head.
    async fn attempt(
        &mut self,
        service: &ServiceState,
        picked: Picked,
        outbound: &mut Outbound,
        deadline: Instant,
    ) -> Result<Answered, Failure> {
        let config = &service.snapshot.config;
        let lane = Rc::clone(&picked.lane);
        let bytes_out = self.tail.entry.as_ref().map(|entry| Rc::clone(entry.bytes_out()));
        if let Some(entry) = &mut self.tail.entry {
            entry.attempted(&lane.endpoint.label.to_string(), picked.version());
        }
        let attempt = Attempt::begin(self.worker(), &config.name, picked, bytes_out);
        let request = outbound.take();
        let result = {
            let sending = pin!(attempt.send(&lane, request));
            outbound.within(deadline.into(), config.timeout, &self.client.timer, sending).await
        };
        let Some(result) = result else {
            attempt.end(Some(Outcome::TimedOut));
            outbound.give_up();
            return Err(Failure::TimedOut { service: config.name.clone(), after: config.timeout });
        };
        match result {
            Ok((response, connection)) => Ok((attempt, response, connection)),
            Err(Failed { cause, unsent }) => {
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
                attempt.end(Some(cause.outcome()));
                let endpoint = lane.endpoint.label.to_string();
                Err(Failure::Attempt { service: config.name.clone(), endpoint, cause, sent })
            }
        }
    }

    /// The endpoint's answer, made fit for the client.
    fn pass_on(
        &mut self,
        route: &RouteConfig,
        service: &ServiceState,
        upgrade: Option<HeaderValue>,
        attempt: Attempt,
        response: Response<Incoming>,
        connection: Option<Box<H1Connection>>,
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
        respond::problem(failure, &self.request_id)
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
