//! Batches on the simulated disk: records one behind the other, each sealed with a checksum that covers the one before
//! it too, so that nothing behind a lost record counts.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Batch, Disk, Space, Table, Write, apply};

#[derive(Debug, Default)]
pub(super) struct Log {
    disk: Disk,
    /// Of the record before the next one.
    seal: u64,
}

impl Log {
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// A record: length of its body (4 bytes), seal (8 bytes), body.
    pub fn append(&mut self, batch: &Batch) {
        let body = encoded(batch);
        self.seal = xxh3_64_with_seed(&body, self.seal);
        let len = u32::try_from(body.len()).expect("a batch is at most BATCH_BYTES_MAX");
        self.disk.append(&len.to_le_bytes());
        self.disk.append(&self.seal.to_le_bytes());
        self.disk.append(&body);
    }

    pub fn sync(&mut self) {
        self.disk.sync();
    }

    /// Everything up to the first record that is not whole; what lies behind that is cut off.
    pub fn recover(bytes: Vec<u8>) -> (Self, Table) {
        let (mut table, mut seal, mut whole) = (Table::new(), 0, 0);
        while let Some((record_bytes, record_seal, batch)) = record(&bytes[whole..], seal) {
            apply(&batch, &mut table);
            (seal, whole) = (record_seal, whole + record_bytes);
        }
        let mut bytes = bytes;
        bytes.truncate(whole);
        (Self { disk: Disk::holding(bytes), seal }, table)
    }
}

/// The first record, if it is whole: its length, its seal, what it holds.
fn record(bytes: &[u8], seal_before: u64) -> Option<(usize, u64, Batch)> {
    let mut rest = bytes;
    let len = u32::from_le_bytes(*rest.split_off(..4)?.first_chunk()?);
    let seal = u64::from_le_bytes(*rest.split_off(..8)?.first_chunk()?);
    let body = rest.get(..len as usize)?;
    (xxh3_64_with_seed(body, seal_before) == seal).then(|| (12 + body.len(), seal, decoded(body)))
}

fn encoded(batch: &Batch) -> Vec<u8> {
    let mut body = Vec::new();
    let mut put = |bytes: &[u8]| {
        body.extend(u32::try_from(bytes.len()).expect("a batch is at most BATCH_BYTES_MAX").to_le_bytes());
        body.extend(bytes);
    };
    for write in &batch.writes {
        match write {
            Write::Put { space, key, value } => {
                put(&[1, *space as u8]);
                put(key);
                put(value);
            }
            Write::Delete { space, key } => {
                put(&[0, *space as u8]);
                put(key);
            }
        }
    }
    body
}

/// Of a body whose seal is right.
fn decoded(mut body: &[u8]) -> Batch {
    let mut take = || {
        let len = u32::from_le_bytes(*body.split_off(..4)?.first_chunk()?);
        body.split_off(..len as usize).map(Bytes::copy_from_slice)
    };
    let mut batch = Batch::new();
    while let Some(head) = take() {
        let space = Space::ALL[usize::from(head[1])];
        let key = take().expect("it was encoded so");
        batch = match head[0] {
            1 => batch.put(space, key, take().expect("it was encoded so")),
            _ => batch.delete(space, key),
        };
    }
    batch
}
