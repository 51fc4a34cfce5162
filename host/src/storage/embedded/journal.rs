//! A commit that a power failure cut off.
//!
//! Of the last commit, which was not acknowledged, the disk may hold any of its sectors. fjall by itself cuts it off
//! where it ends too early, and refuses to open where it looks whole and its checksum is wrong. Here the journal is read
//! as fjall writes it (`journal/entry.rs` in its sources): what is wrong at its end, with nothing whole behind it, is
//! cut off; what is wrong before something whole is damage, and stays.
//!
//! ```text
//! commit:  start: 1, items (u32), number (u64) │ items │ end: 3, XXH3 of the items (u64), "FJL" 3     little endian
//! item:    2, kind, compression, space (u64), length of key (u16), of value (u32), as stored (u32), key, value
//! clear:   4, space (u64)
//! ```

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::Xxh3Default;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: [u8; 4] = *b"FJL\x03";

/// How many bytes at the end of the last journal are no whole commit; None: it is not torn. Nothing is changed.
pub(super) fn torn_end(store: &Path) -> io::Result<Option<u64>> {
    let Some(journal) = last_journal(store)? else { return Ok(None) };
    let bytes = fs::read(&journal)?;
    Ok(torn_at(&bytes).map(|whole| (written_end(&bytes, whole) - whole) as u64))
}

/// How many bytes were cut off the end of the last journal; None: its end is not torn, and nothing was changed.
/// They are kept beside it.
pub(super) fn cut_torn_end(store: &Path) -> io::Result<Option<u64>> {
    let Some(journal) = last_journal(store)? else { return Ok(None) };
    let bytes = fs::read(&journal)?;
    let Some(whole) = torn_at(&bytes) else { return Ok(None) };
    let end = written_end(&bytes, whole);
    fs::write(journal.with_extension("torn"), &bytes[whole..end])?;
    let file = File::options().write(true).open(&journal)?;
    file.set_len(whole as u64)?;
    file.sync_all()?;
    Ok(Some((end - whole) as u64))
}

/// fjall makes its files larger than what is in them.
fn written_end(journal: &[u8], whole: usize) -> usize {
    journal.iter().rposition(|&byte| byte != 0).map_or(whole, |last| last + 1)
}

/// The one that was written last: they are numbered.
fn last_journal(store: &Path) -> io::Result<Option<PathBuf>> {
    let mut last = None;
    for entry in fs::read_dir(store)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(OsStr::to_str).and_then(|stem| stem.parse::<u64>().ok());
        if path.extension() == Some(OsStr::new("jnl")) {
            last = last.max(number.map(|number| (number, path)));
        }
    }
    Ok(last.map(|(_, path)| path))
}

/// Where the last whole commit ends, if something else stands behind it that is none.
fn torn_at(journal: &[u8]) -> Option<usize> {
    let (mut at, mut last) = (0, None);
    while let Some((len, number)) = commit(&journal[at..]) {
        at += len;
        last = Some(number);
    }
    let rest = &journal[at..];
    let is_torn = rest.iter().any(|&byte| byte != 0);
    // Numbers grow. One that does not is the copy of a commit, in what the torn one would have written.
    let follows = |bytes: &[u8]| commit(bytes).is_some_and(|(_, number)| last.is_none_or(|last| number > last));
    let is_followed = (1..rest.len()).any(|behind| rest[behind] == START && follows(&rest[behind..]));
    (is_torn && !is_followed).then_some(at)
}

/// The length and the number of the whole commit that begins here; None: none does.
fn commit(bytes: &[u8]) -> Option<(usize, u64)> {
    let mut rest = bytes;
    let mut items = match take(&mut rest)? {
        [START] => u32::from_le_bytes(take(&mut rest)?),
        _ => return None,
    };
    let number = u64::from_le_bytes(take(&mut rest)?);
    let mut hash = Xxh3Default::new();
    loop {
        let before = rest;
        match take(&mut rest)? {
            [ITEM] if items > 0 => {
                let _kind_compression_space: [u8; 10] = take(&mut rest)?;
                let key_len = usize::from(u16::from_le_bytes(take(&mut rest)?));
                let _value_len: [u8; 4] = take(&mut rest)?;
                let stored_len = u32::from_le_bytes(take(&mut rest)?) as usize;
                rest.split_off(..key_len + stored_len)?;
                items -= 1;
            }
            [CLEAR] => drop(take::<8>(&mut rest)?),
            [END] if items == 0 => {
                let sum = u64::from_le_bytes(take(&mut rest)?);
                let is_whole = take(&mut rest)? == TRAILER && sum == hash.digest();
                return is_whole.then(|| (bytes.len() - rest.len(), number));
            }
            _ => return None,
        }
        hash.update(&before[..before.len() - rest.len()]);
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    bytes.split_off(..N)?.first_chunk().copied()
}
