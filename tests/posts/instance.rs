//! Instances that break connections at random points, and one that can be killed.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
};

use fastrand::Rng;
use sluice_harness::{DEADLINE, wait_for};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use super::{
    ledger::Ledger,
    peer::{Incoming, body_of, reset_on_drop},
};

/// Of so many connections, one is reset as soon as it has been accepted.
const RESET_AT_ACCEPT: u32 = 10;
/// Of so many requests, one meets a connection that is reset.
const RESET: u32 = 12;

/// A server of its own thread.
pub struct Instance {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    seed: u64,
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// Where a connection is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reset {
    AfterTheHead,
    InTheBody,
    BeforeTheAnswer,
    InTheAnswersHead,
    InTheAnswersBody,
    AfterTheAnswer,
}

const RESETS: [Reset; 6] = [
    Reset::AfterTheHead,
    Reset::InTheBody,
    Reset::BeforeTheAnswer,
    Reset::InTheAnswersHead,
    Reset::InTheAnswersBody,
    Reset::AfterTheAnswer,
];

impl Instance {
    pub fn start(ledger: &Arc<Ledger>, seed: u64) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut instance = Self { address, ledger: Arc::clone(ledger), seed, running: None };
        instance.restart();
        instance
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// On the address that it had before.
    pub fn restart(&mut self) {
        // A connection of somebody else's may have taken the port for a moment.
        let listener = wait_for("the port to be free", DEADLINE, || std::net::TcpListener::bind(self.address).ok());
        listener.set_nonblocking(true).expect("a socket can be made non-blocking");
        self.address = listener.local_addr().expect("bound");
        self.seed = self.seed.wrapping_add(1);
        let (stop, stopped) = oneshot::channel();
        let (ledger, random) = (Arc::clone(&self.ledger), Rng::with_seed(self.seed));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            // Dropping the runtime with the block drops the listener and every connection, wherever they are.
            runtime.expect("a runtime can be built").block_on(async {
                let listener = TcpListener::from_std(listener).expect("made non-blocking above");
                tokio::select! {
                    () = accept(listener, ledger, random) => {}
                    _ = stopped => {}
                }
            });
        });
        self.running = Some((stop, thread));
    }

    /// The listener and all connections end at once.
    pub fn kill(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            // The thread may have ended by itself; joining it shows that.
            let _ = stop.send(());
            thread.join().expect("the instance does not panic");
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn accept(listener: TcpListener, ledger: Arc<Ledger>, mut random: Rng) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        // On a socket that the peer has already closed; serving it will find that out.
        let _ = stream.set_nodelay(true);
        if random.bool() {
            reset_on_drop(&stream);
        }
        if random.u32(..RESET_AT_ACCEPT) == 0 {
            reset_on_drop(&stream);
            continue;
        }
        let (ledger, random) = (Arc::clone(&ledger), random.fork());
        tokio::spawn(async move {
            // The gateway may end a connection when it likes.
            let _ = serve(stream, &ledger, random).await;
        });
    }
}

async fn serve(mut stream: TcpStream, ledger: &Ledger, mut random: Rng) -> io::Result<()> {
    let mut incoming = Incoming::default();
    while let Some(head) = incoming.head(&mut stream).await? {
        let reset = (random.u32(..RESET) == 0).then(|| *random.choice(&RESETS).expect("there are some"));
        if reset.is_some() {
            reset_on_drop(&stream);
        }
        let id: usize = head.field("x-order").and_then(|id| id.parse().ok()).expect("the gateway forwards headers");
        let (post, len) = (ledger.post(id), head.content_length());
        if reset == Some(Reset::AfterTheHead) {
            return Ok(());
        }
        if reset == Some(Reset::InTheBody) {
            incoming.body(&mut stream, random.usize(..len)).await?;
            return Ok(());
        }
        let body = incoming.body(&mut stream, len).await?;
        assert!(body == body_of(id, len), "POST {id} came with another one's body");
        post.executed.fetch_add(1, Ordering::AcqRel);
        if reset == Some(Reset::BeforeTheAnswer) {
            return Ok(());
        }
        let answer_head = format!("HTTP/1.1 201 Created\r\nx-order: {id}\r\ncontent-length: 16\r\n\r\n");
        let answer = format!("{answer_head}{:>16}", format!("order {id}"));
        let cut_at = match reset {
            Some(Reset::InTheAnswersHead) => random.usize(1..answer_head.len()),
            Some(Reset::InTheAnswersBody) => random.usize(answer_head.len()..answer.len()),
            _ => answer.len(),
        };
        // Noted before, as the client may read at once what is written.
        post.cut.store(cut_at < answer.len(), Ordering::Release);
        stream.write_all(&answer.as_bytes()[..cut_at]).await?;
        post.answered.store(cut_at == answer.len(), Ordering::Release);
        if reset.is_some() {
            return Ok(());
        }
    }
    Ok(())
}
