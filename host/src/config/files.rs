//! The configuration file's bytes.

use std::{fs::File, io::Read, path::Path};

use super::problem::{ConfigErrors, LineIndex, Position};

/// Largest configuration file. Ten thousand services with ten endpoints each take about 5 MiB.
pub const CONFIG_BYTES_MAX: u64 = 32 * 1024 * 1024;

pub(super) fn read(path: &Path, file_name: &str) -> Result<String, ConfigErrors> {
    let refused = |position: Option<Position>, message: String| ConfigErrors::one(file_name, position, message);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| refused(None, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(refused(None, format!("is larger than {} MiB", CONFIG_BYTES_MAX / 1024 / 1024)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid_up_to = error.utf8_error().valid_up_to();
        let readable = String::from_utf8_lossy(&error.as_bytes()[..valid_up_to]);
        let position = LineIndex::of(&readable).position(valid_up_to);
        refused(Some(position), "this byte belongs to no character: the file must be UTF-8".to_owned())
    })
}
