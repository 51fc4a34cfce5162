//! A request on its way to an endpoint, perhaps to more than one.

use std::{future::Future, pin::Pin, rc::Rc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, header, request};
use http_body::Body;
use tokio::time::Instant;

use super::{
    body::{BodyError, RequestBody, RequestBodyState},
    deadline::Deadline,
    headers,
    replay::Kept,
    target,
    timer::KeptTimer,
    upstream::Outgoing,
};
use crate::model::Protocol;

/// A request that may have to be sent more than once.
pub struct Outbound {
    request: Option<Outgoing>,
    /// What it takes to send it once more, where that does no harm although the first may have arrived.
    again: Option<Box<Again>>,
    body: Option<Rc<RequestBodyState>>,
}

struct Again {
    head: request::Parts,
    body: AgainBody,
}

/// What a body is sent again from.
enum AgainBody {
    Empty,
    Own(Bytes),
    Kept(Kept),
}

impl AgainBody {
    /// Whether all of it that was sent can be sent again.
    fn is_whole(&self) -> bool {
        if let Self::Kept(kept) = self { kept.is_whole() } else { true }
    }

    /// Whether it can be sent twice at a time.
    fn is_there(&self) -> bool {
        if let Self::Kept(kept) = self { kept.has_ended() } else { true }
    }

    /// From its beginning.
    fn replay(&self) -> RequestBody {
        match self {
            Self::Empty => RequestBody::Empty,
            Self::Own(bytes) => RequestBody::own(bytes.clone()),
            Self::Kept(kept) => RequestBody::Replay(kept.replay()),
        }
    }
}

impl Outbound {
    /// `body_bytes_max`: as much of the body is kept if the request is `repeatable`.
    pub fn new(
        head: request::Parts,
        body: RequestBody,
        state: Option<Rc<RequestBodyState>>,
        repeatable: bool,
        body_bytes_max: usize,
    ) -> Self {
        let known_too_long = !matches!(body, RequestBody::Own(_)) && body.size_hint().lower() > body_bytes_max as u64;
        let (body, again) = match body {
            body if !repeatable || known_too_long => (body, None),
            RequestBody::Client(body) => {
                let kept = Kept::new(*body, body_bytes_max);
                (RequestBody::Replay(kept.replay()), Some(AgainBody::Kept(kept)))
            }
            // It lasts as long as the call does in any case.
            RequestBody::Own(Some(bytes)) => (RequestBody::own(bytes.clone()), Some(AgainBody::Own(bytes))),
            body => (body, Some(AgainBody::Empty)),
        };
        let again = again.map(|body| Box::new(Again { head: head.clone(), body }));
        Self { request: Some(Box::new(Request::from_parts(head, body))), again, body: state }
    }

    pub fn is_at_hand(&self) -> bool {
        self.request.is_some()
    }

    /// Whether it is at hand, or can be taken back from the endpoint that it was sent to.
    pub fn may_be_sent_again(&self) -> bool {
        self.is_at_hand() || self.again.as_ref().is_some_and(|again| again.body.is_whole())
    }

    pub fn take(&mut self, deadline: &Deadline) -> Outgoing {
        let mut request = self.request.take().expect("an attempt is only made while the request is at hand");
        deadline.tell(request.headers_mut());
        request
    }

    /// Whether all of it is at hand, so that it can be sent twice at a time.
    pub fn is_whole(&self) -> bool {
        self.again.as_ref().is_some_and(|again| again.body.is_there())
    }

    /// A second one beside the first, if all of it is at hand.
    pub fn copy(&self, deadline: &Deadline) -> Option<Outgoing> {
        let again = self.again.as_ref().filter(|again| again.body.is_there())?;
        let mut request = Box::new(Request::from_parts(again.head.clone(), again.body.replay()));
        deadline.tell(request.headers_mut());
        Some(request)
    }

    /// After a failed attempt: what came back unsent, or another copy.
    pub fn give_back(&mut self, unsent: Option<Outgoing>) {
        self.request = unsent.or_else(|| {
            let again = self.again.as_ref().filter(|again| again.body.is_whole())?;
            Some(Box::new(Request::from_parts(again.head.clone(), again.body.replay())))
        });
    }

    pub fn give_up(&mut self) {
        self.request = None;
    }

    /// Whether it may be sent a second time although the first may have arrived.
    pub fn may_be_repeated(&self) -> bool {
        self.again.is_some()
    }

    /// Makes it fit for a service that speaks `protocol`. False where it cannot be.
    pub fn address_to(&mut self, protocol: Protocol) -> bool {
        let Some(request) = self.request.take() else { return false };
        let (mut head, body) = request.into_parts();
        let Some(host) = target::authority(&head).and_then(|host| HeaderValue::from_str(host).ok()) else {
            return false;
        };
        let address = |head: &mut request::Parts| readdress(protocol, head, &host);
        let addressed = address(&mut head) & self.again.as_mut().is_none_or(|again| address(&mut again.head));
        self.request = addressed.then(|| Box::new(Request::from_parts(head, body)));
        addressed
    }

    pub fn body_error(&self) -> Option<BodyError> {
        self.body.as_ref()?.failed.get()
    }

    /// What comes of `sending`, or none if the endpoint let its time pass.
    ///
    /// Its time ends at `over_at`, but not before `patience` has passed since it was given the last of the body so
    /// far: an upload takes as long as it takes, and a client that stalls has limits of its own.
    pub async fn within<T>(
        &self,
        mut over_at: Instant,
        patience: Duration,
        timer: &KeptTimer,
        mut sending: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        loop {
            if let Some(done) = timer.before(over_at, sending.as_mut()).await {
                return Some(done);
            }
            let given_at = self.body.as_ref()?.last_given()?;
            over_at = Some(given_at + patience).filter(|&later| later > over_at)?;
        }
    }
}

/// As for a request that was meant for the other service from the beginning. False where it cannot be: nothing is upgraded
/// over HTTP/2.
fn readdress(protocol: Protocol, head: &mut request::Parts, host: &HeaderValue) -> bool {
    if protocol == Protocol::H2 && head.headers.contains_key(header::UPGRADE) {
        return false;
    }
    head.headers.remove(header::CONNECTION);
    let addressed = target::address_to(protocol, head, host).is_ok();
    if protocol == Protocol::Http1 {
        headers::add_hop_by_hop(&mut head.headers, None);
    }
    addressed
}
