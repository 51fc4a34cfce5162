//! Lines that end with CR LF and nothing else.

use memchr::memchr2;

use super::Refusal;

/// Finds line after line in bytes that grow, without looking at a byte twice.
#[derive(Debug, Default)]
pub struct Lines {
    /// Where the current line begins.
    start: usize,
    /// No line end before this.
    scanned: usize,
}

impl Lines {
    /// Where the next line begins: behind all those given out.
    pub fn start(&self) -> usize {
        self.start
    }

    /// The next line without its end; none where it is not complete within `bytes`.
    pub fn next<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Refusal> {
        let Some(found) = memchr2(b'\r', b'\n', &bytes[self.scanned..]) else {
            self.scanned = bytes.len();
            return Ok(None);
        };
        let end = self.scanned + found;
        match (bytes[end], bytes.get(end + 1)) {
            (b'\n', _) => Err(Refusal::BareLf),
            (_, Some(b'\n')) => {
                let line = &bytes[self.start..end];
                self.start = end + 2;
                self.scanned = self.start;
                Ok(Some(line))
            }
            (_, Some(_)) => Err(Refusal::BareCr),
            (_, None) => {
                self.scanned = end;
                Ok(None)
            }
        }
    }
}
