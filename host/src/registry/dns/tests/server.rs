//! The sockets.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Instant,
};

use tokio::{runtime::Runtime, sync::watch, task::JoinHandle};

use super::*;

/// Longer than any answer takes; a socket that waits for so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const RESEND_AFTER: Duration = Duration::from_millis(500);

struct Serving {
    address: SocketAddr,
    shutdown: watch::Sender<bool>,
    task: JoinHandle<()>,
    runtime: Runtime,
}

fn serve(connection_timeout: Duration) -> Serving {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("it starts");
    let (shutdown, shutting_down) = watch::channel(false);
    let server = runtime.block_on(DnsServer::bind((Ipv4Addr::LOCALHOST, 0).into())).expect("a free port");
    let address = server.address();
    let task = runtime.spawn(server.serve_within(connection_timeout, zone(), shop(), shutting_down));
    Serving { address, shutdown, task, runtime }
}

impl Serving {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        stream
    }

    fn udp(&self) -> UdpSocket {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        socket.connect(self.address).expect("it can be connected");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        socket
    }
}

fn web() -> Vec<u8> {
    query("web.service.consul.", RecordType::A).to_vec().expect("it can be written")
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).expect("it is short").to_be_bytes()[..], message].concat()
}

fn read_framed(stream: &mut TcpStream) -> io::Result<Message> {
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(len))];
    stream.read_exact(&mut message)?;
    Ok(Message::from_vec(&message).expect("it can be read"))
}

/// As resolvers do: asked again where nothing comes, since the system drops what does not fit into its buffer.
fn ask_over_udp(socket: &UdpSocket, query: &[u8]) -> Message {
    socket.set_read_timeout(Some(RESEND_AFTER)).expect("a socket has a timeout");
    let (begun, mut answer) = (Instant::now(), [0; 65_535]);
    while begun.elapsed() < PATIENCE {
        socket.send(query).expect("it is sent");
        while let Ok(len) = socket.recv(&mut answer) {
            // Others may be answers to noise.
            if answer[..2] == query[..2] {
                return Message::from_vec(&answer[..len]).expect("it can be read");
            }
        }
    }
    panic!("no answer within {PATIENCE:?}");
}

#[test]
fn one_port_answers_over_udp_and_tcp() {
    let serving = serve(PATIENCE);
    assert_eq!(addresses(&ask_over_udp(&serving.udp(), &web())).len(), 2);
    let mut stream = serving.connect();
    // In two pieces, and two queries at once.
    let twice = [framed(&web()), framed(&web())].concat();
    stream.write_all(&twice[..5]).expect("it is sent");
    stream.write_all(&twice[5..]).expect("it is sent");
    for _ in 0..2 {
        assert_eq!(addresses(&read_framed(&mut stream).expect("it is answered")).len(), 2);
    }
}

#[test]
fn noise_does_not_end_it() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let serving = serve(PATIENCE);
    let socket = serving.udp();
    for _ in 0..500 {
        let noise: Vec<u8> = (0..rng.usize(..600)).map(|_| rng.u8(..)).collect();
        socket.send(&noise).expect("it is sent");
    }
    for _ in 0..20 {
        let noise: Vec<u8> = (0..rng.usize(..600)).map(|_| rng.u8(..)).collect();
        // It may have closed the connection before all is sent.
        let _ = serving.connect().write_all(&noise);
    }
    assert_eq!(addresses(&ask_over_udp(&serving.udp(), &web())).len(), 2);
    let mut stream = serving.connect();
    stream.write_all(&framed(&web())).expect("it is sent");
    assert_eq!(addresses(&read_framed(&mut stream).expect("it is answered")).len(), 2);
}

#[test]
fn a_connection_that_brings_no_whole_query_in_time_is_closed() {
    let serving = serve(Duration::from_millis(100));
    for begun in [&b""[..], b"\0", &framed(&web())[..20]] {
        let mut stream = serving.connect();
        stream.write_all(begun).expect("it is sent");
        let ended = stream.read(&mut [0]).map_err(|error| error.kind());
        assert!(matches!(ended, Ok(0) | Err(io::ErrorKind::ConnectionReset)), "{ended:?}");
    }
}

#[test]
fn a_connection_that_brings_no_query_is_closed() {
    let serving = serve(PATIENCE);
    let mut stream = serving.connect();
    stream.write_all(&framed(b"no query")).expect("it is sent");
    assert_eq!(stream.read(&mut [0]).expect("it is closed"), 0);
}

#[test]
fn more_connections_than_may_be_wait_until_one_has_gone() {
    let serving = serve(PATIENCE);
    let mut held: Vec<_> = (0..CONNECTIONS_MAX).map(|_| serving.connect()).collect();
    // Each has been accepted once it has been answered.
    for stream in &mut held {
        stream.write_all(&framed(&web())).expect("it is sent");
        read_framed(stream).expect("it is answered");
    }
    let mut waiting = serving.connect();
    waiting.write_all(&framed(&web())).expect("it is sent");
    waiting.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket has a timeout");
    assert!(read_framed(&mut waiting).is_err(), "one more was served");
    assert_eq!(addresses(&ask_over_udp(&serving.udp(), &web())).len(), 2, "datagrams do not wait");
    waiting.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    held.pop();
    assert_eq!(addresses(&read_framed(&mut waiting).expect("its turn has come")).len(), 2);
}

#[test]
fn a_shutdown_ends_it_with_connections_open() {
    let Serving { address, shutdown, task, runtime } = serve(PATIENCE);
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(&framed(&web())).expect("it is sent");
    read_framed(&mut stream).expect("it is answered");
    shutdown.send_replace(true);
    runtime.block_on(task).expect("it ends");
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(stream.read(&mut [0]).expect("it is closed"), 0);
}

#[test]
fn a_port_in_use_is_an_error() {
    let serving = serve(PATIENCE);
    let again = serving.runtime.block_on(DnsServer::bind(serving.address));
    assert_eq!(again.map_err(|error| error.kind()).err(), Some(io::ErrorKind::AddrInUse));
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let taken = udp.local_addr().expect("bound");
    let again = serving.runtime.block_on(DnsServer::bind(taken));
    assert_eq!(again.map_err(|error| error.kind()).err(), Some(io::ErrorKind::AddrInUse));
}
