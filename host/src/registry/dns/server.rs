//! The sockets: UDP and TCP on one port.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Lookup, Transport, Zone, respond};

/// Resolvers come by TCP only for what did not fit into a datagram. Beyond, connections wait to be accepted.
pub const CONNECTIONS_MAX: usize = 256;
/// For the next query to have come in whole, and for an answer to be taken: RFC 7766 §6.2.3 wants seconds.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// After an accept or a receive that failed: file descriptors or memory have run out, and some will come free.
const PAUSE: Duration = Duration::from_millis(100);
/// Of a datagram, its length field's most.
const DATAGRAM_BYTES_MAX: usize = u16::MAX as usize;
/// Where the system chooses the port, the UDP port of the same number may be taken.
const BINDS_MAX: usize = 16;

/// Bound, not serving yet.
#[derive(Debug)]
pub struct DnsServer {
    address: SocketAddr,
    udp: UdpSocket,
    tcp: TcpListener,
}

impl DnsServer {
    /// Port 0 takes one that is free for both.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let mut binds = 1;
        loop {
            let tcp = TcpListener::bind(address).await?;
            let bound = tcp.local_addr()?;
            match UdpSocket::bind(bound).await {
                Ok(udp) => return Ok(Self { address: bound, udp, tcp }),
                Err(_) if address.port() == 0 && binds < BINDS_MAX => binds += 1,
                Err(error) => return Err(error),
            }
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` becomes true or its sender is gone; an exchange under way is cut off.
    pub async fn serve(self, zone: Zone, lookup: impl Lookup, shutdown: watch::Receiver<bool>) {
        self.serve_within(CONNECTION_TIMEOUT, zone, lookup, shutdown).await;
    }

    pub(super) async fn serve_within(
        self,
        connection_timeout: Duration,
        zone: Zone,
        lookup: impl Lookup,
        mut shutdown: watch::Receiver<bool>,
    ) {
        let answers = Arc::new(Answers { zone, lookup, connection_timeout });
        tokio::select! {
            () = serve_udp(self.udp, &answers) => {}
            () = serve_tcp(self.tcp, &answers) => {}
            // An error means that the sender is gone, which is a shutdown too.
            _ = shutdown.wait_for(|&shutdown| shutdown) => {}
        }
    }
}

struct Answers<L> {
    zone: Zone,
    lookup: L,
    connection_timeout: Duration,
}

impl<L: Lookup> Answers<L> {
    fn respond(&self, query: &[u8], transport: Transport, rng: &mut Rng) -> Option<Vec<u8>> {
        respond(query, transport, &self.zone, &self.lookup, rng)
    }
}

/// One after the other: an answer takes microseconds and waits for nothing.
async fn serve_udp(socket: UdpSocket, answers: &Answers<impl Lookup>) {
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    let mut rng = Rng::new();
    loop {
        let (len, peer) = match socket.recv_from(&mut datagram).await {
            Ok(received) => received,
            Err(error) => {
                tracing::warn!(%error, "the DNS server could not receive a datagram");
                sleep(PAUSE).await;
                continue;
            }
        };
        if let Some(answer) = answers.respond(&datagram[..len], Transport::Udp, &mut rng)
            && let Err(error) = socket.send_to(&answer, peer).await
        {
            tracing::debug!(%error, %peer, "a DNS answer could not be sent");
        }
    }
}

async fn serve_tcp(listener: TcpListener, answers: &Arc<Answers<impl Lookup>>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            (stream, permit) = accept(&listener, &permits) => {
                connections.spawn(serve_connection(stream, permit, Arc::clone(answers)));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn accept(listener: &TcpListener, permits: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        let permit = Arc::clone(permits).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => return (stream, permit),
            Err(error) => {
                tracing::warn!(%error, "the DNS server did not accept a connection");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Queries one after the other, as many as come (RFC 7766 §6.2.1); bytes that are no query end the connection.
async fn serve_connection(mut stream: TcpStream, _permit: OwnedSemaphorePermit, answers: Arc<Answers<impl Lookup>>) {
    // Answers are one write; not waiting for an acknowledgement is all that matters.
    let _ = stream.set_nodelay(true);
    let (mut rng, limit) = (Rng::new(), answers.connection_timeout);
    loop {
        let Ok(Ok(query)) = timeout(limit, read_framed(&mut stream)).await else { return };
        let Some(answer) = answers.respond(&query, Transport::Tcp, &mut rng) else { return };
        let Ok(Ok(())) = timeout(limit, write_framed(&mut stream, &answer)).await else { return };
    }
}

/// A length of two bytes and so much more (RFC 1035 §4.2.2).
async fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let len = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes()[..], message].concat()).await
}
