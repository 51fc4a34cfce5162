//! The `state` and `state-write` imports: what an event handler has stored, with what this call has written above it.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;

use super::State;
use crate::plugin::bindings::event_handler::sluice::plugin::{events, state, state_write};

/// Longest key, in bytes (WIT `state.key`).
pub const STATE_KEY_BYTES_MAX: usize = 1 << 10;

/// Longest value, in bytes (WIT `state-write.put`).
pub const STATE_VALUE_BYTES_MAX: usize = 1 << 20;

/// What one call may leave written, keys, values and [`WRITE_OVERHEAD_BYTES`] of each together: it is held in memory until
/// it is committed, and is one commit.
pub const STATE_WRITES_BYTES_MAX: usize = 8 << 20;

/// What a write counts beside its key and value, so that many tiny ones are bounded too: roughly what a map's entry takes.
const WRITE_OVERHEAD_BYTES: usize = 64;

/// Keys that one `scan` answers with (WIT `state.scan`).
const SCAN_KEYS_MAX: usize = 1_000;

/// Keys and values that one `scan` answers with, in bytes; the first is given whatever its size.
const SCAN_BYTES_MAX: usize = 4 << 20;

/// Keys that are asked of the store at once: of the largest values, so many MiB are held for a moment.
const SCAN_PIECE: usize = 32;

/// What a handler has stored, read as of one moment. Blocks.
pub trait HandlerState: Send + Sync {
    fn get(&self, key: &str) -> Result<Option<Bytes>, String>;

    /// Keys that start with `prefix`, in order of their bytes, those from `start` on, at most `limit`.
    fn scan(&self, prefix: &str, start: Option<&str>, limit: usize) -> Result<Vec<(String, Bytes)>, String>;
}

/// How much a handler may store, keys and values together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateQuota {
    /// What it has stored before this call.
    pub used_bytes: u64,
    /// What may be stored after it.
    pub bytes_max: u64,
}

impl StateQuota {
    pub const UNLIMITED: Self = Self { used_bytes: 0, bytes_max: u64::MAX };
}

/// What a call has written: by key, None where it was deleted.
pub type StateWrites = BTreeMap<String, Option<Bytes>>;

/// What one call reads and writes.
pub(in crate::plugin) struct Stored {
    state: Arc<dyn HandlerState>,
    /// None where the call may only read.
    writes: Option<Writes>,
    /// Why the store gave no answer. Then it is not the guest's fault that the call ended.
    failure: Option<String>,
}

struct Writes {
    overlay: StateWrites,
    /// Of the overlay.
    bytes: usize,
    quota: StateQuota,
}

impl Stored {
    pub fn for_reading(state: Arc<dyn HandlerState>) -> Self {
        Self { state, writes: None, failure: None }
    }

    pub fn for_writing(state: Arc<dyn HandlerState>, quota: StateQuota) -> Self {
        let writes = Writes { overlay: StateWrites::new(), bytes: 0, quota };
        Self { state, writes: Some(writes), failure: None }
    }

    /// What was written, and what is stored in all after it, in bytes.
    pub fn into_writes(self) -> (StateWrites, u64) {
        self.writes.map(|writes| (writes.overlay, writes.quota.used_bytes)).unwrap_or_default()
    }

    pub fn into_failure(self) -> Option<String> {
        self.failure
    }

    fn get(&mut self, key: &str) -> wasmtime::Result<Option<Bytes>> {
        check_key(key)?;
        let written = self.writes.as_ref().and_then(|writes| writes.overlay.get(key));
        match written {
            Some(written) => Ok(written.clone()),
            None => self.stored(|state| state.get(key)),
        }
    }

    fn scan(&mut self, prefix: &str, start: Option<String>, limit: usize) -> wasmtime::Result<Vec<(String, Bytes)>> {
        if prefix.len() > STATE_KEY_BYTES_MAX {
            // No key begins so; a client may have asked for it.
            return Ok(Vec::new());
        }
        let limit = limit.clamp(1, SCAN_KEYS_MAX);
        let piece_len = limit.min(SCAN_PIECE);
        let mut from = start.filter(|start| start.as_str() > prefix).unwrap_or_else(|| prefix.to_owned());
        let (mut found, mut bytes) = (Vec::new(), 0);
        loop {
            let piece = self.stored(|state| state.scan(prefix, Some(&from), piece_len))?;
            let last = if piece.len() < piece_len { None } else { piece.last().map(|(key, _)| key.clone()) };
            for (key, value) in self.overlaid(prefix, &from, piece, last.as_deref()) {
                bytes += key.len() + value.len();
                if bytes > SCAN_BYTES_MAX && !found.is_empty() {
                    return Ok(found);
                }
                found.push((key, value));
                if found.len() == limit {
                    return Ok(found);
                }
            }
            match last {
                Some(last) => from = last + "\0",
                None => return Ok(found),
            }
        }
    }

    /// A piece of what is stored, from `from` to `last` (or the end of `prefix`), as it is with what was written.
    fn overlaid(
        &self,
        prefix: &str,
        from: &str,
        piece: Vec<(String, Bytes)>,
        last: Option<&str>,
    ) -> Vec<(String, Bytes)> {
        let Some(writes) = &self.writes else { return piece };
        let mut merged: BTreeMap<_, _> = piece.into_iter().collect();
        let end = last.map_or(Bound::Unbounded, Bound::Included);
        let written = writes.overlay.range::<str, _>((Bound::Included(from), end));
        for (key, value) in written.take_while(|(key, _)| key.starts_with(prefix)) {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        merged.into_iter().collect()
    }

    fn write(&mut self, key: String, value: Option<Bytes>) -> wasmtime::Result<()> {
        check_key(&key)?;
        let before = self.get(&key)?;
        let size = |value: &Option<Bytes>| value.as_ref().map_or(0, |value| key.len() + value.len());
        let (size_before, size_now) = (size(&before), size(&value));
        let Some(writes) = &mut self.writes else {
            wasmtime::bail!("wrote to the state outside of handle");
        };
        let quota = &mut writes.quota;
        quota.used_bytes = quota.used_bytes.saturating_sub(size_before as u64).saturating_add(size_now as u64);
        if value.is_some() && quota.used_bytes > quota.bytes_max {
            wasmtime::bail!("wanted to store more than its quota of {} bytes", quota.bytes_max);
        }
        let weight =
            |value: &Option<Bytes>| WRITE_OVERHEAD_BYTES + key.len() + value.as_ref().map_or(0, |value| value.len());
        writes.bytes -= writes.overlay.get(&key).map_or(0, weight);
        writes.bytes += weight(&value);
        if writes.bytes > STATE_WRITES_BYTES_MAX {
            wasmtime::bail!("wrote more than {} MiB in one call", STATE_WRITES_BYTES_MAX >> 20);
        }
        writes.overlay.insert(key, value);
        Ok(())
    }

    fn stored<T>(&mut self, read: impl FnOnce(&dyn HandlerState) -> Result<T, String>) -> wasmtime::Result<T> {
        read(&*self.state).map_err(|why| {
            self.failure = Some(why.clone());
            wasmtime::Error::msg(why)
        })
    }
}

fn check_key(key: &str) -> wasmtime::Result<()> {
    if key.len() > STATE_KEY_BYTES_MAX {
        wasmtime::bail!("used a key of {} bytes, and {STATE_KEY_BYTES_MAX} is the most", key.len());
    }
    Ok(())
}

impl State {
    fn stored(&mut self, what: &str) -> wasmtime::Result<&mut Stored> {
        let stored = self.imports.stored.as_mut();
        stored.ok_or_else(|| wasmtime::Error::msg(format!("{what} outside of handle and read")))
    }
}

impl state::Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        let value = self.stored("read the state")?.get(&key)?;
        Ok(value.map(Vec::from))
    }

    fn scan(&mut self, prefix: String, start: Option<String>, limit: u32) -> wasmtime::Result<Vec<(String, Vec<u8>)>> {
        let limit = usize::try_from(limit).unwrap_or(SCAN_KEYS_MAX);
        let found = self.stored("read the state")?.scan(&prefix, start, limit)?;
        Ok(found.into_iter().map(|(key, value)| (key, Vec::from(value))).collect())
    }
}

impl state_write::Host for State {
    fn put(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<()> {
        if value.len() > STATE_VALUE_BYTES_MAX {
            wasmtime::bail!("wrote a value of {} bytes, and {STATE_VALUE_BYTES_MAX} is the most", value.len());
        }
        self.stored("wrote to the state")?.write(key, Some(value.into()))
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<()> {
        self.stored("wrote to the state")?.write(key, None)
    }
}

impl events::Host for State {}
