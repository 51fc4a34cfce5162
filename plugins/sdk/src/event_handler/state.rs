//! What a handler has stored.

use crate::imports::stored;

/// The handler's own store: keys in the order of their bytes, of at most 1 KiB, with values of at most 1 MiB.
///
/// What a call of `handle` writes is seen by it at once, and kept if the call ends well. Whoever only has a reference
/// only reads.
#[derive(Debug)]
pub struct State(());

impl State {
    #[doc(hidden)]
    pub fn new() -> Self {
        Self(())
    }

    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        stored::get(key)
    }

    /// A value that was written as text; none too where it is none.
    pub fn text(&self, key: &str) -> Option<String> {
        String::from_utf8(self.get(key)?).ok()
    }

    /// A value that [`Self::put_number`] or [`Self::add`] wrote; 0 where there is none.
    pub fn number(&self, key: &str) -> u64 {
        self.get(key).map_or(0, |value| number(&value))
    }

    /// Keys that start with `prefix`, in order, from `start` on; at most `limit` (1 to 1,000), and fewer where they would
    /// be more than 4 MiB: the end is where nothing comes.
    pub fn scan(&self, prefix: &str, start: Option<&str>, limit: u32) -> Vec<(String, Vec<u8>)> {
        stored::scan(prefix, start, limit)
    }

    pub fn put(&mut self, key: &str, value: impl AsRef<[u8]>) {
        stored::put(key, value.as_ref());
    }

    pub fn put_number(&mut self, key: &str, value: u64) {
        self.put(key, value.to_string());
    }

    /// Adds to a number, which begins as 0; answers with what it is then.
    pub fn add(&mut self, key: &str, more: u64) -> u64 {
        let sum = self.number(key).saturating_add(more);
        self.put_number(key, sum);
        sum
    }

    pub fn delete(&mut self, key: &str) {
        stored::delete(key);
    }
}

/// A number as [`State::put_number`] writes it: decimal text, which is part of an answer as it stands.
pub fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}
