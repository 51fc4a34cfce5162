//! Components that are there without any upload: in the binary, or named by the configuration.

use std::{fs::File, io::Read, path::Path};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{model::PluginName, plugin};

/// Largest component. A policy built from Rust has 15 to 60 KiB; toolchains that bring an interpreter along
/// (JavaScript, Python) make 10 to 40 MiB.
pub const COMPONENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The stock plugins that the binary carries.
pub fn components() -> impl Iterator<Item = (PluginName, Bytes)> {
    plugin::stock().iter().map(|stock| {
        let name = stock.name.parse().expect("the build refuses a crate whose name is no plugin's");
        (name, Bytes::from_static(stock.component))
    })
}

/// A component file of the configuration, if it has the expected SHA-256 where one is given.
pub fn read_component(path: &Path, sha256: Option<&[u8; 32]>) -> Result<Bytes, String> {
    let cannot = |error| format!("cannot read {}: {error}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    file.take(COMPONENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(format!("{} is larger than {COMPONENT_BYTES_MAX} bytes", path.display()));
    }
    if let Some(expected) = sha256 {
        let found = Sha256::digest(&bytes);
        if found[..] != expected[..] {
            return Err(format!(
                "{} has the SHA-256 {}, not {}",
                path.display(),
                hex::encode(found),
                hex::encode(expected)
            ));
        }
    }
    Ok(bytes.into())
}
