//! What a client still sends of a request that has been answered.
//!
//! A connection that is closed with bytes unread is reset, and the reset destroys the answer on its way. Many clients
//! read no answer before they have sent everything, so the rest of a refused body is read and thrown away first.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::header,
    middleware::Next,
    response::Response,
};
use http_body::Frame;
use http_body_util::BodyExt;

/// Of one body: four times the largest that is accepted.
const DRAINED_BYTES_MAX: usize = 256 * 1024 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// In front of everything that may refuse a request.
pub async fn drain_refused(request: Request, next: Next) -> Response {
    let waits = request.headers().contains_key(header::EXPECT);
    let (head, body) = request.into_parts();
    let body = Shared(Arc::new(Mutex::new(Read { body, begun: false })));
    let response = next.run(Request::from_parts(head, Body::new(body.clone()))).await;
    // A client that waits for "100 Continue", which is sent when reading begins, has sent nothing and will not.
    if response.status().is_client_error() && (!waits || body.lock().begun) {
        drain(body).await;
    }
    response
}

async fn drain(mut body: Shared) {
    let draining = async {
        let mut drained = 0;
        while let Some(Ok(frame)) = body.frame().await {
            drained += frame.data_ref().map_or(0, Bytes::len);
            if drained > DRAINED_BYTES_MAX {
                return;
            }
        }
    };
    // Whatever is left then is cut off.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, draining).await;
}

/// A body that outlives the handler that reads it.
#[derive(Clone)]
struct Shared(Arc<Mutex<Read>>);

struct Read {
    body: Body,
    begun: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Read> {
        self.0.lock().expect("no holder of the lock panics")
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut read = self.lock();
        read.begun = true;
        Pin::new(&mut read.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.lock().body.size_hint()
    }
}
