//! A request's head and a chunked body's trailers, line by line as they come.

use std::ops::Range;

use super::{
    Refusal,
    field::{self, Field},
    framing::{self, Framing},
    host::is_authority,
    line::Lines,
    request_line::{self, REQUEST_LINE_LEN_MAX, RequestLine},
};
use crate::model::Limits;

/// What one head or one trailer section may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub bytes_max: usize,
    pub fields_max: usize,
}

impl Bounds {
    pub fn of(limits: &Limits) -> Self {
        Self { bytes_max: limits.header_bytes_max, fields_max: limits.header_count_max }
    }

    /// Within its first bytes a section must end, however many have come: so the answer does not depend on
    /// how they came.
    fn window(self, bytes: &[u8]) -> &[u8] {
        &bytes[..bytes.len().min(self.bytes_max)]
    }

    fn is_used_up(self, bytes: &[u8]) -> bool {
        bytes.len() >= self.bytes_max
    }
}

/// A good head.
#[derive(Clone, Copy, Debug)]
pub struct HeadEnd {
    /// With the empty line at its end.
    pub len: usize,
    pub framing: Framing,
    /// It asks for another protocol (RFC 9110 §7.8; HTTP/1.0 cannot).
    pub upgrade: bool,
}

/// A head being read.
#[derive(Debug, Default)]
pub struct Head {
    lines: Lines,
    request: Option<RequestLine>,
    fields: usize,
    host: Option<Range<usize>>,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

impl Head {
    /// `bytes` begins where the head begins, each time. None: not complete yet.
    pub fn read(&mut self, bytes: &[u8], bounds: Bounds) -> Result<Option<HeadEnd>, Refusal> {
        if self.request.is_none() && !self.read_request_line(bytes, bounds)? {
            return Ok(None);
        }
        let window = bounds.window(bytes);
        loop {
            let line_start = self.lines.start();
            match self.lines.next(window)? {
                None if bounds.is_used_up(bytes) => return Err(Refusal::HeadTooLarge),
                None => return Ok(None),
                Some([]) => return self.end(bytes).map(Some),
                Some(line) => {
                    self.fields += 1;
                    if self.fields > bounds.fields_max {
                        return Err(Refusal::TooManyFields);
                    }
                    self.take_field(line, line_start)?;
                }
            }
        }
    }

    /// Whether more has come than the one empty line that may precede a head.
    pub fn has_begun(&self, bytes: &[u8]) -> bool {
        bytes.len() > bytes.iter().take(2).take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
    }

    /// Whether the request line is there.
    fn read_request_line(&mut self, bytes: &[u8], bounds: Bounds) -> Result<bool, Refusal> {
        let len_max = bounds.bytes_max.min(REQUEST_LINE_LEN_MAX);
        let window = &bytes[..bytes.len().min(len_max)];
        loop {
            let start = self.lines.start();
            if window.get(start).is_some_and(|&byte| !request_line::may_begin_with(byte)) {
                return Err(Refusal::Method);
            }
            match self.lines.next(window)? {
                None if window.len() == len_max => return Err(request_line::too_long(&window[start..])),
                None => return Ok(false),
                Some([]) if start > 0 => return Err(Refusal::EmptyLines),
                Some([]) => {}
                Some(line) => {
                    let mut request = request_line::parse(line)?;
                    request.authority = request.authority.map(|range| start + range.start..start + range.end);
                    self.request = Some(request);
                    return Ok(true);
                }
            }
        }
    }

    fn take_field(&mut self, line: &[u8], line_start: usize) -> Result<(), Refusal> {
        let (field, range) = field::parse(line)?;
        let value = &line[range.clone()];
        match field {
            Field::Other => {}
            Field::Upgrade => self.upgrade = true,
            Field::Expect if value.eq_ignore_ascii_case(b"100-continue") => {}
            Field::Expect => return Err(Refusal::Expectation),
            Field::Host if self.host.is_some() => return Err(Refusal::HostRepeated),
            Field::Host if !is_authority(value) => return Err(Refusal::HostInvalid),
            Field::Host => self.host = Some(line_start + range.start..line_start + range.end),
            Field::ContentLength if self.length.is_some() => return Err(Refusal::LengthRepeated),
            Field::ContentLength => self.length = Some(framing::content_length(value)?),
            Field::TransferEncoding if self.chunked => return Err(Refusal::CodingRepeated),
            Field::TransferEncoding => {
                framing::transfer_encoding(value)?;
                self.chunked = true;
            }
        }
        Ok(())
    }

    /// What only the whole head shows.
    fn end(&self, bytes: &[u8]) -> Result<HeadEnd, Refusal> {
        let request = self.request.as_ref().expect("fields are read after the request line");
        match (&self.host, &request.authority) {
            (None, _) if request.is_http_11 => return Err(Refusal::HostMissing),
            (Some(host), Some(authority)) if !bytes[host.clone()].eq_ignore_ascii_case(&bytes[authority.clone()]) => {
                return Err(Refusal::HostMismatch);
            }
            _ => {}
        }
        let framing = match (self.length, self.chunked) {
            (Some(_), true) => return Err(Refusal::LengthAndCoding),
            (None, true) if !request.is_http_11 => return Err(Refusal::CodingInHttp10),
            (None, true) => Framing::Chunked,
            (length, false) => Framing::Length(length.unwrap_or(0)),
        };
        Ok(HeadEnd { len: self.lines.start(), framing, upgrade: self.upgrade && request.is_http_11 })
    }
}

/// The trailer section of a chunked body being read, up to the empty line that ends the body.
#[derive(Debug, Default)]
pub struct Trailers {
    lines: Lines,
    fields: usize,
}

impl Trailers {
    /// Like [`Head::read`]; answers with the length.
    pub fn read(&mut self, bytes: &[u8], bounds: Bounds) -> Result<Option<usize>, Refusal> {
        let window = bounds.window(bytes);
        loop {
            match self.lines.next(window)? {
                None if bounds.is_used_up(bytes) => return Err(Refusal::HeadTooLarge),
                None => return Ok(None),
                Some([]) => return Ok(Some(self.lines.start())),
                Some(line) => {
                    self.fields += 1;
                    if self.fields > bounds.fields_max {
                        return Err(Refusal::TooManyFields);
                    }
                    if let (Field::Host | Field::ContentLength | Field::TransferEncoding, _) = field::parse(line)? {
                        return Err(Refusal::TrailerField);
                    }
                }
            }
        }
    }
}
