//! Readers that are wrong in the ways in which real servers have been. On what the guard lets through none of
//! them may find other messages than it did; else a request could hide within a request.

/// One way to be careless; each flag is a mistake that has been exploited.
#[derive(Clone, Copy, Debug)]
struct Reader {
    /// Takes a CR alone for a line's end.
    cr_ends_lines: bool,
    /// Takes white space before the colon for part of nothing, and `_` for `-`.
    forgives_names: bool,
    /// Takes any coding that contains "chunked" for chunked.
    chunked_anywhere: bool,
    /// Takes the length where both are there.
    length_wins: bool,
    /// Of several lengths takes the last.
    last_length: bool,
    /// Reads a length up to what is no digit, as `atoi` does.
    number_prefix: bool,
    /// Ends a chunk's line at the first LF, wherever it stands.
    lf_ends_chunk_lines: bool,
}

const FLAGS: u32 = 7;

impl Reader {
    fn nth(bits: u32) -> Self {
        let flag = |bit: u32| bits >> bit & 1 == 1;
        Self {
            cr_ends_lines: flag(0),
            forgives_names: flag(1),
            chunked_anywhere: flag(2),
            length_wins: flag(3),
            last_length: flag(4),
            number_prefix: flag(5),
            lf_ends_chunk_lines: flag(6),
        }
    }

    /// Where the message at the start ends; none where it does not end within the bytes.
    fn end_of(self, bytes: &[u8]) -> Option<usize> {
        let (lines, head_len) = self.head(bytes)?;
        let mut lengths = Vec::new();
        let mut codings = Vec::new();
        for line in &lines {
            let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
            let mut name = line[..colon].to_ascii_lowercase();
            if self.forgives_names {
                name = name.trim_ascii().iter().map(|&byte| if byte == b'_' { b'-' } else { byte }).collect();
            }
            match name.as_slice() {
                b"content-length" => lengths.push(line[colon + 1..].trim_ascii()),
                b"transfer-encoding" => codings.push(line[colon + 1..].trim_ascii().to_ascii_lowercase()),
                _ => {}
            }
        }
        let is_chunked = codings.iter().any(|coding| match self.chunked_anywhere {
            true => coding.windows(7).any(|window| window == b"chunked"),
            false => coding == b"chunked",
        });
        let length = if self.last_length { lengths.last() } else { lengths.first() };
        let body_len = match length {
            Some(length) if !is_chunked || self.length_wins => self.number(length)?,
            _ if is_chunked => self.chunks_len(&bytes[head_len..])?,
            _ => 0,
        };
        head_len.checked_add(body_len).filter(|&end| end <= bytes.len())
    }

    /// The lines after the first, and the length with the empty line at the end.
    fn head(self, bytes: &[u8]) -> Option<(Vec<&[u8]>, usize)> {
        let mut lines = Vec::new();
        let mut start = 0;
        loop {
            let (line, next) = self.line(bytes, start)?;
            start = next;
            // An empty line before the first is skipped, the first after it ends the head.
            match (line.is_empty(), lines.is_empty()) {
                (true, true) => {}
                (true, false) => return Some((lines.split_off(1), next)),
                (false, _) => lines.push(line),
            }
        }
    }

    fn line(self, bytes: &[u8], start: usize) -> Option<(&[u8], usize)> {
        let rest = &bytes[start..];
        let end = rest.iter().position(|&byte| byte == b'\n' || self.cr_ends_lines && byte == b'\r')?;
        let is_crlf = rest[end] == b'\r' && rest.get(end + 1) == Some(&b'\n');
        let line = &rest[..end];
        Some((line.strip_suffix(b"\r").unwrap_or(line), start + end + if is_crlf { 2 } else { 1 }))
    }

    fn number(self, digits: &[u8]) -> Option<usize> {
        let len = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = if self.number_prefix { &digits[..len] } else { digits };
        str::from_utf8(digits).ok()?.parse().ok()
    }

    fn chunks_len(self, bytes: &[u8]) -> Option<usize> {
        let mut start = 0;
        loop {
            let rest = &bytes[start..];
            let line_len = match self.lf_ends_chunk_lines {
                true => rest.iter().position(|&byte| byte == b'\n')? + 1,
                false => rest.windows(2).position(|window| window == b"\r\n")? + 2,
            };
            let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            let size = usize::from_str_radix(str::from_utf8(&rest[..digits]).ok()?, 16).ok()?;
            start += line_len;
            if size == 0 {
                break;
            }
            start = start.checked_add(size)?.checked_add(2).filter(|&start| start <= bytes.len())?;
        }
        loop {
            let (line, next) = self.line(bytes, start)?;
            start = next;
            if line.is_empty() {
                return Some(start);
            }
        }
    }
}

/// Every reader must find exactly these ends in bytes that the guard let through.
pub fn check(good: &[u8], ends: &[usize]) {
    for bits in 0..1 << FLAGS {
        let reader = Reader::nth(bits);
        let mut start = 0;
        for &end in ends {
            let found = reader.end_of(&good[start..]).map(|len| start + len);
            assert_eq!(found, Some(end), "{reader:?}, the message at {start}");
            start = end;
        }
        assert_eq!(reader.end_of(&good[start..]), None, "{reader:?} finds a message where the guard saw none whole");
    }
}
