//! Listening sockets: one of each address for each worker, and connections spread evenly.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;

use super::{
    client,
    worker::{Command, Peers, Worker},
};

/// Connections that the kernel keeps for a worker that is busy (Linux caps it at `net.core.somaxconn`, 4096).
const BACKLOG: i32 = 4096;

/// After an accept that failed for want of descriptors or memory: time for some to be given back.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Room is looked for so often while the limit of connections is reached.
const FULL_BACKOFF: Duration = Duration::from_millis(10);

/// A worker hands a connection on when it has more than the least loaded one by more than this part of its own.
/// `SO_REUSEPORT` hashes: evenly over thousands of connections, but not over the few long-lived ones of HTTP/2
/// clients. So few are spread exactly, and of many only what is worth the way to another thread.
const IMBALANCE_PART: usize = 16;

/// A connection on its way to the worker that will serve it.
#[derive(Debug)]
pub struct Accepted {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    place: Place,
}

/// A connection counted for one worker, until it is dropped.
#[derive(Debug)]
pub struct Place {
    peers: Arc<Peers>,
    worker: usize,
}

impl Place {
    fn take(peers: &Arc<Peers>, worker: usize) -> Self {
        peers.connections[worker].fetch_add(1, Ordering::Relaxed);
        Self { peers: Arc::clone(peers), worker }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.peers.connections[self.worker].fetch_sub(1, Ordering::Relaxed);
    }
}

/// One socket for each worker, all of one address. Port 0 takes a free one.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        // With SO_REUSEPORT a second gateway of the same user could bind too, and would take half of the
        // connections without a word.
        open(address, false)?;
    }
    let first = open(address, true)?;
    let bound = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(open(bound, true)?);
    }
    Ok(sockets)
}

fn open(address: SocketAddr, reuse_port: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the worker drains; then takes what is queued already, and closes.
pub async fn accept(worker: Rc<Worker>, listener: TcpListener) {
    worker.ready().await;
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        tracing::error!("a listener cannot be registered with the event loop");
        return;
    };
    loop {
        if worker.peers.total() >= worker.state().snapshot.limits.connections_max && !worker.draining.get() {
            tokio::time::sleep(FULL_BACKOFF).await;
            continue;
        }
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = worker.drains() => break,
        };
        match accepted {
            Ok((stream, peer)) => place(&worker, stream, peer),
            // A connection that its client gave up while it was queued.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    // Closing resets what is queued; so it is taken first.
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((stream, peer)) = listener.accept() {
        if stream.set_nonblocking(true).is_ok() {
            take_over(&worker, Accepted { stream, peer, place: Place::take(&worker.peers, worker.id) });
        }
    }
}

/// Serves a connection here, or hands it to a worker that has clearly fewer.
fn place(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    let counts = &worker.peers.connections;
    let mine = counts[worker.id].load(Ordering::Relaxed);
    let least = (0..counts.len()).min_by_key(|&id| counts[id].load(Ordering::Relaxed)).unwrap_or(worker.id);
    if mine <= counts[least].load(Ordering::Relaxed) + mine / IMBALANCE_PART {
        client::serve(worker, stream, peer, Place::take(&worker.peers, worker.id));
        return;
    }
    let Ok(stream) = stream.into_std() else { return };
    // Counted at once, so that a burst is not all sent to the same worker.
    let accepted = Accepted { stream, peer, place: Place::take(&worker.peers, least) };
    if let Err(unsent) = worker.peers.commands[least].send(Command::Take(accepted))
        && let Command::Take(accepted) = unsent.0
    {
        take_over(worker, accepted);
    }
}

/// Serves a connection that another worker accepted, or that was queued when draining began.
pub fn take_over(worker: &Rc<Worker>, accepted: Accepted) {
    match TcpStream::from_std(accepted.stream) {
        Ok(stream) => client::serve(worker, stream, accepted.peer, accepted.place),
        Err(error) => tracing::warn!(%error, "a connection cannot be registered with the event loop"),
    }
}
