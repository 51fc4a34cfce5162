//! How a request comes in: from a client, through a route, or from the gateway itself, to a service. What is different
//! between the two is here, and nowhere behind it.

use std::rc::Rc;

use http::{HeaderValue, Version, header, request};
use http_body::Body;
use hyper::body::Incoming;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    asker::Asker,
    body::{BodyError, GivenBody, RequestBody, RequestBodyLimits},
    client::Occupancy,
    guard::{Refusal, check_http2},
    headers,
    outbound::Outbound,
    path::{self, PathError},
    request::Exchange,
    respond::Failure,
    router::{self, NoRoute},
    state::{ServiceState, WorkerState},
    target,
};
use crate::{
    model::{HashOn, HeaderEdits, Protocol, RouteConfig},
    plugin::PickRequest,
};

/// What holds for calls of the gateway's own, which have none: nothing is changed, hashed or shown.
static NO_ROUTE: RouteConfig = RouteConfig {
    host: None,
    path: String::new(),
    methods: Vec::new(),
    targets: Vec::new(),
    strip_prefix: false,
    request_headers: HeaderEdits { set: Vec::new(), remove: Vec::new() },
    response_headers: HeaderEdits { set: Vec::new(), remove: Vec::new() },
    hash_on: None,
    expose: Vec::new(),
    decode_slash: false,
    repeatable: false,
};

impl Exchange {
    /// Whether the guard has refused the head (in HTTP/1, what hyper shows only stands for it).
    pub(super) fn check_refused(&self, state: &WorkerState, head: &request::Parts) -> Result<(), Failure> {
        let checked = match &self.tail.occupancy {
            Occupancy::Http1(turn) => turn.refusal().map_or(Ok(()), Err),
            Occupancy::Http2(..) => {
                check_http2(&head.method, &head.uri, &head.headers, state.snapshot.limits.header_count_max)
            }
            Occupancy::Own => Ok(()),
        };
        checked.map_err(|refusal| self.refused(refusal))
    }

    pub(super) fn refused(&self, refusal: Refusal) -> Failure {
        self.worker().cells.refused(refusal.index());
        Failure::Refused(refusal)
    }

    /// The service that is asked for, and what its route says. A call of the gateway's own names it, and has no route.
    pub(super) fn find_service<'s>(
        &mut self,
        state: &'s Rc<WorkerState>,
        head: &mut request::Parts,
    ) -> Result<(&'s RouteConfig, &'s Rc<ServiceState>), Failure> {
        match &self.asker {
            Asker::Client(_) => self.find_route(state, head),
            Asker::Gateway(caller) => {
                let service = state.service(&caller.service);
                let service = service.ok_or_else(|| Failure::NoService(caller.service.clone()))?;
                Ok((&NO_ROUTE, service))
            }
        }
    }

    /// Normalises the path and finds the route and one of its services.
    fn find_route<'s>(
        &mut self,
        state: &'s Rc<WorkerState>,
        head: &mut request::Parts,
    ) -> Result<(&'s RouteConfig, &'s Rc<ServiceState>), Failure> {
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
        let service = &state.services[service];
        if let Some(entry) = &mut self.tail.entry {
            entry.routed(&route.path, &service.snapshot.config.name);
        }
        Ok((route, service))
    }

    pub(super) fn pick_request(&self, state: &WorkerState, route: &RouteConfig, head: &request::Parts) -> PickRequest {
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
                let client = self.asker.client_address(trusted)?;
                let address = headers::believed_address(&head.headers, &client, trusted);
                Some(xxh3_64(address.to_string().as_bytes()))
            }
        }
    }

    /// Turns the head as it came into the endpoint's. Answers with the protocol that the client asks to change to, if it
    /// does.
    pub(super) fn prepare(
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
        match &self.asker {
            Asker::Client(client) => {
                let address = client.address(&state.snapshot.trusted_proxies);
                headers::add_client(&mut head.headers, &address, host.as_ref(), client.scheme);
            }
            // There is no client, and nobody is believed who says that there was one.
            Asker::Gateway(_) => headers::remove_claims(&mut head.headers),
        }
        self.worker().with_rng(|rng| headers::add_hop(head, &self.request_id, rng));
        // HTTP/1.1 needs a host; where nobody named one, the service is what is meant.
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

    pub(super) fn outbound(
        &mut self,
        state: &WorkerState,
        route: &RouteConfig,
        service: &ServiceState,
        head: request::Parts,
        body: GivenBody,
    ) -> Result<Outbound, Failure> {
        let kept_max = service.snapshot.config.retry.body_bytes_max;
        let repeatable = self.asker.may_repeat(route, &head.method);
        let body = match body {
            GivenBody::Client(incoming) => self.client_body(state, incoming)?,
            GivenBody::Own(bytes) => RequestBody::own(bytes),
        };
        Ok(Outbound::new(head, body, self.body.clone(), repeatable, kept_max))
    }

    fn client_body(&mut self, state: &WorkerState, incoming: Incoming) -> Result<RequestBody, Failure> {
        let limits = &state.snapshot.limits;
        let is_http2 = matches!(self.tail.occupancy, Occupancy::Http2(..));
        let limits = RequestBodyLimits {
            bytes_max: limits.body_bytes_max,
            read_timeout: is_http2.then_some(limits.body_read_timeout),
        };
        let (body, body_state) = RequestBody::of_client(incoming, limits);
        if body.size_hint().lower() > limits.bytes_max {
            return Err(Failure::Body(BodyError::TooLarge { limit: limits.bytes_max }));
        }
        if let Some(entry) = &mut self.tail.entry {
            entry.receives(body_state.as_ref());
        }
        self.body = body_state;
        Ok(body)
    }
}
