//! A client of cleartext HTTP/2: one connection, any number of requests at once, trailers both ways.

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, runtime::Runtime, sync::mpsc, task::JoinHandle};

use crate::{client::Answer, wait::DEADLINE};

/// One connection, driven by a thread of its own. Dropping it closes it.
pub struct H2Connection {
    runtime: Runtime,
    address: SocketAddr,
    sender: http2::SendRequest<H2Body>,
    connection: JoinHandle<hyper::Result<()>>,
}

/// A request that is under way.
pub struct H2Exchange<'c> {
    runtime: &'c Runtime,
    task: JoinHandle<hyper::Result<(Answer, Option<HeaderMap>)>>,
}

/// What is sent after a head.
pub enum H2Body {
    /// All of it, at once, and the trailers if there are any.
    Whole(VecDeque<Frame<Bytes>>),
    /// What comes through a channel, until its sender is dropped.
    Streamed(mpsc::UnboundedReceiver<Bytes>),
}

impl H2Connection {
    pub fn to(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime can be built");
        let (sender, connection) = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.expect("the address accepts connections");
            stream.set_nodelay(true).expect("a TCP socket has Nagle's algorithm to switch off");
            let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
            let (sender, connection) = handshake.expect("an HTTP/2 connection begins with what the client sends");
            (sender, tokio::spawn(connection))
        });
        Self { runtime, address, sender, connection }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.begin(Method::GET, path, &[], H2Body::empty()).answer()
    }

    /// Begins a request; several may be under way at once.
    pub fn begin(&self, method: Method, path: &str, headers: &[(&str, &str)], body: H2Body) -> H2Exchange<'_> {
        self.begin_for(&self.address.to_string(), method, path, headers, body)
    }

    /// Begins a request for any `:authority`.
    pub fn begin_for(
        &self,
        authority: &str,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: H2Body,
    ) -> H2Exchange<'_> {
        let mut request = Request::builder().method(method).uri(format!("http://{authority}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).expect("the test's request is well-formed");
        let mut sender = self.sender.clone();
        let task = self.runtime.spawn(async move {
            sender.ready().await?;
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = body.collect().await?;
            let trailers = body.trailers().cloned();
            let answer = Answer { status: head.status, headers: head.headers, body: body.to_bytes().to_vec() };
            Ok((answer, trailers))
        });
        H2Exchange { runtime: &self.runtime, task }
    }

    /// Waits until the other side has ended the connection, as it does after GOAWAY and the last stream.
    pub fn await_end(self) -> hyper::Result<()> {
        let Self { runtime, sender, connection, .. } = self;
        // Held until then, since the connection would end by itself without it.
        let ended = runtime.block_on(async { tokio::time::timeout(DEADLINE, connection).await });
        drop(sender);
        ended.expect("the other side ends the connection").expect("the connection's task does not panic")
    }
}

impl H2Exchange<'_> {
    /// The whole answer.
    pub fn answer(self) -> Answer {
        self.with_trailers().0
    }

    /// The whole answer and its trailers.
    pub fn with_trailers(self) -> (Answer, Option<HeaderMap>) {
        self.result().unwrap_or_else(|error| panic!("no whole answer: {error:?}"))
    }

    /// The error is that no whole answer came.
    pub fn result(self) -> hyper::Result<(Answer, Option<HeaderMap>)> {
        let answer = self.runtime.block_on(async { tokio::time::timeout(DEADLINE, self.task).await });
        answer.expect("an answer within the deadline").expect("the request's task does not panic")
    }

    /// Gives the request up: RST_STREAM.
    pub fn cancel(self) {
        self.task.abort();
        let _ = self.runtime.block_on(self.task);
    }
}

impl H2Body {
    pub fn empty() -> Self {
        Self::Whole(VecDeque::new())
    }

    pub fn of(bytes: impl Into<Bytes>) -> Self {
        Self::Whole(VecDeque::from([Frame::data(bytes.into())]))
    }

    pub fn with_trailers(bytes: impl Into<Bytes>, trailers: &[(&'static str, &'static str)]) -> Self {
        let pairs = trailers.iter().map(|&(name, value)| (name, HeaderValue::from_static(value)));
        let trailers = pairs.map(|(name, value)| (HeaderName::from_static(name), value)).collect();
        Self::Whole(VecDeque::from([Frame::data(bytes.into()), Frame::trailers(trailers)]))
    }

    /// A body that goes on until the sender is dropped.
    pub fn streamed() -> (mpsc::UnboundedSender<Bytes>, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Self::Streamed(receiver))
    }
}

impl Body for H2Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(frames) => Poll::Ready(frames.pop_front().map(Ok)),
            Self::Streamed(pieces) => pieces.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(frames) if frames.is_empty())
    }
}
