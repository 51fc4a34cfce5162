//! A request's body that is kept while it is sent, within a bound, so that it can be sent again.

use std::{
    cell::RefCell,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::body::{BodyError, ClientBody};

/// What a piece takes beside its bytes, about: those of many small ones are bounded as the bytes are.
const PIECE_OVERHEAD: usize = 64;

/// So many pieces are kept under any bound.
const PIECES_MIN: usize = 64;

/// The client's body, and what of it has come so far.
pub struct Kept(Rc<RefCell<Inner>>);

struct Inner {
    source: ClientBody,
    bytes_max: usize,
    bytes: usize,
    data: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// Whether it has come whole.
    ended: bool,
    /// Whether it has grown beyond the bound: then nothing is kept any more.
    overgrown: bool,
    /// Which of the readers goes on reading from the client: the last one.
    reader: u32,
}

/// One sending of it: what is kept first, then what the client still sends.
pub struct Replay {
    inner: Rc<RefCell<Inner>>,
    reader: u32,
    /// Of `data`, those that were given.
    given: usize,
    ended: bool,
}

impl Kept {
    pub fn new(source: ClientBody, bytes_max: usize) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            source,
            bytes_max,
            bytes: 0,
            data: Vec::new(),
            trailers: None,
            ended: false,
            overgrown: false,
            reader: 0,
        })))
    }

    /// Whether all of it that was sent can be sent again.
    pub fn is_whole(&self) -> bool {
        !self.0.borrow().overgrown
    }

    /// Whether it can be sent twice at a time: all of it is there.
    pub fn has_ended(&self) -> bool {
        let inner = self.0.borrow();
        inner.ended && !inner.overgrown
    }

    /// From its beginning. Earlier ones get nothing more of the client, unless all of it has come.
    pub fn replay(&self) -> Replay {
        let mut inner = self.0.borrow_mut();
        inner.reader += 1;
        inner.source.forget_asker();
        Replay { inner: Rc::clone(&self.0), reader: inner.reader, given: 0, ended: false }
    }
}

impl Inner {
    fn keep(&mut self, data: &Bytes) {
        self.bytes += data.len();
        if self.bytes > self.bytes_max || self.data.len() >= PIECES_MIN.max(self.bytes_max / PIECE_OVERHEAD) {
            self.overgrown = true;
            self.data = Vec::new();
        }
        if !self.overgrown {
            self.data.push(data.clone());
        }
    }
}

impl Replay {
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let inner = &mut *self.inner.borrow_mut();
        if let Some(data) = inner.data.get(self.given) {
            self.given += 1;
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        if inner.overgrown && self.reader != inner.reader {
            // What stood between is not kept any more: this would be another body.
            return Poll::Ready(Some(Err(BodyError::ClientBroke)));
        }
        if inner.ended {
            let trailers = inner.trailers.clone().filter(|_| !std::mem::replace(&mut self.ended, true));
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        if self.reader != inner.reader {
            // Another attempt has taken over, and whoever reads here is being cancelled.
            return Poll::Ready(Some(Err(BodyError::ClientBroke)));
        }
        let polled = inner.source.poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => match (frame.data_ref(), frame.trailers_ref()) {
                (Some(data), _) => {
                    inner.keep(data);
                    self.given = inner.data.len();
                    inner.ended = inner.source.is_end_stream();
                }
                (None, trailers) => {
                    inner.trailers = trailers.cloned();
                    inner.ended = true;
                    self.ended = true;
                }
            },
            Poll::Ready(None) => inner.ended = true,
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    pub fn is_end_stream(&self) -> bool {
        let inner = self.inner.borrow();
        let is_current = !inner.overgrown || self.reader == inner.reader;
        inner.ended && is_current && self.given >= inner.data.len() && (self.ended || inner.trailers.is_none())
    }

    pub fn size_hint(&self) -> SizeHint {
        let inner = self.inner.borrow();
        let kept: u64 = inner.data.iter().skip(self.given).map(|data| data.len() as u64).sum();
        let coming = inner.source.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(kept + coming.lower());
        if let Some(upper) = coming.upper() {
            hint.set_upper(kept + upper);
        }
        hint
    }
}
