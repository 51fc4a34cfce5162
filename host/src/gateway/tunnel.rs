//! After a 101: two sockets joined, whatever they speak.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional},
    net::TcpStream,
    time::{Instant, sleep_until},
};

use super::{attempt::Attempt, body::REPORT_AFTER, upstream::H1Connection};
use crate::model::ServiceConfig;

/// A connection to an endpoint that has agreed to speak something else.
pub struct Tunnel {
    endpoint: TcpStream,
    /// What the endpoint sent right behind its 101.
    early: Bytes,
    attempt: Attempt,
    idle_timeout: Duration,
    max_duration: Option<Duration>,
}

impl Tunnel {
    pub fn new(connection: H1Connection, attempt: Attempt, config: &ServiceConfig) -> Self {
        let (endpoint, early) = connection.into_tunnel();
        Self { endpoint, early, attempt, idle_timeout: config.idle_timeout, max_duration: config.max_duration }
    }

    /// Carries bytes both ways until both sides have ended, or one breaks, or none has moved for too long.
    /// `unread` is what the client sent right behind its request.
    pub async fn run(self, client: TcpStream, unread: Vec<u8>) {
        let moved = Rc::new(Cell::new(Instant::now()));
        let begun = Instant::now();
        let mut client = Watched { socket: client, moved: Rc::clone(&moved) };
        let mut endpoint = Watched { socket: self.endpoint, moved: Rc::clone(&moved) };
        let carrying = async {
            client.write_all(&self.early).await?;
            endpoint.write_all(&unread).await?;
            copy_bidirectional(&mut client, &mut endpoint).await
        };
        let watching = async {
            sleep_until(begun + REPORT_AFTER).await;
            self.attempt.report_ongoing();
            std::future::pending::<()>().await;
        };
        let expiring = async {
            loop {
                let idle_at = moved.get() + self.idle_timeout;
                let over_at = self.max_duration.map_or(idle_at, |max| idle_at.min(begun + max));
                if Instant::now() >= over_at {
                    return;
                }
                sleep_until(over_at).await;
            }
        };
        tokio::select! {
            result = carrying => tracing::debug!(ok = result.is_ok(), "a tunnel ended"),
            () = watching => {}
            () = expiring => tracing::debug!("a tunnel was idle for too long"),
        }
        self.attempt.end(None);
    }
}

/// A socket whose traffic leaves a time.
struct Watched {
    socket: TcpStream,
    moved: Rc<Cell<Instant>>,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        if polled.is_ready() {
            self.moved.set(Instant::now());
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, buf);
        if polled.is_ready() {
            self.moved.set(Instant::now());
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
