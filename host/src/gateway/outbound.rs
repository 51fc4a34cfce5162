//! A request on its way to an endpoint, perhaps to more than one.

use std::{future::Future, pin::Pin, rc::Rc, time::Duration};

use http::{Request, request};
use tokio::time::Instant;

use super::{
    attempt,
    body::{BodyError, RequestBody, RequestBodyState},
    timer::KeptTimer,
    upstream::Outgoing,
};

/// A request that may have to be sent more than once.
pub struct Outbound {
    request: Option<Outgoing>,
    /// A second copy of the head, where sending it twice does no harm and there is no body.
    copy: Option<Box<request::Parts>>,
    body: Option<Rc<RequestBodyState>>,
}

impl Outbound {
    pub fn new(head: request::Parts, body: RequestBody, state: Option<Rc<RequestBodyState>>) -> Self {
        let copy = (state.is_none() && attempt::is_idempotent(&head)).then(|| Box::new(head.clone()));
        Self { request: Some(Box::new(Request::from_parts(head, body))), copy, body: state }
    }

    pub fn is_at_hand(&self) -> bool {
        self.request.is_some()
    }

    pub fn take(&mut self) -> Outgoing {
        self.request.take().expect("an attempt is only made while the request is at hand")
    }

    /// After a failed attempt: what came back unsent, or the copy.
    pub fn give_back(&mut self, unsent: Option<Outgoing>) {
        let again = || Some(Box::new(Request::from_parts(*self.copy.clone()?, RequestBody::Empty)));
        self.request = unsent.or_else(again);
    }

    pub fn give_up(&mut self) {
        self.request = None;
    }

    pub fn body_error(&self) -> Option<BodyError> {
        self.body.as_ref()?.failed.get()
    }

    /// What comes of `sending`, or none if the endpoint let its time pass.
    ///
    /// Its time ends at `deadline`, but not before `timeout` has passed since it was given the last of the body so
    /// far: an upload takes as long as it takes, and a client that stalls has limits of its own.
    pub async fn within<T>(
        &self,
        deadline: Instant,
        timeout: Duration,
        timer: &KeptTimer,
        mut sending: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        let mut over_at = deadline;
        loop {
            if let Some(done) = timer.before(over_at, sending.as_mut()).await {
                return Some(done);
            }
            let given_at = self.body.as_ref()?.last_given()?;
            over_at = Some(given_at + timeout).filter(|&later| later > over_at)?;
        }
    }
}
