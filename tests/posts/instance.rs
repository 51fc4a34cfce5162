//! Instances that break connections at random points, each a process of its own, so that it can be killed as such. What it
//! does with a POST it notes in its log, a line at a time.

use std::{io, io::Write, sync::Arc};

use fastrand::Rng;
use sluice_harness::instance::Asked;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};

use super::{
    ledger::Note,
    peer::{Incoming, body_of, reset_on_drop},
};

/// Of so many connections, one is reset as soon as it has been accepted.
const RESET_AT_ACCEPT: u32 = 10;
/// Of so many requests, one meets a connection that is reset.
const RESET: u32 = 12;

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

/// In the child process. Its name is its seed, another one for each of its lives.
pub async fn serve(listener: TcpListener, asked: Asked) {
    let seed: u64 = asked.name.parse().expect("the test names it so");
    let lived_len = asked.log.metadata().expect("it is open").len();
    let mut random = Rng::with_seed(seed.wrapping_add(lived_len));
    let asked = Arc::new(asked);
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
        let (asked, random) = (Arc::clone(&asked), random.fork());
        tokio::task::spawn_local(async move {
            // The gateway may end a connection when it likes.
            let _ = exchange(stream, &asked, random).await;
        });
    }
}

async fn exchange(mut stream: TcpStream, asked: &Asked, mut random: Rng) -> io::Result<()> {
    let mut incoming = Incoming::default();
    while let Some(head) = incoming.head(&mut stream).await? {
        let reset = (random.u32(..RESET) == 0).then(|| *random.choice(&RESETS).expect("there are some"));
        if reset.is_some() {
            reset_on_drop(&stream);
        }
        let id: usize = head.field("x-order").and_then(|id| id.parse().ok()).expect("the gateway forwards headers");
        let len = head.content_length();
        if reset == Some(Reset::AfterTheHead) {
            return Ok(());
        }
        if reset == Some(Reset::InTheBody) {
            incoming.body(&mut stream, random.usize(..len)).await?;
            return Ok(());
        }
        let body = incoming.body(&mut stream, len).await?;
        note(asked, if body == body_of(id, len) { Note::Executed } else { Note::Mistaken }, id);
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
        if cut_at < answer.len() {
            note(asked, Note::Cut, id);
        }
        stream.write_all(&answer.as_bytes()[..cut_at]).await?;
        if cut_at == answer.len() {
            note(asked, Note::Answered, id);
        }
        if reset.is_some() {
            return Ok(());
        }
    }
    Ok(())
}

/// One write, so that it is there whole however the process ends.
fn note(asked: &Asked, note: Note, id: usize) {
    (&asked.log).write_all(note.line(id).as_bytes()).expect("the test's folder can be written to");
}
