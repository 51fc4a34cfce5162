//! A file on a disk with a cache: what is written lies in the cache until it is synced.

/// What a disk writes whole or not at all, in bytes; a torn sector is the rarer fault and happens here too.
const SECTOR_BYTES: usize = 512;

#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    bytes: Vec<u8>,
    /// Up to here it is on the disk, whatever happens.
    synced_bytes: usize,
}

impl Disk {
    /// A file of which everything is on the disk.
    pub fn holding(bytes: Vec<u8>) -> Self {
        Self { synced_bytes: bytes.len(), bytes }
    }

    pub fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn sync(&mut self) {
        self.synced_bytes = self.bytes.len();
    }

    /// What can be read after a power cut. The disk wrote sectors in any order: each one that was not synced may be
    /// there, missing, or torn, and the file may be shorter.
    pub fn crash(&self, rng: &mut fastrand::Rng) -> Vec<u8> {
        let mut left = self.bytes.clone();
        let mut at = self.synced_bytes;
        while at < left.len() {
            let end = left.len().min((at / SECTOR_BYTES + 1) * SECTOR_BYTES);
            let kept = match rng.u8(..4) {
                0 | 1 => end,
                2 => at,
                _ => rng.usize(at..end),
            };
            // What lay there before: nothing yet, or the rest of something deleted.
            let filler = if rng.bool() { 0 } else { rng.u8(..) };
            left[kept..end].fill(filler);
            at = end;
        }
        if rng.u8(..4) == 0 {
            left.truncate(rng.usize(self.synced_bytes..=left.len()));
        }
        left
    }
}
