//! Clients that send each POST once, and tell what they were told.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use fastrand::Rng;
use serde_json::Value;
use tokio::{io::AsyncWriteExt, net::TcpStream, task::LocalSet};

use super::{
    ledger::Progress,
    peer::{Head, Incoming, body_of},
};

/// Of the most bodies: within what is sent at once.
const SMALL_BODY_LEN: usize = 2_000;
/// Of one body in [`LARGE_BODIES`]: beyond what is sent at once.
const LARGE_BODY_LEN: usize = 100_000;
const LARGE_BODIES: u32 = 100;
/// A POST without a whole answer after this long has failed.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    Well,
    /// By the gateway, with a problem document.
    Refused {
        status: u16,
        request_sent: Option<bool>,
        detail: String,
    },
    /// Its answer, if one came, was not whole.
    Broken(String),
}

/// Sends all POSTs; what came of each, by id.
pub fn run(address: SocketAddr, progress: &Arc<Progress>, connections: usize, seed: u64) -> Vec<Answered> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    let mut random = Rng::with_seed(seed);
    LocalSet::new().block_on(&runtime, async {
        let clients: Vec<_> = (0..connections)
            .map(|_| tokio::task::spawn_local(client(address, Arc::clone(progress), random.fork())))
            .collect();
        let mut all = vec![Answered::Broken("never sent".to_owned()); progress.len()];
        for client in clients {
            let answers = client.await.expect("a client does not panic");
            answers.into_iter().for_each(|(id, answered)| all[id] = answered);
        }
        all
    })
}

async fn client(address: SocketAddr, progress: Arc<Progress>, mut random: Rng) -> Vec<(usize, Answered)> {
    let mut answers = Vec::new();
    let mut kept = None;
    while let Some(id) = progress.next() {
        let large = random.u32(..LARGE_BODIES) == 0;
        let body = body_of(id, if large { LARGE_BODY_LEN } else { random.usize(1..SMALL_BODY_LEN) });
        let in_two = random.bool().then(|| random.usize(..body.len()));
        let answered = tokio::time::timeout(TIMEOUT, post(address, &mut kept, id, &body, in_two)).await;
        let answered = answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        answers.push((id, answered.unwrap_or_else(|error| Answered::Broken(error.to_string()))));
        progress.note_done();
    }
    answers
}

/// One POST, on the connection that is kept or on a new one. `in_two`: where it is sent in two pieces.
async fn post(
    address: SocketAddr,
    kept: &mut Option<TcpStream>,
    id: usize,
    body: &[u8],
    in_two: Option<usize>,
) -> io::Result<Answered> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    let (whole, head, answer) = exchange(&mut stream, id, body, in_two).await?;
    let closes = head.field("connection") == Some("close");
    *kept = (whole && !closes).then_some(stream);
    if head.second_word() == "201" {
        let expected = format!("{:>16}", format!("order {id}"));
        assert_eq!(String::from_utf8_lossy(&answer), expected, "POST {id} got another one's answer");
        return Ok(Answered::Well);
    }
    let problem: Value = serde_json::from_slice(&answer).unwrap_or_default();
    let status = head.second_word().parse().map_err(|_| io::ErrorKind::InvalidData)?;
    let detail = problem["detail"].as_str().unwrap_or_default().to_owned();
    Ok(Answered::Refused { status, request_sent: problem["request_sent"].as_bool(), detail })
}

/// Sends it and takes what comes back; also whether all of it was sent by then.
async fn exchange(
    stream: &mut TcpStream,
    id: usize,
    body: &[u8],
    in_two: Option<usize>,
) -> io::Result<(bool, Head, Vec<u8>)> {
    let len = body.len();
    let head = format!("POST /orders HTTP/1.1\r\nhost: orders\r\nx-order: {id}\r\ncontent-length: {len}\r\n\r\n");
    let (mut reader, mut writer) = stream.split();
    let sending = async {
        let first = in_two.unwrap_or(len);
        writer.write_all(&[head.as_bytes(), &body[..first]].concat()).await?;
        tokio::task::yield_now().await;
        writer.write_all(&body[first..]).await
    };
    let mut incoming = Incoming::default();
    let receiving = async {
        let head = incoming.head(&mut reader).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let body = incoming.body(&mut reader, head.content_length()).await?;
        io::Result::Ok((head, body))
    };
    let (mut sending, mut receiving) = (pin!(sending), pin!(receiving));
    // An answer may come before all has been sent, and then nobody may read the rest.
    let (whole, received) = tokio::select! {
        biased;
        sent = &mut sending => (sent.is_ok(), receiving.await),
        received = &mut receiving => (false, received),
    };
    let (head, body) = received?;
    Ok((whole, head, body))
}
