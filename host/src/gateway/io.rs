//! A socket as hyper's HTTP/2 server reads and writes it.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::guard::CoarseClock;

/// When bytes last moved.
#[derive(Clone)]
pub struct Progress {
    clock: CoarseClock,
    last_us: Rc<Cell<u64>>,
}

impl Progress {
    pub fn new(clock: CoarseClock) -> Self {
        let last_us = Rc::new(Cell::new(clock.now_us()));
        Self { clock, last_us }
    }

    pub fn last_us(&self) -> u64 {
        self.last_us.get()
    }

    pub fn note(&self) {
        self.last_us.set(self.clock.now_us());
    }
}

/// A socket of which something was read already: that comes first.
pub struct Replayed {
    socket: TokioIo<TcpStream>,
    first: Vec<u8>,
    progress: Progress,
}

impl Replayed {
    pub fn new(socket: TcpStream, first: Vec<u8>, progress: Progress) -> Self {
        Self { socket: TokioIo::new(socket), first, progress }
    }
}

impl Read for Replayed {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let length = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..length]);
            self.first.drain(..length);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

/// Only writing is progress: a client that goes on sending while it takes nothing is no reader.
impl Write for Replayed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.progress.note_if(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.progress.note_if(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl Progress {
    fn note_if(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.note();
        }
        written
    }
}
