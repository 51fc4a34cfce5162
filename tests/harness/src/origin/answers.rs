//! What an origin answers, by path.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::State;

type AnswerBody = UnsyncBoxBody<Bytes, io::Error>;

/// Size of the pieces of generated bodies: several to a socket buffer, so that back-pressure is felt.
const PIECE_LEN: usize = 16 * 1024;

pub(super) async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<AnswerBody>, Infallible> {
    let number = state.note(&request);
    let _in_flight = InFlight::begin(&state);
    let delay_us = state.delay_us.load(Ordering::Acquire);
    if delay_us > 0 {
        tokio::time::sleep(Duration::from_micros(delay_us)).await;
    }
    let mut response = match state.failure(number) {
        Some(status) => with_status(status, "failing as told\n"),
        None => by_path(request, &state).await,
    };
    let instance = HeaderValue::from_str(&state.name).expect("a test names its origins in ASCII");
    response.headers_mut().insert("x-instance", instance);
    Ok(response)
}

async fn by_path(request: Request<Incoming>, state: &State) -> Response<AnswerBody> {
    let path = request.uri().path().to_owned();
    let mut words = path.split('/').skip_while(|word| !is_behaviour(word));
    let behaviour = words.next().unwrap_or_default();
    let argument = words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
    match behaviour {
        "echo" => echo(request),
        "count" => count(request).await,
        "bytes" => generated(argument, argument),
        "break" => generated(argument, argument + 1_000),
        "status" => with_status(u16::try_from(argument).unwrap_or(500), "as asked\n"),
        "delay" => {
            tokio::time::sleep(Duration::from_millis(argument)).await;
            text(format!("{}\n", state.name))
        }
        "trailers" => with_trailers(),
        "headers" => head_as_json(&request),
        "upgrade" => upgrade(request),
        _ => text(format!("{}\n", state.name)),
    }
}

fn is_behaviour(word: &str) -> bool {
    matches!(word, "echo" | "count" | "bytes" | "break" | "status" | "delay" | "trailers" | "headers" | "upgrade")
}

fn echo(request: Request<Incoming>) -> Response<AnswerBody> {
    // Without the second, trailers do not come back over HTTP/1.
    let kept = [header::CONTENT_TYPE, header::TRAILER].map(|name| (request.headers().get(&name).cloned(), name));
    let mut response = Response::new(request.into_body().map_err(io::Error::other).boxed_unsync());
    for (value, name) in kept {
        response.headers_mut().extend(value.map(|value| (name, value)));
    }
    response
}

async fn count(request: Request<Incoming>) -> Response<AnswerBody> {
    let mut body = request.into_body();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => total += frame.data_ref().map_or(0, Bytes::len),
            Err(error) => return with_status(400, &format!("broken after {total} bytes: {error}\n")),
        }
    }
    text(format!("{total}\n"))
}

fn generated(len: u64, promised: u64) -> Response<AnswerBody> {
    let body = Generated { left: len, missing: promised - len, piece: Bytes::from(vec![b'x'; PIECE_LEN]) };
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(header::CONTENT_LENGTH, promised.into());
    response
}

fn with_trailers() -> Response<AnswerBody> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("x-checksum", HeaderValue::from_static("7"));
    let body = WithTrailers { data: Some(Bytes::from_static(b"with trailers\n")), trailers: Some(trailers) };
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(header::TRAILER, HeaderValue::from_static("grpc-status, x-checksum"));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

fn head_as_json(request: &Request<Incoming>) -> Response<AnswerBody> {
    let fields = request
        .headers()
        .iter()
        .map(|(name, value)| serde_json::json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]));
    let head = serde_json::json!({
        "method": request.method().as_str(),
        "uri": request.uri().to_string(),
        "version": format!("{:?}", request.version()),
        "headers": fields.collect::<Vec<_>>(),
    });
    let mut response = text(head.to_string());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Any protocol in which every byte comes back.
fn upgrade(mut request: Request<Incoming>) -> Response<AnswerBody> {
    let Some(protocol) = request.headers().get(header::UPGRADE).cloned() else {
        return with_status(426, "this path is for upgrades\n");
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgraded.await else { return };
        let mut stream = TokioIo::new(upgraded);
        let mut piece = vec![0; PIECE_LEN];
        while let Ok(len @ 1..) = stream.read(&mut piece).await {
            if stream.write_all(&piece[..len]).await.is_err() {
                return;
            }
        }
        let _ = stream.shutdown().await;
    });
    let mut response = with_status(101, "");
    response.headers_mut().insert(header::UPGRADE, protocol);
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response
}

fn text(text: String) -> Response<AnswerBody> {
    Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync())
}

fn with_status(status: u16, body: &str) -> Response<AnswerBody> {
    let mut response = text(body.to_owned());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

struct Generated {
    left: u64,
    /// Promised and never sent: the body ends in an error.
    missing: u64,
    piece: Bytes,
}

impl Body for Generated {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            let broken = || Err(io::Error::other("broken off as told"));
            return Poll::Ready((self.missing > 0).then(broken));
        }
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.piece.len());
        self.left -= len as u64;
        Poll::Ready(Some(Ok(Frame::data(self.piece.slice(..len)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left + self.missing)
    }
}

/// Of no stated length, since only chunks have room for trailers in HTTP/1.1.
struct WithTrailers {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Body for WithTrailers {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let data = self.data.take().map(Frame::data);
        Poll::Ready(data.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }
}

struct InFlight<'a>(&'a State);

impl<'a> InFlight<'a> {
    fn begin(state: &'a State) -> Self {
        state.in_flight.fetch_add(1, Ordering::AcqRel);
        Self(state)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}
