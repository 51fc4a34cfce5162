//! What one instance leaves to the next: numbers behind a line that names their format.

/// Writes a state. The format is a name and a version, such as `peak-ewma/1`.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn new(format: &str) -> Self {
        let mut bytes = format.as_bytes().to_vec();
        bytes.push(b'\n');
        Self(bytes)
    }

    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn f64(&mut self, value: f64) {
        self.u64(value.to_bits());
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads what a [`Writer`] wrote, of this or another version or plugin: nothing in it is taken on trust.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Of records of `record_len` bytes each. An error where the state is of another format, or cut off.
    pub fn new(format: &str, record_len: usize, state: &'a [u8]) -> Result<Self, String> {
        let body = state.strip_prefix(format.as_bytes()).and_then(|rest| rest.strip_prefix(b"\n"));
        match body {
            Some(body) if body.len() % record_len == 0 => Ok(Self(body)),
            Some(_) => Err(format!("the saved state is cut off: its {format} records are {record_len} bytes each")),
            None => Err(format!("the saved state is not of the format {format}")),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// 0 beyond the end.
    pub fn u64(&mut self) -> u64 {
        let (value, rest) = self.0.split_first_chunk().unwrap_or((&[0; 8], &[]));
        self.0 = rest;
        u64::from_le_bytes(*value)
    }

    /// 0 beyond the end, and for what is no finite number of 0 or above.
    pub fn f64(&mut self) -> f64 {
        let value = f64::from_bits(self.u64());
        if value.is_finite() && value >= 0.0 { value } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mut writer = Writer::new("test/1");
        writer.u64(7);
        writer.f64(0.5);
        let state = writer.finish();
        let mut reader = Reader::new("test/1", 16, &state).unwrap();
        assert_eq!((reader.u64(), reader.f64()), (7, 0.5));
        assert!(reader.is_empty());
    }

    #[test]
    fn another_format_and_a_cut_off_state_are_refused() {
        assert_eq!(Reader::new("a/2", 8, b"a/1\n").unwrap_err(), "the saved state is not of the format a/2");
        assert!(Reader::new("a/1", 8, b"a/1\n1234567").unwrap_err().contains("cut off"));
        assert!(Reader::new("a/1", 8, b"a/1").is_err());
    }

    #[test]
    fn numbers_that_make_no_sense_become_zero() {
        let mut writer = Writer::new("t/1");
        writer.f64(f64::NAN);
        writer.f64(-1.0);
        writer.f64(f64::INFINITY);
        let state = writer.finish();
        let mut reader = Reader::new("t/1", 8, &state).unwrap();
        assert_eq!([reader.f64(), reader.f64(), reader.f64(), reader.f64()], [0.0; 4]);
    }
}
