//! `sluice plugin new`.
use std::path::Path;
/// x
pub fn new_crate(_: &Path) {}
