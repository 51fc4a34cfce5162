//! The control listener's connections: few, short heads, none waited for longer than it must.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::Response,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

use super::repoll::repolled;

/// Services with their heartbeats and those who wait for the registry to change, operators, their dashboards and a few
/// scrapers. Beyond, connections wait to be accepted.
pub const CONNECTIONS_MAX: usize = 4096;
/// With fewer places left than this, each answer is its connection's last: services whose heartbeats each keep one open
/// take turns, and operators get in.
const CONNECTIONS_SPARE: usize = CONNECTIONS_MAX / 8;
/// From a connection's first byte, or the answer before, to the end of the next head. Longer than heartbeats are usually
/// apart, and no multiple of anything: a connection that closes just when the next one is sent costs a heartbeat.
const HEAD_TIMEOUT: Duration = Duration::from_secs(97);
/// Of a head. A bearer token and a browser's headers are a few KiB.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// After an accept that failed: file descriptors have run out, and some will come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A client that takes nothing of what it is sent for so long is gone, or has stopped reading: its connection ends, and with it
/// what its answer holds. Linux counts a window that stays closed as well (tcp(7), `TCP_USER_TIMEOUT`).
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long answers under way may take at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves until `shutdown` becomes true or its sender is gone, and then ends what is under way.
pub async fn serve(listener: TcpListener, router: Router, shutdown: watch::Receiver<bool>) {
    let places = Places { permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)), spare: CONNECTIONS_SPARE };
    serve_within(places, listener, router, shutdown).await;
}

#[derive(Clone)]
struct Places {
    permits: Arc<Semaphore>,
    spare: usize,
}

async fn serve_within(places: Places, listener: TcpListener, router: Router, mut shutdown: watch::Receiver<bool>) {
    let router = router.layer(middleware::from_fn_with_state(places.clone(), close_where_places_run_out));
    let permits = places.permits;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = accept(&listener, &permits) => {
                let (stream, permit) = accepted;
                connections.spawn(repolled(serve_connection(stream, permit, router.clone(), shutdown.clone())));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            () = until_true(&mut shutdown) => break,
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    // What is not done then is dropped with the set.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, ended).await;
}

async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let permit = Arc::clone(permits).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                tracing::warn!(%error, "the control listener did not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn close_where_places_run_out(State(places): State<Places>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if places.permits.available_permits() < places.spare {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn serve_connection(
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
    router: Router,
    mut shutdown: watch::Receiver<bool>,
) {
    // Answers are one write; not waiting for an acknowledgement is all that matters.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(STALL_TIMEOUT));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = until_true(&mut shutdown) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a control connection ended early");
    }
}

/// Until it is shutting down.
pub(super) async fn until_true(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a shutdown too.
    drop(shutdown.wait_for(|&shutdown| shutdown).await);
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        net::TcpStream as Client,
    };

    use super::*;

    /// Whether the answer was the connection's last.
    fn ask(client: &Client) -> bool {
        client.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket has a timeout");
        (&*client).write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").expect("it is sent");
        let lines = BufReader::new(client).lines().map(|line| line.expect("it is answered"));
        let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        assert!(head[0].contains(" 200 "), "{head:?}");
        head.iter().any(|line| line.eq_ignore_ascii_case("connection: close"))
    }

    #[test]
    fn where_places_run_out_answers_are_the_last_and_everybody_gets_in() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("it starts");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let places = Places { permits: Arc::new(Semaphore::new(16)), spare: 4 };
        let router = Router::new().route("/", axum::routing::get(async || ""));
        let (shutdown, shutting_down) = watch::channel(false);
        let serving = runtime.spawn(serve_within(places, listener, router, shutting_down));
        let kept: Vec<_> = (0..50)
            .map(|_| {
                let client = Client::connect(address).expect("it listens");
                (ask(&client), client)
            })
            .collect();
        // The next may be asked before the place of the one before is free again.
        assert!(kept[..8].iter().all(|(was_last, _)| !was_last), "there is room for them");
        assert!(kept[16..].iter().all(|(was_last, _)| *was_last), "they would keep others out");
        shutdown.send_replace(true);
        drop(kept);
        runtime.block_on(serving).expect("it ends well");
    }
}
