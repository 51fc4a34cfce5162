//! A client's socket with the guard in it, as hyper reads and writes it.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ConnState, Guard, Place, Refusal, Verdict, conn::Order};
use crate::model::Limits;

/// One read from a socket. A worker's connections share it: idle ones hold no buffer.
const SCRATCH_LEN: usize = 64 * 1024;

/// What is read and thrown away of a client that was refused and goes on sending.
const DISCARD_BYTES_MAX: usize = 1024 * 1024;

/// What hyper is shown instead of a refused head, so that it answers the requests before it first.
const SYNTHETIC_HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_LEN].into_boxed_slice());
}

/// An HTTP/1 client's connection: hyper reads from it what the guard lets through.
#[derive(Debug)]
pub struct GuardedIo<S> {
    socket: S,
    guard: Guard,
    conn: Rc<ConnState>,
    header_bytes_max: usize,
    /// Read but not handed on: at most a head or a chunk's line not yet complete, and one read beyond it.
    held: Vec<u8>,
    /// So much of `held` may go on.
    approved: usize,
    /// The guard is to look at `held` again.
    look_again: bool,
    stage: Stage,
    discarded: usize,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Open,
    /// A head was refused; so much of the synthetic one is still to be handed on.
    RefusedHead(usize),
    RefusedBody(Refusal),
}

impl<S> GuardedIo<S> {
    /// `already_read` is what was read from the socket to tell HTTP/1 from HTTP/2.
    pub fn new(socket: S, conn: Rc<ConnState>, limits: &Limits, already_read: Vec<u8>) -> Self {
        Self {
            socket,
            guard: Guard::new(limits),
            conn,
            header_bytes_max: limits.header_bytes_max,
            look_again: !already_read.is_empty(),
            held: already_read,
            approved: 0,
            stage: Stage::Open,
            discarded: 0,
        }
    }

    /// After a 101: the socket, and what was read from it but not handed on.
    pub fn into_parts(self) -> (S, Vec<u8>) {
        (self.socket, self.held)
    }

    fn obey(&mut self) {
        match self.conn.take_order() {
            None => return,
            Some(Order::Resume) => self.guard.resume(),
            Some(Order::Expire) => match self.guard.place() {
                Place::Body => return self.refuse(Verdict::RefuseBody(Refusal::BodyTooSlow)),
                Place::Head if self.guard.is_within_head(&self.held[self.approved..]) => {
                    return self.refuse(Verdict::RefuseHead(Refusal::HeadTooSlow));
                }
                _ => return,
            },
        }
        self.look_again = !self.held.is_empty();
        self.conn.note_read(self.guard.heads(), self.guard.place(), false);
    }

    /// Looks at `held`, of which nothing is approved.
    fn inspect_held(&mut self) {
        self.look_again = false;
        let inspected = self.guard.inspect(&self.held);
        self.approved = inspected.pass;
        self.settle(inspected.verdict);
    }

    /// Looks at what was just read, hands on what is good of it and holds the rest. False: nothing is good yet.
    fn take(&mut self, got: &[u8], cursor: &mut ReadBufCursor<'_>) -> bool {
        if !self.held.is_empty() {
            self.held.extend_from_slice(got);
            self.inspect_held();
            return false;
        }
        let inspected = self.guard.inspect(got);
        cursor.put_slice(&got[..inspected.pass]);
        self.held.extend_from_slice(&got[inspected.pass..]);
        self.settle(inspected.verdict);
        inspected.pass > 0
    }

    fn settle(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Continue | Verdict::NeedMore => {
                let within_head = self.guard.is_within_head(&self.held[self.approved..]);
                self.conn.note_read(self.guard.heads(), self.guard.place(), within_head);
            }
            Verdict::RefuseHead(_) | Verdict::RefuseBody(_) => self.refuse(verdict),
        }
    }

    fn refuse(&mut self, verdict: Verdict) {
        self.held.truncate(self.approved);
        match verdict {
            Verdict::RefuseHead(refusal) => {
                self.stage = Stage::RefusedHead(SYNTHETIC_HEAD.len());
                self.conn.refuse_head(refusal, self.guard.heads());
            }
            Verdict::RefuseBody(refusal) => {
                self.stage = Stage::RefusedBody(refusal);
                self.conn.refuse_body();
            }
            Verdict::Continue | Verdict::NeedMore => {}
        }
    }

    /// Hands on what is approved, and the synthetic head after it. False: there is nothing.
    fn deliver(&mut self, cursor: &mut ReadBufCursor<'_>) -> bool {
        let len = self.approved.min(cursor.remaining());
        if len > 0 {
            cursor.put_slice(&self.held[..len]);
            self.approved -= len;
            if len == self.held.len() {
                self.held = Vec::new();
            } else {
                self.held.drain(..len);
            }
        }
        let mut delivered = len > 0;
        if let Stage::RefusedHead(left) = &mut self.stage
            && self.approved == 0
            && *left > 0
        {
            let len = (*left).min(cursor.remaining());
            let start = SYNTHETIC_HEAD.len() - *left;
            cursor.put_slice(&SYNTHETIC_HEAD[start..start + len]);
            *left -= len;
            delivered |= len > 0;
        }
        delivered
    }

    /// How much may be read at once: what the cursor takes, so that it need not be held; behind a request for an
    /// upgrade no more than a head.
    fn room(&self, cursor: &ReadBufCursor<'_>) -> usize {
        let room = cursor.remaining().min(SCRATCH_LEN);
        match self.guard.place() {
            Place::UpgradeAsked => room.min(self.header_bytes_max.saturating_sub(self.held.len())),
            _ => room,
        }
    }
}

enum Fill {
    /// Bytes are in the cursor.
    Filled,
    /// Bytes came and none may go on yet, or they are in `held`.
    Held,
    End,
}

impl<S: AsyncRead + Unpin> GuardedIo<S> {
    fn poll_fill(&mut self, cx: &mut Context<'_>, cursor: &mut ReadBufCursor<'_>) -> Poll<io::Result<Fill>> {
        let room = self.room(cursor);
        if room == 0 {
            self.conn.note_want(cx.waker());
            return Poll::Pending;
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(&mut scratch[..room]);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buf) {
                Poll::Pending => {
                    self.conn.note_want(cx.waker());
                    Poll::Pending
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) if buf.filled().is_empty() => Poll::Ready(Ok(Fill::End)),
                Poll::Ready(Ok(())) => {
                    let filled = self.take(buf.filled(), cursor);
                    Poll::Ready(Ok(if filled { Fill::Filled } else { Fill::Held }))
                }
            }
        })
    }

    /// Throws away what a refused client sends. Ready once it sends no more, or too much.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            while self.discarded < DISCARD_BYTES_MAX {
                let mut buf = ReadBuf::new(&mut scratch[..]);
                ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf))?;
                match buf.filled().len() {
                    0 => break,
                    len => self.discarded += len,
                }
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl<S: AsyncRead + Unpin> Read for GuardedIo<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, mut cursor: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.obey();
        loop {
            if this.deliver(&mut cursor) {
                return Poll::Ready(Ok(()));
            }
            match this.stage {
                Stage::Open if this.look_again => this.inspect_held(),
                Stage::Open => match ready!(this.poll_fill(cx, &mut cursor))? {
                    Fill::Filled | Fill::End => return Poll::Ready(Ok(())),
                    Fill::Held => {}
                },
                // The client's end is not shown to hyper, which would take it for the end of the answer's reader.
                Stage::RefusedHead(_) => {
                    ready!(this.poll_discard(cx))?;
                    return Poll::Pending;
                }
                Stage::RefusedBody(refusal) => {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refusal)));
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Write for GuardedIo<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write(cx, buf);
        this.conn.note_write(written.is_pending());
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    /// Says to a client that is still sending that the answer is complete, and lets it finish: see
    /// `LINGER_TIMEOUT`.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
        let is_between = matches!(this.stage, Stage::Open) && this.guard.place() == Place::Head && this.held.is_empty();
        if is_between {
            return Poll::Ready(Ok(()));
        }
        this.conn.note_closing();
        this.poll_discard(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write_vectored(cx, bufs);
        this.conn.note_write(written.is_pending());
        written
    }
}
