//! Bodies on their way through: streamed in both directions, a frame at a time, never held.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::{
    access::AccessEntry, attempt::Attempt, client::Occupancy, guard::Refusal, replay::Replay, upstream::H1Connection,
};
use crate::model::Outcome;

/// An exchange that is still going on so long after its response head is reported then (WIT
/// `types.completion`).
pub const REPORT_AFTER: Duration = Duration::from_secs(10);

/// Why a body ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error("the request's body is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("{0}")]
    Refused(Refusal),
    #[error("the client's body broke off")]
    ClientBroke,
    #[error("the endpoint's body broke off")]
    EndpointBroke,
    #[error("no byte moved for {0:?}")]
    Idle(Duration),
    #[error("the exchange took longer than {0:?}")]
    TooLong(Duration),
}

/// What became of a request's body; shared with whoever waits for the response.
#[derive(Debug, Default)]
pub struct RequestBodyState {
    pub bytes: Cell<u64>,
    pub failed: Cell<Option<BodyError>>,
    /// Whether the endpoint takes more than the client has given so far.
    awaited: Cell<bool>,
    given_at: Cell<Option<Instant>>,
    ended: Cell<bool>,
}

impl RequestBodyState {
    /// When the endpoint was given the last of it so far: now, if it is the client who is waited for. None before
    /// the first byte was asked for.
    pub fn last_given(&self) -> Option<Instant> {
        if self.awaited.get() { Some(Instant::now()) } else { self.given_at.get() }
    }

    /// Whether some of it was asked for, and not all of it has come.
    pub fn is_unfinished(&self) -> bool {
        self.last_given().is_some() && !self.ended.get()
    }
}

/// A request's body as it comes in.
pub enum GivenBody {
    Client(Incoming),
    /// Of a call that the gateway itself makes.
    Own(Bytes),
}

/// A request's body on its way to an endpoint.
pub enum RequestBody {
    Empty,
    Client(Box<ClientBody>),
    /// The gateway's own: there whole, and given in one piece.
    Own(Option<Bytes>),
    /// Kept while it is sent.
    Replay(Replay),
}

pub struct ClientBody {
    incoming: Incoming,
    state: Rc<RequestBodyState>,
    limits: RequestBodyLimits,
    /// Made when the body first has to be waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy)]
pub struct RequestBodyLimits {
    pub bytes_max: u64,
    /// Without a byte. None where the guard keeps the time (HTTP/1).
    pub read_timeout: Option<Duration>,
}

impl RequestBody {
    pub fn of_client(incoming: Incoming, limits: RequestBodyLimits) -> (Self, Option<Rc<RequestBodyState>>) {
        if incoming.is_end_stream() {
            return (Self::Empty, None);
        }
        let state = Rc::new(RequestBodyState::default());
        let body = ClientBody { incoming, state: Rc::clone(&state), limits, timer: None };
        (Self::Client(Box::new(body)), Some(state))
    }

    pub fn own(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Own(Some(bytes)) }
    }
}

impl ClientBody {
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        self.state.awaited.set(polled.is_pending());
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.timer = None;
                self.state.given_at.set(Some(Instant::now()));
                let length = frame.data_ref().map_or(0, |data| data.remaining() as u64);
                let total = self.state.bytes.get() + length;
                self.state.bytes.set(total);
                self.state.ended.set(self.incoming.is_end_stream());
                if total > self.limits.bytes_max {
                    return self.fail(BodyError::TooLarge { limit: self.limits.bytes_max });
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.fail(Refusal::behind(&error).map_or(BodyError::ClientBroke, BodyError::Refused))
            }
            Poll::Ready(None) => {
                self.state.ended.set(true);
                Poll::Ready(None)
            }
            Poll::Pending => self.poll_timer(cx),
        }
    }

    pub fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// Whoever asked for more of it is gone.
    pub fn forget_asker(&self) {
        self.state.awaited.set(false);
    }

    pub fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(limit) = self.limits.read_timeout else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => self.fail(BodyError::Idle(limit)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn fail(&self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.state.failed.set(Some(error));
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Client(body) => body.poll_frame(cx),
            Self::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Replay(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) => body.is_end_stream(),
            Self::Own(bytes) => bytes.is_none(),
            Self::Replay(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) => body.size_hint(),
            Self::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Replay(body) => body.size_hint(),
        }
    }
}

/// An answer's body on its way to the client.
pub struct ResponseBody {
    content: Content,
    /// Given up with the body, when hyper has written the last of it.
    tail: Option<Tail>,
}

/// What lasts as long as an exchange does: its place on the connection, its line in the access log.
pub struct Tail {
    pub occupancy: Occupancy,
    pub entry: Option<Box<AccessEntry>>,
}

enum Content {
    /// The gateway's own words, or nothing.
    Own(Option<Bytes>),
    Endpoint(Box<EndpointBody>),
}

impl ResponseBody {
    pub fn own(bytes: Option<Bytes>) -> Self {
        Self { content: Content::Own(bytes), tail: None }
    }

    /// Keeps `tail` until the body is gone.
    pub fn with_tail(self, tail: Tail) -> Self {
        if let (Content::Own(Some(bytes)), Some(entry)) = (&self.content, &tail.entry) {
            entry.bytes_out().set(bytes.len() as u64);
        }
        if !self.is_end_stream() {
            // hyper does not ask for the first byte before the client takes some.
            tail.occupancy.note_owed(true);
        }
        Self { tail: Some(tail), ..self }
    }
}

/// An endpoint's body. Whoever drops it ends the attempt: at its end well, before as cancelled.
pub struct EndpointBody {
    incoming: Incoming,
    /// The HTTP/1 connection that it comes on; HTTP/2 connections drive themselves.
    connection: Option<Box<H1Connection>>,
    attempt: Option<Attempt>,
    limits: BodyLimits,
    /// Made when the body first has to be waited for: most never are.
    timer: Option<Pin<Box<Sleep>>>,
    last_progress: Instant,
    head_at: Instant,
    /// The same on the worker's coarse clock, which may be read for each frame.
    head_us: u64,
    /// Why it ends early, from when that is known to when hyper is told.
    failed: Option<BodyError>,
}

/// From the service's configuration.
#[derive(Clone, Copy)]
pub struct BodyLimits {
    pub idle_timeout: Duration,
    pub max_duration: Option<Duration>,
}

impl EndpointBody {
    pub fn carrying(
        incoming: Incoming,
        connection: Option<Box<H1Connection>>,
        attempt: Attempt,
        limits: BodyLimits,
    ) -> ResponseBody {
        let head_at = attempt.head_at();
        let head_us = attempt.coarse_now_us();
        let mut body = Self {
            incoming,
            connection,
            attempt: Some(attempt),
            limits,
            timer: None,
            last_progress: head_at,
            head_at,
            head_us,
            failed: None,
        };
        if body.incoming.is_end_stream() {
            body.finish();
            return ResponseBody::own(None);
        }
        ResponseBody { content: Content::Endpoint(Box::new(body)), tail: None }
    }

    fn finish(&mut self) {
        let Some(attempt) = self.attempt.take() else { return };
        if let Some(connection) = self.connection.take() {
            attempt.keep(connection);
        }
        attempt.end(None);
    }

    /// hyper closes an HTTP/1 connection on an error without writing what it holds, be it the whole head: so it
    /// gets one turn without news to write in before it hears of the error.
    fn fail(&mut self, error: BodyError, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // Dropping the connection closes it: what is left of the body must not be taken for the next answer.
        self.connection = None;
        if let Some(attempt) = self.attempt.take() {
            attempt.end(Some(match error {
                BodyError::EndpointBroke => Outcome::Reset,
                BodyError::Idle(_) | BodyError::TooLong(_) => Outcome::TimedOut,
                BodyError::TooLarge { .. } | BodyError::Refused(_) | BodyError::ClientBroke => Outcome::Cancelled,
            }));
        }
        self.failed = Some(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(connection) = &mut self.connection else { return Pin::new(&mut self.incoming).poll_frame(cx) };
        // The first frame has often come with the head. Others come of driving the connection, which has this
        // task's waker, so the body's own needs none; being asked is what lets the connection go on reading.
        let mut unwoken = Context::from_waker(Waker::noop());
        let polled = Pin::new(&mut self.incoming).poll_frame(&mut unwoken);
        if polled.is_ready() {
            return polled;
        }
        connection.drive(cx);
        Pin::new(&mut self.incoming).poll_frame(&mut unwoken)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.failed {
            return Poll::Ready(Some(Err(error)));
        }
        match self.poll_incoming(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if self.timer.is_some() {
                    self.last_progress = Instant::now();
                }
                if let Some(attempt) = &self.attempt {
                    match frame.data_ref() {
                        Some(data) => attempt.count(data.len()),
                        None => frame.trailers_ref().into_iter().for_each(|trailers| attempt.see_trailers(trailers)),
                    }
                    // A body that never has to be waited for sets no timer.
                    let lasted = Duration::from_micros(attempt.coarse_now_us().saturating_sub(self.head_us));
                    if lasted >= REPORT_AFTER {
                        attempt.report_ongoing();
                    }
                    if let Some(max) =
                        self.limits.max_duration.filter(|&max| lasted >= max && self.head_at.elapsed() >= max)
                    {
                        return self.fail(BodyError::TooLong(max), cx);
                    }
                }
                if self.incoming.is_end_stream() {
                    self.settle(cx);
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(_))) => self.fail(BodyError::EndpointBroke, cx),
            Poll::Ready(None) => {
                self.settle(cx);
                self.finish();
                Poll::Ready(None)
            }
            Poll::Pending => self.poll_timer(cx),
        }
    }

    /// Lets the connection see that the exchange is over, so that it is ready for the next one.
    fn settle(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = self.connection.as_mut().filter(|connection| !connection.is_ready()) {
            connection.drive(cx);
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.timer.is_none() {
            self.last_progress = Instant::now();
        }
        loop {
            let now = Instant::now();
            let idle_at = self.last_progress + self.limits.idle_timeout;
            let over_at = self.limits.max_duration.map(|max| self.head_at + max);
            let report_at = self.head_at + REPORT_AFTER;
            if now >= idle_at {
                return self.fail(BodyError::Idle(self.limits.idle_timeout), cx);
            }
            if let Some(max) = self.limits.max_duration.filter(|&max| now >= self.head_at + max) {
                return self.fail(BodyError::TooLong(max), cx);
            }
            if now >= report_at
                && let Some(attempt) = &self.attempt
            {
                attempt.report_ongoing();
            }
            let next = [Some(idle_at), over_at, Some(report_at).filter(|&at| at > now)].into_iter().flatten().min();
            let next = next.expect("there is always an idle timeout");
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
            // Progress moves the time on without touching the timer: it is only looked at when it fires.
            if timer.is_elapsed() || timer.deadline() > next {
                timer.as_mut().reset(next);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.content {
            Content::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Content::Endpoint(body) => body.poll_frame(cx),
        };
        if let Some(tail) = &self.tail {
            tail.occupancy.note_owed(polled.is_ready());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Own(bytes) => bytes.is_none(),
            Content::Endpoint(body) => {
                body.failed.is_none() && (body.attempt.is_none() || body.incoming.is_end_stream())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::Endpoint(body) => body.incoming.size_hint(),
        }
    }
}

/// The gRPC status code in a head or in trailers, if there is one.
pub fn grpc_status(fields: &HeaderMap) -> Option<u8> {
    fields.get("grpc-status")?.to_str().ok()?.parse().ok()
}
