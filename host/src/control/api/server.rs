//! The control listener's connections: few, short heads, none waited for longer than it must.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

/// Services with their heartbeats and those who wait for the registry to change, operators, their dashboards and a few
/// scrapers. Beyond, connections wait to be accepted.
pub const CONNECTIONS_MAX: usize = 4096;
/// From a connection's first byte, or the answer before, to the end of the next head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Of a head. A bearer token and a browser's headers are a few KiB.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// After an accept that failed: file descriptors have run out, and some will come free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long answers under way may take at the end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Serves until `shutdown` becomes true or its sender is gone, and then ends what is under way.
pub async fn serve(listener: TcpListener, router: Router, mut shutdown: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = accept(&listener, &permits) => {
                let (stream, permit) = accepted;
                connections.spawn(serve_connection(stream, permit, router.clone(), shutdown.clone()));
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

async fn serve_connection(
    stream: TcpStream,
    _permit: OwnedSemaphorePermit,
    router: Router,
    mut shutdown: watch::Receiver<bool>,
) {
    // Answers are one write; not waiting for an acknowledgement is all that matters.
    let _ = stream.set_nodelay(true);
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

async fn until_true(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a shutdown too.
    drop(shutdown.wait_for(|&shutdown| shutdown).await);
}
