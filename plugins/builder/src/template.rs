//! `sluice plugin new`.
use std::path::Path;

/// Makes a crate.
pub fn new_crate(_: &Path, _: &str, _: &str) -> anyhow::Result<()> {
    anyhow::bail!("not built in")
}
