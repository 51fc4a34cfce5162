//! A bounded check of HTTP/1 framing before hyper reads it.
//!
//! hyper drops a `Content-Length` beside a `Transfer-Encoding` and takes a bare LF for a line's end; another
//! parser before or behind this gateway may read such a message otherwise, and then a request hides within a
//! request. So every byte of a client's HTTP/1 connection passes a [`Guard`]: a head reaches hyper only once it
//! is complete and every reader would read it alike. Each rule is one [`Refusal`], which names its RFC.
//!
//! ```text
//! socket ─→ GuardedIo ─→ hyper ─→ service
//!              │ Guard            │ ConnState::next_request() ─→ Turn
//!              └──── ConnState ───┘        └─→ overdue(…) for the worker's reaper
//! ```
//!
//! HTTP/2's frames have one reading; what a request of it could become as HTTP/1 is checked by [`check_http2`].
//!
//! Deliberately not here: responses of endpoints (hyper's client reads them), and normalising of paths (the
//! router does it, for both protocols).

mod bytes;
mod chunk;
mod conn;
mod field;
mod framing;
mod head;
mod host;
mod http2;
mod hyper_limits;
mod io;
mod line;
mod refusal;
mod request_line;
#[cfg(test)]
mod tests;

pub use conn::{CoarseClock, ConnState, Overdue, Phase, Turn, overdue};
pub use http2::check_http2;
pub use hyper_limits::raise_hyper_limits;
pub use io::GuardedIo;
pub use refusal::Refusal;

use self::{
    chunk::{CHUNK_EXTENSIONS_LEN_MAX, CHUNK_LINE_LEN_MAX},
    framing::Framing,
    head::{Bounds, Head, Trailers},
    line::Lines,
};
use crate::model::Limits;

/// Reads one client's byte stream and says which of its bytes may go on. Does no I/O and keeps no bytes.
#[derive(Debug)]
pub struct Guard {
    bounds: Bounds,
    state: State,
    /// Heads let through.
    heads: u64,
    /// Of the message being read.
    upgrade: bool,
    extensions_len: usize,
}

#[derive(Debug)]
enum State {
    Head(Head),
    Length(u64),
    ChunkLine(Lines),
    ChunkData(u64),
    ChunkEnd,
    Trailers(Trailers),
    /// Behind a request for another protocol: whether HTTP goes on is not known before it is answered.
    UpgradeAsked,
    Refused(Verdict),
}

/// What the guard says of the bytes shown to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// So many leading bytes may go on now. The rest must be shown again, at the front, with those that follow.
    pub pass: usize,
    pub verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of them pass.
    Continue,
    /// Of the rest it cannot be said before more has come (or an upgrade has been answered).
    NeedMore,
    /// The rest begins with a bad head. For good: nothing passes any more.
    RefuseHead(Refusal),
    /// The rest goes on with bad framing within a body. For good.
    RefuseBody(Refusal),
}

/// Where in a connection's stream the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Head,
    Body,
    UpgradeAsked,
    Refused,
}

impl Guard {
    pub fn new(limits: &Limits) -> Self {
        Self {
            bounds: Bounds::of(limits),
            state: State::Head(Head::default()),
            heads: 0,
            upgrade: false,
            extensions_len: 0,
        }
    }

    /// Checks bytes that begin with those that the last call left.
    pub fn inspect(&mut self, bytes: &[u8]) -> Inspected {
        let mut pass = 0;
        while pass < bytes.len() {
            match self.step(&bytes[pass..]) {
                Ok(0) => return Inspected { pass, verdict: Verdict::NeedMore },
                Ok(passed) => pass += passed,
                Err(verdict) => {
                    self.state = State::Refused(verdict);
                    return Inspected { pass, verdict };
                }
            }
        }
        Inspected { pass, verdict: Verdict::Continue }
    }

    /// Heads that have passed so far.
    pub fn heads(&self) -> u64 {
        self.heads
    }

    pub fn place(&self) -> Place {
        match self.state {
            State::Head(_) => Place::Head,
            State::Length(_) | State::ChunkLine(_) | State::ChunkData(_) | State::ChunkEnd | State::Trailers(_) => {
                Place::Body
            }
            State::UpgradeAsked => Place::UpgradeAsked,
            State::Refused(_) => Place::Refused,
        }
    }

    /// Whether `rest`, what the last call left, is part of a head.
    pub fn is_within_head(&self, rest: &[u8]) -> bool {
        matches!(&self.state, State::Head(head) if head.has_begun(rest))
    }

    /// The upgrade was not granted: HTTP goes on. (One that was granted needs no guard any more.)
    pub fn resume(&mut self) {
        if matches!(self.state, State::UpgradeAsked) {
            self.state = State::Head(Head::default());
        }
    }

    /// Passes one part (a head, a chunk's line, some data …). 0: not complete yet.
    fn step(&mut self, bytes: &[u8]) -> Result<usize, Verdict> {
        let in_body = Verdict::RefuseBody;
        match &mut self.state {
            State::Head(head) => {
                let Some(end) = head.read(bytes, self.bounds).map_err(Verdict::RefuseHead)? else { return Ok(0) };
                self.heads += 1;
                self.upgrade = end.upgrade;
                self.extensions_len = 0;
                self.state = match end.framing {
                    Framing::Length(0) => self.message_end(),
                    Framing::Length(length) => State::Length(length),
                    Framing::Chunked => State::ChunkLine(Lines::default()),
                };
                Ok(end.len)
            }
            State::Length(left) => {
                let passed = take(left, bytes);
                if *left == 0 {
                    self.state = self.message_end();
                }
                Ok(passed)
            }
            State::ChunkLine(_) => self.chunk_line(bytes).map_err(in_body),
            State::ChunkData(left) => {
                let passed = take(left, bytes);
                if *left == 0 {
                    self.state = State::ChunkEnd;
                }
                Ok(passed)
            }
            State::ChunkEnd => match bytes {
                [b'\r'] => Ok(0),
                [b'\r', b'\n', ..] => {
                    self.state = State::ChunkLine(Lines::default());
                    Ok(2)
                }
                _ => Err(in_body(Refusal::ChunkEnd)),
            },
            State::Trailers(trailers) => {
                let end = trailers.read(bytes, self.bounds).map_err(in_body)?;
                if end.is_some() {
                    self.state = self.message_end();
                }
                Ok(end.unwrap_or(0))
            }
            State::UpgradeAsked => Ok(0),
            State::Refused(verdict) => Err(*verdict),
        }
    }

    fn chunk_line(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let State::ChunkLine(lines) = &mut self.state else { return Ok(0) };
        let window = &bytes[..bytes.len().min(CHUNK_LINE_LEN_MAX)];
        let Some(line) = lines.next(window)? else {
            return if bytes.len() < CHUNK_LINE_LEN_MAX { Ok(0) } else { Err(Refusal::ChunkExtensionTooLong) };
        };
        let passed = lines.start();
        let (size, extensions_len) = chunk::parse(line)?;
        self.extensions_len += extensions_len;
        if self.extensions_len > CHUNK_EXTENSIONS_LEN_MAX {
            return Err(Refusal::ChunkExtensionTooLong);
        }
        self.state = if size == 0 { State::Trailers(Trailers::default()) } else { State::ChunkData(size) };
        Ok(passed)
    }

    fn message_end(&self) -> State {
        if self.upgrade { State::UpgradeAsked } else { State::Head(Head::default()) }
    }
}

/// Takes as much of `left` as there is.
fn take(left: &mut u64, bytes: &[u8]) -> usize {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left -= taken as u64;
    taken
}
