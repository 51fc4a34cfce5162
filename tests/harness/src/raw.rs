//! A client that speaks bytes: for what no HTTP library would send, and for seeing what really came back.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use crate::wait::DEADLINE;

/// A connection with deadlines on every read and write.
#[derive(Debug)]
pub struct RawConnection {
    stream: TcpStream,
    /// Read and not yet taken.
    buffer: Vec<u8>,
}

/// A whole HTTP/1 answer as it came.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    pub status: u16,
    /// Names as they were written, values trimmed.
    pub headers: Vec<(String, String)>,
    /// Chunked coding taken off; trailers are not kept.
    pub body: Vec<u8>,
}

impl RawConnection {
    pub fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("the address accepts connections");
        Self::over(stream)
    }

    /// Speaks over a connection that is already there.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).expect("the deadline is not zero");
        stream.set_write_timeout(Some(DEADLINE)).expect("the deadline is not zero");
        stream.set_nodelay(true).expect("a TCP socket has Nagle's algorithm to switch off");
        Self { stream, buffer: Vec::new() }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends all of it; the error is the peer's (it closed, say).
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the peer takes what is sent");
    }

    /// Sends byte by byte, each in a segment of its own as far as the system allows.
    pub fn send_bytewise(&mut self, bytes: &[u8]) {
        bytes.chunks(1).for_each(|byte| self.send(byte));
    }

    /// Exactly this many bytes.
    pub fn read_exactly(&mut self, len: usize) -> Vec<u8> {
        while self.buffer.len() < len {
            assert!(self.fill().expect("bytes within the deadline") > 0, "closed after {} of {len}", self.buffer.len());
        }
        self.buffer.drain(..len).collect()
    }

    /// Everything up to and including `mark`.
    pub fn read_until(&mut self, mark: &[u8]) -> Vec<u8> {
        self.try_read_until(mark).unwrap_or_else(|error| panic!("no {:?}: {error}", String::from_utf8_lossy(mark)))
    }

    pub fn try_read_until(&mut self, mark: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|window| window == mark) {
                return Ok(self.buffer.drain(..at + mark.len()).collect());
            }
            if self.fill()? == 0 {
                let seen = String::from_utf8_lossy(&self.buffer).into_owned();
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("closed after {seen:?}")));
            }
        }
    }

    /// One answer to a request other than HEAD, body included; a `100 Continue` is an answer of its own.
    pub fn read_answer(&mut self) -> RawAnswer {
        self.try_read_answer().unwrap_or_else(|error| panic!("no whole answer: {error}"))
    }

    pub fn try_read_answer(&mut self) -> io::Result<RawAnswer> {
        let mut answer = self.try_read_head()?;
        let chunked = answer.header("transfer-encoding").is_some_and(|codings| codings.ends_with("chunked"));
        let length = answer.header("content-length").and_then(|length| length.parse().ok());
        answer.body = match (answer.status, chunked, length) {
            (100..=199 | 204 | 304, ..) => Vec::new(),
            (_, true, _) => self.read_chunks()?,
            (_, false, Some(length)) => self.read_length(length)?,
            (_, false, None) => self.read_to_end()?,
        };
        Ok(answer)
    }

    /// A head alone: for HEAD, or where the test reads the body in its own way.
    pub fn try_read_head(&mut self) -> io::Result<RawAnswer> {
        let head = self.try_read_until(b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| malformed(format!("status line {status_line:?}")))?;
        let headers = lines.filter_map(|line| line.split_once(':'));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        Ok(RawAnswer { status, headers, body: Vec::new() })
    }

    /// All that comes until the peer closes.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Waits for the peer to close, without anything more having come. A reset counts as closed.
    pub fn expect_close(&mut self) {
        match self.read_to_end() {
            Ok(rest) => assert!(rest.is_empty(), "before the close came {:?}", String::from_utf8_lossy(&rest)),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the peer does not close: {error}"),
        }
    }

    /// Whether nothing comes for `time`, and the connection stays open.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("not zero");
        let filled = self.fill();
        self.stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
        filled.is_err_and(|error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }

    /// No more will be sent (FIN).
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is open");
    }

    /// Ends with RST instead of FIN.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket can linger");
    }

    fn read_length(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < len {
            if self.fill()? == 0 {
                return Err(malformed(format!("closed after {} of {len} body bytes", self.buffer.len())));
            }
        }
        Ok(self.buffer.drain(..len).collect())
    }

    fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.try_read_until(b"\r\n")?;
            let size = String::from_utf8_lossy(&line);
            let size = size.trim().split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).map_err(|_| malformed(format!("chunk size {size:?}")))?;
            if size == 0 {
                while self.try_read_until(b"\r\n")? != b"\r\n" {}
                return Ok(body);
            }
            body.extend(self.read_length(size)?);
            self.try_read_until(b"\r\n")?;
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        let len = self.stream.read(&mut piece)?;
        self.buffer.extend_from_slice(&piece[..len]);
        Ok(len)
    }
}

impl RawAnswer {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn malformed(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
