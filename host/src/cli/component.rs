//! Component files.

use std::{io::Read, path::Path};

use bytesize::ByteSize;

use super::failure::{Exit, Failure};
use crate::{model::PluginName, plugin::COMPONENT_BYTES_MAX};

/// The bytes of a file that is given on the command line.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    bytes(file).map_err(|why| Failure::new(Exit::WrongInput, format_args!("{}: {why}", file.display())))
}

/// The bytes of a file, or why there are none.
pub(super) fn bytes(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(COMPONENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(format!("is larger than {}, so no plugin", ByteSize(COMPONENT_BYTES_MAX as u64)));
    }
    Ok(bytes)
}

/// The name that a file has by itself: cargo writes `my_policy.wasm` for the crate `my-policy`.
pub(super) fn name_of(file: &Path) -> Result<PluginName, Failure> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    stem.replace('_', "-").parse().map_err(|error| {
        let hint = "; give the plugin's name before the file";
        Failure::new(Exit::WrongInput, format_args!("the file's name is no name for a plugin: {error}{hint}"))
    })
}
