//! Large bodies, streamed and counted, over either version of HTTP.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, runtime::Runtime};

/// Of each piece that is sent.
const PIECE_LEN: usize = 64 * 1024;

/// Which HTTP a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    H1,
    /// Cleartext, with prior knowledge.
    H2,
}

/// An exchange whose response's head has come, and whose body comes as it is asked for. Dropping it breaks the
/// exchange off: the connection for HTTP/1.1, the stream (and then the connection) for HTTP/2.
pub struct Exchange {
    runtime: Runtime,
    response: Response<Incoming>,
}

/// Sends a request with `len` bytes of body (0: a GET without one) and waits for the response's head.
pub fn begin(version: Version, address: SocketAddr, path: &str, len: u64) -> Result<Exchange, hyper::Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime can be built");
    let method = if len == 0 { Method::GET } else { Method::POST };
    let uri = match version {
        Version::H1 => path.to_owned(),
        Version::H2 => format!("http://{address}{path}"),
    };
    let request = Request::builder().method(method).uri(uri);
    let request = if version == Version::H1 { request.header(header::HOST, address.to_string()) } else { request };
    let request = request.body(Zeros { left: len }).expect("the test's request is well-formed");
    let response = runtime.block_on(async {
        let stream = TcpStream::connect(address).await.expect("the address accepts connections");
        stream.set_nodelay(true).expect("a TCP socket has Nagle's algorithm to switch off");
        let io = TokioIo::new(stream);
        match version {
            Version::H1 => {
                let (mut sender, connection) = conn::http1::handshake(io).await?;
                tokio::spawn(connection);
                sender.send_request(request).await
            }
            Version::H2 => {
                let (mut sender, connection) = conn::http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(connection);
                sender.send_request(request).await
            }
        }
    })?;
    Ok(Exchange { runtime, response })
}

impl Exchange {
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// Reads until at least `len` bytes have come; how many did.
    pub fn read(&mut self, len: u64) -> Result<u64, hyper::Error> {
        let body = self.response.body_mut();
        self.runtime.block_on(async {
            let mut total = 0;
            while total < len {
                let Some(frame) = body.frame().await else { break };
                total += frame?.data_ref().map_or(0, Bytes::len) as u64;
            }
            Ok(total)
        })
    }

    /// Reads the whole body; how many bytes it had.
    pub fn read_to_end(&mut self) -> Result<u64, hyper::Error> {
        self.read(u64::MAX)
    }

    /// Reads the whole body as text.
    pub fn text(self) -> Result<String, hyper::Error> {
        let Self { runtime, response } = self;
        let bytes = runtime.block_on(response.into_body().collect())?.to_bytes();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A body of so many bytes, made as they are taken.
struct Zeros {
    left: u64,
}

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        static PIECE: [u8; PIECE_LEN] = [0; PIECE_LEN];
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIECE_LEN);
        self.left -= len as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PIECE[..len])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
