//! HTTP/1.1 by hand, as far as these tests need it: heads, and bodies of a stated length.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
};

/// One side of a connection, as it is read.
#[derive(Default)]
pub struct Incoming {
    buffer: Vec<u8>,
}

/// A request's or an answer's head.
pub struct Head {
    text: String,
}

impl Incoming {
    /// None at the end of the connection.
    pub async fn head(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Head>> {
        loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..at + 4).collect();
                return Ok(Some(Head { text: String::from_utf8_lossy(&head).to_ascii_lowercase() }));
            }
            if self.fill(stream).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Exactly so many bytes.
    pub async fn body(&mut self, stream: &mut (impl AsyncRead + Unpin), len: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < len {
            if self.fill(stream).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..len).collect())
    }

    async fn fill(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        stream.read_buf(&mut self.buffer).await
    }
}

impl Head {
    /// The first line's second word: the path, or the status.
    pub fn second_word(&self) -> &str {
        self.text.split(' ').nth(1).unwrap_or_default()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        let fields = self.text.lines().filter_map(|line| line.split_once(':'));
        fields.into_iter().find_map(|(known, value)| (known == name).then_some(value.trim()))
    }

    pub fn content_length(&self) -> usize {
        self.field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0)
    }
}

/// The body of a POST: its own, so that one which is put together of two shows.
pub fn body_of(id: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| ((id + at) % 251) as u8).collect()
}

/// However it is dropped, it ends with RST.
pub fn reset_on_drop(stream: &TcpStream) {
    // Fails where the peer has reset it already.
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
